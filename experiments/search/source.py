"""The source of the trials of one seed, as the runner sees it: a search, or repeats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from experiments.search.record import Ended, Round
from experiments.spec.resolved import ResolvedStudy
from experiments.spec.trial import Status, Trial, TrialResult


class TrialSource(Protocol):
    """The trials of one seed at all batch sizes of a study. Not thread-safe.

    Attributes:
      study: the question.
      seed: of all its trials.
    """

    study: ResolvedStudy
    seed: int

    def ended(self, batch_size: int) -> dict[int, Ended]:
        """Index -> how it ended."""

    def count(self, status: Status, batch_size: int | None = None) -> int:
        """Count the trials of the study's batch sizes, or of this one, that ended so."""

    def proposed(self, batch_size: int) -> int:
        """Count the trials whose hyperparameters are known."""

    def running(self, batch_size: int) -> bool:
        """Tell whether a trial was started and has not ended."""

    def startable(self, batch_size: int) -> bool:
        """Tell whether a trial may start now."""

    def unfinished(self, batch_size: int) -> bool:
        """Tell whether trials may start, now or once others have ended."""

    def remaining_steps(self, batch_size: int) -> int:
        """Trial-steps of trials that have not ended, at most, if nothing more diverges."""

    def trial(self, batch_size: int, index: int) -> Trial:
        """Trial ``index``."""

    def start(self, batch_size: int) -> Trial | None:
        """The next trial, or None where none may start now."""

    def release(self, trial: Trial) -> None:
        """Put back an unfinished trial, so that it can start again."""

    def end(self, result: TrialResult) -> list[TrialResult]:
        """Take a result; returns those that are final now, for the record."""

    def due(self) -> dict[int, int]:
        """Batch size -> points to be proposed now."""

    def propose(self, counts: Mapping[int, int]) -> Round:
        """The points that are `due`."""

    def add(self, found: Round) -> None:
        """Take a recorded round."""
