"""A study: a search at each of a set of batch sizes, frozen and validated at construction.

Imports no jax. Everything that determines the science is here and goes into the record;
how it is executed (packs, loops, threads) is a plan, chosen later (experiments/training/plan.py).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any, Literal

from experiments import parts
from experiments import space as spaces
from experiments.parts import PARTS, Row
from experiments.trial import Precision, RecordNorms, Trial, TrialConfig
from optimizers import OPTIMIZERS
from schedules.durations import parse
from schedules.rescaling import STEP_COUNTS
from workloads.base import Goal, Workload, unknown_name
from workloads.datasets import DATASETS

SCHEMA_VERSION = 1
"""Version of what an identity covers; bump it when a change of code changes results."""


class StudyError(Exception):
    """A study that cannot go on, in one line; what finished is recorded."""


class Preempted(KeyboardInterrupt):
    """The process was told to end (SIGTERM): running trials are saved, then it ends."""


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

    def __post_init__(self) -> None:
        object.__setattr__(self, "batch_sizes", tuple(sorted(set(self.batch_sizes))))
        object.__setattr__(self, "seeds", tuple(self.seeds))
        if self.goal is None:
            object.__setattr__(self, "goal", self.workload.goal)
        self._check_names()
        object.__setattr__(self, "space", self._complete_space())
        self._check_numbers()
        self._check_hyperparameters()

    # Validation, at construction, one line each.

    def _check_names(self) -> None:
        for field in PARTS:
            parts.check(field, getattr(self, field))
        if self.clipping != "none" and OPTIMIZERS[self.optimizer].needs_loss:
            raise ValueError(
                f"clipping must be none with {self.optimizer}, whose search along a line needs "
                f"the gradient of the loss itself, got {self.clipping!r}"
            )
        if self.momentum_schedule != "constant" and not OPTIMIZERS[self.optimizer].momentum:
            raise ValueError(
                f"momentum_schedule must be constant with {self.optimizer}, which has neither "
                f"momentum nor beta1, got {self.momentum_schedule!r}"
            )
        if self.workload.dataset not in DATASETS:
            raise unknown_name("dataset", self.workload.dataset, DATASETS)
        assert self.goal is not None
        if self.goal.metric == self.workload.goal.metric and (
            self.goal.direction != self.workload.goal.direction
        ):
            raise ValueError(
                f"goal direction of {self.goal.metric} must be "
                f"{self.workload.goal.direction!r}, got {self.goal.direction!r}"
            )

    def _check_numbers(self) -> None:
        largest = self.train_size
        if not self.batch_sizes:
            raise ValueError("batch_sizes must hold at least one batch size, got none")
        for batch_size in self.batch_sizes:
            _check_whole("batch_sizes", batch_size, 1)
            if batch_size > largest:
                raise ValueError(
                    f"batch_sizes must lie in 1..{largest} (the training set of "
                    f"{self.workload.dataset}), got {batch_size}"
                )
        for field in ("step_budget", "example_budget", "trials"):
            _check_whole(field, getattr(self, field), 1)
        _check_whole("train_evaluation_examples", self.train_evaluation_examples, 1)
        for seed in self.seeds:
            _check_whole("seeds", seed, 0)
        for batch_size, steps in self.train_steps.items():
            needed = self.steps_needed(batch_size)
            if _check_whole("train_steps", steps, 1) < needed:
                raise ValueError(
                    f"train_steps of batch size {batch_size} must be at least {needed} "
                    f"(what its budgets need), got {steps}"
                )
        if not 0 < self.evaluation_spacing <= 1:
            raise ValueError(
                f"evaluation_spacing must lie in (0, 1], got {self.evaluation_spacing!r}"
            )
        if not self.divergence_factor > 1:
            raise ValueError(f"divergence_factor must exceed 1, got {self.divergence_factor!r}")
        if self.record_norms not in ("auto", "every", "evaluations", "off"):
            raise ValueError(
                f"record_norms must be auto, every, evaluations or off, got {self.record_norms!r}"
            )
        if self.sampler != "halton":
            raise unknown_name("sampler", self.sampler, ("halton",))

    def _complete_space(self) -> Mapping[str, spaces.Distribution]:
        if self.space is not None:
            return {name: spaces.from_json(data) for name, data in self.space.items()}
        published = self.workload.search_spaces.get(self.optimizer)
        if published is None:
            published = {
                **OPTIMIZERS[self.optimizer].spaces(self.trials),
                **self._spaces("schedule"),
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
    def _rows(self) -> tuple[Row, ...]:
        """The hyperparameters of all parts, with their legal intervals."""
        return tuple(row for field in PARTS for row in parts.rows(field, getattr(self, field)))

    def _check_hyperparameters(self) -> None:
        rows = {row.name: row for row in self._rows}
        known = {*rows, *self.workload.hyperparameters}
        assert self.space is not None
        for name in (*self.space, *self.fixed):
            if name not in known:
                raise unknown_name("hyperparameter", name, known)
        for name in self.fixed:
            if name in self.space:
                raise ValueError(f"hyperparameter {name} is both searched and fixed")
        for name, row in rows.items():
            if name in self.space:
                distribution = self.space[name]
                values = (
                    distribution.values
                    if isinstance(distribution, spaces.Choice)
                    else (distribution.low, distribution.high)
                )
                for value in values:
                    row.check(float(value))
            elif name in self.fixed:
                for batch_size in self.batch_sizes:
                    row.check(self._number(name, self.fixed[name], batch_size))
            elif row.default is None:
                raise ValueError(f"hyperparameter {name} must be searched (space) or fixed")

    # What follows from the definition.

    @property
    def train_size(self) -> int:
        """Number of training examples."""
        options = self.workload.dataset_options
        return int(options.get("train_examples", DATASETS[self.workload.dataset].sizes["train"]))

    def steps_needed(self, batch_size: int) -> int:
        """max(step budget, steps that consume the example budget): the least legal length."""
        return max(self.step_budget, math.ceil(self.example_budget / batch_size))

    def length(self, batch_size: int) -> int:
        """train_steps(B)."""
        return self.train_steps.get(batch_size, self.steps_needed(batch_size))

    def _number(self, name: str, value: float | str, batch_size: int) -> float:
        """A fixed value; a duration as steps of this batch size."""
        if not isinstance(value, str):
            return float(value)
        if name not in STEP_COUNTS:
            raise ValueError(
                f"hyperparameter {name} must be a number, got {value!r} "
                f"(durations fit {', '.join(STEP_COUNTS)})"
            )
        return float(parse(value).steps(batch_size, self.train_size, self.length(batch_size)))

    @property
    def hyperparameters(self) -> dict[str, float | str | None]:
        """Every hyperparameter of a trial with its fixed or default value; None if searched."""
        assert self.space is not None
        values: dict[str, float | str | None] = {row.name: row.default for row in self._rows}
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
            self.clipping,
            self.averaging,
            self.momentum_schedule,
            self.goal,
            self.norms_per_layer,
        )

    def identity(self, dataset_checksum: str) -> str:
        """Hash of the question without what may grow (trials, seeds, batch sizes, their table).

        Two runs with one identity belong in one folder; anything else is another study.
        """
        described = self.describe()
        for growing in ("trials", "seeds", "batch_sizes", "question", "expected", "source"):
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
            name: self._number(name, value, batch_size)  # type: ignore[arg-type]
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


def _check_whole(field: str, value: object, low: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise ValueError(f"{field} must be a whole number of at least {low}, got {value!r}")
    return value
