"""A search over a user's own model or training function, checked at construction.

`experiments.runner.search.search` makes one of its arguments; a file in experiments/studies may
define one as its ``STUDY``. Imports no jax.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, get_args

from experiments.spec import space as spaces
from experiments.spec import values
from experiments.spec.conditions import Condition, ConditionalSpace, When
from experiments.spec.fields import MOST_TRIALS, SAMPLERS, SEARCH_PRUNERS
from experiments.spec.parts import PARTS
from experiments.spec.trial import RECORDED_COLUMNS
from optimizers import OPTIMIZERS
from optimizers.coordinates import COORDINATES, Coordinate, shared_coordinates
from workloads.base import Goal, Workload
from workloads.registry import Hyperparameter, unknown_name

Ranges = Mapping[str, spaces.Distribution | When | Mapping[str, Any]]
Rounding = Literal["paper", "floor_first"]
MOST_BUDGET = 100_000
MOST_SLOTS = 1024
CHOSEN_PARTS = ("optimizer", "schedule")
"""Fields of built modules that a choice of the same name in the space replaces."""


class Proposer(Protocol):
    """A strategy of its own in the place of a sampler.

    `experiments.search.architecture.question.Architectures` is one.
    """

    @property
    def name(self) -> str:
        """Its name, which the record holds as the sampler."""

    @property
    def adaptive(self) -> bool:
        """Tell whether a round waits for the results of those before."""

    def describe(self) -> dict[str, Any]:
        """All that determines what it proposes, as JSON values."""

    def following(self, started: int, trials: int) -> int:
        """Trials that the next round may have at most."""

    def propose(self, ask: Any, sizes: Sequence[int]) -> Any:
        """The `Proposal` that follows an `Ask`, after rounds of these sizes."""


@dataclasses.dataclass(frozen=True)
class UserSearch:
    """A space to be searched, by whom, and how long a trial may train.

    Attributes:
      space: hyperparameter -> its range, or `When` for one that exists only beside some values of
        another.
      build: hyperparameters -> a Flax linen module, trained on ``workload`` or ``data``. Those
        that ``optimizer`` and ``schedule`` know by name are theirs too, ``batch_size`` is the
        batch's.
      objective: instead of ``build``, ``(hyperparameters, budget, report) -> value``: it trains up
        to ``budget`` in all, calls ``report(resource, value)`` on its way and ends where that
        returns False (experiments/runner/search_objectives.py).
      workload: a name or a `Workload`: dataset, losses and preprocessing of built modules; its own
        model is not used.
      data: instead, ``{"train": (inputs, labels), "validation": (inputs, labels)}``, to be
        classified.
      trials: N, started in all; default: one round of Hyperband's brackets, else 20.
      budget: R of a full trial, in epochs or the objective's own unit.
      sampler: who proposes points; ``proposer``, where there is one, does so instead.
      weights: hyperparameters -> further numbers that a built module reads from
        ``context.hyperparameters``: modules that differ in them alone compile once.
      slots: built trials side by side in one pack, a power of two; their modules must be equal.
      pruner: who is stopped early; ``patience`` goes with each.
      eta, rounding: of halving, in which one in ``eta`` goes on.
      patience: epochs without an improvement by more than ``min_delta`` that end a trial.
      metric, direction: what decides; default: the workload's goal, else the classification error;
        an objective's value is minimised unless told otherwise.
      optimizer, schedule, fixed, batch_size: of built modules; hyperparameters in ``fixed`` are
        held, others take their defaults. A choice ``optimizer`` or ``schedule`` in ``space`` takes
        the field's place; beside it ``NAME_learning_rate`` is the ``learning_rate`` of trials
        with the part NAME, so that each part may have a range of its own.
      losses: ``"module:attribute"`` of the `Losses` of ``data``; default: of classes.
      traced: searched hyperparameters that built modules read from ``context.hyperparameters``
        (`workloads.models.linen.Context`): a new value compiles nothing.
      refits: keep the validation examples of built modules beside the training examples, so that
        `SearchResult.refitted` can train on both; no trial of the search does.
      seed: of points, initialisation and the order of examples.
      unit: what the budget counts, in the plural; default: epochs, of an objective units.
      name: of the record; ``question``: one sentence for its page; ``expected``: what is known of
        the answer.

    Raises:
      ValueError: it cannot be searched; one line names the field, the value, what is allowed.
    """

    space: Ranges
    _: dataclasses.KW_ONLY
    build: Callable[[dict[str, spaces.Value]], Any] | None = None
    objective: Callable[..., float | None] | None = None
    workload: str | Workload | None = None
    data: Mapping[str, Any] | None = None
    trials: int | None = None
    budget: int = 1
    sampler: str = "halton"
    proposer: Proposer | None = None
    weights: Callable[[Mapping[str, spaces.Value]], Mapping[str, float]] | None = None
    slots: int = 1
    pruner: str = "none"
    eta: int = 3
    rounding: Rounding = "paper"
    patience: int | None = None
    min_delta: float = 0.0
    metric: str | None = None
    direction: Literal["min", "max"] | None = None
    optimizer: str = "adam"
    schedule: str = "constant"
    fixed: Mapping[str, float] = dataclasses.field(default_factory=dict)
    batch_size: int = 32
    losses: str | None = None
    traced: tuple[str, ...] = ()
    refits: bool = False
    seed: int = 0
    unit: str = ""
    name: str = "search"
    question: str = "Which hyperparameters are best?"
    expected: str = ""

    def __post_init__(self) -> None:
        values.file_name("name", self.name)
        self._check_target()
        for field, known in (("sampler", SAMPLERS), ("pruner", SEARCH_PRUNERS)):
            if getattr(self, field) not in known:
                raise unknown_name(field, getattr(self, field), known)
        if self.rounding not in get_args(Rounding):
            raise values.refuse("rounding", " or ".join(get_args(Rounding)), self.rounding)
        if self.direction not in (None, "min", "max"):
            raise values.refuse("direction", "'min' or 'max'", self.direction)
        values.whole("budget", self.budget, 1, MOST_BUDGET)
        values.whole("eta", self.eta, 2, MOST_BUDGET)
        values.whole("seed", self.seed, 0, values.LARGEST_SEED)
        if self.trials is not None:
            values.whole("trials", self.trials, 1, MOST_TRIALS)
        if self.patience is not None:
            values.whole("patience", self.patience, 1, MOST_BUDGET)
        elif self.pruner == "patience":
            raise ValueError("pruner patience needs patience, the epochs to wait, got None")
        if values.real("min_delta", self.min_delta) < 0:
            raise values.refuse("min_delta", "a number of at least 0", self.min_delta)
        self._check_names()

    def _check_target(self) -> None:
        """One function, and what belongs to it."""
        if (self.build is None) == (self.objective is None):
            raise ValueError("a search takes either build or objective, got " +
                             ("neither" if self.build is None else "both"))  # fmt: skip
        if not callable(self.build or self.objective):
            raise values.refuse("build or objective", "a function", self.build or self.objective)
        values.whole("slots", self.slots, 1, MOST_SLOTS)
        if self.slots & (self.slots - 1):
            raise values.refuse("slots", "a power of two", self.slots)
        for field in ("batch_size", *CHOSEN_PARTS) if self.slots > 1 else ():
            if field in self.space:
                raise ValueError(f"{field} cannot be searched in slots: a pack has one {field}")
        if self.objective is not None:
            if self.weights is not None or self.slots > 1:
                raise ValueError("weights and slots belong to build: an objective has its own")
            for field in ("workload", "data", "losses", "fixed", "traced", "refits"):
                if getattr(self, field):
                    raise ValueError(f"{field} belongs to build: an objective has its own")
            return
        if (self.workload is None) == (self.data is None):
            raise ValueError("build needs either a workload or data")
        if self.losses is not None and self.data is None:
            raise ValueError("losses belongs to data: a workload has its own")
        for field in CHOSEN_PARTS:
            for name in self.parts(field):
                if name not in PARTS[field]:
                    raise unknown_name(field, name, PARTS[field])
        values.whole("batch_size", self.batch_size, 1, values.MOST_EXAMPLES)

    def _check_names(self) -> None:
        """Names that a record can hold; ranges and fixed values within what is legal."""
        found = self.checked
        for name, distribution in found.ranges.items():
            if name in RECORDED_COLUMNS and name != "batch_size":
                raise ValueError(f"hyperparameter {name!r} has the name of a column of the record")
            if name == "batch_size":
                for value in ends(distribution):
                    values.whole("hyperparameter batch_size", value, 1, values.MOST_EXAMPLES)
        for name in self.traced:
            if name not in found.ranges or name in found.conditions:
                raise ValueError(f"traced hyperparameter {name} must be in space, in every trial")
        for name in self.fixed:
            if name in found.ranges:
                raise ValueError(f"hyperparameter {name} is both searched and fixed")
        for field in CHOSEN_PARTS if self.build else ():
            for part in self.parts(field):
                for row in PARTS[field][part].hyperparameters:
                    self._check_row(field, part, row)

    def _check_row(self, field: str, part: str, row: Hyperparameter) -> None:
        """Values of a part's hyperparameter are legal, and every trial with the part has one."""
        found, name = self.checked, row.name
        if name in self.fixed:
            row.check(values.real(f"hyperparameter {name}", self.fixed[name]))
        own = f"{part}_{name}"
        for searched in (own, name):
            if searched in found.ranges and (searched == own or name not in self.fixed):
                for value in ends(found.ranges[searched]):
                    row.check(values.real(f"hyperparameter {searched}", value))
        if name in self.fixed or row.default is not None:
            return
        if field in found.ranges and found.conditions.get(own) == Condition(field, (part,)):
            return
        if name not in found.ranges:
            raise ValueError(f"hyperparameter {name} must be searched (space) or fixed")
        if name in found.conditions:
            raise ValueError(f"hyperparameter {name} must exist in every trial")

    @functools.cached_property
    def checked(self) -> ConditionalSpace:
        """The space, in its normal form."""
        return ConditionalSpace.of(self.space)

    def parts(self, field: str) -> tuple[str, ...]:
        """The optimizers, or the schedules, that trials may have: one, or those searched."""
        chosen = self.checked.ranges.get(field)
        if chosen is None:
            return (getattr(self, field),)
        if not isinstance(chosen, spaces.Choice) or field in self.checked.conditions:
            raise ValueError(f"space of {field}: it must be a choice of names in every trial")
        return tuple(str(name) for name in chosen.values)

    @property
    def coordinates(self) -> tuple[Coordinate, ...]:
        """Those that all optimizers of built modules declare; an objective, which has none to
        declare any, has those of a rule that says nothing."""
        if self.build is None:
            return COORDINATES
        return shared_coordinates(OPTIMIZERS[name].coordinates for name in self.parts("optimizer"))


def ends(distribution: spaces.Distribution) -> tuple[Any, ...]:
    """The least and the greatest value, or all of a choice."""
    if isinstance(distribution, spaces.Choice):
        return distribution.values
    low_high = (distribution.low, distribution.high)
    return (0.0, *low_high) if isinstance(distribution, spaces.ZeroOrLog) else low_high


def goal_of(search: UserSearch, workload: Workload | None) -> Goal:
    """The metric that decides among built modules; the goal's value is never asked for."""
    known = workload.goal if workload else Goal("classification_error", 0.0)
    direction = search.direction or known.direction
    return Goal(search.metric or known.metric, known.value, direction, known.split)
