"""Threads of this process, each with a pack of its own on the devices of this process."""

from __future__ import annotations

import threading

from experiments.runner.executors import Job, Jobs, Unfinished
from experiments.spec.resolved import ResolvedStudy
from experiments.spec.trial import Trial
from experiments.training.population import Population
from experiments.training.program import Program
from experiments.training.resume import Checkpoints
from experiments.training.saving import HeldStates


class Threads:
    """The default `Executor`.

    Args:
      study: the question.
      program: its compiled programs, shared by all threads.
      checkpoints: where long trials are saved and go on.
    """

    def __init__(self, study: ResolvedStudy, program: Program, checkpoints: Checkpoints):
        self._study, self._program, self._checkpoints = study, program, checkpoints
        self._threads: list[threading.Thread] = []
        self._held = HeldStates()

    def start(self, jobs: Jobs, workers: int) -> None:
        """Start the threads; they are daemons, so that a caller who gives up can leave."""
        for i in range(workers):
            name = f"trainer-{i}"
            thread = threading.Thread(target=self._work, args=(jobs,), name=name, daemon=True)
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

    def _work(self, jobs: Jobs) -> None:
        """Train job after job; what is raised here is no trial's failure, and ends the study."""
        try:
            while (job := jobs.claim()) is not None:
                self._train(job, jobs)
        except BaseException as error:  # noqa: BLE001 (the coordinator raises it again)
            jobs.died(error)

    def _train(self, job: Job, jobs: Jobs) -> None:
        """Train a batch size until nothing is left to start, or it is to be done otherwise."""
        population: Population | None = None
        given: list[Trial] = []  # the newest trial; one that its slot could not begin is put back

        def next_trial() -> Trial | None:
            trial = jobs.next_trial(job)
            given[:] = [trial] if trial else []
            return trial

        try:
            population = self._population(job)
            population.run(
                next_trial,
                jobs.ended,
                lambda steps: jobs.advanced(job, steps),
            )
        except BaseException as error:  # noqa: BLE001 (a user's model may raise anything)
            unfinished = _unfinished(population)
            lost = [trial for trial in given if trial not in unfinished.trials]
            jobs.left(job, Unfinished(lost))
            jobs.failed(job, unfinished, error)
        else:
            if jobs.saving:
                population.save()
            jobs.left(job, _unfinished(population))

    def _population(self, job: Job) -> Population:
        return Population(
            self._program,
            job.batch_size,
            job.execution,
            grid=self._study.grid,
            plan=job.plan,
            checkpoints=self._checkpoints,
            held=self._held,
            phases=self._study.phases(job.batch_size),
        )


def _unfinished(population: Population | None) -> Unfinished:
    """The trials a pack has begun and not returned; none where it could not be made."""
    if population is None:
        return Unfinished()
    return Unfinished(population.trials, population.steps_under_way)
