"""The one way into the record, and what has finished and is not recorded yet."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from experiments.planning.execution import ExecutionPlan
from experiments.records.follower import Follower
from experiments.records.store import Writer
from experiments.search.record import Round
from experiments.spec.trial import TrialResult
from experiments.training.resume import Checkpoints


class Recorder:
    """Writes results, rounds and plans, one thread at a time.

    Its lock is the inner one: whoever holds the lock of the jobs may record, and nobody who records
    asks for that of the jobs.

    Args:
      writer: of the record.
      checkpoints: of the study; those of a recorded trial are removed.
      recorded: told of results once they are recorded.
    """

    def __init__(
        self,
        writer: Writer | Follower,
        checkpoints: Checkpoints,
        recorded: Callable[[Sequence[TrialResult]], None] = lambda results: None,
    ):
        self._writer, self._checkpoints, self._recorded = writer, checkpoints, recorded
        self._lock = threading.RLock()
        self._results: list[TrialResult] = []  # finished and, as far as is known, not recorded

    def keep(self, result: TrialResult) -> None:
        """Take a result, to be recorded by the next `commit`."""
        self._results.append(result)

    def commit(self) -> None:
        """Record what has finished; it is forgotten here only after that."""
        with self._lock:
            found = self._results[:]
            self._writer.commit(found)
            for result in found:
                self._checkpoints.end(result.trial, result.status)
            del self._results[: len(found)]
        self._recorded(found)

    def add_round(self, found: Round) -> None:
        """Record a round of a search; what it follows from was committed before it was made."""
        with self._lock:
            self._writer.add_round(found.to_json())

    def add_plan(self, plan: ExecutionPlan) -> int:
        """Record a plan, before anything is trained by it; returns its index."""
        with self._lock:
            return self._writer.add_plan(plan.to_json())
