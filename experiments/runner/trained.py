"""A trial of a record, trained again to its best step: its parameters and all that reads them.

The best step is where the goal's metric was best on the goal's split, the earliest of equal ones.
Training is repeated to it from the newest checkpoint that is not past it, or from the start, as it
was executed; the record says whether it came out the same.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

from experiments.planning.execution import ExecutionPlan, device_name
from experiments.records.store import Record, read, require_current
from experiments.spec.errors import StudyError
from experiments.spec.resolved import ResolvedStudy
from experiments.spec.study import reopened
from experiments.spec.trial import Status, Trial, TrialConfig
from experiments.training.feed import ResidentData
from experiments.training.order import trial_keys
from experiments.training.population import Population
from experiments.training.program import Program
from experiments.training.resume import Checkpoints
from experiments.training.saving import executed_how
from experiments.training.step import PHASE_RATE, TrainState, scheduled
from schedules.batch_size import Stretch, stretch_at, stretches
from workloads import datasets
from workloads.datasets.base import Dataset, Split

Say = Callable[[str], None]


def unsaid(line: str) -> None:
    """Say nothing."""
    del line


@dataclasses.dataclass(frozen=True)
class OpenedRecord:
    """A record with what its trials can be trained again with.

    Attributes:
      folder, record, study: as recorded.
      dataset: the one that it was trained on.
      data: its training examples, on the device.
      programs: configuration -> its programs, compiled once for all trials that share it.
    """

    folder: Path
    record: Record
    study: ResolvedStudy
    dataset: Dataset
    data: ResidentData
    programs: dict[TrialConfig, Program] = dataclasses.field(default_factory=dict)

    def program(self, config: TrialConfig) -> Program:
        """The programs of a configuration."""
        if config not in self.programs:
            factor = self.study.divergence_factor
            self.programs[config] = Program(config, self.data, factor)
        return self.programs[config]

    def split(self, name: str) -> Split:
        """A split of the dataset; ValueError where it has none of this name."""
        if name not in self.dataset.splits:
            known = ", ".join(self.dataset.splits)
            raise ValueError(f"split must be one of {known} with {self.dataset.name}, got {name!r}")
        return self.dataset.splits[name]


@dataclasses.dataclass(frozen=True)
class TrainedTrial:
    """A trial at a step.

    Attributes:
      trial: the run.
      step: updates made.
      config: its static configuration.
      state: its state then, on the host, without an axis of slots.
      hyperparameters: as its programs take them.
      recorded: column -> value of the record's evaluation at that step.
      rows: examples that are evaluated at a time.
      part: of a batch that grows: where the step lies.
    """

    trial: Trial
    step: int
    config: TrialConfig
    state: TrainState
    hyperparameters: Mapping[str, np.floating]
    recorded: Mapping[str, Any]
    rows: int
    part: Stretch

    @property
    def name(self) -> str:
        """B/INDEX, with its seed."""
        return f"{self.trial.batch_size}/{self.trial.index} of seed {self.trial.seed}"

    @property
    def numbers(self) -> dict[str, jax.Array]:
        """The hyperparameters as a step takes them, a growing batch's rate among them."""
        numbers = {name: jnp.asarray(value) for name, value in self.hyperparameters.items()}
        if self.config.batch_size_schedule != "constant":
            numbers[PHASE_RATE] = jnp.asarray(self.part.rate_multiplier, jnp.result_type(float))
        return numbers

    @property
    def numbers_now(self) -> dict[str, jax.Array]:
        """`numbers` with the rate and the momentum of the step that follows."""
        return dict(scheduled(self.config, self.state, self.numbers))


def reopen(folder: Path | str) -> tuple[Record, ResolvedStudy]:
    """A record and its study, of which trials can be trained again.

    Raises:
      RecordError: no record there, or one of an older schema.
    """
    record = read(folder)
    require_current(record.study, folder)
    return record, reopened(record.study)


def with_data(
    folder: Path | str, record: Record, study: ResolvedStudy, data_dir: str | None = None
) -> OpenedRecord:
    """The record with its dataset; jax's 64-bit switch must be as the study needs it.

    Raises:
      ValueError: the dataset is another one.
      DataError: it cannot be had.
    """
    dataset = datasets.load(study.workload.dataset, data_dir, **study.workload.dataset_options)
    if dataset.checksum != record.study["dataset"]["checksum"]:
        raise ValueError(f"the dataset {dataset.name} is not the one that {folder} was trained on")
    data = ResidentData.put(dataset.splits, study.train_evaluation_examples)
    return OpenedRecord(Path(folder), record, study, dataset, data)


def trained_to_best(
    opened: OpenedRecord,
    row: Mapping[str, Any],
    *,
    warn: Callable[[str], None] = warnings.warn,
    say: Say = unsaid,
) -> TrainedTrial:
    """The trial of ``row`` (`trial_row`) at its best step.

    Args:
      warn: takes one line where a checkpoint cannot be used.
      say: takes one line that says what is trained again, before it is.

    Raises:
      ValueError: the goal's metric is finite nowhere.
      StudyError: the record's value at the best step is not reproduced to the bit.
    """
    record, study = opened.record, opened.study
    best = best_evaluation(record, study, row)
    plan = ExecutionPlan.from_json(record.study["plans"][row["plan"]])
    again = trial_of(row, record.study["hyperparameters"])
    program, population = _as_executed(opened, plan, again.batch_size, warn)
    how = executed_how(plan.executions[again.batch_size], program)
    say(_what_is_trained(opened, again, best["step"], row, how))
    state, found = population.train_to(again, best["step"])
    column = study.goal.column
    if found["step"][-1] != best["step"] or found[column][-1] != best[column]:
        raise StudyError(
            f"trial {again.batch_size}/{again.index} is not reproduced: {column} at step "
            f"{best['step']} is {found[column][-1]:g}, in the record {best[column]:g} "
            f"(trained on {plan.device} by commit "
            f"{record.study['environment']['commit']}; this is {device_name()})"
        )
    numbers = program.numbers(again.hyperparameters)
    planned = program.planned(plan.executions[again.batch_size], again.batch_size, numbers)
    assert planned.evaluation_batch is not None
    rows = -(-planned.evaluation_batch // planned.layout.data)  # on one device here
    held = jax.device_get(state)
    part = _part(study, again, best["step"])
    return TrainedTrial(again, best["step"], program.config, held, numbers, best, rows, part)


def trained_to(
    opened: OpenedRecord,
    row: Mapping[str, Any],
    step: int,
    *,
    warn: Callable[[str], None] = warnings.warn,
) -> TrainedTrial:
    """The trial of ``row`` after ``step`` steps; ``recorded`` is what was measured last by then."""
    plan = ExecutionPlan.from_json(opened.record.study["plans"][row["plan"]])
    trial = trial_of(row, opened.record.study["hyperparameters"])
    program, population = _as_executed(opened, plan, trial.batch_size, warn)
    state, found = population.train_to(trial, step)
    numbers = program.numbers(trial.hyperparameters)
    planned = program.planned(plan.executions[trial.batch_size], trial.batch_size, numbers)
    assert planned.evaluation_batch is not None
    last = {name: values[-1] for name, values in found.items()}
    rows = -(-planned.evaluation_batch // planned.layout.data)
    held, part = jax.device_get(state), _part(opened.study, trial, step)
    return TrainedTrial(trial, step, program.config, held, numbers, last, rows, part)


def _part(study: ResolvedStudy, trial: Trial, step: int) -> Stretch:
    return stretch_at(stretches(study.phases(trial.batch_size)), step)


def _as_executed(
    opened: OpenedRecord, plan: ExecutionPlan, batch_size: int, warn: Callable[[str], None]
) -> tuple[Program, Population]:
    """The programs and the population that a recorded plan trains a batch size with."""
    study, config = opened.study, opened.study.config(plan.record_norms)
    program = opened.program(config)
    checkpoints = Checkpoints(opened.folder, study.goal, math.inf, warn)
    population = Population(
        program,
        batch_size,
        plan.executions[batch_size],
        grid=study.grid,
        checkpoints=checkpoints,
        phases=study.phases(batch_size),
    )
    return program, population


def _what_is_trained(
    opened: OpenedRecord, trial: Trial, step: int, row: Mapping[str, Any], how: str
) -> str:
    """From where the trial is trained again to ``step``, and about how long it will take."""
    checkpoints = Checkpoints(opened.folder, opened.study.goal, math.inf, unsaid)
    saved = checkpoints.newest(trial, how, step)
    first = 0 if saved is None else saved.step
    name = f"trial {trial.batch_size}/{trial.index} of seed {trial.seed}"
    if first == step:
        return f"{name}: its best step {step:,} is saved"
    seconds = row["seconds"] * (step - first) / max(row["steps"], 1)
    since = "from its start" if saved is None else f"from its checkpoint at step {first:,}"
    return (
        f"{name} has no checkpoint at its best step {step:,}: it is trained again {since}, "
        f"{step - first:,} steps, about {max(seconds, 0.1):.1f} s and the time to compile"
    )


def trial_row(
    record: Record, study: ResolvedStudy, batch_size: int, seed: int | None, trial: int
) -> dict[str, Any]:
    """The row of a trial that has a best step; the study's first seed unless given.

    Raises:
      ValueError: there is no such trial, or it is neither COMPLETE nor STOPPED.
    """
    seed = study.seeds[0] if seed is None else seed
    mine = record.trials.filter(batch_size=batch_size, seed=seed, trial=trial)
    if mine.is_empty():
        same = record.trials.filter(batch_size=batch_size, seed=seed)
        held = (
            f"trials 0 to {max(same['trial'])}"
            if len(same)
            else f"batch sizes {', '.join(map(str, study.batch_sizes))}, "
            f"seeds {', '.join(map(str, study.seeds))}"
        )
        raise ValueError(f"there is no trial {batch_size}/{trial} of seed {seed} ({held})")
    row = mine.row(0, named=True)
    if row["status"] not in (Status.COMPLETE, Status.STOPPED):
        raise ValueError(
            f"trial {batch_size}/{trial} of seed {seed} is {row['status']}: only a COMPLETE or "
            "STOPPED one has a best step"
        )
    return row


def best_evaluation(record: Record, study: ResolvedStudy, row: Mapping[str, Any]) -> dict[str, Any]:
    """The evaluation at which the goal's metric was best; ValueError where it is finite nowhere."""
    key = {name: row[name] for name in ("batch_size", "seed", "trial")}
    evaluations = record.scan("evaluations")
    assert evaluations is not None, "a record always has the table"
    mine = evaluations.filter(**key).filter(pl.col(study.goal.column).is_finite()).collect()
    if mine.is_empty():
        raise ValueError(
            f"{study.goal.column} of this trial is finite nowhere: it has no best step"
        )
    order = mine.sort(study.goal.sign * pl.col(study.goal.column), "step")
    return order.row(0, named=True)


def trial_of(row: Mapping[str, Any], hyperparameters: list[str]) -> Trial:
    """The trial that a row of the trials table records."""
    values = {name: row[name] for name in hyperparameters}
    key = (row["batch_size"], row["seed"], row["trial"])
    return Trial(*key, row["train_steps"], values, row["identity"])


def initial_state(opened: OpenedRecord, trained: TrainedTrial) -> TrainState:
    """The state that the trial began with, on the host."""
    from experiments.training.pack import initial_state as started

    program = opened.program(trained.config)
    keys = trial_keys(trained.trial.seed, trained.trial.index)
    inputs = program.start_inputs(trained.hyperparameters, keys, trained.trial.train_steps)
    return jax.device_get(started(program.computation, inputs))
