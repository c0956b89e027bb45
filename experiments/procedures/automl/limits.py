"""Ends of an automl: of its search, by time or trials, and of what follows, by time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from experiments.procedures.automl.plan import pruner

MARGIN = 1.5
"""Over what was measured of the ending: a machine is not equally fast at every moment."""


@dataclasses.dataclass
class TimeLimit:
    """Rounds begin as long as half of one is expected to fit; at the end all stops.

    Attributes:
      spent: seconds by now.
      until: seconds at which the search is over.
      epoch_seconds: expected of an epoch; of later rounds the mean of those that were trained.
      trials: at most; more than there are validation examples are told apart by luck.
      epochs: R, of a full trial.
    """

    spent: Callable[[], float]
    until: float
    epoch_seconds: float
    trials: int
    epochs: int
    _began: float | None = None
    _epochs: int = 0

    def begins(self, number: int, trials: int, resources: int) -> bool:
        """As of `experiments.runner.search_driver.Limit`."""
        if not TrialLimit(self.trials, self.epochs).begins(number, trials, resources):
            return False
        now = self.spent()
        if self._began is None:
            self._began = now
        elif self._epochs:
            self.epoch_seconds = (now - self._began) / self._epochs
        if now + 0.5 * resources * self.epoch_seconds > self.until:
            return False
        self._epochs += resources
        return True

    def over(self) -> bool:
        """True from ``until`` on."""
        return self.spent() >= self.until


@dataclasses.dataclass(frozen=True)
class TrialLimit:
    """Whole rounds, as long as their trials fit.

    Attributes:
      trials: at most.
      epochs: R, of a full trial.
    """

    trials: int
    epochs: int

    def begins(self, number: int, trials: int, resources: int) -> bool:
        """As of `experiments.runner.search_driver.Limit`."""
        del resources
        brackets = pruner(self.epochs)
        before = sum(brackets.following(k, 0, 1 << 30) for k in range(number))
        return before + trials <= self.trials

    def over(self) -> bool:
        """Never: a round that has begun ends."""
        return False


@dataclasses.dataclass(frozen=True)
class EndingTime:
    """Time for training members again and, once some are chosen, on all examples (refit.py).

    Attributes:
      spent: seconds by now.
      until: seconds at which the rest of the ending begins; infinite where trials are counted.
      each: seconds expected of a member.
      growth: steps of a refit over those before; 0: there is none.
    """

    spent: Callable[[], float]
    until: float
    each: float
    growth: float

    @property
    def left(self) -> float:
        """Seconds."""
        return self.until - self.spent()

    def more(self, took: float) -> bool:
        """Tell whether another member fits, after those that took so many seconds.

        Where the refit of those fits still, it is to fit with another one too.
        """
        left, again = self.left, self.refit_seconds(took)
        if again > left:
            return MARGIN * self.each <= left
        return MARGIN * self.each + self.refit_seconds(took + self.each) <= left

    def refit_seconds(self, took: float) -> float:
        """Seconds to keep for the refit of members that took so many."""
        return MARGIN * self.growth * took
