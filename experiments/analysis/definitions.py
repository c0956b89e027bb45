"""Critical batch sizes under several definitions, and how they move with it.

One and the same study gives other numbers with another line (fitted, or through a point), another
overhead, another kind of curve, or without one of its batch sizes. The table holds all of them, so
that a reader sees which conclusions survive the choice.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from experiments.analysis.critical_batch_size import anchored, fitted_as, inside, reached, together
from experiments.analysis.free_sharpness import FreeSharpness
from experiments.analysis.intervals import NO_ANSWER, Answer
from experiments.analysis.regimes import Points
from experiments.analysis.scaling_curve import Convex, Hyperbola, ScalingCurve

OVERHEADS = (0.1, 0.2, 0.5, 1.0)
"""Shares of extra examples; 100 % is where examples are doubled, on a hyperbola steps as well."""


class Definition(NamedTuple):
    """A way to read the end of perfect scaling off a search's points, for every overhead."""

    curve: str
    points: str
    ends: Callable[[Points], list[Answer]]


def _of_fit(
    fitted: Callable[[Points], ScalingCurve | None], kept: slice
) -> Callable[[Points], list[Answer]]:
    def ends(points: Points) -> list[Answer]:
        batch_sizes, steps = (column[kept] for column in reached(points))
        fit = fitted((batch_sizes, steps))
        if fit is None:
            return [NO_ANSWER] * len(OVERHEADS)
        return [inside(fit.perfect_end(overhead), batch_sizes) for overhead in OVERHEADS]

    return ends


def _from(start: int) -> Callable[[Points], list[Answer]]:
    def ends(points: Points) -> list[Answer]:
        batch_sizes, steps = reached(points)
        if len(steps) <= start:
            return [NO_ANSWER] * len(OVERHEADS)
        first = int(np.flatnonzero(points[0] == batch_sizes[start])[0])
        kept = points[0][first:], points[1][first:]
        return [anchored(kept, overhead) for overhead in OVERHEADS]

    return ends


_KEPT = {"all": slice(None), "without the smallest": slice(1, None),
         "without the largest": slice(None, -1)}  # fmt: skip
_KINDS: dict[str, Callable[[Points], ScalingCurve | None]] = {
    "free sharpness": functools.partial(fitted_as, FreeSharpness),
    "hyperbola": functools.partial(fitted_as, Hyperbola),
    "convex curve": functools.partial(fitted_as, Convex),
}
DEFINITIONS = (
    *(Definition(curve, points, _of_fit(fitted, kept))
      for curve, fitted in _KINDS.items() for points, kept in _KEPT.items()),
    Definition("point by point", "anchored at the smallest", _from(0)),
    Definition("point by point", "anchored at the second", _from(1)),
)  # fmt: skip
"""The headline's first."""


def definition_table(searches: Sequence[Points]) -> pl.DataFrame:
    """The end of perfect scaling under each definition and overhead, one row each.

    Columns: ``curve, points, overhead``; ``value, relation, low, high, coverage`` as in
    `CriticalBatchSize`, ``value`` null where it is not known.
    """
    rows = []
    for definition in DEFINITIONS:
        ends = [definition.ends(points) for points in searches]
        for at, overhead in enumerate(OVERHEADS):
            found = together("", [own[at] for own in ends], "", "")
            rows.append((definition.curve, definition.points, overhead, found.value,
                         found.relation, found.low, found.high, found.coverage))  # fmt: skip
    floats = ("value", "low", "high", "coverage")
    schema = {"curve": pl.String, "points": pl.String, "overhead": pl.Float64,
              "value": pl.Float64, "relation": pl.String,
              **dict.fromkeys(floats[1:], pl.Float64)}  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row")
