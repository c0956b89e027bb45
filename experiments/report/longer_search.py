"""The table of longer random searches, extrapolated."""

from __future__ import annotations

import math

from experiments.analysis.longer_search import LONGER
from experiments.analysis.summary import Summary
from experiments.report.answer import steps_text
from experiments.report.tables import Table

NOTE = (
    "The interval is exact for independent trials, evaluation grid and censoring included. What "
    f"a search {LONGER} times as long would reach is extrapolated: nothing below the best trial "
    "was seen, so it rests on the form of the tail (a score quadratic in the effective "
    "hyperparameters near its best), has no interval, and is bent by the noise of seeds."
)


def longer_search_table(summary: Summary) -> Table:
    """A row a batch size: the interval of the median best of k, and the extrapolation, in steps."""
    rows = []
    for row in summary.longer_searches.iter_rows(named=True):
        fitted = row["effective"] is not None
        rows.append((
            f"{row['batch_size']:,}", f"{row['trials']:,}",
            "" if row["k"] is None else f"{row['k']}", _interval(row),
            f"{row['effective']}" if fitted else "",
            *(steps_text(row[name]) if fitted else "" for name in ("search", "longer")),
        ))  # fmt: skip
    columns = ("batch size", "independent trials", "k", "median best of k, steps",
               "effective hyperparameters", "a search, extrapolated",
               f"{LONGER} times as long, extrapolated")  # fmt: skip
    return Table("longer_search", "Longer searches", columns, tuple(rows), (True,) * len(columns))


def _interval(row: dict[str, float | None]) -> str:
    low, high = row["median_low"], row["median_high"]
    if low is None or high is None:
        return ""
    return f"{steps_text(low)} to {'never' if math.isinf(high) else steps_text(high)}"
