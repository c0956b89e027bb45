"""Scaling of steps to result with batch size: the regimes, and what is called critical batch size.

"Critical batch size" has two meanings that differ five to ten times, so it has two names here:

- `perfect_scaling_limit` (Shallue et al. 2019; Zhang et al. 2019; the Tuning Playbook): the
  largest batch size that needs at most a stated share (20 %) more examples than perfect scaling.
- `noise_critical_batch_size` (McCandlish et al. 2018, eq. 2.11-2.12): E_min / S_min of the
  hyperbola (S/S_min - 1) = (E/E_min - 1)^-1, where both steps and examples are doubled.

The first is read off the curve S = S_min (1 + (B_noise / B)^p)^(1/p) fitted to all batch sizes of
a search, its sharpness p with the rest (`free_sharpness`); the regimes come from the same curve and
are therefore in order. It is one rule, whatever the points say of p: to keep the hyperbola, p = 1,
until a test rejects it would put the end two to four times too low in most studies whose elbow is a
little sharper, because there the test is weak (tests/analysis/test_headline.py). Beside it stand
`hyperbola_limit`, 0.2 B_noise where the hyperbola is taken for granted, `convex_limit`, and
`anchored_limit` at the smallest batch size: near the border an error of that one point is amplified
about sixfold. The second is defined by the hyperbola and read off it.

A study of several searches fits each on its own; shown are the median and the exact range
(`intervals.range_of_searches`), in which a search that has no fit bounds nothing.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal, TypeVar

import numpy as np

from experiments.analysis.free_sharpness import FEWEST_FOR_SHARPNESS, FreeSharpness
from experiments.analysis.intervals import (
    NO_ANSWER,
    Answer,
    median_of_searches,
    range_of_searches,
)
from experiments.analysis.regimes import PERFECT_OVERHEAD, Points, regime_borders
from experiments.analysis.scaling_curve import Convex, Hyperbola, ScalingCurve

_TOO_FEW = "needs at least three batch sizes that reach the goal"
FEWEST_POINTS = 3
"""Batch sizes that must reach the goal for a fit: the hyperbola has two parameters."""

NAMES = (
    "perfect_scaling_limit",
    "hyperbola_limit",
    "noise_critical_batch_size",
    "convex_limit",
    "anchored_limit",
    "flat_start",
    "fewest_examples",
)
"""Of the estimates, in the order in which a summary holds them."""


@dataclasses.dataclass(frozen=True)
class CriticalBatchSize:
    """One batch size at which scaling changes, with what is known of it.

    Attributes:
      name: one of `NAMES`.
      value: in examples per step, the median of the searches; None where the record cannot tell.
      relation: ``"="`` where measured; ``">="`` or ``"<="`` where it is only bounded, because
        the measured batch sizes end before it shows.
      low, high, coverage: exact range of the searches, infinite where open; None for one search.
      searches: how many searches there are.
      note: one sentence, how it was found or why it could not be.
    """

    name: str
    value: float | None
    relation: Literal["=", ">=", "<="]
    low: float | None
    high: float | None
    coverage: float | None
    searches: int
    note: str


def together(name: str, answers: Sequence[Answer], note: str, missing: str) -> CriticalBatchSize:
    """The searches' answers as one estimate; ``missing`` says why there is none.

    The median is that of the searches that have an answer, which must be at least half of them;
    the range is that of all, infinite on both sides where one has none.
    """
    known = [answer for answer in answers if answer != NO_ANSWER]
    if 2 * len(known) < max(len(answers), 1):
        return CriticalBatchSize(name, None, "=", None, None, None, len(answers), missing)
    count, ends = len(answers), range_of_searches(answers)
    low_end = high_end = coverage = None
    if ends is not None:
        low_end, high_end, coverage = max(ends.low, 0.0), ends.high, ends.coverage
    high = median_of_searches(known) if known else math.inf
    low = -median_of_searches([Answer.exactly(-a.low) for a in known]) if known else -math.inf
    value: float | None = high
    relation: Literal["=", ">=", "<="] = "="
    if math.isinf(high) and math.isinf(low):
        value, note = None, missing
    elif low != high:
        value, relation = (low, ">=") if math.isinf(high) else (high, "<=")
    if value is not None and len(known) < count:
        silent = f"{count - len(known)} of {count} searches have no answer"
        note = f"{note}; {silent}" if note else silent
    return CriticalBatchSize(name, value, relation, low_end, high_end, coverage, count, note)


def reached(points: Points) -> Points:
    """The batch sizes of a search that reached the goal, with their steps."""
    batch_sizes, steps = points
    finite = np.isfinite(steps)
    return batch_sizes[finite], steps[finite]


Fitted = TypeVar("Fitted", FreeSharpness, Hyperbola, Convex)


def fitted_as(kind: type[Fitted], points: Points) -> Fitted | None:
    """A search's curve of a kind; None where fewer than three batch sizes reached the goal."""
    batch_sizes, steps = reached(points)
    return kind.fit(batch_sizes, steps) if len(steps) >= FEWEST_POINTS else None


def fitted(points: Points) -> FreeSharpness | None:
    """The curve from which the headline and the regimes of a search are read."""
    return fitted_as(FreeSharpness, points)


def inside(value: float, batch_sizes: np.ndarray) -> Answer:
    """A border as an answer: beyond the measured batch sizes only that it lies there is said."""
    smallest, largest = float(batch_sizes.min()), float(batch_sizes.max())
    if value > largest:
        return Answer(largest, math.inf)
    return Answer(-math.inf, smallest) if value < smallest else Answer.exactly(value)


def perfect_scaling_limit(
    searches: Sequence[Points], overhead: float = PERFECT_OVERHEAD
) -> CriticalBatchSize:
    """The headline: the end of perfect scaling of the curves of free sharpness."""
    fits = [fitted(points) for points in searches]
    note = _sharp(fits, searches)
    return together("perfect_scaling_limit", _ends(fits, searches, overhead), note, _TOO_FEW)


def hyperbola_limit(
    searches: Sequence[Points], overhead: float = PERFECT_OVERHEAD
) -> CriticalBatchSize:
    """The end of perfect scaling of the hyperbolas, ``overhead`` times B_noise."""
    fits = [fitted_as(Hyperbola, points) for points in searches]
    note = f"{overhead:g} times the noise critical batch size"
    return together("hyperbola_limit", _ends(fits, searches, overhead), note, _TOO_FEW)


def convex_limit(
    searches: Sequence[Points], overhead: float = PERFECT_OVERHEAD
) -> CriticalBatchSize:
    """The end of perfect scaling of the best convex curve, whatever its form."""
    fits = [fitted_as(Convex, points) for points in searches]
    note = "its gain from doubling only falls as the batch grows"
    return together("convex_limit", _ends(fits, searches, overhead), note, _TOO_FEW)


def _ends(
    fits: Sequence[ScalingCurve | None], searches: Sequence[Points], overhead: float
) -> list[Answer]:
    """The end of perfect scaling of each search's curve, within its batch sizes."""
    return [
        NO_ANSWER if fit is None else inside(fit.perfect_end(overhead), reached(points)[0])
        for fit, points in zip(fits, searches, strict=True)
    ]


def _sharp(fits: Sequence[FreeSharpness | None], searches: Sequence[Points]) -> str:
    """Say how sharp the elbows are, or that too few batch sizes can tell."""
    told = [fit.sharpness for fit, points in zip(fits, searches, strict=True)
            if fit is not None and len(reached(points)[0]) >= FEWEST_FOR_SHARPNESS]  # fmt: skip
    if not told:
        return (
            f"fewer than {FEWEST_FOR_SHARPNESS} batch sizes cannot tell the sharpness of the "
            "elbow, so the hyperbola's is taken"
        )
    span = f" ({min(told):.2g} to {max(told):.2g})" if len(told) > 1 else ""
    return f"sharpness of the elbow {float(np.median(told)):.2g}{span}; 1 is the hyperbola's"


def flat_start(searches: Sequence[Points]) -> CriticalBatchSize:
    """Find where doubling begins to save less than 10 % of the steps on the fitted curves."""
    answers = [
        NO_ANSWER
        if (fit := fitted(points)) is None
        else inside(regime_borders(fit)[1], reached(points)[0])
        for points in searches
    ]
    return together("flat_start", answers, "", _TOO_FEW)


def noise_critical_batch_size(searches: Sequence[Points]) -> CriticalBatchSize:
    """E_min / S_min of the hyperbola fitted in log space."""
    answers, residuals, measured = [], [], []
    for points in searches:
        fit = fitted_as(Hyperbola, points)
        if fit is None:
            answers.append(NO_ANSWER)
            continue
        batch_sizes = reached(points)[0]
        known = 0 < fit.noise_batch_size < math.inf
        value = fit.noise_batch_size
        answers.append(Answer.exactly(value) if known else inside(value, batch_sizes))
        residuals.append(fit.residual)
        measured.append((batch_sizes.min(), batch_sizes.max()))
    note = ""
    if residuals:
        note = f"steps off the hyperbola by {2 ** np.median(residuals) - 1:.0%} (root mean square)"
    found = together("noise_critical_batch_size", answers, note, _TOO_FEW)
    if found.value is None:
        return found
    smallest, largest = np.median(measured, axis=0)
    note = found.note
    if found.relation == ">=":
        note = "no departure from perfect scaling up to the largest batch size"
    elif found.relation == "<=":
        note = "no gain from the batch size already at the smallest"
    elif not smallest <= found.value <= largest:
        note += "; outside the measured batch sizes, so extrapolated"
    return dataclasses.replace(found, note=note)


def anchored_limit(
    searches: Sequence[Points], overhead: float = PERFECT_OVERHEAD
) -> CriticalBatchSize:
    """The end of perfect scaling along the line through the smallest batch size that got there."""
    note = "point by point from the smallest batch size, whose error is amplified about sixfold"
    answers = [anchored(points, overhead) for points in searches]
    missing = "needs at least two batch sizes that reach the goal"
    return together("anchored_limit", answers, note, missing)


def anchored(points: Points, overhead: float) -> Answer:
    """The anchored end of one search, bounded where the points end before it shows."""
    batch_sizes, steps = points
    if np.isfinite(steps).sum() < 2:
        return NO_ANSWER
    end, bound = perfect_scaling_end(batch_sizes, steps, overhead)
    return Answer(end, math.inf) if bound else Answer.exactly(end)


def fewest_examples(searches: Sequence[Points]) -> CriticalBatchSize:
    """The measured batch size that reached the goal with the fewest examples, B_opt."""
    answers = []
    for points in searches:
        batch_sizes, steps = reached(points)
        best = batch_sizes[np.argmin(batch_sizes * steps)] if len(steps) else None
        answers.append(NO_ANSWER if best is None else Answer.exactly(float(best)))
    missing = "no batch size reached the goal"
    found = together("fewest_examples", answers, "", missing)
    if found.value is None:
        return found
    known = sorted(a.high for a in answers if a != NO_ANSWER)
    return dataclasses.replace(found, value=known[(len(known) - 1) // 2])  # one of those measured


def perfect_scaling_end(
    batch_sizes: np.ndarray, steps: np.ndarray, overhead: float = PERFECT_OVERHEAD
) -> tuple[float, bool]:
    """(largest batch size within ``overhead`` of the smallest's line, whether only a bound).

    Between the last batch size within the overhead and the next one the examples needed are
    taken as linear in B, which in McCandlish's model they are. A bound where there is no next
    one, or the next never reached the goal.

    Args:
      batch_sizes, steps: [n] ascending; infinite steps where the goal was not reached, at least
        one finite.
    """
    start = int(np.flatnonzero(np.isfinite(steps))[0])
    x = batch_sizes[start:]
    examples = steps[start:] * x
    excess = examples / examples[0] - (1 + overhead)
    last = int(np.flatnonzero(excess <= 1e-12)[-1])
    if last == len(x) - 1 or not np.isfinite(excess[last + 1]):
        return float(batch_sizes[start + last]), True
    share = -excess[last] / (excess[last + 1] - excess[last])
    return float(x[last] + max(share, 0.0) * (x[last + 1] - x[last])), False
