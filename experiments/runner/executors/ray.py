"""Ray Core tasks, one pack of trials a task: many workers on many machines, one coordinator.

A task (task.py) keeps nothing, so Ray may run it again wherever a worker or a machine was lost.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments.runner.executors import Job, Jobs, Unfinished
from experiments.runner.executors.cluster import Cluster
from experiments.runner.executors.task import PackOutcome, StudySetting, train_pack
from experiments.spec.errors import StudyError, first_line
from experiments.spec.trial import Trial
from experiments.training.checkpoint import Saved
from experiments.training.saving import HeldStates, Key

_POLL_SECONDS = 0.2
TASK_SECONDS = 0.5
"""A task of many short trials takes about so long: Ray needs milliseconds to hand one out."""


class RayTasks:
    """The `Executor` of a cluster: threads here, each of which waits for one task at a time.

    Args:
      setting: what every task is given.
      cluster: `connected`.
      warn: takes one line where a worker could not use or write a checkpoint.
    """

    def __init__(self, setting: StudySetting, cluster: Cluster, warn: Callable[[str], None]):
        self._setting, self._cluster, self._warn = setting, cluster, warn
        self._threads: list[threading.Thread] = []
        self._aside = HeldStates()  # of trials between two tasks

    def start(self, jobs: Jobs, workers: int) -> None:
        """Put the setting where every task finds it, and start the threads."""
        import ray

        setting = ray.put(self._setting)
        task = ray.remote(train_pack).options(**self._cluster.options)

        def train(job: Job, trials: Sequence[Trial], aside: Aside) -> Any:
            return task.remote(setting, job, trials, aside)

        for i in range(workers):
            name = f"task-{i}"
            thread = threading.Thread(target=self._work, args=(jobs, train), name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    @property
    def working(self) -> bool:
        """Tell whether a thread has not ended."""
        return any(thread.is_alive() for thread in self._threads)

    def join(self) -> None:
        """Wait for all threads."""
        for thread in self._threads:
            thread.join()

    def _work(self, jobs: Jobs, train: Train) -> None:
        most_steps: dict[int, float] = {}  # batch size -> steps that a task may make
        try:
            while (job := jobs.claim()) is not None:
                while trials := _pack(job, jobs, most_steps.get(job.batch_size, 0)):
                    began = time.perf_counter()
                    steps = self._train(train, job, trials, jobs)
                    if steps is None:
                        break
                    seconds = time.perf_counter() - began
                    most_steps[job.batch_size] = TASK_SECONDS * max(1, steps) / seconds
                else:
                    jobs.left(job, Unfinished())
        except BaseException as error:  # noqa: BLE001 (the coordinator raises it again)
            jobs.died(error)

    def _train(self, train: Train, job: Job, trials: Sequence[Trial], jobs: Jobs) -> int | None:
        """The steps that one pack made; None where the job was left."""
        taken = {trial.key: self._aside.pop(trial.key, None) for trial in trials}
        aside = {key: saved for key, saved in taken.items() if saved is not None}
        outcome = _outcome(train(job, trials, aside), job, jobs)
        if outcome is None:
            jobs.left(job, Unfinished(trials))
            return None
        for line in outcome.warnings:
            self._warn(line)
        self._aside.update(outcome.aside)
        steps = sum(result.steps for result in outcome.results)
        steps -= sum(saved.step for saved in aside.values())
        going = jobs.advanced(job, steps)
        for result in outcome.results:
            jobs.ended(result)
        if outcome.error is not None:
            known = {result.trial.key for result in outcome.results}
            known |= {trial.key for trial in outcome.unfinished.trials}
            jobs.left(job, Unfinished([trial for trial in trials if trial.key not in known]))
            jobs.failed(job, outcome.unfinished, outcome.error)
            return None
        if not going:
            jobs.left(job, Unfinished())
            return None
        return steps


Aside = Mapping[Key, Saved]
"""The states of trials between two tasks."""
Train = Callable[[Job, Sequence[Trial], Aside], Any]
"""Begin a task; a reference to its outcome."""


def _pack(job: Job, jobs: Jobs, most_steps: float) -> list[Trial]:
    """As many trials as the job has slots, more where they make few steps, fewer where fewer may
    start now."""
    trials: list[Trial] = []
    steps = 0
    while len(trials) < job.execution.slots or steps < most_steps:
        trial = jobs.next_trial(job)
        if trial is None:
            break
        trials.append(trial)
        steps += trial.most_steps
    return trials


def _outcome(reference: Any, job: Job, jobs: Jobs) -> PackOutcome | None:
    """The outcome that a task returns; None where it is not wanted any more.

    Raises:
      StudyError: the cluster was lost.
    """
    import ray

    try:
        while not ray.wait([reference], timeout=_POLL_SECONDS)[0]:
            if not jobs.advanced(job, 0):
                ray.cancel(reference, force=True)
                return None
        outcome: PackOutcome = ray.get(reference)
    except ray.exceptions.RayError as error:
        raise StudyError(
            f"the Ray cluster was lost ({first_line(error)}); the same command goes on"
        ) from error
    return outcome
