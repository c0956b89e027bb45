"""The numbers of a study's trials: their lengths, their growing batches, their hyperparameters.

All follow from the fields of a complete study, before anything is trained. Imports no jax.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from experiments.spec import parts
from experiments.spec import space as spaces
from experiments.spec.fields import StudyFields
from experiments.spec.growth import Growth
from experiments.spec.parts import PARTS
from experiments.spec.trial import evaluation_steps
from schedules import BATCH_SIZE_SCHEDULES, SCHEDULES
from schedules.batch_size import Phase, constant, steps_of, updates
from schedules.durations import parse
from schedules.rescaling import FROM_THE_START, STEP_COUNTS
from workloads.base import Goal
from workloads.datasets import DATASETS
from workloads.registry import Hyperparameter


@dataclasses.dataclass(frozen=True)
class CompleteFields(StudyFields):
    """The fields of a study, none left to a default: goal, space and sampler are there."""

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
