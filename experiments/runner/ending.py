"""The end of training: its reason, and what is raised for it."""

from __future__ import annotations

import dataclasses

from experiments.runner.executors import Job
from experiments.runtime import hosts
from experiments.spec.errors import StudyError, in_one_line


@dataclasses.dataclass
class Ending:
    """State of whether training ends, and why. Not thread-safe: the jobs hold their lock.

    Attributes:
      asked: to end by the caller; of several processes all do so after the same chunk.
      now: no trial is started any more, and what runs is dropped after its chunk.
      preempted: what runs is saved before it is dropped.
      failure: what a model or its data raised, in one line.
      died: what ended a worker, no trial's failure.
    """

    asked: bool = False
    now: bool = False
    preempted: bool = False
    failure: str | None = None
    died: BaseException | None = None

    def die(self, error: BaseException) -> None:
        """End for an exception of our own; the first one counts."""
        self.died = self.died or error
        self.now = True

    def fail(self, message: str) -> None:
        """End for an exception in a user's code; the first one counts."""
        self.failure = self.failure or message
        self.now = True

    def raise_if_failed(self) -> None:
        """Raise what ended training before its time.

        Raises:
          StudyError: a trial failed, or what ended a worker was no usual exception.
        """
        if self.failure:
            raise StudyError(self.failure)
        if isinstance(self.died, Exception):
            raise self.died
        if self.died:
            raise StudyError(f"training ended: {in_one_line(self.died)}") from self.died


def lost(error: BaseException) -> str:
    """Say that one of several processes failed: the others cannot go on without it."""
    return (
        f"training failed in process {hosts.index()}, or another process is gone "
        f"({in_one_line(error)}); finished trials are recorded, and the same commands try again"
    )


def failed(job: Job, what: str, message: str) -> str:
    """Say that ``what`` ("a trial" or "training") failed."""
    return (
        f"{what} at batch size {job.batch_size} failed ({message}); finished trials are "
        "recorded, and the same command tries again"
    )


def too_large(error: BaseException) -> str:
    """Say that not even one trial fits into memory."""
    return (
        f"{in_one_line(error)}; one trial at a time needs more memory than there is: choose "
        "batch sizes that fit (batchscale plan STUDY finds them) or cut the step into "
        "micro-batches (--micro-batch)"
    )
