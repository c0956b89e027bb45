"""What analysis reads of a record: the tables, and the question as typed fields.

Analysis takes any object with the attributes of `Record`; the store's reader returns one.
Nothing here imports jax, so that a record can be analysed where nothing can be trained.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Protocol

import polars as pl

from experiments.spec import space as spaces
from experiments.spec.fields import StudyFields, read_fields
from workloads.base import Goal
from workloads.registry import unknown_name

SEARCH = ("batch_size", "seed")
TRIAL = (*SEARCH, "trial")


class Record(Protocol):
    """A study read back; columns as in ``experiments/records/schema.py``."""

    @property
    def study(self) -> Mapping[str, Any]:
        """The content of ``study.json``."""

    @property
    def trials(self) -> pl.DataFrame:
        """One row a trial."""

    def scan(self, table: str) -> pl.LazyFrame | None:
        """The rows of ``evaluations`` (one a measurement) or ``norms`` (one a step).

        None where no trial recorded the table; never None for ``evaluations``.
        """


@dataclasses.dataclass(frozen=True)
class Question(StudyFields):
    """The fields of a recorded study (experiments/spec/fields.py), each complete.

    Nothing is checked again: a record may name what tables no longer hold.

    Attributes:
      batch_sizes: those planned, and any other that holds trials, ascending.
      seeds: one search each, those planned first; the first is the study's own.
      train_steps: batch size -> length of its trials in steps, of every batch size.
      fixed: every hyperparameter that is not searched -> value, or a duration as text.
      train_size: training examples, those of an epoch.
      hyperparameters: names of all hyperparameter columns of the trials table.
    """

    goal: Goal = dataclasses.field(kw_only=True)
    space: Mapping[str, spaces.Distribution] = dataclasses.field(kw_only=True)
    train_size: int = dataclasses.field(kw_only=True)
    hyperparameters: tuple[str, ...] = dataclasses.field(kw_only=True)

    @property
    def epoch_budget(self) -> float:
        """The example budget in epochs."""
        return self.example_budget / self.train_size


def read_question(record: Record) -> Question:
    """The question a record answers."""
    study = record.study["study"]
    fields = read_fields(study)
    held = record.trials.select(SEARCH).unique()
    batch_sizes = {*fields["batch_sizes"], *held["batch_size"].to_list()}
    seeds = list(fields["seeds"])
    seeds += sorted(set(held["seed"].to_list()) - set(seeds))
    names = (*fields["space"], *fields["fixed"])
    return Question(
        **{**fields, "batch_sizes": tuple(sorted(batch_sizes)), "seeds": tuple(seeds)},
        train_size=study["train_size"],
        hyperparameters=tuple(record.study.get("hyperparameters", names)),
    )


def choose_goal(record: Record, goal: float | Goal | None = None) -> Goal:
    """The recorded goal, or another one that the record can answer.

    Args:
      goal: a value for the recorded metric, a whole `Goal`, or None for the recorded one.

    Raises:
      ValueError: a value that is not finite, a direction other than the recorded one for the
        same metric, or a column that the evaluations do not hold.
    """
    recorded = Goal(**record.study["study"]["goal"])
    if goal is None:
        return recorded
    if not isinstance(goal, Goal):
        if isinstance(goal, bool) or not isinstance(goal, (int, float)) or not math.isfinite(goal):
            raise ValueError(f"goal value must be a finite number, got {goal!r}")
        return dataclasses.replace(recorded, value=float(goal))
    if goal.metric == recorded.metric and goal.direction != recorded.direction:
        raise ValueError(
            f"goal direction of {goal.metric} must be {recorded.direction!r}, "
            f"got {goal.direction!r}"
        )
    measured = [name for name in columns_of(record) if "/" in name]
    if goal.column not in measured:
        raise unknown_name("measurement", goal.column, measured)
    return goal


def columns_of(record: Record) -> list[str]:
    """The columns of the evaluations."""
    evaluations = record.scan("evaluations")
    assert evaluations is not None, "a record always has the table"
    return evaluations.collect_schema().names()


def measurements(record: Record, goal: Goal, *others: str) -> pl.LazyFrame:
    """Every measurement of the goal's metric: ``batch_size, seed, trial, step, examples, value``.

    With the columns ``others`` of the evaluations beside it. Without rows where nothing was ever
    measured, as in a record that holds no trial yet.
    """
    held = record.scan("evaluations")
    assert held is not None, "a record always has the table"
    if goal.column not in held.collect_schema():
        held = held.clear().with_columns(pl.lit(None, dtype=pl.Float64).alias(goal.column))
    return held.select(*TRIAL, "step", "examples", *others, pl.col(goal.column).alias("value"))
