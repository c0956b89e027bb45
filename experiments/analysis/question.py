"""What analysis reads of a record: the tables, and the question as typed fields.

Analysis takes any object with the four attributes of `Record`; the store's reader returns one.
Nothing here imports jax, so that a record can be analysed where nothing can be trained.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Protocol

import polars as pl

from experiments.spec import space as spaces
from experiments.spec.parts import PARTS
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

    @property
    def evaluations(self) -> pl.DataFrame:
        """One row a measurement."""

    @property
    def norms(self) -> pl.DataFrame | None:
        """One row a step, where norms were recorded at every step."""


@dataclasses.dataclass(frozen=True)
class Question:
    """The fields of ``study.json`` that analysis reads, each with its unit in its name.

    Attributes:
      name, text, expected: the study's name, its question and the result expected beforehand.
      workload, dataset, optimizer, schedule: names.
      goal: metric, value, direction and split.
      batch_sizes: those planned, and any other that holds trials, ascending.
      seeds: one search each; the first is the study's own.
      trials: N, the COMPLETE trials of a search that count.
      step_budget, example_budget, train_size: steps, examples, examples.
      train_steps: batch size -> length of its trials in steps.
      space: the searched hyperparameters.
      fixed: the others, name -> value, or a duration as text.
      hyperparameters: names of all hyperparameter columns of the trials table.
      clipping, averaging, momentum_schedule, batch_size_schedule: "none" and "constant" too in
        records from before there was any.
      source: the file ``batchscale run`` was given, "" for a registered study.
      command: all the words after ``batchscale run``, "" where it was run from Python.
    """

    name: str
    text: str
    expected: str
    workload: str
    dataset: str
    optimizer: str
    schedule: str
    goal: Goal
    batch_sizes: tuple[int, ...]
    seeds: tuple[int, ...]
    trials: int
    step_budget: int
    example_budget: int
    train_size: int
    train_steps: Mapping[int, int]
    space: Mapping[str, spaces.Distribution]
    fixed: Mapping[str, float | str]
    hyperparameters: tuple[str, ...]
    clipping: str = "none"
    averaging: str = "none"
    momentum_schedule: str = "constant"
    batch_size_schedule: str = "constant"
    source: str = ""
    command: str = ""

    @property
    def epoch_budget(self) -> float:
        """The example budget in epochs."""
        return self.example_budget / self.train_size


def read_question(record: Record) -> Question:
    """The question a record answers."""
    study = record.study["study"]
    held = record.trials.select(SEARCH).unique()
    batch_sizes = {*study["batch_sizes"], *held["batch_size"].to_list()}
    seeds = list(study["seeds"])
    seeds += sorted(set(held["seed"].to_list()) - set(seeds))
    space = {name: spaces.from_json(data) for name, data in study["space"].items()}
    fixed = dict(study["fixed"])
    return Question(
        name=study["name"],
        text=study["question"],
        expected=study.get("expected", ""),
        workload=study["workload"]["name"],
        dataset=study["workload"]["dataset"],
        optimizer=study["optimizer"],
        schedule=study["schedule"],
        goal=Goal(**study["goal"]),
        batch_sizes=tuple(sorted(batch_sizes)),
        seeds=tuple(seeds),
        trials=study["trials"],
        step_budget=study["step_budget"],
        example_budget=study["example_budget"],
        train_size=study["train_size"],
        train_steps={int(b): steps for b, steps in study["train_steps"].items()},
        space=space,
        fixed=fixed,
        hyperparameters=tuple(record.study.get("hyperparameters", (*space, *fixed))),
        **{f: study.get(f, part.neutral) for f, part in PARTS.items() if part.neutral},
        source=study.get("source", ""),
        command=study.get("command", ""),
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
    measured = [name for name in record.evaluations.columns if "/" in name]
    if goal.column not in measured:
        raise unknown_name("measurement", goal.column, measured)
    return goal


def measurements(record: Record, goal: Goal, *others: str) -> pl.LazyFrame:
    """Every measurement of the goal's metric: ``batch_size, seed, trial, step, examples, value``.

    With the columns ``others`` of the evaluations beside it. Without rows where nothing was ever
    measured, as in a record that holds no trial yet.
    """
    held = record.evaluations.lazy()
    if goal.column not in record.evaluations.columns:
        held = held.clear().with_columns(pl.lit(None, dtype=pl.Float64).alias(goal.column))
    return held.select(*TRIAL, "step", "examples", *others, pl.col(goal.column).alias("value"))
