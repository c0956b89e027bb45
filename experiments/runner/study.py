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

import functools
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.diagnostics.gradient_noise import gradient_noise
from experiments.planning.execution import ExecutionRequest, Plan, device_name
from experiments.planning.probe import Workplan, make_plan, probe_trial
from experiments.records.files import check_writable
from experiments.records.follower import Follower, broadcast
from experiments.records.schema import STUDY_FILE
from experiments.records.store import RecordError, Writer, read, read_study
from experiments.records.study_file import refuse_imported
from experiments.records.tables import TRIAL_KEY
from experiments.runner.coordinator import Coordinator, Observer, Progress
from experiments.runtime import hosts
from experiments.runtime.compilation import switched
from experiments.runtime.environment import environment
from experiments.runtime.stopping import Stop, deferred
from experiments.search.record import Ended, Round
from experiments.search.search import Search
from experiments.spec.errors import StudyError, in_one_line
from experiments.spec.fields import StudyFields
from experiments.spec.resolved import ResolvedStudy
from experiments.spec.study import continued, resolve
from experiments.spec.trial import RecordNorms, Status, Trial
from experiments.training.computation import Measurement
from experiments.training.cuts import check_cuts, ghost_batch_size
from experiments.training.feed import ResidentData
from experiments.training.layout import Layout
from experiments.training.program import Program
from experiments.training.resume import CHECKPOINTS_FOLDER, DEFAULT_MINUTES, Checkpoints
from experiments.training.step import parameter_count
from optimizers import OPTIMIZERS
from workloads import datasets
from workloads.base import Goal
from workloads.datasets.base import Dataset, Split
from workloads.datasets.base import read as read_split

FINAL = (Status.COMPLETE, Status.INFEASIBLE, Status.STOPPED)


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
    allow_changed_code: bool = False,
    observe: Observer = lambda progress: None,
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
      allow_changed_code: go on with a record that was begun with another text of the user's
        files, and record their present one.
      observe: called often with the `Progress`.
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
    record = hosts.from_first(lambda: _begun(folder)) if resume else {}
    study = continued(definition, record, allow_changed_code)
    request = ExecutionRequest(execution, layout, workers)
    request.candidates(divisible=True)  # refuses what does not go together
    hosts.from_first(lambda: check_writable(folder))
    with switched(study.precision.float64):
        observe(Progress("loading data", checked=False))
        dataset = datasets.load(study.workload.dataset, data_dir, **study.workload.dataset_options)
        header = _header(study, dataset)
        if (code := resolve(definition).code) != study.code:
            known = record.get("changed_code", [])
            header["changed_code"] = known if code in known else [*known, code]
        _check(study, dataset, request, warn)
        with deferred() as stop, _opened(folder, header, resume) as writer:
            begun, now = writer.study["environment"]["commit"], header["environment"]["commit"]
            if begun != now:
                warn(f"the record {folder} was begun by commit {begun}, this is {now}")
            searches = _searches(study, dataset.checksum, writer, folder)
            if any(search.unfinished(b) for search in searches for b in study.batch_sizes):
                data = ResidentData.put(dataset.splits, study.train_evaluation_examples, stream)
                checkpoints = Checkpoints(folder, study.goal, 60 * checkpoint_minutes, warn)
                hosts.from_first(lambda: _check_checkpoints(checkpoints, searches))
                programs = _programs(study, data, stop)
                plan, index = _plan(study, writer, searches, programs, request, observe, stop)
                Coordinator(
                    study,
                    writer,
                    searches,
                    programs(plan.record_norms),
                    plan,
                    index,
                    checkpoints,
                    keep_going,
                    observe,
                    stop,
                ).run()
            _end_if_asked(stop)
    return folder


def _begun(folder: Path) -> dict[str, Any]:
    """The content of the study.json in ``folder``; nothing where it holds no record."""
    if not (folder / STUDY_FILE).exists():
        return {}
    study = read_study(folder)
    refuse_imported(study, folder)
    return study


def _header(study: ResolvedStudy, dataset: Dataset) -> dict[str, Any]:
    """Return the content of study.json for a study on a dataset."""
    described = dataset.describe()
    return {
        "identity": study.identity(described["checksum"]),
        "study": study.describe(),
        "dataset": described,
        "hyperparameters": sorted(study.hyperparameters),
        "environment": environment(),
    }


def _check(
    study: ResolvedStudy, dataset: Dataset, request: ExecutionRequest, warn: Callable[[str], None]
) -> None:
    """ValueError where the study cannot be trained on this dataset as it was asked for."""
    train = dataset.splits["train"]
    if request.layout is not None:
        grown = {part.batch_size for b in study.batch_sizes for part in study.phases(b)}
        example = read_split(train, np.arange(1))
        check_cuts(study.config("off"), example, request.layout, sorted(grown))
    _check_second_order(study, train, request.execution)
    _check_size(study, dataset.size("train"), warn)


def _programs(
    study: ResolvedStudy, data: ResidentData, stop: Stop
) -> Callable[[RecordNorms], Program]:
    """record_norms -> the programs: what the probe compiled is what trains.

    A process that was asked to end compiles no more: it ends here.
    """

    @functools.cache
    def programs(norms: RecordNorms) -> Program:
        _end_if_asked(stop)
        try:
            config = study.config(norms)
            noise: tuple[Measurement, ...] = ()
            if study.record_noise:
                noise = (gradient_noise(config, ghost_batch_size(config, data.train)),)
            return Program(config, data, study.divergence_factor, measurements=noise)
        except (Exception, SystemExit) as error:  # (a user's factory may raise anything)
            raise StudyError(
                f"workload {study.workload.name} cannot be built: {in_one_line(error)}"
            ) from error

    return programs


def _end_if_asked(stop: Stop) -> None:
    """Raise what a signal asked for; of several processes only the coordinators do, together."""
    if not hosts.several():
        stop.check()


def _opened(folder: Path, header: dict[str, Any], resume: bool) -> Writer | Follower:
    """The record: process 0 holds it, the others hear what it holds, or why it cannot be had."""
    if not hosts.several():
        return Writer.open(folder, header, resume=resume)
    writer, error, heard = None, None, b""
    if hosts.first():
        try:
            writer = Writer.open(folder, header, resume=resume)
        except Exception as failed:  # noqa: BLE001 (the others must hear of any)
            error = failed
    heard = hosts.agreed(broadcast(writer) if writer else b"")
    if error:
        raise error
    if not heard:
        raise RecordError("process 0 cannot have the record; it says why")
    follower = Follower(heard)
    same = follower.study["identity"] == header["identity"]
    if not hosts.all_true(same):
        if writer:
            writer.close()
        raise RecordError("the processes were not started with the same study and options")
    return writer or follower


def _check_second_order(study: ResolvedStudy, train: Split, execution: str) -> None:
    """Refuse a model too large for the optimizer, and packs of trials that search along lines."""
    rule = OPTIMIZERS[study.optimizer]
    if rule.needs_value_fn and execution == "packed":
        raise ValueError(
            f"execution must be auto, loop or scan with {rule.name}, whose trials run unpacked, "
            "got 'packed'"
        )
    if rule.largest_model is not None:
        size = parameter_count(study.config("off"), read_split(train, np.arange(1)))
        if size > rule.largest_model:
            raise ValueError(
                f"a model trained by {rule.name} may have at most {rule.largest_model:,} "
                f"parameters, {study.workload.name} has {size:,} (hessian_free has no such limit)"
            )


def _check_checkpoints(checkpoints: Checkpoints, searches: Sequence[Search]) -> None:
    """Refuse another configuration's checkpoints; finish what a kill after a commit left."""
    if not (checkpoints.folder / CHECKPOINTS_FOLDER).is_dir():
        return
    for search in searches:
        for batch_size in search.study.batch_sizes:
            ended = search.ended(batch_size)
            for index in range(search.proposed(batch_size)):
                trial = search.trial(batch_size, index)
                if index in ended:
                    checkpoints.end(trial, ended[index].status)
                else:
                    checkpoints.check(trial)


def _check_size(study: ResolvedStudy, examples: int, warn: Callable[[str], None]) -> None:
    """Another number of training examples than the study counts with: say so, or refuse."""
    name = study.workload.dataset
    if study.batch_sizes[-1] > examples:
        raise ValueError(
            f"batch_sizes must lie in 1..{examples} (the training set of {name} found here), got "
            f"{study.batch_sizes[-1]}"
        )
    if examples != study.train_size:
        warn(
            f"{name} has {examples:,} training examples here, the study counts "
            f"{study.train_size:,} to an epoch: train_examples among the workload's "
            "dataset_options says how many"
        )


def _searches(
    study: ResolvedStudy, checksum: str, writer: Writer | Follower, folder: Path
) -> list[Search]:
    """One search for each seed, with what is recorded already."""
    rounds = [Round.from_json(found) for found in writer.study.get("rounds", [])]
    learns = any(found.seed in study.seeds for found in rounds) or study.stop != "never"
    passed = hosts.from_first(lambda: _measured(study.goal, folder)) if learns else {}
    ended: dict[int, dict[tuple[int, int], Ended]] = {seed: {} for seed in study.seeds}
    for (batch_size, seed, index), (status, _) in writer.recorded().items():
        if seed in ended and status in FINAL:
            known = passed.get((batch_size, seed, index), (0, None, 0))
            ended[seed][batch_size, index] = Ended(status, *known)
    full = writer.study["study"]["seeds"][: study.full_searches]  # growth appends searches
    return [
        Search(
            study,
            seed,
            checksum,
            full=study.stop == "never" or seed in full,
            recorded=[found for found in rounds if found.seed == seed],
            ended=ended[seed],
        )
        for seed in study.seeds
    ]


def _measured(goal: Goal, folder: Path) -> dict[tuple[int, int, int], tuple[int, int | None, int]]:
    """(batch size, seed, index) -> steps, first evaluation past the goal, if any, the last one."""
    import polars as pl

    record = read(folder)
    rows = record.scan("evaluations")
    assert rows is not None, "a record always has the table"
    step, nowhere = pl.col("step"), pl.lit(None, dtype=pl.Int64)
    known = goal.column in rows.collect_schema().names()
    passed = step.filter(goal.better(pl.col(goal.column))).min() if known else nowhere
    found = rows.group_by(TRIAL_KEY).agg(passed.alias("passed"), step.max()).collect()
    table = record.trials.select(*TRIAL_KEY, "steps").join(found, on=TRIAL_KEY, how="left")
    return {(b, s, i): (n, passed, last or 0) for b, s, i, n, passed, last in table.iter_rows()}


def _fitting(plans: Sequence[Plan], request: str, needed: set[int]) -> int | None:
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


def _plan(
    study: ResolvedStudy,
    writer: Writer | Follower,
    searches: Sequence[Search],
    programs: Callable[[RecordNorms], Program],
    request: ExecutionRequest,
    observe: Observer,
    stop: Stop,
) -> tuple[Plan, int]:
    """The recorded plan that fits, else a new one; with its index.

    Process 0 decides for all: a plan orders the work, and depends on the machine it is made on.
    """
    needed = {b for search in searches for b in study.batch_sizes if search.unfinished(b)}
    recorded = [Plan.from_json(plan) for plan in writer.study["plans"]]
    index = hosts.from_first(lambda: _fitting(recorded, str(request), needed))
    if index is not None:
        return recorded[index], index
    observe(Progress("measuring how to run the trials"))
    steps = {b: sum(search.remaining_steps(b) for search in searches) for b in needed}

    def make_trial(batch_size: int, index: int) -> Trial:
        _end_if_asked(stop)
        return probe_trial(study, batch_size, index)

    work = Workplan(
        steps={b: steps[b] for b in sorted(needed)},
        evaluations={b: len(study.grid(study.length(b))) / study.length(b) for b in needed},
        make_program=programs,
        make_trial=make_trial,
    )
    # All measure, because a step of several processes needs all of them; process 0's is kept.
    try:
        mine = make_plan(work, request, study.record_norms)
    except SystemExit as error:  # (a user's factory may raise anything, and is traced here first)
        message = f"workload {study.workload.name} cannot be built: {in_one_line(error)}"
        raise StudyError(message) from error
    plan = hosts.from_first(lambda: mine)
    _end_if_asked(stop)  # a probe that was cut short decides nothing
    return plan, writer.add_plan(plan.to_json())
