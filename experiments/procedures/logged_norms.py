"""The clipping threshold that a study's record suggests, its norms trained again if need be."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import polars as pl

from experiments.analysis.best_hyperparameters import best_trials
from experiments.analysis.clip_threshold import clip_thresholds, threshold_from_norms
from experiments.analysis.findings import CLIPPED_SHARE
from experiments.analysis.next_step import NextStep
from experiments.analysis.question import TRIAL
from experiments.procedures.clip_found import norm_figures
from experiments.procedures.procedure import PLAIN, Running
from experiments.records.reader import Record
from experiments.records.store import read
from experiments.report.procedure import Said, aligned, write_procedure_report
from experiments.runner.known import again, train_known
from experiments.spec.errors import StudyError

NORMS_FOLDER = "clip-threshold"
"""Beside the record's own folder name: where norms that it lacks are trained, and the report is."""


@dataclasses.dataclass(frozen=True)
class Logged:
    """The table of thresholds, and what to print."""

    table: pl.DataFrame
    lines: list[str]
    page: Path | None


def logged_thresholds(
    folder: Path, percentile: float, *, out: Path | None = None, running: Running = PLAIN
) -> Logged:
    """A row a search from the norms of its best trial, their histogram where every step has one.

    Args:
      folder: a study's record; one without norms has its best trial trained again, in ``out``.
      percentile: of the norms.
      out: default: the folder's name with "-clip-threshold".
      running: how to train them.

    Raises:
      RecordError: no record, or an imported or old one that holds no norms.
      StudyError: no trial of it is COMPLETE.
      ValueError: a percentile outside [0, 100], or the user's file has changed.
    """
    threshold_from_norms([1.0], percentile)  # refuses the percentile before anything is read
    record = read(folder)
    target = out or folder.with_name(f"{folder.name}-{NORMS_FOLDER}")
    source = ""
    if not _has_norms(record):
        record = _trained_again(record, folder, target, running)
        source = f"the record holds no norms: its best trial was trained again in {target}"
    table = clip_thresholds(record, percentile)
    lines = [*([source] if source else []), *_rows(table)]
    lines += _shares(record)
    lines.append(
        f"threshold: percentile {percentile:g} of the unclipped norms of the best trial;\n"
        "use it with: batchscale run STUDY --clipping global_norm --fix clip_threshold=..."
    )
    page = _drawn(record, table, target)
    return Logged(table, [*lines, *([f"report: {page}"] if page else [])], page)


def _has_norms(record: Record) -> bool:
    if record.scan("norms") is not None:
        return True
    rows = record.scan("evaluations")
    return rows is not None and "gradient_norm" in rows.collect_schema().names()


def _trained_again(record: Record, folder: Path, target: Path, running: Running) -> Record:
    """The best trial of the middle batch size, as it was, the norms of every step recorded."""
    best = best_trials(record)
    if best.is_empty():
        raise StudyError(f"no trial in {folder} is COMPLETE: there is none to train again")
    own = best.filter(pl.col("seed") == best["seed"][0]).sort("batch_size")
    row = own.row(len(own) // 2, named=True)
    known = again(folder, (row["batch_size"], row["seed"], row["trial"]), target,
                  record_norms="every")  # fmt: skip
    running.say(f"cost: at most 1 trials, {row['train_steps']:,} steps")
    with running.shown(dataclasses.replace(known.study, trials=1)) as observe:
        train_known(known, observe=observe, **running.train)
    return read(target)


def _rows(table: pl.DataFrame) -> list[str]:
    heads = ("batch size", "seed", "trial", "norms", "median", "threshold", "largest")
    rows = [
        tuple(f"{cell:,}" if isinstance(cell, int) else f"{cell:.4g}" for cell in row)
        for row in table.iter_rows()
    ]
    return aligned([heads, *rows], (True,) * len(heads))


def _shares(record: Record) -> list[str]:
    """Say, where the record's own trials were mostly clipped, that a lower rate is due instead."""
    if "clipped_share" not in record.trials.columns:
        return []
    best = best_trials(record)
    mostly = best.filter(pl.col("clipped_share") > CLIPPED_SHARE)
    shares = best["clipped_share"].drop_nulls()
    if shares.is_empty():
        return []
    lines = [f"clipped: up to {max(shares.to_list()):.0%} of the best trials' steps"]
    if len(mostly):
        lines.append(
            f"more than {CLIPPED_SHARE:.0%} of the updates clipped is extremely aggressive: lower "
            "the learning rate instead"
        )
    return lines


def _drawn(record: Record, table: pl.DataFrame, target: Path) -> Path | None:
    """Norm against step and its histogram, of the middle batch size's best trial."""
    norms = record.scan("norms")
    if norms is None or table.is_empty():
        return None
    row = table.row(len(table) // 2, named=True)
    own = norms.filter(**{name: row[name] for name in TRIAL}).sort("step").collect()
    marks = {"median": row["median"], "threshold": row["threshold"]}
    label = f"batch size {row['batch_size']}, trial {row['trial']}"
    said = Said(
        f"Gradient norms: {label}",
        f"The threshold is {row['threshold']:.4g}, the median {row['median']:.4g}.",
        (),
        NextStep("", "Hold it with --clipping global_norm --fix clip_threshold=..."),
        figures=norm_figures(own, marks, label),
    )
    return write_procedure_report(target, said)
