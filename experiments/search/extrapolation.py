"""Stopping by extrapolation: a trial ends where its curve is unlikely to beat the best so far."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from experiments.search.architecture.calibration import Calibration
from experiments.search.architecture.curves import FEWEST, extrapolated

CHECKS = 4
"""A trial is looked at after 1/4, 2/4 and 3/4 of its budget, if it has `FEWEST` values by then."""
BELOW = 0.05
"""P(its last value beats the best so far) under which it stops."""

Values = Callable[[int, int], Sequence[float] | None]
"""As `experiments.search.fidelity.Curve`; trials before the population have negative numbers."""


class Extrapolated:
    """Trials that stop where P(y(R) beats the best of earlier rounds) is below `BELOW`.

    The best is over the trials of earlier rounds that trained to R; trials of one round are not
    compared with each other, so that the order in which they train changes nothing.

    Args:
      trials: of this round.
      before: of the rounds before.
      resource: R.
      minimize: whether a lower value is better.
    """

    def __init__(self, trials: int, before: int, resource: int, *, minimize: bool):
        self._before, self._resource = before, resource
        self._sign = 1.0 if minimize else -1.0
        checks = {math.ceil(resource * k / CHECKS) for k in range(1, CHECKS)}
        self._checks = sorted(at for at in checks if FEWEST <= at < resource)
        self._next = dict.fromkeys(range(trials), 0)
        self.pruned: set[int] = set()

    def jobs(self, curve: Values) -> dict[int, int]:
        """Trials that are to train further -> up to which resource in all."""
        best, wanted = self._best(curve), {}
        for trial in sorted(self._next.keys() - self.pruned):
            while self._next[trial] < len(self._checks):
                at = self._checks[self._next[trial]]
                values = curve(trial, at)
                if values is None:
                    wanted[trial] = at
                    break
                if not self._goes_on(values, best):
                    self.pruned.add(trial)
                    break
                self._next[trial] += 1
            else:
                if curve(trial, self._resource) is None:
                    wanted[trial] = self._resource
        return wanted

    def _best(self, curve: Values) -> float:
        """The best value of earlier rounds, as one of which less is better."""
        found = [curve(-k, self._resource) for k in range(1, self._before + 1)]
        values = [self._sign * v for one in found if one is not None for v in one]
        return min((v for v in values if math.isfinite(v)), default=math.inf)

    def _goes_on(self, values: Sequence[float], best: float) -> bool:
        y = self._sign * np.asarray(values, float)
        if not np.all(np.isfinite(y)) or not math.isfinite(best):
            return True  # it diverged, which ends it by itself; or nothing is known yet
        x = np.arange(1.0, len(y) + 1)
        scores = Calibration.at(len(y) / self._resource)
        curve = extrapolated(x, y, float(self._resource))
        return scores.worth_going_on(curve, best, below=BELOW)
