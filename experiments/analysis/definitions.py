"""Critical batch sizes under several definitions, and how they move with it.

One and the same study gives other numbers with another line (fitted, or through a point), another
overhead, another kind of curve, or without one of its batch sizes. The table holds all of them, so
that a reader sees which conclusions survive the choice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from experiments.analysis.critical_batch_size import (
    FEWEST_POINTS,
    anchored,
    inside,
    reached,
    together,
)
from experiments.analysis.intervals import NO_ANSWER, Answer
from experiments.analysis.regimes import Points
from experiments.analysis.scaling_curve import Convex, Hyperbola

OVERHEADS = (0.1, 0.2, 0.5, 1.0)
"""Shares of extra examples; 100 % is where both are doubled, McCandlish's definition."""


class Definition(NamedTuple):
    """A way to read the end of perfect scaling off a search's points."""

    curve: str
    points: str
    end: Callable[[Points, float], Answer]


def _of_fit(kind: type[Hyperbola | Convex], kept: slice) -> Callable[[Points, float], Answer]:
    def end(points: Points, overhead: float) -> Answer:
        batch_sizes, steps = (column[kept] for column in reached(points))
        if len(steps) < FEWEST_POINTS:
            return NO_ANSWER
        return inside(kind.fit(batch_sizes, steps).perfect_end(overhead), batch_sizes)

    return end


def _from(start: int) -> Callable[[Points, float], Answer]:
    def end(points: Points, overhead: float) -> Answer:
        batch_sizes, steps = reached(points)
        if len(steps) <= start:
            return NO_ANSWER
        first = int(np.flatnonzero(points[0] == batch_sizes[start])[0])
        return anchored((points[0][first:], points[1][first:]), overhead)

    return end


_KEPT = {"all": slice(None), "without the smallest": slice(1, None),
         "without the largest": slice(None, -1)}  # fmt: skip
DEFINITIONS = (
    *(Definition("hyperbola", name, _of_fit(Hyperbola, kept)) for name, kept in _KEPT.items()),
    *(Definition("convex curve", name, _of_fit(Convex, kept)) for name, kept in _KEPT.items()),
    Definition("point by point", "anchored at the smallest", _from(0)),
    Definition("point by point", "anchored at the second", _from(1)),
)


def definition_table(searches: Sequence[Points]) -> pl.DataFrame:
    """The end of perfect scaling under each definition and overhead, one row each.

    Columns: ``curve, points, overhead``; ``value, relation, low, high, coverage`` as in
    `CriticalBatchSize`, ``value`` null where it is not known.
    """
    rows = []
    for definition in DEFINITIONS:
        for overhead in OVERHEADS:
            answers = [definition.end(points, overhead) for points in searches]
            found = together("", answers, "", "")
            rows.append((definition.curve, definition.points, overhead, found.value,
                         found.relation, found.low, found.high, found.coverage))  # fmt: skip
    floats = ("value", "low", "high", "coverage")
    schema = {"curve": pl.String, "points": pl.String, "overhead": pl.Float64,
              "value": pl.Float64, "relation": pl.String,
              **dict.fromkeys(floats[1:], pl.Float64)}  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row")
