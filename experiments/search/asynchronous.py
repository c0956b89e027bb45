"""Asynchronous successive halving (ASHA) on a virtual clock: results decide, no machine's speed.

Li et al. 2020, algorithm 2. A free worker promotes, from the highest rung down, a trial among the
top floor(n / eta) of those that have ended the rung; where there is none it starts a new trial at
the bottom, and none where all have started. The workers and their clock are imagined: a job takes
as long as the steps that it adds, and all jobs that end at one time are known before any worker
that they free decides. So the same trials are promoted whatever trains them, and when.
"""

from __future__ import annotations

import dataclasses
import heapq
import math
from collections.abc import Callable, Sequence

import numpy as np

from experiments.search.pruning import halving, ranking


@dataclasses.dataclass(frozen=True)
class Promotion:
    """A job of asynchronous halving.

    Attributes:
      trial: its number.
      rung: 0, 1, ...
      resource: what the trial has trained to in all when the job ends.
      clock: virtual time at which it ends.
    """

    trial: int
    rung: int
    resource: int
    clock: int


def promotable(
    values: Sequence[float], promoted: Sequence[bool], eta: int, *, minimize: bool
) -> int | None:
    """The best entry of a rung among its top floor(n / eta) that was not promoted yet, if any."""
    order = ranking(np.asarray(values, float), minimize=minimize)
    for row in order[: len(order) // eta]:
        if not promoted[row] and math.isfinite(values[row]):
            return int(row)
    return None


class Asynchronous:
    """The promotions so far; `advance` takes them on as far as values are known.

    Args:
      ladder: resource of every rung, ascending.
      trials, workers, eta: as in the paper.
      minimize: whether a lower value is better.

    Attributes:
      ended: the jobs that have ended, in their order.
    """

    def __init__(
        self, ladder: Sequence[int], *, trials: int, workers: int, eta: int, minimize: bool
    ):
        self._ladder = list(ladder)
        self._trials, self._workers, self._eta, self._minimize = trials, workers, eta, minimize
        self._rungs: list[list[int]] = [[] for _ in ladder]
        self._values: list[list[float]] = [[] for _ in ladder]
        self._gone: list[list[bool]] = [[] for _ in ladder]
        self._running: list[tuple[int, int, int]] = []  # a heap of (clock, trial, rung)
        self._clock, self._started = 0, 0
        self.ended: list[Promotion] = []

    def advance(self, value: Callable[[int, int], float | None]) -> list[tuple[int, int]]:
        """The jobs (trial, resource) under way whose value is not known; none once all is over.

        Args:
          value: (trial, resource) -> the value there, None where it is not known yet.
        """
        while True:
            self._fill()
            if not self._running:
                return []
            clock = self._running[0][0]
            now = [job for job in self._running if job[0] == clock]
            if any(value(trial, self._ladder[rung]) is None for _, trial, rung in now):
                under_way = [(trial, self._ladder[rung]) for _, trial, rung in self._running]
                return sorted(job for job in under_way if value(*job) is None)
            self._clock = clock
            while self._running and self._running[0][0] == clock:
                _, trial, rung = heapq.heappop(self._running)
                found = value(trial, self._ladder[rung])
                assert found is not None, "it was known a moment ago"
                self._rungs[rung].append(trial)
                self._values[rung].append(found)
                self._gone[rung].append(False)
                self.ended.append(Promotion(trial, rung, self._ladder[rung], clock))

    def _fill(self) -> None:
        """Give every free worker a job, as long as there are any."""
        while len(self._running) < self._workers and (job := self._next_job()) is not None:
            trial, rung = job
            self._started += rung == 0
            spent = self._ladder[rung] - (self._ladder[rung - 1] if rung else 0)
            heapq.heappush(self._running, (self._clock + spent, trial, rung))

    def _next_job(self) -> tuple[int, int] | None:
        for rung in reversed(range(len(self._rungs) - 1)):
            # By trial, so that ties do not depend on who ended first.
            order = np.argsort(self._rungs[rung])
            values = [self._values[rung][i] for i in order]
            gone = [self._gone[rung][i] for i in order]
            row = promotable(values, gone, self._eta, minimize=self._minimize)
            if row is not None:
                self._gone[rung][order[row]] = True
                return self._rungs[rung][order[row]], rung + 1
        return (self._started, 0) if self._started < self._trials else None


def asynchronous_halving(
    evaluate: Callable[[int, int], float],
    *,
    trials: int,
    workers: int,
    min_resource: int,
    max_resource: int,
    eta: int,
    minimize: bool = True,
) -> list[Promotion]:
    """All jobs in the order they end.

    Args:
      evaluate: (trial, resource) -> value there; asked once for each job.
      trials, workers, min_resource, max_resource, eta: as in the paper; rung k trains to
        min(min_resource eta^k, max_resource).
    """
    ladder = [rung.resource for rung in halving(eta**64, min_resource, max_resource, eta)]
    known: dict[tuple[int, int], float] = {}

    def value(trial: int, resource: int) -> float:
        if (trial, resource) not in known:
            known[trial, resource] = evaluate(trial, resource)
        return known[trial, resource]

    jobs = Asynchronous(ladder, trials=trials, workers=workers, eta=eta, minimize=minimize)
    jobs.advance(value)
    return jobs.ended
