"""The programs of a study and the plan by which they run: recorded already, or measured now."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from experiments.diagnostics.recorded import recorded_measurements
from experiments.planning.execution import ExecutionPlan, ExecutionRequest, device_name
from experiments.planning.probe import Workplan, make_plan, probe_trial
from experiments.records.follower import Follower
from experiments.records.store import Writer
from experiments.runtime import hosts
from experiments.runtime.stopping import Stop
from experiments.search.source import TrialSource
from experiments.spec.errors import StudyError, in_one_line
from experiments.spec.resolved import ResolvedStudy
from experiments.spec.trial import RecordNorms, Trial
from experiments.training.feed import ResidentData
from experiments.training.program import Program

Programs = Callable[[RecordNorms], Program]


def end_if_asked(stop: Stop) -> None:
    """Raise what a signal asked for; of several processes only the coordinators do, together."""
    if not hosts.several():
        stop.check()


def programs_of(study: ResolvedStudy, data: ResidentData, stop: Stop) -> Programs:
    """record_norms -> the programs: what the probe compiled is what trains.

    A process that was asked to end compiles no more: it ends here.
    """

    @functools.cache
    def programs(norms: RecordNorms) -> Program:
        end_if_asked(stop)
        try:
            config = study.config(norms)
            measurements = recorded_measurements(study, data)
            return Program(config, data, study.divergence_factor, measurements=measurements)
        except (Exception, SystemExit) as error:  # (a user's factory may raise anything)
            raise _not_built(study, error) from error

    return programs


def recorded_plan(
    writer: Writer | Follower, request: ExecutionRequest, needed: set[int]
) -> tuple[ExecutionPlan, int] | None:
    """The newest recorded plan that fits, with its index; process 0 decides for all.

    Args:
      writer: of the record.
      request: what was asked for.
      needed: batch sizes that are to be trained.
    """
    plans = [ExecutionPlan.from_json(plan) for plan in writer.study["plans"]]
    index = hosts.from_first(lambda: _fitting(plans, str(request), needed))
    return None if index is None else (plans[index], index)


def measured_plan(
    study: ResolvedStudy,
    searches: Sequence[TrialSource],
    programs: Programs,
    request: ExecutionRequest,
    stop: Stop,
) -> ExecutionPlan:
    """Measure how to run what is left of the searches.

    All processes measure, because a step of several needs all of them; process 0's plan is kept,
    because it orders the work and depends on the machine it is made on.

    Raises:
      StudyError: the workload cannot be built.
      KeyboardInterrupt, Preempted: a probe that was cut short decides nothing.
    """
    needed = unfinished(searches)

    def make_trial(batch_size: int, index: int) -> Trial:
        end_if_asked(stop)
        return probe_trial(study, batch_size, index)

    work = Workplan(
        steps={b: sum(search.remaining_steps(b) for search in searches) for b in sorted(needed)},
        evaluations={b: len(study.grid(study.length(b))) / study.length(b) for b in needed},
        make_program=programs,
        make_trial=make_trial,
    )
    try:
        mine = make_plan(work, request, study.record_norms)
    except SystemExit as error:  # (a user's factory may raise anything, and is traced here first)
        raise _not_built(study, error) from error
    plan = hosts.from_first(lambda: mine)
    end_if_asked(stop)
    return plan


def unfinished(searches: Sequence[TrialSource]) -> set[int]:
    """The batch sizes that have trials to start, now or once others have ended."""
    return {b for search in searches for b in search.study.batch_sizes if search.unfinished(b)}


def _not_built(study: ResolvedStudy, error: BaseException) -> StudyError:
    return StudyError(f"workload {study.workload.name} cannot be built: {in_one_line(error)}")


def _fitting(plans: Sequence[ExecutionPlan], request: str, needed: set[int]) -> int | None:
    """Index of the newest plan made for this device on the same request, or None.

    Where the request is "auto" and no such plan is there, any made for this device will do.
    """
    fits = [
        i
        for i, plan in enumerate(plans)
        if plan.device == device_name() and needed <= plan.executions.keys()
    ]
    same = [i for i in fits if plans[i].request == request]
    return max(same or (fits if request == "auto" else []), default=None)
