"""The families of nets that ``batchscale automl`` chooses from, and how much it asks by budget.

A family is one row of `FAMILIES`: which inputs it takes, how a module is built from the values of a
trial, what is searched at each level. Imports no jax.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from experiments.spec.conditions import When
from experiments.spec.space import Choice, Distribution, Real, Value, from_json, greatest
from workloads.registry import Reference

Level = Literal["quick", "usual", "long"]
Ranges = Mapping[str, Distribution | When]
Layer = tuple[str, int | None]


@dataclasses.dataclass(frozen=True)
class NetFamily:
    """A family of nets.

    Attributes:
      meaning: one line.
      build: ``"module:attribute"`` of ``f(values, classes)``, a linen module that is called as
        ``module(inputs, context)`` and returns logits [B, classes].
      layers: values of a trial and classes -> (operation, width) of each layer in order, by the
        names of `experiments.search.architecture.operations.OPERATIONS`: the picture of a net.
      spaces: level -> hyperparameter -> range. Names are of this family alone.
      images: whether it takes images [B, height, width, channels] only.
      least_side: of an image.
    """

    meaning: str
    build: Reference
    layers: Callable[[Mapping[str, Value], int], list[Layer]]
    spaces: Mapping[Level, Ranges]
    images: bool = False
    least_side: int = 1

    def takes(self, shape: Sequence[int]) -> bool:
        """Tell whether an example of this shape fits."""
        if not self.images:
            return True
        return len(shape) == 3 and min(shape[:2]) >= self.least_side


def _dense_layers(values: Mapping[str, Value], classes: int) -> list[Layer]:
    depth = int(values["dense_depth"])
    width = int(values["dense_width"]) if depth else None
    return [*[("dense", width)] * depth, ("affine", classes)]


def _convolutional_layers(values: Mapping[str, Value], classes: int) -> list[Layer]:
    filters = int(values["filters"])
    convolved: list[Layer] = [("conv5x5", filters), ("max_pool2x2", None)]
    convolved += [("conv5x5", 2 * filters), ("max_pool2x2", None)]
    return [*convolved, ("dense", int(values["conv_units"])), ("affine", classes)]


FAMILIES: dict[str, NetFamily] = {
    "dense": NetFamily(
        "fully connected layers with ReLU; none of them is a linear classifier",
        "workloads.models.families:dense",
        _dense_layers,
        {
            "quick": {
                "dense_depth": Choice((0, 2)),
                "dense_width": When("dense_depth", 2, Choice((128,))),
            },
            "usual": {
                "dense_depth": Choice((0, 1, 2)),
                "dense_width": When("dense_depth", (1, 2), Choice((64, 256))),
            },
            "long": {
                "dense_depth": Choice((0, 1, 2, 3)),
                "dense_width": When("dense_depth", (1, 2, 3), Choice((64, 256, 1024))),
            },
        },
    ),
    "convolutional": NetFamily(
        "two convolutions with pooling, then a dense layer",
        "workloads.models.families:convolutional",
        _convolutional_layers,
        {
            "quick": {"filters": Choice((16,)), "conv_units": Choice((64,))},
            "usual": {"filters": Choice((8, 16)), "conv_units": Choice((64,))},
            "long": {"filters": Choice((8, 16, 32)), "conv_units": Choice((64, 256))},
        },
        images=True,
        least_side=4,
    ),
}


REGULAR: Ranges = {"dropout_rate": Real(0.0, 0.5)}
DECAY = Real(1e-4, 1.0, "log")
FEW: Ranges = {"learning_rate": Real(3e-4, 3e-2, "log"), "weight_decay": DECAY, **REGULAR}
"""AdamW with a cosine alone: another optimizer would have every net compiled once more."""
MORE: Ranges = {
    "optimizer": Choice(("adamw", "nesterov")),
    "adamw_learning_rate": When("optimizer", "adamw", Real(3e-4, 3e-2, "log")),
    "adamw_weight_decay": When("optimizer", "adamw", DECAY),
    "nesterov_learning_rate": When("optimizer", "nesterov", Real(1e-3, 0.3, "log")),
    **REGULAR,
}
MOST: Ranges = {
    **MORE,
    "schedule": Choice(("cosine", "linear")),
    "adamw_beta1": When("optimizer", "adamw", Real(0.5, 0.99, "reverse_log")),
    "nesterov_momentum": When("optimizer", "nesterov", Real(0.5, 0.99, "reverse_log")),
}
"""The more trials the more is searched, as the Tuning Playbook advises."""


@dataclasses.dataclass(frozen=True)
class Preset:
    """The question that a budget holds.

    Attributes:
      level: of the families' spaces.
      least_seconds, least_trials: the budget from which it is taken.
      most_epochs: R of a full trial, at most.
      members: of the ensemble, at most.
      space: what is searched of optimizer, schedule and regularisation, of every family.
    """

    level: Level
    least_seconds: float
    least_trials: int
    most_epochs: int
    members: int
    space: Ranges

    @property
    def parts(self) -> str:
        """The optimizers and schedules, in words."""
        chosen = (self.space.get(field) for field in ("optimizer", "schedule"))
        plain = (OPTIMIZER, SCHEDULE)
        return ", ".join(
            " or ".join(map(str, one.values)) if isinstance(one, Choice) else name
            for one, name in zip(chosen, plain, strict=True)
        )


OPTIMIZER, SCHEDULE = "adamw", "cosine"
"""Of trials that choose none."""
PRESETS = (
    Preset("quick", 0.0, 0, 27, 4, FEW),
    Preset("usual", 180.0, 100, 81, 6, MORE),
    Preset("long", 1800.0, 1000, 81, 8, MOST),
)
TRACED = ("dropout_rate",)
"""Read by the modules while they run: a new value compiles nothing."""
ETA = 3


def preset_of(seconds: float) -> Preset:
    """The last preset that so long a budget reaches."""
    return [preset for preset in PRESETS if preset.least_seconds <= seconds][-1]


def space_of(preset: Preset, shape: Sequence[int]) -> dict[str, Distribution | When]:
    """The whole space for examples of this shape: a family's own hyperparameters exist where the
    family is chosen, and there is nothing to choose between families where one alone fits."""
    names = [name for name, family in FAMILIES.items() if family.takes(shape)]
    found: dict[str, Distribution | When] = {"family": Choice(tuple(names))}
    for name in names:
        for own, distribution in FAMILIES[name].spaces[preset.level].items():
            if not isinstance(distribution, When):
                distribution = When("family", name, distribution)
            found[own] = distribution
    return {**found, **preset.space}


def largest_values(preset: Preset, shape: Sequence[int]) -> dict[str, Value]:
    """Of the last family that takes such examples, the values of its largest net."""
    name = [name for name, family in FAMILIES.items() if family.takes(shape)][-1]
    ranges = FAMILIES[name].spaces[preset.level]
    found: dict[str, Value] = {"family": name}
    for own, distribution in ranges.items():
        plain = distribution.distribution if isinstance(distribution, When) else distribution
        found[own] = greatest(from_json(plain))
    return found
