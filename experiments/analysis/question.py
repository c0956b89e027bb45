"""The question of a record as typed fields, beside its tables: all that analysis reads.

Analysis takes any object with the attributes of `StudyRecord`; the store's reader returns one.
Nothing here imports jax, so that a record can be analysed where nothing can be trained.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

import polars as pl

from experiments.spec import space as spaces
from experiments.spec.fields import StudyFields, read_fields
from workloads.base import Goal

SEARCH = ("batch_size", "seed")
TRIAL = (*SEARCH, "trial")


class StudyRecord(Protocol):
    """A study read back; columns as in ``experiments/records/schema.py``."""

    @property
    def study(self) -> Mapping[str, Any]:
        """The content of ``study.json``."""

    @property
    def trials(self) -> pl.DataFrame:
        """One row a trial."""

    @property
    def repeats(self) -> StudyRecord | None:
        """The record of its best configurations trained again; None where there is none."""

    def scan(self, table: str, of: pl.DataFrame | None = None) -> pl.LazyFrame | None:
        """The rows of ``evaluations`` (one a measurement) or ``norms`` (one a step).

        ``of``: keys of trials, whose rows alone are read. None where no trial recorded the table;
        never None for ``evaluations``.
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
      train_size: training examples, those of an epoch; None where an imported record has none.
      hyperparameters: names of all hyperparameter columns of the trials table.
      imported: the form that the trials were imported from; "" where batchscale trained them.
      exhausted: (batch size, seed) of searches of a finite space that holds no other point.
    """

    goal: Goal = dataclasses.field(kw_only=True)
    space: Mapping[str, spaces.Distribution] = dataclasses.field(kw_only=True)
    sampler: str = dataclasses.field(kw_only=True)
    train_size: int | None = dataclasses.field(kw_only=True)
    hyperparameters: tuple[str, ...] = dataclasses.field(kw_only=True)
    imported: str = dataclasses.field(default="", kw_only=True)
    exhausted: frozenset[tuple[int, int]] = dataclasses.field(default=frozenset(), kw_only=True)

    @property
    def drawn(self) -> str:
        """The sampler that the counted trials are a sample of; "" where a pruner chose them."""
        return "" if self.pruner != "none" else self.sampler

    @property
    def epoch_budget(self) -> float | None:
        """The example budget in epochs; None where the training set's size is not known."""
        return self.example_budget / self.train_size if self.train_size else None


def read_question(record: StudyRecord) -> Question:
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
        imported=record.study.get("imported", {}).get("format", ""),
        exhausted=frozenset(
            (int(batch_size), found["seed"])
            for found in record.study.get("rounds", [])
            for batch_size, own in found["batch_sizes"].items()
            if own["exhausted"]
        ),
    )
