"""A round of a race that has no bound yet: its trials go in laps of doubling length.

Where no trial of earlier rounds has passed the goal, nothing says how long a trial may take. So
all trials of such a round pause together, first after 1/256 of the full length, then after twice
as much each time, and the round is over at the first lap by which one of them has passed the goal:
that lap is the bound of all. It depends on results alone, so neither timing nor a resume changes
it; a resume begins with the first lap again.

Of a search that trains to full length nothing pauses, and the same bound is found afterwards: a
divergence that came later would never have been seen in a race. So a result whose worth depends
on the bound waits here for it, in memory, and is recorded with it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from experiments.search.record import Ended
from experiments.search.rounds import laps
from experiments.spec.trial import Status, TrialResult
from workloads.base import Goal


def last_lap(length: int, passed: Iterable[int | None]) -> int | None:
    """Return the first lap by which a trial has passed the goal; None where none has.

    Args:
      length: of a trial in steps.
      passed: steps to the goal of the trials of the round, None where it was not reached.
    """
    fewest = min((steps for steps in passed if steps is not None), default=None)
    return None if fewest is None else next(lap for lap in laps(length) if lap >= fewest)


class OpenRound:
    """The newest round of one batch size, while it has no bound.

    Args:
      trials: indices of the round.
      length: of a trial in steps.
      full: whether its trials train to full length.
      goal: of the study.
      known: index -> how a trial ended, of those that have.

    Attributes:
      lap: steps that a trial may make by now.
      waiting: index -> the result of a trial that has ended, or pauses, and waits for the bound.
    """

    def __init__(
        self, trials: range, length: int, *, full: bool, goal: Goal, known: Mapping[int, Ended]
    ):
        self.trials = trials
        self._length, self._full, self._goal, self._known = length, full, goal, known
        self.waiting: dict[int, TrialResult] = {}
        # Where one has passed already, it did so before this process began: that lap was the last.
        self.lap = length if full else self._last or laps(length)[0]

    @property
    def _last(self) -> int | None:
        """The last lap of the round, where a trial that has ended passed the goal."""
        waiting = [Ended.of(result, self._goal) for result in self.waiting.values()]
        known = [self._known[i] for i in self.trials if i in self._known]
        return last_lap(self._length, (how.passed for how in (*waiting, *known)))

    def waits(self, result: TrialResult) -> bool:
        """Tell whether this result is kept until the bound is known."""
        if result.trial.index not in self.trials or result.status == Status.INCOMPLETE:
            return False
        return not self._full or result.status == Status.INFEASIBLE

    @property
    def over(self) -> bool:
        """Tell whether every trial of the round has ended or pauses."""
        return all(i in self.waiting or i in self._known for i in self.trials)

    def go_on(self) -> list[int]:
        """Begin the next lap, if there is to be one; returns the trials that go on."""
        paused = [i for i, result in self.waiting.items() if result.reason == "pruned"]
        if self._last is not None or not paused:
            return []
        self.lap = next(lap for lap in laps(self._length) if lap > self.lap)
        for index in paused:
            del self.waiting[index]
        return paused

    def results(self) -> list[TrialResult]:
        """The results that waited, with the bound of the round."""
        last = self._last
        bound = last if last is not None and last < self._length else None
        found = []
        for _, result in sorted(self.waiting.items()):
            trial = dataclasses.replace(result.trial, pause=None, race_bound=bound)
            raced = "race" if result.reason == "pruned" else result.reason
            found.append(dataclasses.replace(result, trial=trial, reason=raced))
        return found
