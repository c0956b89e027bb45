"""The families of nets that ``batchscale automl`` chooses from, and how much it asks by budget.

A family is one row of `FAMILIES`: which inputs it takes, how a module is built from the values of a
trial, what is searched at each level. Imports no jax.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

from experiments.spec.conditions import When
from experiments.spec.space import Choice, Distribution, Real, Value, from_json, greatest
from workloads.registry import Reference

Level = Literal["quick", "usual", "long"]
Ranges = Mapping[str, Distribution | When]


@dataclasses.dataclass(frozen=True)
class Family:
    """A family of nets.

    Attributes:
      meaning: one line.
      build: ``"module:attribute"`` of ``f(values, classes)``, a linen module that is called as
        ``module(inputs, context)`` and returns logits [B, classes].
      spaces: level -> hyperparameter -> range. Names are of this family alone.
      images: whether it takes images [B, height, width, channels] only.
      least_side: of an image.
    """

    meaning: str
    build: Reference
    spaces: Mapping[Level, Ranges]
    images: bool = False
    least_side: int = 1

    def takes(self, shape: Sequence[int]) -> bool:
        """Tell whether an example of this shape fits."""
        if not self.images:
            return True
        return len(shape) == 3 and min(shape[:2]) >= self.least_side


FAMILIES: dict[str, Family] = {
    "dense": Family(
        "fully connected layers with ReLU; none of them is a linear classifier",
        "workloads.models.families:dense",
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
    "convolutional": Family(
        "two convolutions with pooling, then a dense layer",
        "workloads.models.families:convolutional",
        {
            "quick": {"filters": Choice((16,)), "conv_units": Choice((64,))},
            "usual": {"filters": Choice((8, 16)), "conv_units": Choice((64,))},
            "long": {"filters": Choice((8, 16, 32)), "conv_units": Choice((64, 256))},
        },
        images=True,
        least_side=4,
    ),
}


@dataclasses.dataclass(frozen=True)
class Preset:
    """The question that a budget holds.

    Attributes:
      level: of the families' spaces.
      least_seconds, least_trials: the budget from which it is taken.
      most_epochs: R of a full trial, at most.
      members: of the ensemble, at most.
      optimizer, schedule: by name.
      space: what is searched of them, of every family.
    """

    level: Level
    least_seconds: float
    least_trials: int
    most_epochs: int
    members: int
    optimizer: str = "adamw"
    schedule: str = "cosine"
    space: Ranges = dataclasses.field(
        default_factory=lambda: {
            "learning_rate": Real(3e-4, 3e-2, "log"),
            "weight_decay": Real(1e-4, 1.0, "log"),
            "dropout_rate": Real(0.0, 0.5),
        }
    )


PRESETS = (
    Preset("quick", 0.0, 0, 27, 4),
    Preset("usual", 180.0, 100, 81, 6),
    Preset("long", 1800.0, 1000, 81, 8),
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
