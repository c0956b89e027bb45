"""The work of a study, as its workers see it: what to train next, and what became of it."""

from __future__ import annotations

import threading

from experiments.runner.ending import Ending, failed, lost, too_large
from experiments.runner.executors import Job, Unfinished
from experiments.runner.plans import CurrentPlan
from experiments.runner.progress import StudyProgress
from experiments.runner.searches import Searches
from experiments.runner.work import Work
from experiments.runtime import hosts
from experiments.runtime.memory import out_of_memory
from experiments.runtime.stopping import Stop
from experiments.spec.errors import in_one_line
from experiments.spec.trial import Status, Trial, TrialResult


class StudyJobs:
    """The `Jobs` of one study: all that its workers share, under one lock.

    A worker that finds nothing to start asks the searches whose round has ended for their next
    one, and records it, before it waits.

    Args:
      searches: where trials come from and results go.
      plans: how they are executed.
      keep_going: after an exception in a trial, go on with the others.
      stop: whether this process was asked to end.

    Attributes:
      workers: how many `claim` jobs: as many as the plan says, fewer after an out-of-memory.
      ending: whether training ends, and why.
    """

    def __init__(self, searches: Searches, plans: CurrentPlan, keep_going: bool, stop: Stop):
        self._searches, self._plans = searches, plans
        self._sizes = searches.study.batch_sizes
        self._keep_going, self._stop = keep_going, stop
        self.workers = plans.plan.workers
        self._work = Work(searches, plans)
        self._changed = threading.Condition()
        self.ending = Ending()

    # What workers ask and tell.

    def claim(self) -> Job | None:
        """The batch size with the most time left that can start a trial; None when all is done.

        The longest first keeps all workers busy to the end. While others run, a divergence or the
        end of a round may still make a trial startable, so a worker waits for them.
        """
        with self._changed:
            while not self.ending.now:
                if self.workers > self._plans.plan.workers:
                    self.workers -= 1
                    return None
                self._propose()
                able = [b for b in self._sizes if self._searches.startable(b)]
                if able and not self._plans.to_shrink:
                    return self._plans.job(max(able, key=self._work.remaining_seconds))
                if not able and not any(map(self._searches.running, self._sizes)):
                    return None
                self._changed.wait()
        return None

    def next_trial(self, job: Job) -> Trial | None:
        """Start a trial at the job's batch size, of the first search that has one."""
        with self._changed:
            if self.ending.now or self._plans.outdated(job):
                return None
            try:
                self._propose()
            except Exception as error:  # noqa: BLE001 (no trial's failure: it is raised again)
                self.ending.die(error)
                self._changed.notify_all()
                return None
            return self._searches.start(job.batch_size)

    def ended(self, result: TrialResult) -> None:
        """Take the result of a trial."""
        with self._changed:
            self._searches.end(result)
            self._work.count(result.trial.batch_size, -result.steps)
            self._changed.notify_all()

    def advanced(self, job: Job, steps: int) -> bool:
        """Count so many trial-steps; False: drop what is running and leave the job.

        All of several processes ask and answer together, after the same chunk.
        """
        with self._changed:
            self._work.advance(job.batch_size, steps)
        ending = self.ending.asked or (hosts.several() and self._stop.asked is not None)
        if not hosts.all_true(not ending):
            self.ending.now = True
            self.ending.preempted = self.ending.preempted or hosts.several()
        with self._changed:
            return not self.ending.now and not self._plans.outdated(job)

    @property
    def saving(self) -> bool:
        """Tell whether what is running is to be saved before it is dropped."""
        return self.ending.preempted

    def left(self, job: Job, unfinished: Unfinished) -> None:
        """Put back the unfinished trials of a job: they may start again."""
        with self._changed:
            for trial in unfinished.trials:
                self._searches.release(trial)
            self._work.count(job.batch_size, -unfinished.steps)
            self._changed.notify_all()

    def failed(self, job: Job, unfinished: Unfinished, error: BaseException) -> None:
        """Take note of an exception that training a job raised.

        Memory that is full asks for a smaller plan, where there is one. Else the job's trials are
        INCOMPLETE, and the study ends unless it was asked to keep going.
        """
        if hosts.several():
            with self._changed:
                self.ending.failure = lost(error)
                self.ending.now = True
            return
        message = in_one_line(error)
        if out_of_memory(error):
            with self._changed:
                if self._plans.ran_out(job):
                    self.left(job, unfinished)
                    return
            message = too_large(error)
        self._fail(job, unfinished, message)

    def died(self, error: BaseException) -> None:
        """End the study for an exception of our own, no trial's failure."""
        with self._changed:
            self.ending.die(error)
            self._changed.notify_all()

    # What the coordinator asks and tells.

    def end(self) -> None:
        """Let workers end after the chunk they are at."""
        with self._changed:
            self.ending.asked = True
            self.ending.now = self.ending.now or not hosts.several()
            self._changed.notify_all()

    def shrink(self) -> None:
        """Follow a smaller plan after an out-of-memory."""
        with self._changed:
            if self._plans.to_shrink:
                self._plans.shrink()
                self._changed.notify_all()

    def progress(self) -> StudyProgress:
        """Progress of the study."""
        with self._changed:
            return self._work.progress()

    def _propose(self) -> None:
        if self._searches.propose():
            self._changed.notify_all()

    def _fail(self, job: Job, unfinished: Unfinished, message: str) -> None:
        """An exception in a user's code: its trials are INCOMPLETE; go on only if asked."""
        trials, plan = unfinished.trials, self._plans.index
        with self._changed:
            for trial in trials:
                self._searches.end(
                    TrialResult(trial, Status.INCOMPLETE, 0, {}, plan=plan, message=message)
                )
            if not (self._keep_going and trials):
                self.ending.fail(failed(job, "a trial" if trials else "training", message))
            self._changed.notify_all()
