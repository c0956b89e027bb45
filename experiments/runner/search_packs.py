"""A search's trials side by side in the slots of one pack.

Threads ask for one trial each; the first to come trains for all until none is waiting, so that a
slot that is free takes the next trial. What a trial returns does not depend on its neighbours.
"""

from __future__ import annotations

import collections
import dataclasses
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from experiments.runner.search_inherited import heirs_of
from experiments.runner.search_models import ModelTrainer, SearchTask, failed
from experiments.runner.search_objectives import TrialJob
from experiments.runtime.stopping import OutOfTime, Stop
from experiments.spec.trial import Trial, TrialResult
from experiments.spec.user_search import UserSearch
from experiments.training.layout import Execution
from experiments.training.population import Population
from experiments.training.saving import SavedTrials


def trainer_of(
    asked: UserSearch,
    task: SearchTask,
    *,
    folder: Path,
    seconds: float,
    stop: Stop,
    warn: Callable[[str], None],
) -> Built:
    """The trainer of a search of modules: one by one, or in the slots of a pack.

    Args:
      asked, task: the search.
      folder, seconds, stop, warn: as of `ModelTrainer`.
    """
    assert asked.build is not None, "a search of modules"
    heirs = heirs_of(asked.proposer, asked.optimizer, task.numbers({}))
    models = ModelTrainer(
        asked.build, task, folder=folder, seconds=seconds, stop=stop, warn=warn, heirs=heirs
    )
    return PackTrainer(models, asked.slots, stop) if asked.slots > 1 else models


class PackTrainer:
    """Trains modules that are one program; thread-safe.

    Args:
      models: what builds and prepares them.
      slots: of the pack.
      stop: what ends the search.
    """

    def __init__(self, models: ModelTrainer, slots: int, stop: Stop):
        self._models, self._stop = models, stop
        self._execution = Execution("packed", slots)
        self._lock = threading.Lock()
        self._waiting: collections.deque[tuple[TrialJob, Future[TrialResult]]] = collections.deque()
        self._trains = False

    def train(self, job: TrialJob) -> TrialResult:
        """One trial up to whole epochs. An exception of the user's makes it INCOMPLETE."""
        future: Future[TrialResult] = Future()
        with self._lock:
            self._waiting.append((job, future))
            leads, self._trains = not self._trains, True
        if leads:
            self._lead()
        return future.result()

    def ended(self, result: TrialResult) -> None:
        """As `ModelTrainer.ended`."""
        self._models.ended(result)

    def best_state(self, job: TrialJob, step: int) -> Any:
        """As `ModelTrainer.best_state`."""
        return self._models.best_state(job, step)

    def refitted(
        self, job: TrialJob, step: int, goes_on: Callable[[int], bool]
    ) -> tuple[Any, Any] | None:
        """As `ModelTrainer.refitted`."""
        return self._models.refitted(job, step, goes_on)

    @property
    def held(self) -> SavedTrials:
        """As `ModelTrainer.held`."""
        return self._models.held

    def _lead(self) -> None:
        """Train what waits until nothing does."""
        while True:
            begun: dict[tuple[int, int, int], tuple[TrialJob, Future[TrialResult]]] = {}
            try:
                self._run(begun)
                self._stop.check()
            except BaseException as error:  # noqa: BLE001 (whoever waits must hear of it)
                self._fail(begun, error)
            with self._lock:
                if not self._waiting:
                    self._trains = False
                    return

    def _run(self, begun: dict[tuple[int, int, int], tuple[TrialJob, Future[TrialResult]]]) -> None:
        def next_trial() -> Trial | None:
            while True:
                with self._lock:
                    if not self._waiting:
                        return None
                    job, future = self._waiting.popleft()
                try:
                    trial = self._models.engine_trial(
                        job.trial, job.values, self._models.pause(job)
                    )
                except Exception as error:  # noqa: BLE001 (a user's function may raise anything)
                    future.set_result(failed(job.trial, error))  # its neighbours go on
                    continue
                begun[job.trial.key] = job, future
                return trial

        def emit(result: TrialResult) -> None:
            job, future = begun.pop(result.trial.key)
            future.set_result(dataclasses.replace(result, trial=job.trial))

        def goes_on(steps: int) -> bool:
            del steps
            return self._stop.asked is None

        population = self._population()
        if population is None:
            return
        population.run(next_trial, emit, goes_on)
        if begun and self._stop.asked is not OutOfTime:  # after which nothing goes on
            population.save()

    def _population(self) -> Population | None:
        """Slots for the module of the first that waits, which is that of all; None where it could
        not be built: that trial has failed."""
        with self._lock:
            job, future = self._waiting[0]
        try:
            return self._models.population(job.trial, job.values, self._execution)
        except Exception as error:  # noqa: BLE001 (a user's function may raise anything)
            with self._lock:
                self._waiting.popleft()
            future.set_result(failed(job.trial, error))
            return None

    def _fail(
        self,
        begun: dict[tuple[int, int, int], tuple[TrialJob, Future[TrialResult]]],
        error: BaseException,
    ) -> None:
        """Tell those who began that they failed; where the search is to end, those who wait too."""
        lost = list(begun.values())
        ends = not isinstance(error, Exception)
        with self._lock:
            if ends or not lost:
                lost += self._waiting
                self._waiting.clear()
        for job, future in lost:
            if ends:
                future.set_exception(error)
            else:
                future.set_result(failed(job.trial, error))


Built = ModelTrainer | PackTrainer
"""Who trains the modules of a search."""
