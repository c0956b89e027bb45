"""The steps that are made and left, in seconds of the plan."""

from __future__ import annotations

import time

from experiments.runner.plans import CurrentPlan
from experiments.runner.progress import StudyProgress
from experiments.runner.searches import Searches


class Work:
    """The account of trial-steps. Not thread-safe: the jobs hold their lock.

    Args:
      searches: of the study.
      plans: what a step costs.
    """

    def __init__(self, searches: Searches, plans: CurrentPlan):
        self._searches, self._plans = searches, plans
        self._sizes = searches.study.batch_sizes
        self._running = dict.fromkeys(self._sizes, 0)  # steps that running trials have made
        self._made_seconds = 0.0
        self._began = time.perf_counter()

    def advance(self, batch_size: int, steps: int) -> None:
        """Count steps that running trials have just made."""
        self.count(batch_size, steps)
        self._made_seconds += steps * self._plans.plan.seconds_per_step[batch_size]

    def count(self, batch_size: int, steps: int) -> None:
        """Count the steps of running trials, or take off those of trials that run no more."""
        self._running[batch_size] = max(0, self._running[batch_size] + steps)

    def remaining_seconds(self, batch_size: int) -> float:
        """Seconds of the plan that are left at a batch size."""
        # The plan covers the batch sizes that had work left when it was made.
        steps = self._searches.remaining_steps(batch_size)
        left = max(0, steps - self._running[batch_size])
        return left * self._plans.plan.seconds_per_step.get(batch_size, 0.0)

    def progress(self) -> StudyProgress:
        """Progress of the study; the pace so far tells how long the rest takes."""
        searches, made = self._searches, self._made_seconds
        remaining = sum(map(self.remaining_seconds, self._sizes))
        elapsed = time.perf_counter() - self._began
        return StudyProgress(
            "training",
            searches.complete,
            searches.infeasible,
            searches.wanted,
            [b for b in self._sizes if searches.running(b)],
            made / (made + remaining) if made + remaining else 1.0,
            remaining * elapsed / made if made > 0 else None,
        )
