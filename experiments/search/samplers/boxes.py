"""Boxes that grow: where a batch size's optimum lies at an edge, the next round looks beyond it."""

from __future__ import annotations

import math

from experiments.search.samplers.base import Ask, Box
from experiments.spec.space import Distribution, Real

EDGE = 0.03
"""Fraction of the space's range within which a best point lies at an edge."""
STEP = 0.25
"""By how much a box grows, as a fraction of the space's range."""


def legal(distribution: Distribution, limits: tuple[float, float] | None) -> tuple[float, float]:
    """(lowest, highest) position a box may reach: [0, 1] or what legal values allow.

    An end that its scale cannot reach (0 on a log scale, 1 on a reverse log scale) is infinitely
    far.
    """
    if not isinstance(distribution, Real) or limits is None:
        return 0.0, 1.0
    low, high = limits
    lowest = -math.inf if distribution.scale == "log" and low <= 0 else distribution.position(low)
    endless = distribution.scale == "reverse_log" and high >= 1
    highest = math.inf if endless else distribution.position(high)
    return min(0.0, lowest), max(1.0, highest)


def widened(ask: Ask, batch_size: int) -> Box:
    """The box of this round: the last one, wider where the best trial so far lies at its edge."""
    reached = [trial for trial in ask.of(batch_size) if trial.outcome == "reached"]
    box = ask.box(batch_size)
    if not reached:
        return box
    best = min(reached, key=lambda trial: (trial.value, trial.index))
    ranges = []
    for name, (low, high), position in zip(ask.names, box, best.point, strict=True):
        lowest, highest = legal(ask.space[name], ask.limits.get(name))
        at_low, at_high = position - low < EDGE, high - position < EDGE
        ranges.append(
            (
                max(low - STEP, lowest) if at_low else low,
                min(high + STEP, highest) if at_high else high,
            )
        )
    return tuple(ranges)
