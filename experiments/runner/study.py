"""The only loop with side effects: search asks, training answers, records keep.

    from experiments.runner.study import run_study
    from experiments.studies import get
    folder = run_study(get("quickstart"), "runs/quickstart")

One coordinator (this thread) writes; worker threads train packs of trials. A trial's result does
not depend on the workers' timing, so neither does the record: killed at any moment and started
again, a study repeats nothing that was recorded, goes on with long trials where they were saved,
and ends with the same trials.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from experiments.planning.execution import ExecutionRequest
from experiments.records.files import check_writable
from experiments.records.follower import Follower
from experiments.records.store import Writer
from experiments.runner.checks import check_checkpoints, check_study
from experiments.runner.coordinator import Coordinator
from experiments.runner.executors import Executor
from experiments.runner.executors.cluster import Cluster, connected
from experiments.runner.executors.ray import RayTasks
from experiments.runner.executors.task import StudySetting
from experiments.runner.executors.threads import Threads
from experiments.runner.jobs import StudyJobs
from experiments.runner.opening import begun, header, opened
from experiments.runner.planning import (
    end_if_asked,
    measured_plan,
    programs_of,
    recorded_plan,
    unfinished,
)
from experiments.runner.plans import CurrentPlan
from experiments.runner.progress import Observer, StudyProgress
from experiments.runner.recorded import recorded_searches
from experiments.runner.recorder import Recorder
from experiments.runner.searches import Searches
from experiments.runtime import hosts
from experiments.runtime.compilation import switched
from experiments.runtime.stopping import Stop, deferred
from experiments.search.source import TrialSource
from experiments.spec.fields import StudyFields
from experiments.spec.study import continued, resolve
from experiments.spec.trial import TrialResult
from experiments.training.feed import ResidentData
from experiments.training.layout import Layout
from experiments.training.resume import DEFAULT_MINUTES, Checkpoints
from workloads import datasets
from workloads.datasets.base import Dataset


def run_study(
    definition: StudyFields,
    folder: Path | str,
    *,
    execution: str = "auto",
    data_dir: str | None = None,
    resume: bool = True,
    keep_going: bool = False,
    workers: int | None = None,
    stream: bool | None = None,
    checkpoint_minutes: float = DEFAULT_MINUTES,
    layout: Layout | None = None,
    cluster: Cluster | None = None,
    allow_changed_code: bool = False,
    observe: Observer = lambda progress: None,
    recorded: Callable[[Sequence[TrialResult]], None] = lambda results: None,
    warn: Callable[[str], None] = warnings.warn,
) -> Path:
    """Train every trial of the study that ``folder`` does not hold yet.

    Args:
      definition: the study, as typed or complete; one that goes on keeps the search space it was
        begun with.
      folder: its record; made where it does not exist, grown where it holds this study.
      execution: "auto" (by measurement), "loop", "scan" or "packed".
      data_dir: where the dataset's files are, if not in the usual places.
      resume: False refuses a folder that holds records.
      keep_going: after an exception in a trial, record it INCOMPLETE and go on.
      workers: packs trained at a time; default: one a core on a CPU, else one.
      stream: read training examples from disk while training, rather than keep all of them on
        the device; by the training set's size where None. Results are the same.
      checkpoint_minutes: a trial that has run so long is saved, then every so many minutes and
        at its best evaluations (training/resume.py); infinite for never.
      layout: devices and micro-batches (`chosen_layout`); None: the plan chooses among the
        devices there are.
      cluster: train in Ray tasks there, each a pack that goes on from the checkpoints it can see
        where it was lost; None: in threads of this process.
      allow_changed_code: go on with a record that was begun with another text of the user's
        files, and record their present one.
      observe: called often with the `StudyProgress`.
      recorded: called with results once they are recorded; it must not raise.
      warn: takes one line where the record was begun by another commit of this code, or a
        checkpoint cannot be used or written.

    Returns:
      The folder.

    Raises:
      RecordError, DataError, StudyError: one clear line; nothing recorded is lost.
      ValueError: a model or an execution that the optimizer cannot take; nothing is written.
      CheckpointError (a ValueError): a checkpoint there is of another configuration.
      KeyboardInterrupt: on Ctrl-C, after what has finished was recorded; on SIGTERM `Preempted`,
        after what was running was saved too. In the main thread their usual handlers are
        replaced meanwhile; those that the caller has set stay.
    """
    if not checkpoint_minutes > 0:
        raise ValueError(f"checkpoint_minutes must be above 0, got {checkpoint_minutes!r}")
    folder = Path(folder)
    record = hosts.from_first(lambda: begun(folder)) if resume else {}
    study = continued(definition, record, allow_changed_code)
    with contextlib.ExitStack() as within:
        if cluster is not None:
            within.enter_context(connected(cluster))
            workers = workers or cluster.tasks_at_a_time()
        request = ExecutionRequest(execution, layout, workers)
        request.candidates(divisible=True)  # refuses what does not go together
        hosts.from_first(lambda: check_writable(folder))
        within.enter_context(switched(study.precision.float64))
        observe(StudyProgress("loading data", checked=False))
        dataset = datasets.load(study.workload.dataset, data_dir, **study.workload.dataset_options)
        content = header(study, dataset)
        if (code := resolve(definition).code) != study.code:
            known = record.get("changed_code", [])
            content["changed_code"] = known if code in known else [*known, code]
        check_study(study, dataset, request, warn)
        with deferred() as stop, opened(folder, content, resume) as writer:
            before, now = (of["environment"]["commit"] for of in (writer.study, content))
            if before != now:
                warn(f"the record {folder} was begun by commit {before}, this is {now}")
            searches = recorded_searches(study, dataset.checksum, writer, folder)
            checkpoints = Checkpoints(folder, study.goal, 60 * checkpoint_minutes, warn)
            train_unfinished(
                searches,
                dataset,
                writer,
                Recorder(writer, checkpoints, recorded),
                request=request,
                checkpoints=checkpoints,
                keep_going=keep_going,
                cluster=cluster,
                data_dir=data_dir,
                stream=stream,
                observe=observe,
                stop=stop,
            )
            end_if_asked(stop)
    return folder


def train_unfinished(
    searches: Sequence[TrialSource],
    dataset: Dataset,
    writer: Writer | Follower,
    recorder: Recorder,
    *,
    request: ExecutionRequest,
    checkpoints: Checkpoints,
    keep_going: bool = False,
    cluster: Cluster | None = None,
    data_dir: str | None = None,
    stream: bool | None = None,
    observe: Observer,
    stop: Stop,
) -> None:
    """Train whatever of ``searches`` has not ended, by the recorded plan or a new one."""
    if not unfinished(searches):
        return
    study = searches[0].study
    data = ResidentData.put(dataset.splits, study.train_evaluation_examples, stream)
    hosts.from_first(lambda: check_checkpoints(checkpoints, searches))
    programs = programs_of(study, data, stop)
    found = recorded_plan(writer, request, unfinished(searches))
    if found is None:
        observe(StudyProgress("measuring how to run the trials"))
        plan = measured_plan(study, searches, programs, request, stop)
        found = plan, recorder.add_plan(plan)
    plans = CurrentPlan(*found, recorder)
    jobs = StudyJobs(Searches(searches, recorder), plans, keep_going, stop)
    # Who trains is decided here, and nowhere else.
    norms = plans.plan.record_norms
    executor: Executor
    if cluster is None:
        executor = Threads(study, programs(norms), checkpoints)
    else:
        setting = StudySetting.of(
            study,
            dataset.checksum,
            record_norms=norms,
            data_dir=data_dir,
            stream=stream,
            record=(str(checkpoints.folder.resolve()), writer.study["identity"]),
            checkpoint_seconds=checkpoints.seconds,
        )
        executor = RayTasks(setting, cluster, checkpoints.warn)
    Coordinator(jobs, executor, recorder, observe, stop).run()
