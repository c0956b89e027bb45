"""The result of a search, and the models of its trials, trained again when they are wanted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.analysis.search_record import Searched
from experiments.runner.executors.searches import RayTrainer
from experiments.runner.search_driver import Driver
from experiments.runner.search_objectives import ObjectiveTrainer, TrialJob
from experiments.runner.search_packs import Built
from experiments.runtime.compilation import switched
from experiments.spec.space import Value

if TYPE_CHECKING:
    import polars as pl

AnyTrainer = Built | ObjectiveTrainer | RayTrainer
GoesOn = Callable[[int], bool]
"""Called with the steps of each chunk; False ends training."""


@dataclasses.dataclass(frozen=True)
class Models:
    """The models of a search's trials.

    Attributes:
      searched: the record.
      trainer, driver: that made it.
    """

    searched: Searched
    trainer: AnyTrainer
    driver: Driver

    def best(self, trial: int) -> tuple[TrialJob, int]:
        """The job of a trial's whole length, and the step of its best value.

        Raises:
          ValueError: the trial has no value.
        """
        (mine,) = self.searched.trials.filter(trial=trial).rows(named=True)
        if mine["value"] is None:
            raise ValueError(f"trial {trial} has no value, and so no best epoch")
        job = self.driver.job(trial, self.searched.pruner.resource)
        steps = self.searched.record.scan("evaluations")
        assert steps is not None, "a record always has the table"
        measured = steps.filter(trial=trial).collect().sort("step")
        column = self.searched.asked["column"]
        return job, measured["step"][measured[column].to_list().index(mine["value"])]

    def state(self, trial: int) -> tuple[Any, Any]:
        """(module, `TrainState`) at a trial's best value."""
        trainer, (job, step) = self._built, self.best(trial)
        with switched():
            return trainer.best_state(job, step)

    def refitted(self, trial: int, goes_on: GoesOn) -> tuple[Any, Any] | None:
        """(params, batch statistics) of a trial trained anew on all examples."""
        trainer, (job, step) = self._built, self.best(trial)
        with switched():
            return trainer.refitted(job, step, goes_on)

    @property
    def _built(self) -> Built | RayTrainer:
        if isinstance(self.trainer, ObjectiveTrainer):
            raise ValueError(  # noqa: TRY004 (the search is not one of build)
                "best_model needs a search of build: an objective keeps its own models"
            )
        return self.trainer


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """The result of a search.

    Attributes:
      searched: its record, read back.
      folder: where it is.
      best: hyperparameters of the best trial.
      value: its best value.
      trial: its index.
    """

    searched: Searched
    folder: Path
    best: Mapping[str, Value]
    value: float
    trial: int
    _models: Models = dataclasses.field(repr=False, compare=False)

    @property
    def table(self) -> pl.DataFrame:
        """One row a trial: `experiments.analysis.search_record.Searched.trials`."""
        return self.searched.trials

    @property
    def exhausted(self) -> bool:
        """Tell whether a finite space had fewer points than trials were asked for."""
        return self.searched.exhausted

    def best_model(self) -> tuple[Any, Any, Any]:
        """(module, params, batch statistics) of the best trial at its best epoch: it is trained
        again to there, to the bit.

        Raises:
          ValueError: the search was over an objective, whose models are its own.
        """
        return self.model(self.trial)

    def model(self, trial: int) -> tuple[Any, Any, Any]:
        """As `best_model`, of another trial that has a value.

        Raises:
          ValueError: as `best_model`; ``trial`` has no value.
        """
        module, state = self._models.state(trial)
        return module, state.params, state.model_state

    def refitted(self, trial: int, goes_on: GoesOn = lambda steps: True) -> tuple[Any, Any] | None:
        """(params, batch statistics) of a trial trained anew on training and validation examples
        together, up to the epoch of its best value.

        Epochs are kept, and so the share of the schedule that is trained; an epoch has the more
        examples and so the more steps.

        Args:
          trial: its index.
          goes_on: called with the steps of each chunk; False ends training.

        Returns:
          None where it diverged, or was ended.

        Raises:
          ValueError: as `model`; or the search does not keep what this takes
            (`UserSearch.refits`).
        """
        return self._models.refitted(trial, goes_on)
