"""The trials of one batch size: which may start, which have ended."""

from __future__ import annotations

from collections.abc import Iterable

from experiments.search.samplers.halton import point
from experiments.spec.resolved import ResolvedStudy
from experiments.spec.trial import MOST_STARTED, Status, Trial, TrialResult


class Search:
    """The trials of one batch size and seed: which may start, which have ended.

    Trial i starts once i < N + the number INFEASIBLE so far, at most 4N: the set that is started
    in the end is the same whatever the timing. Not thread-safe: the
    coordinator holds its lock.
    """

    def __init__(self, study: ResolvedStudy, batch_size: int, seed: int, checksum: str):
        self.study = study
        self.batch_size = batch_size
        self.seed = seed
        self.checksum = checksum
        self.ended: dict[int, Status] = {}
        self.running: set[int] = set()
        self.steps_running = 0

    def count(self, status: Status) -> int:
        """Trials that ended so."""
        return sum(found == status for found in self.ended.values())

    @property
    def limit(self) -> int:
        """Trials that may have been started by now."""
        wanted = self.study.trials
        return min(wanted + self.count(Status.INFEASIBLE), MOST_STARTED * wanted)

    @property
    def startable(self) -> list[int]:
        """Indices that may start now, in order."""
        return [i for i in range(self.limit) if i not in self.ended and i not in self.running]

    @property
    def remaining_steps(self) -> int:
        """Trial-steps still to be made, if nothing more diverges."""
        open_trials = sum(i not in self.ended for i in range(self.limit))
        return open_trials * self.study.length(self.batch_size) - self.steps_running

    def trial(self, index: int) -> Trial:
        """Trial ``index``, sampled."""
        unit = point(self.seed, index, self.study.space)
        return self.study.trial(self.batch_size, self.seed, index, unit, self.checksum)

    def start(self) -> Trial | None:
        """The next trial, or None where none may start now."""
        startable = self.startable
        if not startable:
            return None
        self.running.add(startable[0])
        return self.trial(startable[0])

    def release(self, trials: Iterable[Trial], steps: int) -> None:
        """These were not finished, after so many steps in all: they may start again."""
        self.running -= {trial.index for trial in trials}
        self.steps_running = max(0, self.steps_running - steps)

    def end(self, result: TrialResult) -> None:
        """Take a result."""
        self.running.discard(result.trial.index)
        self.ended[result.trial.index] = result.status
        self.steps_running = max(0, self.steps_running - result.steps)
