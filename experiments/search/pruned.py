"""The trials of one batch size under a pruner: how far each has come, and who trains on."""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping

from experiments.search.fidelity import Populations, Pruner
from experiments.search.record import Ended
from experiments.spec.resolved import ResolvedStudy
from experiments.spec.trial import Status, TrialResult


class Curves:
    """The values of the trials of one batch size, in the R-ths of a length that pruners count.

    A trial has trained to resource r at its last evaluation within r / R of its length, and to R at
    its end.

    Args:
      study, batch_size: of the trials.

    Attributes:
      ends: steps at which a trial has trained to resources 1 .. R.
    """

    def __init__(self, study: ResolvedStudy, batch_size: int):
        length, parts = study.length(batch_size), study.pruner_resource
        grid = study.grid(length)
        within = (bisect.bisect_right(grid, length * r // parts) for r in range(1, parts + 1))
        self.ends = [grid[max(0, count - 1)] for count in within]
        self._best = min if study.goal.sign == 1 else max
        self._known: dict[int, tuple[list[float], int]] = {}
        self._recorded: set[int] = set()

    def recall(self, ended: Mapping[int, Ended]) -> None:
        """Take the measurements of recorded trials: one that was pruned stays so."""
        for index, how in ended.items():
            self.take(index, how)
        self._recorded |= ended.keys()

    def take(self, index: int, how: Ended) -> None:
        """Take the measurements of a trial that has ended or was put aside."""
        if how.status in (Status.INFEASIBLE, Status.INCOMPLETE):
            values, reached = [math.nan] * len(self.ends), len(self.ends)
        else:
            edges = zip([0, *self.ends], self.ends, strict=False)
            pieces = (
                [v for step, v in how.measured if begin < step <= end and math.isfinite(v)]
                for begin, end in edges
            )
            values = [self._best(own, default=math.nan) for own in pieces]
            waits = how.reason == "pruned"
            reached = bisect.bisect_right(self.ends, how.steps) if waits else len(self.ends)
        self._known[index] = values, reached

    def __call__(self, index: int, resource: int) -> list[float] | None:
        """Return a trial's best value in each of the first ``resource`` R-ths of its length.

        NaN where there is none, as everywhere of one that diverged or failed, or beyond where a
        recorded one was pruned, by whichever rule; None where it has not come so far and still may.
        """
        values, reached = self._known.get(index, ([], 0))
        if resource <= reached:
            return values[:resource]
        return [math.nan] * resource if index in self._recorded else None


class PrunedTrials:
    """The decisions of a pruner at one batch size. Not thread-safe.

    Args:
      pruner: of the study.
      study, batch_size: of the trials.
    """

    def __init__(self, pruner: Pruner, study: ResolvedStudy, batch_size: int):
        self._pruner, self._goal = pruner, study.goal
        self._populations = Populations(pruner)
        self._curves = Curves(study, batch_size)
        self._aside: dict[int, TrialResult] = {}  # until it is decided who goes on
        self._targets: dict[int, int] | None = None

    def begin(self, points: int) -> None:
        """Take note of a round, a population of so many trials."""
        self._populations.add(points)
        self._targets = None

    def recall(self, ended: Mapping[int, Ended]) -> None:
        """Take up trials that ended in earlier processes."""
        self._curves.recall(ended)
        self._targets = None

    def end(self, result: TrialResult) -> list[TrialResult]:
        """Take a result; returns those that are final now: itself, unless it was put aside, and
        those put aside that will not go on."""
        index = result.trial.index
        self._curves.take(index, Ended.of(result, self._goal, curve=True))
        self._targets = None
        self._aside.pop(index, None)
        found = [] if result.reason == "pruned" else [result]
        if not found:
            self._aside[index] = result
        self.jobs()
        gone = sorted(self._populations.pruned & self._aside.keys())
        return [*found, *(self._aside.pop(index) for index in gone)]

    def jobs(self) -> dict[int, int]:
        """Trials that are to train further by what is known -> up to which resource."""
        if self._targets is None:
            self._targets = self._populations.jobs(self._curves)
        return self._targets

    def pause(self, index: int) -> int | None:
        """Return the steps after which a trial is put aside; None: it trains to its end."""
        at = self.jobs().get(index)
        return None if at is None else self._curves.ends[at - 1]
