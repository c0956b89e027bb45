"""The plan in force, and what follows when memory runs out under it."""

from __future__ import annotations

from experiments.planning.execution import ExecutionPlan
from experiments.runner.executors import Job
from experiments.runner.recorder import Recorder


class CurrentPlan:
    """The plan that new jobs follow. Not thread-safe.

    Args:
      plan: the first.
      index: its index in the record.
      recorder: where smaller ones are recorded.

    Attributes:
      plan, index: the plan in force, and its index in the record.
    """

    def __init__(self, plan: ExecutionPlan, index: int, recorder: Recorder):
        self.plan, self.index = plan, index
        self._recorder = recorder
        self._full: set[int] = set()  # batch sizes that ran out of memory under this plan

    @property
    def to_shrink(self) -> bool:
        """Tell whether a smaller plan is to be made before anything else is begun."""
        return bool(self._full)

    def job(self, batch_size: int) -> Job:
        """A job at a batch size, by the plan in force."""
        return Job(batch_size, self.plan.executions[batch_size], self.index)

    def outdated(self, job: Job) -> bool:
        """Tell whether the trials of a job must start again under a newer plan."""
        changed = job.execution != self.plan.executions[job.batch_size]
        return changed or job.batch_size in self._full

    def ran_out(self, job: Job) -> bool:
        """Take note that memory was full; returns whether a smaller plan is there or possible."""
        if job.plan != self.index:  # that was the older, larger one
            return True
        if self.plan.after_out_of_memory(job.batch_size) is None:
            return False
        self._full.add(job.batch_size)
        return True

    def shrink(self) -> None:
        """Make the smaller plan, and record it before anything is trained by it."""
        plan = self.plan
        for batch_size in self._full:
            plan = plan.after_out_of_memory(batch_size) or plan
        self.plan, self.index = plan, self._recorder.add_plan(plan)
        self._full.clear()
