"""The trials of one batch size in one search: which run, how each ended, and what it showed."""

from __future__ import annotations

import bisect
import heapq

from experiments.search.record import Ended
from experiments.search.samplers.base import Outcome
from experiments.search.stopping import bound_after, shown
from experiments.spec.resolved import ResolvedStudy
from experiments.spec.trial import Status


class SizeTrials:
    """The trials of one batch size, by index. Not thread-safe.

    Args:
      study: the question.
      batch_size: theirs.

    Attributes:
      ended: index -> how it ended; INCOMPLETE ones are not tried again by this process.
      rounds: the first index of every round that proposed points here.
      last: points of the newest of them.
    """

    def __init__(self, study: ResolvedStudy, batch_size: int):
        self._study, self._batch_size = study, batch_size
        self.ended: dict[int, Ended] = {}
        self.rounds: list[int] = []
        self.last = 0
        self._running: set[int] = set()
        self._again: list[int] = []  # a heap of indices below ``_following``
        self._following = 0  # no index from here on was ever started
        self._replaced: set[int] = set()
        self._bounds: dict[int, int | None] = {}  # first index of a round -> its trials' bound

    def begin_round(self, first: int, points: int) -> None:
        """Take note of a round of ``points`` trials from index ``first`` on."""
        self.rounds.append(first)
        self.last = points

    # Started and ended.

    @property
    def running(self) -> bool:
        """Tell whether a trial was started and has not ended."""
        return bool(self._running)

    def next(self, proposed: int) -> int | None:
        """Return the lowest index below ``proposed`` that may start, if any."""
        while self._following in self.ended or self._following in self._running:
            self._following += 1
        if self._again:
            return self._again[0]
        return self._following if self._following < proposed else None

    def start(self, proposed: int) -> int | None:
        """Start the `next` trial, if any."""
        index = self.next(proposed)
        if index is not None:
            if self._again:
                heapq.heappop(self._again)
            self._running.add(index)
        return index

    def release(self, index: int) -> None:
        """Put back an unfinished trial, so that it can start again."""
        if index in self._running:
            self._running.remove(index)
            heapq.heappush(self._again, index)

    def end(self, index: int, how: Ended) -> None:
        """Take note of how a trial ended."""
        self._running.discard(index)
        self.ended[index] = how
        if not self._counts(index):
            self._replaced.add(index)

    def recall(self, ended: dict[int, Ended]) -> None:
        """Take up trials that ended in earlier processes; all rounds are known by now."""
        self.ended |= ended
        self._replaced = {index for index in self.ended if not self._counts(index)}

    # Their worth.

    def race_bound(self, index: int) -> int | None:
        """Return the steps after which the race ends a trial, or would; None: its length comes
        first, or trials do not race."""
        if self._study.stop != "race":
            return None
        first = self.rounds[bisect.bisect_right(self.rounds, index) - 1]
        if first not in self._bounds:
            earlier = (self.ended[i].passed for i in range(first) if i in self.ended)
            self._bounds[first] = bound_after(self._study, self._batch_size, earlier)
        return self._bounds[first]

    def outcome(self, index: int) -> tuple[Outcome, float]:
        """Return what a sampler is told of a trial that has ended."""
        how, bound = self.ended[index], self.race_bound(index)
        return shown(self._study, self._batch_size, how, bound)

    def replaced(self, first: int = 0) -> int:
        """Count the ended trials from index ``first`` on that do not count among the N."""
        return sum(i >= first for i in self._replaced) if first else len(self._replaced)

    def _counts(self, index: int) -> bool:
        """Tell whether an ended trial counts among the N, or will once it is tried again."""
        if self.ended[index].status == Status.INCOMPLETE:
            return True
        return self.outcome(index)[0] != "infeasible"
