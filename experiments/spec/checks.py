"""Checks of a study: each refuses with one line that names field, value and what is legal.

They look at complete studies, whose fields each hold what their kind allows (kinds.py); what is
refused here follows from several fields together. Imports no jax.
"""

from __future__ import annotations

import dataclasses

from experiments.spec import space as spaces
from experiments.spec.resolved import ResolvedStudy
from experiments.spec.values import MOST_STEPS, real
from optimizers import OPTIMIZERS
from schedules import SCHEDULES
from schedules.durations import parse
from schedules.rescaling import FROM_THE_START, STEP_COUNTS
from workloads.registry import Hyperparameter, unknown_name


def check(study: ResolvedStudy) -> None:
    """ValueError, in one line, where the study cannot be run."""
    _check_choices(study)
    _check_pruning(study)
    _check_batch_sizes(study)
    _check_growth(study)
    _check_hyperparameters(study)
    _check_lengths(study)


def _check_choices(study: ResolvedStudy) -> None:
    """Choices that go together."""
    if study.clipping != "none" and OPTIMIZERS[study.optimizer].needs_value_fn:
        raise ValueError(
            f"clipping must be none with {study.optimizer}, whose search along a line needs "
            f"the gradient of the loss itself, got {study.clipping!r}"
        )
    if study.momentum_schedule != "constant" and not OPTIMIZERS[study.optimizer].momentum:
        raise ValueError(
            f"momentum_schedule must be constant with {study.optimizer}, which has neither "
            f"momentum nor beta1, got {study.momentum_schedule!r}"
        )
    if study.stop != "never" and OPTIMIZERS[study.optimizer].needs_value_fn:
        raise ValueError(
            f"stop must be never with {study.optimizer}, whose answer is counted in function "
            f"evaluations too, got {study.stop!r}"
        )
    if study.record_curvature and "bfloat16" in dataclasses.astuple(study.precision):
        raise ValueError(
            "record_curvature needs parameters and activations in float32 or float64, got "
            f"{study.precision}"
        )
    if study.goal.metric == study.workload.goal.metric and (
        study.goal.direction != study.workload.goal.direction
    ):
        raise ValueError(
            f"goal direction of {study.goal.metric} must be "
            f"{study.workload.goal.direction!r}, got {study.goal.direction!r}"
        )


def _check_pruning(study: ResolvedStudy) -> None:
    """Refuse what does not go together with a pruner."""
    if study.pruner == "patience" and study.patience is None:
        raise ValueError("patience must be given with the pruner patience, got None")
    if study.pruner == "none" and study.patience is not None:
        raise ValueError(f"patience needs a pruner, got {study.patience} without one")
    if study.pruner != "none" and study.stop != "never":
        raise ValueError(
            f"stop must be never with the pruner {study.pruner}, which compares trials by their "
            f"values, got {study.stop!r}"
        )
    if study.pruner != "none" and study.batch_size_schedule != "constant":
        raise ValueError(
            f"batch_size_schedule must be constant with the pruner {study.pruner}: trials whose "
            f"batch grows train together, got {study.batch_size_schedule!r}"
        )


def _check_batch_sizes(study: ResolvedStudy) -> None:
    """Batches are no larger than the training set."""
    largest = study.train_size
    for batch_size in study.batch_sizes:
        if batch_size > largest:
            raise ValueError(
                f"batch_sizes must lie in 1..{largest} (the training set of "
                f"{study.workload.dataset}), got {batch_size}"
            )


def _check_hyperparameters(study: ResolvedStudy) -> None:
    """Every hyperparameter is known, legal, and searched, fixed or has a default."""
    rows = {row.name: row for row in study.rows}
    known = {*rows, *study.workload.hyperparameters}
    for name in (*study.space, *study.fixed):
        if name not in known:
            raise unknown_name("hyperparameter", name, known)
    for name in study.fixed:
        if name in study.space:
            raise ValueError(f"hyperparameter {name} is both searched and fixed")
    for name, row in rows.items():
        if name in study.space:
            distribution = study.space[name]
            values = (
                distribution.values
                if isinstance(distribution, spaces.Choice)
                else (distribution.low, distribution.high)
            )
            if isinstance(distribution, spaces.ZeroOrLog):
                values = (0.0, *values)
            for value in values:
                row.check(real(f"hyperparameter {name}", value))
        elif name in study.fixed:
            for batch_size in study.batch_sizes:
                row.check(study.number(name, study.fixed[name], batch_size))
                _check_rule(study, row, batch_size)
        elif row.default is None:
            raise ValueError(f"hyperparameter {name} must be searched (space) or fixed")


def _check_rule(study: ResolvedStudy, row: Hyperparameter, batch_size: int) -> None:
    """The rule makes a legal value of a fixed one."""
    value = study.fixed[row.name]
    if study.rule is None or isinstance(value, str):
        return
    taken = study.rule.values({**_numbers(study), row.name: value}, batch_size)[row.name]
    try:
        row.check(taken)
    except ValueError as error:
        raise ValueError(
            f"rule {study.rule.rule} from batch size {study.rule.batch_size}, at {batch_size}: "
            f"{error}"
        ) from error


def _numbers(study: ResolvedStudy) -> dict[str, float]:
    """Every hyperparameter that is held at a number."""
    held = study.hyperparameters.items()
    return {name: float(value) for name, value in held if isinstance(value, (int, float))}


def _check_growth(study: ResolvedStudy) -> None:
    """Refuse a growth of the batch that is not known beforehand, the same for all trials."""
    grows, rate = study.batch_size_schedule != "constant", SCHEDULES[study.schedule]
    for field in ("batch_size_cuts", "batch_size_factor", "max_batch_size"):
        if not grows and (value := getattr(study, field)) is not None:
            raise ValueError(f"{field} needs a batch_size_schedule, got {value!r} without one")
    if not grows:
        return
    if study.rule is not None:
        raise ValueError(
            "batch_size_schedule must be constant with a rule, which goes from one batch size to "
            f"another, got {study.batch_size_schedule!r}"
        )
    if study.batch_size_cuts is not None:
        if study.schedule != "constant":
            raise ValueError(
                "schedule must be constant with batch_size_cuts (without them the cuts are "
                f"taken from its shape), got {study.schedule!r}"
            )
    elif rate.metric_driven:
        raise ValueError(f"batch_size_cuts must be given with the schedule {study.schedule}")
    for row in () if study.batch_size_cuts is not None else rate.hyperparameters:
        if row.name in study.space:
            raise ValueError(
                f"hyperparameter {row.name} must be fixed, not searched: where the batch grows "
                "follows from it, and a batch size is compiled"
            )
        value = study.fixed.get(row.name)
        if isinstance(value, str) and row.name in STEP_COUNTS and parse(value).unit == "fraction":
            raise ValueError(
                f"hyperparameter {row.name} must be in steps, examples or epochs where the length "
                f"follows from where the batch grows, got {value!r}"
            )
    highest = study.max_batch_size
    if highest is not None and highest > study.train_size:
        raise ValueError(
            f"max_batch_size must lie in 1..{study.train_size} (the training set of "
            f"{study.workload.dataset}), got {highest}"
        )


def _check_lengths(study: ResolvedStudy) -> None:
    """A stated length is at least what the budgets need; a batch that is to grow does."""
    for batch_size, steps in study.train_steps.items():
        needed = study.steps_needed(batch_size)
        if steps < needed:
            raise ValueError(
                f"train_steps of batch size {batch_size} must be at least {needed} "
                f"(what its budgets need), got {steps}"
            )
    for batch_size in study.batch_sizes:
        _check_durations(study, batch_size)
        if study.pruner != "none" and study.pruner_resource > study.length(batch_size):
            raise ValueError(
                f"pruner_resource must lie in 1..{study.length(batch_size)} (the steps of a trial "
                f"at batch size {batch_size}), got {study.pruner_resource}"
            )
        if study.length(batch_size) > MOST_STEPS:
            raise ValueError(
                f"example_budget must be at most {MOST_STEPS} steps, got {study.example_budget} "
                f"examples, {study.length(batch_size)} steps of batch size {batch_size}"
            )
        phases = study.phases(batch_size)  # refuses cuts and factors that are none
        if study.cut_by_schedule and len(phases) == 1:
            raise ValueError(
                f"batch_size_cuts must be given with the schedule {study.schedule}, which does "
                f"not fall by a factor of {study.growth(batch_size).factor:g} at batch size "
                f"{batch_size}"
            )


def _check_durations(study: ResolvedStudy, batch_size: int) -> None:
    """Warmup, and what comes before an average, end within the trial, however they are searched."""
    length = study.length(batch_size)
    for name in FROM_THE_START:
        value = study.fixed.get(name)
        if name in study.space:
            value = spaces.greatest(study.space[name])
        if value is None:
            continue
        steps = study.numbers({name: value}, batch_size)[name]
        if steps > length:
            raise ValueError(
                f"hyperparameter {name} must end within the trial: {value!r} is {steps:,.0f} steps "
                f"at batch size {batch_size}, of a trial of {length:,}"
            )
