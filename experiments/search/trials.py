"""The trials of one batch size in one search: which run, how each ended, and what it showed."""

from __future__ import annotations

import bisect
import heapq

from experiments.search.fidelity import Pruner
from experiments.search.pacing import OpenRound
from experiments.search.pruned import PrunedTrials
from experiments.search.record import Ended
from experiments.search.samplers.base import Outcome
from experiments.search.stopping import bound_after, bound_within, shown
from experiments.spec.resolved import ResolvedStudy
from experiments.spec.trial import Status, TrialResult


class SizeTrials:
    """The trials of one batch size, by index. Not thread-safe.

    Args:
      study: the question.
      batch_size: theirs.
      full: whether they train to full length, whatever the study says of stopping.

    Attributes:
      ended: index -> how it ended; INCOMPLETE ones are not tried again by this process.
      rounds: the first index of every round that proposed points here.
      last: points of the newest of them.
    """

    def __init__(self, study: ResolvedStudy, batch_size: int, full: bool):
        self._study, self._batch_size, self._full = study, batch_size, full
        self.ended: dict[int, Ended] = {}
        self.rounds: list[int] = []
        self.last = 0
        self._running: set[int] = set()
        self._again: list[int] = []  # a heap of indices below ``_following``
        self._following = 0  # no index from here on was ever started
        self._replaced: set[int] = set()
        self._bounds: dict[int, int | None] = {}  # first index of a round -> its trials' bound
        self._pace: OpenRound | None = None  # of the newest round, until its bound is known
        pruner = Pruner.of(study)
        self._pruned = PrunedTrials(pruner, study, batch_size) if pruner else None

    def begin_round(self, first: int, points: int) -> None:
        """Take note of a round of ``points`` trials from index ``first`` on."""
        self.rounds.append(first)
        self.last = points
        self._pace = self._new_pace()
        if self._pruned is not None:
            self._pruned.begin(points)

    # Started and ended.

    @property
    def running(self) -> bool:
        """Tell whether a trial was started and has not ended."""
        return bool(self._running)

    def next(self, proposed: int) -> int | None:
        """Return the lowest index below ``proposed`` that may start, if any."""
        if self._pruned is not None:
            jobs = self._pruned.jobs()
            able = (i for i in jobs if i not in self._running and i not in self.ended)
            return min(able, default=None)
        waiting = self._pace.waiting if self._pace else {}
        while any(self._following in known for known in (self.ended, self._running, waiting)):
            self._following += 1
        if self._again:
            return self._again[0]
        return self._following if self._following < proposed else None

    def start(self, proposed: int) -> int | None:
        """Start the `next` trial, if any."""
        index = self.next(proposed)
        if index is not None:
            if self._again and self._pruned is None:
                heapq.heappop(self._again)
            self._running.add(index)
        return index

    def release(self, index: int) -> None:
        """Put back an unfinished trial, so that it can start again."""
        if index in self._running:
            self._running.remove(index)
            if self._pruned is None:
                heapq.heappush(self._again, index)

    def end(self, result: TrialResult) -> list[TrialResult]:
        """Take a result; returns those that are final now, for the record."""
        index = result.trial.index
        self._running.discard(index)
        if self._pruned is not None:
            found = self._pruned.end(result)
            for final in found:
                self._settle(final.trial.index, Ended.of(final, self._study.goal))
            return found
        pace = self._pace
        if pace is not None and pace.waits(result):
            pace.waiting[index] = result
        else:
            self._settle(index, Ended.of(result, self._study.goal))
        found = [] if pace is not None and index in pace.waiting else [result]
        if pace is not None and pace.over:
            found += self._next_lap(pace)
        return found

    def _settle(self, index: int, how: Ended) -> None:
        self.ended[index] = how
        if not self._counts(index):
            self._replaced.add(index)

    def _next_lap(self, pace: OpenRound) -> list[TrialResult]:
        """Let the trials that pause go on; at the end of the round, its results with its bound."""
        again = pace.go_on()
        for index in again:
            heapq.heappush(self._again, index)
        if again:
            return []
        self._pace, found = None, pace.results()
        for result in found:
            self.ended[result.trial.index] = Ended.of(result, self._study.goal)
        self._replaced -= set(pace.trials)
        self._replaced |= {i for i in pace.trials if i in self.ended and not self._counts(i)}
        return found

    def recall(self, ended: dict[int, Ended]) -> None:
        """Take up trials that ended in earlier processes; all rounds are known by now."""
        self.ended |= ended
        if self._pruned is not None:
            self._pruned.recall(ended)
        self._bounds.clear()
        self._pace = self._new_pace()
        self._replaced = {index for index in self.ended if not self._counts(index)}

    def _new_pace(self) -> OpenRound | None:
        """The pace of the newest round, where nothing bounds its trials yet."""
        if self._study.stop != "race" or not self.rounds:
            return None
        first = self.rounds[-1]
        trials = range(first, first + self.last)
        if any(self.ended[i].passed is not None for i in range(first) if i in self.ended):
            return None
        if all(i in self.ended for i in trials):
            return None
        length = self._study.length(self._batch_size)
        return OpenRound(trials, length, full=self._full, goal=self._study.goal, known=self.ended)

    def paced(self, index: int) -> bool:
        """Tell whether a trial's bound is not known before its round is over."""
        return self._pace is not None and index in self._pace.trials

    def pause(self, index: int) -> int | None:
        """Return the steps after which a trial pauses, until it is known whether it goes on; None:
        it does not."""
        if self._pruned is not None:
            return self._pruned.pause(index)
        if self._pace is None or self._full or not self.paced(index):
            return None
        lap = self._pace.lap
        return lap if lap < self._study.length(self._batch_size) else None

    # Their worth.

    def race_bound(self, index: int) -> int | None:
        """Return the steps after which the race ends a trial, or would; None: its length comes
        first, or trials do not race."""
        if self._study.stop != "race":
            return None
        place = bisect.bisect_right(self.rounds, index)
        first, newest = self.rounds[place - 1], place == len(self.rounds)
        if first not in self._bounds:
            earlier = [self.ended[i].passed for i in range(first) if i in self.ended]
            if any(steps is not None for steps in earlier):
                bound = bound_after(self._study, self._batch_size, earlier)
            else:
                end = first + self.last if newest else self.rounds[place]
                own = [self.ended[i].passed for i in range(first, end) if i in self.ended]
                bound = bound_within(self._study, self._batch_size, own)
                if newest and self._pace is not None:
                    return bound  # as far as it is known
            self._bounds[first] = bound
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
        if self._pruned is not None:  # N counts trials started
            return True
        if self.ended[index].status == Status.INCOMPLETE:
            return True
        return self.outcome(index)[0] != "infeasible"
