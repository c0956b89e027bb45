"""A study: a search at each of a set of batch sizes, frozen and validated at construction.

Imports no jax. Everything that determines the science is here and goes into the record;
how it is executed (packs, loops, threads) is a plan, chosen later (experiments/planning/probe.py).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any, Literal

from experiments.spec import checks, parts
from experiments.spec import space as spaces
from experiments.spec.growth import Growth
from experiments.spec.parts import PARTS
from experiments.spec.trial import Precision, RecordNorms, Trial, TrialConfig
from optimizers import OPTIMIZERS
from schedules import BATCH_SIZE_SCHEDULES, SCHEDULES
from schedules.batch_size import Phase, constant, steps_of, updates
from schedules.durations import parse
from schedules.rescaling import FROM_THE_START, STEP_COUNTS
from workloads.base import Goal, Workload
from workloads.datasets import DATASETS
from workloads.registry import Hyperparameter

SCHEMA_VERSION = 1
"""Version of what an identity covers; bump it when a change of code changes results."""


@dataclasses.dataclass(frozen=True)
class Study:
    """The whole question. Scalars in steps or examples as their names say.

    Attributes:
      name: folder name of its record.
      question: one sentence, shown in the report.
      workload: what is learned.
      batch_sizes: examples per step, each at most the training set.
      step_budget: K; "best value at steps <= K".
      example_budget: "best value at examples consumed <= budget" (epochs x training set).
      optimizer, schedule: names of `optimizers.OPTIMIZERS` and `schedules.SCHEDULES`.
      momentum_schedule: of the momentum, or of beta1; a name of `schedules.MOMENTUM_SCHEDULES`.
        The rule is built with each step's value, so Adam's bias factor 1 - beta1^t has it too.
      batch_size_schedule: a name of `schedules.BATCH_SIZE_SCHEDULES`; ``batch_sizes`` are then
        those of the first step, and the rate follows warmup and phases alone.
      batch_size_cuts: examples consumed where the batch grows; None: where the rate of
        ``schedule`` would have fallen by the factor, its settings then being fixed.
      batch_size_factor: by which the rate would fall at a cut; default: 1 / ``decay_factor`` where
        the schedule has one, else the batch-size schedule's own.
      max_batch_size: the rate takes what the batch may not; default: the training set.
      clipping: of the gradient, before the optimizer's rule; a name of `optimizers.CLIPPINGS`.
      averaging: of the parameters over steps, evaluated in place of the last ones; a name of
        `optimizers.AVERAGINGS`.
      space: searched hyperparameters; default: the workload's for this optimizer, else the
        optimizer's own for this many trials (the more trials, the more hyperparameters) and
        the schedule's; with either, those of the other parts.
      fixed: hyperparameters held at a value; others take their defaults. One that counts steps
        may be a duration, such as ``"2 epochs"`` or ``"5%"`` of the trial: steps then differ
        between batch sizes.
      train_steps: batch size -> length in steps, fixed beforehand; a batch size not in it gets
        max(step_budget, ceil(example_budget / B)), the least both budgets need.
      trials: N, COMPLETE trials per batch size.
      seeds: one search each; the first is the study's own, others measure study variance.
      goal: default: the workload's.
      evaluation_spacing: widest gap of the evaluation grid, as a share of the step.
      train_evaluation_examples: size of the fixed training subset evaluated beside validation.
      divergence_factor: a loss above this times the initial loss is a divergence.
      record_norms: "auto" chooses by measured cost; the choice is recorded.
      norms_per_layer: measure at every evaluation the norms of every array of the parameters.
      expected: one sentence, the result expected beforehand or known.
      source: what ``batchscale run`` is given for it, where that is a file's path; not part of
        the question.
      command: all the words after ``batchscale run`` that make it, where it was run by them; not
        part of the question.
    """

    name: str
    question: str
    workload: Workload
    batch_sizes: tuple[int, ...]
    step_budget: int
    example_budget: int
    optimizer: str = "nesterov"
    schedule: str = "constant"
    clipping: str = "none"
    averaging: str = "none"
    momentum_schedule: str = "constant"
    batch_size_schedule: str = "constant"
    batch_size_cuts: tuple[int, ...] | None = None
    batch_size_factor: float | None = None
    max_batch_size: int | None = None
    space: Mapping[str, spaces.Distribution] | None = None
    fixed: Mapping[str, float | str] = dataclasses.field(default_factory=dict)
    train_steps: Mapping[int, int] = dataclasses.field(default_factory=dict)
    trials: int = 20
    seeds: tuple[int, ...] = (0,)
    goal: Goal | None = None
    precision: Precision = dataclasses.field(default_factory=Precision)
    evaluation_spacing: float = 0.05
    train_evaluation_examples: int = 256
    divergence_factor: float = 1e4
    record_norms: Literal["auto", "every", "evaluations", "off"] = "auto"
    norms_per_layer: bool = False
    sampler: Literal["halton"] = "halton"
    expected: str = ""
    source: str = ""
    command: str = dataclasses.field(default="", compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "batch_sizes", tuple(sorted(set(self.batch_sizes))))
        object.__setattr__(self, "seeds", tuple(self.seeds))
        if self.batch_size_cuts is not None:
            object.__setattr__(self, "batch_size_cuts", tuple(self.batch_size_cuts))
        if self.goal is None:
            object.__setattr__(self, "goal", self.workload.goal)
        checks.check_names(self)
        object.__setattr__(self, "space", self._complete_space())
        checks.check_numbers(self)
        checks.check_growth(self)
        checks.check_hyperparameters(self)
        checks.check_lengths(self)

    def _complete_space(self) -> Mapping[str, spaces.Distribution]:
        if self.space is not None:
            return {name: spaces.from_json(data) for name, data in self.space.items()}
        published = self.workload.search_spaces.get(self.optimizer)
        if published is None:
            published = {
                **OPTIMIZERS[self.optimizer].spaces(self.trials),
                **({} if self.cut_by_schedule else self._spaces("schedule")),
            }
        for field in PARTS:
            if field not in ("optimizer", "schedule"):
                published = {**published, **self._spaces(field)}
        return {
            name: spaces.from_json(data)
            for name, data in published.items()
            if name not in self.fixed
        }

    def _spaces(self, field: str) -> dict[str, Mapping[str, Any]]:
        """Default search ranges of one part."""
        rows = parts.rows(field, getattr(self, field))
        return {row.name: row.space for row in rows if row.space}

    @property
    def rows(self) -> tuple[Hyperparameter, ...]:
        """The hyperparameters of all parts, with their legal intervals."""
        return tuple(row for field in PARTS for row in parts.rows(field, getattr(self, field)))

    # What follows from the definition.

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

    @property
    def cut_by_schedule(self) -> bool:
        """Whether the batch grows where the shape of ``schedule`` falls."""
        return self.batch_size_schedule != "constant" and self.batch_size_cuts is None

    def growth(self, batch_size: int) -> Growth:
        """How the batch grows from ``batch_size``, with every number."""
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
        assert self.space is not None
        values: dict[str, float | str | None] = {row.name: row.default for row in self.rows}
        values |= {**self.workload.hyperparameters, **self.fixed}
        return {name: None if name in self.space else v for name, v in values.items()}

    def describe(self) -> dict[str, Any]:
        """The whole question as JSON values, for the record."""
        assert self.space is not None and self.goal is not None
        described = {
            "name": self.name,
            "question": self.question,
            "expected": self.expected,
            "source": self.source,
            "command": self.command,
            "workload": self.workload.describe(),
            "goal": dataclasses.asdict(self.goal),
            **{field: getattr(self, field) for field in PARTS},
            "batch_sizes": list(self.batch_sizes),
            "train_steps": {str(b): self.length(b) for b in self.batch_sizes},
            "step_budget": self.step_budget,
            "example_budget": self.example_budget,
            "train_size": self.train_size,
            "trials": self.trials,
            "seeds": list(self.seeds),
            "space": {name: spaces.to_json(d) for name, d in self.space.items()},
            "fixed": {k: v for k, v in self.hyperparameters.items() if v is not None},
            "precision": dataclasses.asdict(self.precision),
            "evaluation_spacing": self.evaluation_spacing,
            "train_evaluation_examples": self.train_evaluation_examples,
            "divergence_factor": self.divergence_factor,
            "record_norms": self.record_norms,
            "sampler": self.sampler,
        }
        if self.norms_per_layer:  # else as in records from before there was a choice
            described["norms_per_layer"] = True
        if self.batch_size_schedule != "constant":
            growth = self.growth(self.batch_sizes[0])
            described |= {
                "batch_size_cuts": growth.cuts,
                "batch_size_factor": growth.factor,
                "max_batch_size": growth.highest,
            }
        return json.loads(json.dumps(described))

    @classmethod
    def from_description(cls, described: Mapping[str, Any]) -> Study:
        """The study that `describe` described, as far as it determines its trials.

        Models and losses that a user's file defines are found once that file is loaded.
        """
        values = {f.name: described[f.name] for f in dataclasses.fields(cls) if f.name in described}
        values |= {
            "workload": Workload.from_description(described["workload"]),
            "goal": Goal(**described["goal"]),
            "precision": Precision(**described["precision"]),
            "train_steps": {int(b): steps for b, steps in described["train_steps"].items()},
        }
        return cls(**values)

    def config(self, record_norms: RecordNorms) -> TrialConfig:
        """The static configuration of every trial of the study."""
        return TrialConfig(
            self.workload,
            self.optimizer,
            self.schedule,
            self.precision,
            record_norms,
            clipping=self.clipping,
            averaging=self.averaging,
            momentum_schedule=self.momentum_schedule,
            batch_size_schedule=self.batch_size_schedule,
            goal=self.goal,
            norms_per_layer=self.norms_per_layer,
        )

    def identity(self, dataset_checksum: str) -> str:
        """Hash of the question without what may grow (trials, seeds, batch sizes, their table).

        Two runs with one identity belong in one folder; anything else is another study.
        """
        described = self.describe()
        for growing in (
            "trials",
            "seeds",
            "batch_sizes",
            "question",
            "expected",
            "source",
            "command",
        ):
            del described[growing]
        for field, part in PARTS.items():
            if described[field] == part.neutral:  # as in records from before there was a choice
                del described[field]
        described["train_steps"] = {str(b): s for b, s in sorted(self.train_steps.items())}
        return _digest({**described, "dataset": dataset_checksum, "schema": SCHEMA_VERSION})

    def trial(
        self, batch_size: int, seed: int, index: int, point: Mapping[str, float], checksum: str
    ) -> Trial:
        """Trial ``index`` of a batch size and seed, at ``point`` of the unit cube."""
        assert self.space is not None
        sampled = spaces.sample(self.space, point)
        values = {**self.hyperparameters, **sampled}
        hyperparameters = {
            name: self.number(name, value, batch_size)  # type: ignore[arg-type]
            for name, value in values.items()
        }
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
