"""Power laws of critical batch sizes in a number that studies differ in: B = c x^a.

Studies of one seed's searches give one line in (log x, log B) each, by least squares; the exponents
of R seeds are independent, so their median is shown with its exact range. x may be any number of a
study's description: the training set's size, the goal, a width among the model's options.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from experiments.analysis.critical_batch_size import fitted, fitted_as
from experiments.analysis.intervals import NO_ANSWER, Answer
from experiments.analysis.regimes import PERFECT_OVERHEAD, Points
from experiments.analysis.scaling_curve import Convex, Hyperbola
from experiments.analysis.searches import Across
from experiments.analysis.summary import Summary


def _noise(points: Points) -> float | None:
    fit = fitted_as(Hyperbola, points)
    return None if fit is None else fit.noise_batch_size


def _end(points: Points) -> float | None:
    fit = fitted(points)
    return None if fit is None else fit.perfect_end(PERFECT_OVERHEAD)


def _convex(points: Points) -> float | None:
    fit = fitted_as(Convex, points)
    return None if fit is None else fit.perfect_end(PERFECT_OVERHEAD)


QUANTITIES: Mapping[str, Callable[[Points], float | None]] = {
    "end of perfect scaling": _end,
    "noise critical batch size": _noise,
    "end of perfect scaling, convex curve": _convex,
}
"""Name -> the number that is read of a search's points."""


def exponent(x: Sequence[float], y: Sequence[float | None]) -> Answer:
    """The slope of log y against log x; no answer where a y is missing, zero or infinite."""
    if any(value is None or not 0 < value < math.inf for value in y):
        return NO_ANSWER
    slope = np.polyfit(np.log(x), np.log(np.array(y, float)), 1)[0]
    return Answer.exactly(float(slope))


def value_of(summary: Summary, key: str) -> float:
    """A number of a study's description by its dotted name (``goal`` is the goal's value).

    Raises:
      ValueError: there is none, or it is no number above zero.
    """
    study = summary.record.study["study"]
    found: Any = {**study, "goal": summary.question.goal.value}
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    number = isinstance(found, (int, float)) and not isinstance(found, bool) and found > 0
    if not number:
        numbers = [name for name, held in study.items()
                   if isinstance(held, (int, float)) and not isinstance(held, bool)]  # fmt: skip
        raise ValueError(
            f"--against must name a number above 0 of every study (goal, {', '.join(numbers)}, or "
            f"one inside, such as workload.model_options.NAME), got {key!r}: "
            f"{summary.question.name} has {found!r}"
        )
    return float(found)


def power_laws(members: Mapping[str, Summary], key: str) -> pl.DataFrame:
    """One row a quantity: ``quantity, studies, searches, median, low, high, coverage`` of a.

    Raises:
      ValueError: fewer than two values of the number, a study whose batch grows within a trial, or
        as of `value_of`.
    """
    for label, summary in members.items():
        grows = summary.question.batch_size_schedule
        if grows != "constant":
            raise ValueError(
                f"batch_size_schedule must be constant for critical batch sizes (--against {key}), "
                f"got {grows!r} in {label}"
            )
    x = [value_of(summary, key) for summary in members.values()]
    if len(set(x)) < 2:
        raise ValueError(f"--against {key} needs studies that differ in it, all have {x[0]:g}")
    searches = [dict(zip(s.critical.fits, s.critical.searches, strict=True))
                for s in members.values()]  # fmt: skip
    seeds = [seed for seed in searches[0] if all(seed in own for own in searches)]
    rows = []
    for name, read in QUANTITIES.items():
        answers = [exponent(x, [read(own[seed]) for own in searches]) for seed in seeds]
        across = Across.of(answers or [NO_ANSWER])
        rows.append((name, len(x), len(seeds), across.median, across.low, across.high,
                     across.coverage))  # fmt: skip
    floats = dict.fromkeys(("median", "low", "high", "coverage"), pl.Float64)
    schema = {"quantity": pl.String, "studies": pl.Int64, "searches": pl.Int64, **floats}
    return pl.DataFrame(rows, schema=schema, orient="row")
