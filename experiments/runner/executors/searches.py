"""The trials of a search in Ray tasks: a pack of jobs a task, the same bits as in threads.

A task builds the search's data and programs where it runs, once a worker, and keeps nothing that
it would need: it may be lost and run again. Trials that were put aside travel with it. Weights that
are inherited do not: a worker that has not trained a parent trains it again, to the bit.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import math
import pickle
import socket
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from experiments.runner.executors.cluster import Cluster
from experiments.runner.executors.task import sees_record
from experiments.runner.search_objectives import TrialJob
from experiments.runner.search_packs import Built, trainer_of
from experiments.runtime.compilation import switched
from experiments.runtime.stopping import Stop
from experiments.search.architecture.question import Architectures
from experiments.spec.errors import StudyError, first_line
from experiments.spec.loading import code_of, code_of_function, load_text, texts_of_files
from experiments.spec.trial import TrialResult
from experiments.spec.user_search import UserSearch
from experiments.training.checkpoint import Saved
from experiments.training.saving import HeldStates, Key
from workloads.base import Workload

_POLL_SECONDS = 0.2


@dataclasses.dataclass(frozen=True)
class SearchSetting:
    """The part of a search that every task is given.

    Attributes:
      asked: `UserSearch`, pickled.
      files: name and text of the user's files.
      checksum: of the dataset.
      data_dir: where a worker finds the dataset's files, if not in the usual places.
      record: absolute path of the record, and its identity: long trials are saved there by a worker
        that finds this record at this path.
      checkpoint_seconds: as `Checkpoints` has it.
    """

    asked: bytes
    files: tuple[tuple[str, bytes], ...]
    checksum: str
    data_dir: str | None
    record: tuple[str, str]
    checkpoint_seconds: float

    @classmethod
    def of(cls, asked: UserSearch, checksum: str, **how: Any) -> SearchSetting:
        """Of a search in this process.

        Raises:
          ValueError: another process could not be told of it.
        """
        functions = [asked.build]
        if isinstance(asked.proposer, Architectures):
            functions.append(asked.proposer.space.build)  # type: ignore[arg-type]
        code: dict[str, str] = {}
        for function in functions:
            code |= code_of_function(function)
        if isinstance(asked.workload, Workload):
            code |= code_of(asked.workload)
        try:
            text = pickle.dumps(asked)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ValueError(
                f"--executor ray needs functions that a module defines: {first_line(error)}"
            ) from error
        return cls(text, texts_of_files(code), checksum, **how)


@dataclasses.dataclass(frozen=True)
class SearchPackOutcome:
    """The end of a task.

    Attributes:
      results: one a job.
      aside: the states of trials that were put aside.
      warnings: of the checkpoints, a line each.
    """

    results: Sequence[TrialResult]
    aside: Mapping[Key, Saved]
    warnings: Sequence[str]


def train_jobs(
    setting: SearchSetting, jobs: Sequence[TrialJob], aside: Mapping[Key, Saved]
) -> SearchPackOutcome:
    """Train jobs side by side, in this process."""
    trainer, warnings = _trainer(setting)
    warnings.clear()
    trainer.held.update(aside)
    with switched(), ThreadPoolExecutor(len(jobs), "trial") as pool:
        results = list(pool.map(trainer.train, jobs))
    keys = {job.trial.key for job in jobs}
    kept = {key: trainer.held.pop(key) for key in keys & trainer.held.keys()}
    return SearchPackOutcome(results, kept, tuple(warnings))


@functools.lru_cache(maxsize=1)
def _trainer(setting: SearchSetting) -> tuple[Built, list[str]]:
    """The search's trainer, made once a worker, and the list of its warnings."""
    from experiments.runner.search_asked import task_of

    for name, text in setting.files:
        load_text(name, text)
    asked = pickle.loads(setting.asked)
    assert isinstance(asked, UserSearch)
    task, dataset = task_of(asked, setting.data_dir)
    if dataset.checksum != setting.checksum:
        raise StudyError(
            f"the dataset {dataset.name} of {socket.gethostname()} is another than the search's: "
            f"checksum {dataset.checksum[:12]}, not {setting.checksum[:12]}"
        )
    warnings: list[str] = []
    seen = sees_record(*setting.record)
    folder = Path(setting.record[0]) if seen else Path(tempfile.gettempdir())
    seconds = setting.checkpoint_seconds if seen else math.inf
    how = {"folder": folder, "seconds": seconds, "stop": Stop(), "warn": warnings.append}
    return trainer_of(asked, task, **how), warnings  # type: ignore[arg-type]


def check_spreads(asked: UserSearch) -> None:
    """Refuse a search that no task can train.

    Raises:
      ValueError: it is one over an objective.
    """
    if asked.build is None:
        raise ValueError(
            "--executor ray serves searches of build: an objective trains in this process"
        )


class RayTrainer:
    """Trains a search's jobs in tasks, of as many jobs as it has slots; thread-safe.

    Args:
      setting: what every task is given.
      cluster: `connected`.
      here: knows of trials what this process must: their best states, and what is saved of them.
      slots: jobs of a task.
      stop: what ends the search.
      warn: takes one line where a worker could not use or write a checkpoint.
    """

    def __init__(
        self,
        setting: SearchSetting,
        cluster: Cluster,
        here: Built,
        *,
        slots: int,
        stop: Stop,
        warn: Callable[[str], None],
    ):
        import ray

        self._here, self._slots, self._stop, self._warn = here, slots, stop, warn
        self._setting = ray.put(setting)
        self._task = ray.remote(train_jobs).options(**cluster.options)
        self._most = cluster.tasks_at_a_time()
        self._lock = threading.Lock()
        self._waiting: collections.deque[tuple[TrialJob, Future[TrialResult]]] = collections.deque()
        self._tasks = 0
        self._aside = HeldStates()

    @property
    def workers(self) -> int:
        """Jobs that may be under way at a time."""
        return self._most * self._slots

    def train(self, job: TrialJob) -> TrialResult:
        """One trial up to whole epochs. An exception of the user's makes it INCOMPLETE."""
        future: Future[TrialResult] = Future()
        with self._lock:
            self._waiting.append((job, future))
            leads = self._tasks < self._most
            self._tasks += leads
        if leads:
            self._lead()
        return future.result()

    def ended(self, result: TrialResult) -> None:
        """As `ModelTrainer.ended`."""
        self._aside.pop(result.trial.key, None)
        self._here.ended(result)

    def best_state(self, job: TrialJob, step: int) -> Any:
        """As `ModelTrainer.best_state`, in this process."""
        return self._here.best_state(job, step)

    def refitted(
        self, job: TrialJob, step: int, goes_on: Callable[[int], bool]
    ) -> tuple[Any, Any] | None:
        """As `ModelTrainer.refitted`, in this process."""
        return self._here.refitted(job, step, goes_on)

    def _lead(self) -> None:
        """Hand out what waits until nothing does."""
        while True:
            with self._lock:
                count = min(self._slots, len(self._waiting))
                taken = [self._waiting.popleft() for _ in range(count)]
                if not taken:
                    self._tasks -= 1
                    return
            try:
                results = self._trained([job for job, _ in taken])
            except BaseException as error:  # noqa: BLE001 (whoever waits must hear of it)
                for _, future in taken:
                    future.set_exception(error)
                continue
            for (job, future), result in zip(taken, results, strict=True):
                future.set_result(dataclasses.replace(result, trial=job.trial))

    def _trained(self, jobs: Sequence[TrialJob]) -> Sequence[TrialResult]:
        """The results of one task.

        Raises:
          StudyError: the cluster was lost.
          KeyboardInterrupt: the search is to end.
        """
        import ray

        aside = {job.trial.key: self._aside.pop(job.trial.key, None) for job in jobs}
        given = {key: saved for key, saved in aside.items() if saved is not None}
        reference = self._task.remote(self._setting, list(jobs), given)
        try:
            while not ray.wait([reference], timeout=_POLL_SECONDS)[0]:
                if self._stop.asked is not None:
                    ray.cancel(reference, force=True)
                    self._stop.check()
            found: SearchPackOutcome = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, StudyError) else error from None
        except ray.exceptions.RayError as error:
            raise StudyError(
                f"the Ray cluster was lost ({first_line(error)}); the same call goes on"
            ) from error
        for line in found.warnings:
            self._warn(line)
        self._aside.update(found.aside)
        return found.results
