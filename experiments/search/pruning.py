"""Rules by which trials go on: pure functions that decide for a whole population at once.

A resource is what a trial is given to show how good it is (steps or epochs). Values are compared
in a stated direction; a value that is missing or not finite ranks last in both directions, and
ties go to the lower index, so a decision never depends on the order in which trials ended.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

Rounding = Literal["paper", "floor_first"]


def ranking(values: np.ndarray, *, minimize: bool) -> np.ndarray:
    """[n] row numbers from best to worst; what is not finite comes last, ties by row."""
    values = np.asarray(values, float)
    keys = np.where(np.isfinite(values), values if minimize else -values, np.inf)
    return np.lexsort((np.arange(len(values)), ~np.isfinite(values), keys))


def best_of(values: np.ndarray, count: int, *, minimize: bool) -> np.ndarray:
    """[n] bool: the ``count`` best."""
    chosen = np.zeros(len(values), bool)
    chosen[ranking(values, minimize=minimize)[:count]] = True
    return chosen


@dataclasses.dataclass(frozen=True)
class Rung:
    """``trials`` trials that train up to ``resource`` in all."""

    trials: int
    resource: int


def power_floor(value: int, eta: int) -> int:
    """The largest s with eta^s <= value, in whole numbers (a logarithm is off at exact powers).

    Raises:
      ValueError: value below 1 or eta below 2.
    """
    if value < 1:
        raise ValueError(f"max_resource must be at least 1, got {value!r}")
    if eta < 2:
        raise ValueError(f"eta must be a whole number of at least 2, got {eta!r}")
    s = 0
    while eta ** (s + 1) <= value:
        s += 1
    return s


def halving(trials: int, min_resource: int, max_resource: int, eta: int) -> tuple[Rung, ...]:
    """Successive halving (Jamieson & Talwalkar 2016): each rung keeps the best 1/eta.

    Rung i has floor(trials / eta^i) trials at min(min_resource eta^i, max_resource); it ends at
    max_resource or with one trial, which then trains to max_resource.

    Raises:
      ValueError: trials below 1, resources out of order, eta below 2.
    """
    if trials < 1:
        raise ValueError(f"trials must be at least 1, got {trials!r}")
    if not 1 <= min_resource <= max_resource:
        raise ValueError(
            f"min_resource must lie between 1 and max_resource = {max_resource}, "
            f"got {min_resource!r}"
        )
    power_floor(max_resource, eta)
    rungs, i = [], 0
    while True:
        left, resource = trials // eta**i, min(min_resource * eta**i, max_resource)
        last = left // eta == 0 or resource == max_resource
        rungs.append(Rung(left, max_resource if last and left == 1 else resource))
        if last:
            return tuple(rungs)
        i += 1


def hyperband(
    max_resource: int, eta: int = 3, *, rounding: Rounding = "paper"
) -> tuple[tuple[Rung, ...], ...]:
    """The brackets of Hyperband (Li et al. 2018, algorithm 1), widest first.

    With s_max = floor(log_eta R), bracket s = s_max..0 starts n = ceil((s_max + 1) eta^s / (s + 1))
    trials at R eta^-s and keeps floor(n eta^-i) of them at R eta^(i-s). ``rounding="floor_first"``
    is the widely copied variant n = floor((s_max + 1) / (s + 1)) eta^s. All in whole
    numbers; a resource R eta^(i-s) is rounded down, to at least 1.

    R = 81, eta = 3: n = 81, 34, 15, 8, 5 (floor_first: 81, 27, 9, 6, 5).

    Raises:
      ValueError: max_resource below 1, eta below 2, another rounding.
    """
    if rounding not in ("paper", "floor_first"):
        raise ValueError(f"rounding must be paper or floor_first, got {rounding!r}")
    widest = power_floor(max_resource, eta)
    brackets = []
    for s in range(widest, -1, -1):
        if rounding == "paper":
            trials = -(-(widest + 1) * eta**s // (s + 1))
        else:
            trials = (widest + 1) // (s + 1) * eta**s
        brackets.append(
            tuple(
                Rung(trials // eta**i, max(1, max_resource * eta**i // eta**s))
                for i in range(s + 1)
            )
        )
    return tuple(brackets)


def survivors(values: np.ndarray, eta: int, *, minimize: bool) -> np.ndarray:
    """[n] bool: who goes on to the next rung, the best floor(n / eta)."""
    return best_of(values, len(values) // eta, minimize=minimize)


def median_stop(curves: np.ndarray, *, minimize: bool, warmup: int = 0) -> np.ndarray:
    """[n] bool: who stops now by the median rule (Golovin et al. 2017, section 3.2.2).

    With o_1 .. o_s what a trial reported up to step s, it stops at s if the best of them is
    strictly worse than the median, over the other trials, of their running averages

        (o_1 + ... + o_s) / s.

    The paper's others are trials that have completed; here they are those that have come as far.
    The average is over the values that there are. A trial without any has no average and is worse
    than every median.

    Args:
      curves: [n, t] values at the same t evaluations of trials that have come so far; what one did
        not report is NaN.
      warmup: evaluations during which nobody stops.
    """
    curves = np.asarray(curves, float)
    n, t = curves.shape
    if t <= warmup:
        return np.zeros(n, bool)
    reported = np.isfinite(curves)
    signed = np.where(reported, curves if minimize else -curves, np.inf)
    counts, best = reported.sum(-1), signed.min(-1)
    means = np.where(reported, signed, 0.0).sum(-1) / np.maximum(counts, 1)
    known = np.flatnonzero(counts)
    others = (means[known[known != i]] for i in range(n))
    return best > np.array([np.median(own) if len(own) else np.inf for own in others])


@dataclasses.dataclass(frozen=True)
class EarlyStop:
    """Ends of trials for want of patience, each [n] (evaluations are counted from 0).

    Attributes:
      stop: the evaluation at which it stops; the number of evaluations where it does not.
      best: the evaluation whose parameters are restored; -1 where no value is finite.
    """

    stop: np.ndarray
    best: np.ndarray


def early_stopping(
    curves: np.ndarray, *, patience: int, min_delta: float = 0.0, minimize: bool
) -> EarlyStop:
    """Stop after ``patience`` evaluations in a row without an improvement of over ``min_delta``.

    Improvements are over the best value that was itself an improvement, as in Keras; a value
    that is missing or not finite is none.

    Args:
      curves: [n, t].

    Raises:
      ValueError: patience below 1, min_delta negative.
    """
    if patience < 1:
        raise ValueError(f"patience must be at least 1, got {patience!r}")
    if not min_delta >= 0:
        raise ValueError(f"min_delta must not be negative, got {min_delta!r}")
    curves = np.asarray(curves, float)
    signed = np.where(np.isfinite(curves), curves if minimize else -curves, np.inf)
    n, t = signed.shape
    level, waited = np.full(n, np.inf), np.zeros(n, int)
    stop, best = np.full(n, t), np.full(n, -1)
    for column in range(t):
        open_ = stop == t
        better = open_ & (signed[:, column] < level - min_delta)
        level = np.where(better, signed[:, column], level)
        best = np.where(better, column, best)
        waited = np.where(better, 0, waited + 1)
        stop = np.where(open_ & (waited >= patience), column, stop)
    return EarlyStop(stop, best)
