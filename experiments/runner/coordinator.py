"""The coordinator of a study under way: an executor's workers train, this thread records."""

from __future__ import annotations

import time

from experiments.records.files import DiskError, RecordError
from experiments.runner.executors import Executor
from experiments.runner.jobs import StudyJobs
from experiments.runner.progress import Observer
from experiments.runner.recorder import Recorder
from experiments.runtime import hosts
from experiments.runtime.stopping import Preempted, Stop
from experiments.spec.errors import StudyError

COMMIT_SECONDS = 1.0


class Coordinator:
    """Runs the jobs of a study to their end, and records what they return.

    Args:
      jobs: the work, with all that the workers share.
      executor: who does it.
      recorder: of the study.
      observe: called often with the progress.
      stop: whether this process was asked to end.
    """

    def __init__(
        self,
        jobs: StudyJobs,
        executor: Executor,
        recorder: Recorder,
        observe: Observer,
        stop: Stop,
    ):
        self._jobs, self._executor, self._recorder = jobs, executor, recorder
        self._observe, self._stop = observe, stop

    def run(self) -> None:
        """Train all; on any way out but a failing disk, what has finished is recorded.

        Raises:
          StudyError: a trial failed, or a worker did, or the record was damaged meanwhile.
          DiskError: the disk failed.
          KeyboardInterrupt, Preempted: asked for through ``stop``, or raised by the caller's own
            handler. `Preempted` saves what is running too; it is raised in every process once one
            is told to end.
        """
        try:
            self._train_and_record()
        except DiskError:
            raise
        except RecordError as error:  # training has begun: this is no bad input
            raise StudyError(str(error)) from error

    def _train_and_record(self) -> None:
        ending = self._jobs.ending
        try:
            self._train()
        except RecordError:  # a second attempt would meet the same disk or the same damage
            raise
        except BaseException as error:
            self._recorder.commit()
            if isinstance(error, KeyboardInterrupt) and hosts.several() and not ending.failure:
                hosts.leave()  # together: whoever went first would end the others
            raise
        self._recorder.commit()
        self._observe(self._jobs.progress())
        ending.raise_if_failed()

    def _train(self) -> None:
        """Record while workers train; on any way out, they end after the chunk they are at."""
        ending = self._jobs.ending
        try:
            self._executor.start(self._jobs, self._jobs.workers)
            self._record_while_working()
        except Preempted:
            ending.preempted = True
            raise
        finally:
            self._jobs.end()
            self._executor.join()
        if ending.preempted:  # another process was told to end
            self._stop.check()
            raise Preempted

    def _record_while_working(self) -> None:
        committed = time.perf_counter()
        while self._executor.working:
            time.sleep(0.05)
            self._stop.check()
            self._jobs.shrink()
            if time.perf_counter() - committed > COMMIT_SECONDS:
                self._recorder.commit()
                committed = time.perf_counter()
            self._observe(self._jobs.progress())
