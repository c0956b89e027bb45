"""Executors: who trains the packs of a study. One interface, whatever the workers are.

An executor asks `Jobs` for work and tells it what became of it. A job is a pack of trials of one
batch size and carries no state but its arguments, so that whoever takes it may lose it: its
unfinished trials are put back and start again, and end with the same bits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

from experiments.spec.trial import Trial, TrialResult
from experiments.training.layout import Execution


@dataclasses.dataclass(frozen=True)
class Job:
    """A pack of trials of one batch size, to be trained until nothing is left to start.

    Attributes:
      batch_size: examples per step, of the first one where the batch grows.
      execution: mode, slots and layout.
      plan: index of the recorded plan that this follows.
    """

    batch_size: int
    execution: Execution
    plan: int


@dataclasses.dataclass(frozen=True)
class Unfinished:
    """The trials of a job that were begun and have not returned, and the steps they have made."""

    trials: Sequence[Trial] = ()
    steps: int = 0


class Jobs(Protocol):
    """The work of a study. Every method may be called from any thread."""

    def claim(self) -> Job | None:
        """Take a job, waiting for one where others may still bring it; None: there is no more."""

    def next_trial(self, job: Job) -> Trial | None:
        """Start a trial of this job; None where none may start now, or the job is to end."""

    def ended(self, result: TrialResult) -> None:
        """Take the result of a trial."""

    def advanced(self, job: Job, steps: int) -> bool:
        """Take note of so many trial-steps; False: drop what is running and leave the job."""

    @property
    def saving(self) -> bool:
        """Tell whether what is running is to be saved before it is dropped."""

    def left(self, job: Job, unfinished: Unfinished) -> None:
        """Leave a job; its unfinished trials may start again."""

    def failed(self, job: Job, unfinished: Unfinished, error: BaseException) -> None:
        """Leave a job for an exception that its model or its data raised, or for want of memory."""

    def died(self, error: BaseException) -> None:
        """End the study for an exception of our own, no trial's failure."""


class Executor(Protocol):
    """Workers that train the jobs of a study, each until `Jobs.claim` has no more for it."""

    def start(self, jobs: Jobs, workers: int) -> None:
        """Let so many workers begin; returns at once."""

    @property
    def working(self) -> bool:
        """Tell whether a worker has not ended."""

    def join(self) -> None:
        """Wait for all workers."""
