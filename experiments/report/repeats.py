"""The best configurations trained again, as words and as a table."""

from __future__ import annotations

import math

import polars as pl

from experiments.analysis.summary import Summary
from experiments.report.answer import steps_text
from experiments.report.tables import Table


def repeat_words(summary: Summary) -> str:
    """The repeats in words: how many, how far, what the two curves are; "" where there are none."""
    found = summary.repeated
    if found is None:
        return ""
    wanted, ended = int(found.table["wanted"].max()), int(found.table["ended"].sum())  # type: ignore[arg-type]
    words = [
        (
            f"The best configuration of every batch size, over all searches, was trained again "
            f"with {wanted} fresh seeds of initialisation, example order and dropout; the trial "
            "that selected it is not counted, and a repeat that diverged or never got there is "
            "infinite."
        )
    ]
    if not found.finished:
        total = int(found.table["wanted"].sum())
        words.append(f"{ended} of {total} repeats have ended: no interval before all have.")
    effect = found.table["selection"].drop_nulls()
    if len(effect):
        words.append(
            f"The typical repeat needs {_span(effect)} times the steps of the trial that selected "
            "it: the effect of selecting the earliest."
        )
    if found.table["stale"].any():
        sizes = ", ".join(f"{b:,}" for b in found.table.filter("stale")["batch_size"])
        words.append(
            f"The searches have since found a better one at batch size {sizes}; batchscale repeat "
            "takes it up."
        )
    return " ".join(words)


def _span(effect: pl.Series) -> str:
    low, high = float(effect.min()), float(effect.max())  # type: ignore[arg-type]
    return f"{low:.2g}" if f"{low:.2g}" == f"{high:.2g}" else f"{low:.2g} to {high:.2g}"


def repeat_table(summary: Summary) -> Table:
    """A row a batch size: the search's answer, the selecting trial's, the repeats' and their
    ratio."""
    assert summary.repeated is not None
    coverages = summary.repeated.table["coverage"].drop_nulls().to_list()
    interval = f"{100 * max(coverages):.3g}% interval" if coverages else "interval"
    columns = ("batch size", "median of searches", "selected trial", "its steps",
               "median again", interval, "never", "again / selected")  # fmt: skip
    searches = dict(summary.curve.select("batch_size", "median").rows())
    rows = []
    for row in summary.repeated.table.iter_rows(named=True):
        found = searches.get(row["batch_size"])
        ended = f" of {row['ended']}" if row["never"] else ""
        rows.append((
            f"{row['batch_size']:,}",
            "not reached" if found is None else steps_text(found),
            f"{row['seed']}/{row['trial']}",
            "not reached" if row["selected"] is None else f"{row['selected']:,}",
            _median(row), _interval(row), f"{row['never']}{ended}",
            "" if row["selection"] is None else f"{row['selection']:.2f}",
        ))  # fmt: skip
    numeric = tuple(name != "selected trial" for name in columns)
    return Table("repeats", "Best configurations again", columns, tuple(rows), numeric)


def _median(row: dict[str, float | None]) -> str:
    if not row["ended"]:
        return "-"
    return "never" if row["median"] is None else steps_text(row["median"])


def _interval(row: dict[str, float | None]) -> str:
    low, high = row["low"], row["high"]
    if low is None or high is None:
        return f"{row['ended']} of {row['wanted']} so far"
    start = "unknown" if math.isinf(low) and low < 0 else "never" if math.isinf(low) else ""
    return f"{start or steps_text(low)} to {'never' if math.isinf(high) else steps_text(high)}"
