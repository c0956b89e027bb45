"""Every trial of a study: one table, as CSV and, with its curves, as the page's own data."""

from __future__ import annotations

import math
from typing import Any

import polars as pl

from experiments.analysis.best_hyperparameters import with_effective_rate
from experiments.analysis.question import TRIAL
from experiments.analysis.summary import Summary
from experiments.analysis.view import COUNTED, by_trial
from experiments.report.figure import KEY, searched_names, with_key
from experiments.report.words import label, metric_title

MOST_TRIALS = 20_000
"""Rows in the page; ``data/trials.csv`` holds all of them."""
_MOST_POINTS = 120_000
_LONGEST_CURVE = 40
_TEXTS = ("status", "message")
_TITLES = {"steps": "steps made", "batch_size": "batch size"}


def trials_table(summary: Summary) -> pl.DataFrame:
    """One row a trial, sorted by batch size, seed and index.

    Columns: ``key`` ("B/SEED/INDEX"), ``batch_size, seed, trial, status`` (with the reason of a
    STOPPED one), ``steps, steps_to_goal`` (its first evaluation past the goal), ``best_value,
    best_step``, the searched hyperparameters and the effective learning rate, ``message``.
    """
    trials = with_effective_rate(summary.record.trials)
    names = searched_names(summary, trials)
    status = pl.col("status")
    if "reason" in trials.columns:
        reason = status + " (" + pl.col("reason") + ")"
        status = pl.when(pl.col("reason").fill_null("") != "").then(reason).otherwise(status)
    table = with_key(trials).select(
        KEY, *TRIAL, status.alias("status"), "steps", *names, "message"
    )  # fmt: skip
    ends = summary.ends.select(*TRIAL, "steps_to_goal", "best_value", "best_step")
    table = table.join(ends, on=TRIAL, how="left")
    first = (KEY, *TRIAL, "status", "steps", "steps_to_goal", "best_value", "best_step")
    return table.select(*first, *names, "message").sort(TRIAL)


def page_data(summary: Summary, table: pl.DataFrame, folder: str) -> dict[str, Any]:
    """Data of the page's table of trials, and the curves that it draws of a selected one.

    ``columns``: [name, title, "number" or "text"] each; ``rows``: cells in their order; ``curves``:
    key -> a list for each of ``fields``: steps, values, examples where the batch grows, function
    evaluations where they are counted; ``command``: the words that repeat a trial, to be followed
    by its place.
    """
    shown = table.head(MOST_TRIALS)
    silent = (shown["message"].fill_null("") == "").all()
    columns = [
        (name, _title(summary, name), "text" if name in _TEXTS else "number")
        for name in shown.columns
        if name != KEY and not (name == "message" and silent)
    ]
    names = [KEY, *(name for name, _, _ in columns)]
    return {
        "columns": columns,
        "rows": [[_cell(cell) for cell in row] for row in shown.select(names).rows()],
        "fields": _fields(summary),
        "curves": _curves(summary, shown),
        "all": len(table),
        "command": "" if summary.question.imported else f"batchscale evaluate {folder}",
    }


def _title(summary: Summary, name: str) -> str:
    if name == "best_value":
        return f"best {metric_title(summary.question)}"
    return _TITLES.get(name, label(name))


def _cell(cell: object) -> object:
    """A value that JSON can hold, numbers to six digits."""
    if isinstance(cell, float):
        return float(f"{cell:.6g}") if math.isfinite(cell) else None
    return cell


def _fields(summary: Summary) -> list[str]:
    grows = summary.question.batch_size_schedule != "constant"
    counts = summary.view.counts_function_evaluations
    return ["step", "value", *(["examples"] if grows else []), *([COUNTED] if counts else [])]


def _curves(summary: Summary, table: pl.DataFrame) -> dict[str, list[list[float | int]]]:
    """The goal's metric of every trial shown, thinned so that all of them stay a small page."""
    most = max(8, min(_LONGEST_CURVE, _MOST_POINTS // max(len(table), 1)))
    fields = _fields(summary)
    counted = [name for name in fields if name == COUNTED]
    rows = summary.view.measurements(*counted).filter(pl.col("value").is_finite())
    if len(table) < len(summary.record.trials):
        rows = rows.join(table.select(TRIAL).lazy(), on=TRIAL, how="semi")
    place, count = pl.int_range(pl.len()), pl.len()
    kept = (place % ((count + most - 1) // most) == 0) | (place == count - 1)
    held = by_trial(rows, [pl.col(fields).sort_by("step").filter(kept)])
    return {
        key: [
            [float(f"{v:.4g}") for v in part] if name == "value" else part
            for name, part in zip(fields, parts, strict=True)
        ]
        for key, *parts in with_key(held).select(KEY, *fields).iter_rows()
    }
