"""A study as everybody reads it: complete, checked, with what follows from its definition.

`experiments.spec.study.resolve` makes it from a `Study` as typed. Everything that determines the
science is here and goes into the record; how it is executed (packs, loops, threads) is a plan,
chosen later (experiments/planning/probe.py). Imports no jax.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from experiments.spec import parts
from experiments.spec import space as spaces
from experiments.spec.fields import STATIC, StudyFields, read_fields
from experiments.spec.growth import Growth
from experiments.spec.parts import PARTS
from experiments.spec.rows import rows_of
from experiments.spec.trial import RecordNorms, Trial, TrialConfig, evaluation_steps
from schedules import BATCH_SIZE_SCHEDULES, SCHEDULES
from schedules.batch_size import Phase, constant, steps_of, updates
from schedules.durations import parse
from schedules.rescaling import FROM_THE_START, STEP_COUNTS
from workloads.base import Goal
from workloads.datasets import DATASETS
from workloads.registry import Hyperparameter

SCHEMA_VERSION = 2
"""Version of what an identity covers; raise it when a change of code changes results.

2: the order of examples is a keyed permutation, computed at any place.
"""
_USER_MODULE = re.compile(r"\b(study_\w+)_[0-9a-f]{12}:")


@dataclasses.dataclass(frozen=True)
class ResolvedStudy(StudyFields):
    """The fields of `StudyFields`, none left to a default: goal, space and sampler are there."""

    goal: Goal = dataclasses.field(kw_only=True)
    space: Mapping[str, spaces.Distribution] = dataclasses.field(kw_only=True)
    sampler: str = dataclasses.field(kw_only=True)

    @property
    def rows(self) -> tuple[Hyperparameter, ...]:
        """The hyperparameters of all parts, with their legal intervals."""
        return tuple(row for field in PARTS for row in parts.rows(field, getattr(self, field)))

    @property
    def train_size(self) -> int:
        """Number of training examples."""
        options = self.workload.dataset_options
        return int(options.get("train_examples", DATASETS[self.workload.dataset].sizes["train"]))

    def steps_needed(self, batch_size: int) -> int:
        """max(step budget, steps that consume the example budget): the least legal length."""
        if self.batch_size_schedule == "constant":
            return max(self.step_budget, math.ceil(self.example_budget / batch_size))
        growth = self.growth(batch_size)
        total = growth.examples(batch_size, self.example_budget, self.step_budget)
        return updates(growth.phases(batch_size, total), total)

    def length(self, batch_size: int) -> int:
        """train_steps(B)."""
        return self.train_steps.get(batch_size, self.steps_needed(batch_size))

    def grid(self, train_steps: int) -> list[int]:
        """The steps after which a trial of this length is evaluated, at every batch size."""
        return evaluation_steps(train_steps, self.evaluation_spacing)

    def number(self, name: str, value: float | str, batch_size: int) -> float:
        """A fixed value; a duration as steps of a trial that begins at this batch size.

        One that begins with the trial follows the batch as it grows; a period or window is
        counted at the first batch size.
        """
        grows = isinstance(value, str) and name in FROM_THE_START
        phases = self.phases(batch_size) if grows else constant(batch_size)
        return self._number(name, value, batch_size, phases)

    def _number(
        self, name: str, value: float | str, batch_size: int, phases: tuple[Phase, ...]
    ) -> float:
        if not isinstance(value, str):
            return float(value)
        if name not in STEP_COUNTS:
            raise ValueError(
                f"hyperparameter {name} must be a number, got {value!r} "
                f"(durations fit {', '.join(STEP_COUNTS)})"
            )
        duration = parse(value)
        length = self.length(batch_size) if duration.unit == "fraction" else None
        return float(steps_of(duration, phases, self.train_size, length))

    def numbers(self, values: Mapping[str, float | str], batch_size: int) -> dict[str, float]:
        """The numbers of a trial at ``batch_size``, by the study's rule where it has one.

        What a rule makes of a searched value is legal too: it ends at the legal interval's end.
        """
        numbers = {name: self.number(name, value, batch_size) for name, value in values.items()}
        if self.rule is None:
            return numbers
        stated = {n: number for n, number in numbers.items() if not isinstance(values[n], str)}
        taken = self.rule.values(stated, batch_size)
        for row in self.rows:
            if row.name in self.space and row.name in taken:
                taken[row.name] = row.clipped(taken[row.name])
        return {**numbers, **taken}

    @property
    def cut_by_schedule(self) -> bool:
        """Tell whether the batch grows where the shape of ``schedule`` falls."""
        return self.batch_size_schedule != "constant" and self.batch_size_cuts is None

    def growth(self, batch_size: int) -> Growth:
        """Growth of the batch from ``batch_size``, with every number."""
        settings: tuple[tuple[str, float], ...] = ()
        factor = BATCH_SIZE_SCHEDULES[self.batch_size_schedule].factor
        if self.cut_by_schedule:
            rows = SCHEDULES[self.schedule].hyperparameters
            fixed = {row.name: self.fixed.get(row.name, row.default) for row in rows}
            # Cuts are taken from a trial at one batch size; its warmup ends before the first.
            alone = constant(batch_size)
            settings = tuple(
                (name, self._number(name, value, batch_size, alone))
                for name, value in fixed.items()
                if value is not None
            )
            factor = 1 / dict(settings).get("decay_factor", 1 / factor)
        return Growth(
            self.batch_size_schedule,
            self.batch_size_cuts,
            factor if self.batch_size_factor is None else self.batch_size_factor,
            self.max_batch_size or self.train_size,
            self.schedule,
            settings,
        )

    def phases(self, batch_size: int) -> tuple[Phase, ...]:
        """The phases of a trial that begins at ``batch_size``, over its whole length."""
        if self.batch_size_schedule == "constant":
            return constant(batch_size)
        growth, length = self.growth(batch_size), self.length(batch_size)
        return growth.phases(batch_size, growth.examples(batch_size, self.example_budget, length))

    @property
    def hyperparameters(self) -> dict[str, float | str | None]:
        """Every hyperparameter of a trial with its fixed or default value; None if searched."""
        values: dict[str, float | str | None] = {row.name: row.default for row in self.rows}
        values |= {**self.workload.hyperparameters, **self.fixed}
        return {name: None if name in self.space else v for name, v in values.items()}

    def config(self, record_norms: RecordNorms) -> TrialConfig:
        """The static configuration of every trial of the study."""
        values = {name: getattr(self, name) for name in STATIC}
        return TrialConfig(record_norms=record_norms, **values)

    # The record, and what of it makes the study this one.

    def _stated(self) -> dict[str, Any]:
        """The fields as they are recorded: tables of lengths and of values are whole."""
        stated = {name: getattr(self, name) for name in rows_of(type(self))}
        held = {k: v for k, v in self.hyperparameters.items() if v is not None}
        stated |= {"train_steps": {b: self.length(b) for b in self.batch_sizes}, "fixed": held}
        if self.batch_size_schedule != "constant":
            growth = self.growth(self.batch_sizes[0])
            stated |= {"batch_size_factor": growth.factor, "max_batch_size": growth.highest}
        return stated

    def describe(self) -> dict[str, Any]:
        """The whole question as JSON values, for the record."""
        rows = rows_of(type(self))
        described = {
            name: rows[name].kind.record(value)
            for name, value in self._stated().items()
            if not (rows[name].unrecorded and value == rows[name].neutral)
        }
        return json.loads(json.dumps({**described, "train_size": self.train_size}))

    @classmethod
    def from_description(cls, described: Mapping[str, Any]) -> ResolvedStudy:
        """The study that `describe` described, as far as it determines its trials.

        Models and losses that a user's file defines are found once that file is loaded.

        Raises:
          ValueError: a field is missing, or is not what that field holds.
        """
        return cls(**read_fields(described, rows_of(cls)))

    @functools.cached_property
    def _asked(self) -> str:
        """Text of all that `identity` covers of the study."""
        rows, described = rows_of(type(self)), self.describe()
        asked = {
            name: value
            for name, value in described.items()
            if name == "train_size" or (rows[name].role == "asks" and value != rows[name].neutral)
        }
        asked["train_steps"] = {str(b): s for b, s in sorted(self.train_steps.items())}
        # A module of the user's file is named after the file's text, which `code` covers.
        return _USER_MODULE.sub(r"\1:", json.dumps(asked, sort_keys=True))

    def identity(self, dataset_checksum: str) -> str:
        """Hash of the question without what may grow (trials, seeds, batch sizes) and the notes.

        Two runs with one identity belong in one folder; anything else is another study.
        """
        return _digest(
            {"study": self._asked, "dataset": dataset_checksum, "schema": SCHEMA_VERSION}
        )

    def trial(
        self, batch_size: int, seed: int, index: int, point: Mapping[str, float], checksum: str
    ) -> Trial:
        """Trial ``index`` of a batch size and seed, at ``point`` of the unit cube.

        A position outside [0, 1], of a search whose box was widened, gives a value beyond the ends
        of its range, no further than is legal.
        """
        values = {**self.hyperparameters, **spaces.sample(self.space, point)}
        if any(not 0 <= position <= 1 for position in point.values()):
            for row in self.rows:
                if isinstance(self.space.get(row.name), spaces.Real):
                    values[row.name] = row.clipped(float(values[row.name]))  # type: ignore[arg-type]
        hyperparameters = self.numbers(values, batch_size)  # type: ignore[arg-type]
        length = self.length(batch_size)
        identity = _digest(
            {
                "study": self.identity(checksum),
                "batch_size": batch_size,
                "seed": seed,
                "index": index,
                "train_steps": length,
                "hyperparameters": hyperparameters,
            }
        )
        return Trial(batch_size, seed, index, length, hyperparameters, identity)


def _digest(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:32]
