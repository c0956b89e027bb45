"""Coordinates along which the optimum of a rule moves least from one batch size to another.

Plain data, which a row of the table declares and samplers read; imports no jax.
"""

from __future__ import annotations

import dataclasses
import graphlib
from collections.abc import Iterable
from typing import Literal, get_args

from workloads.registry import finite_number, unknown_name

Axis = Literal["linear", "log", "reverse_log"]
"""Scales of a searched range: those of `experiments.spec.space`."""


@dataclasses.dataclass(frozen=True)
class Coordinate:
    """A sum of two hyperparameters' axes, along which the optimum moves less than along one.

        coordinate = axis(name) + factor axis(other),
        axis(x) = log x on a log scale, -log(1 - x) on a reverse_log one, x on a linear one

    It takes the place of ``name`` in samplers that model where the optimum lies, if both are
    searched as real numbers on these scales; else it does not apply.

    >>> Coordinate("learning_rate", "momentum", "log", "reverse_log").factor
    1.0

    Attributes:
      name: the hyperparameter whose place it takes.
      other: the hyperparameter whose axis is added.
      scale, other_scale: of their ranges.
      factor: what the other's axis is multiplied by.

    Raises:
      ValueError: an unknown scale, a factor that is 0 or not finite, one name twice.
    """

    name: str
    other: str
    scale: Axis = "log"
    other_scale: Axis = "log"
    factor: float = 1.0

    def __post_init__(self) -> None:
        where = f"coordinate of {self.name}"
        for scale in (self.scale, self.other_scale):
            if scale not in get_args(Axis):
                allowed = ", ".join(get_args(Axis))
                raise ValueError(f"{where}: a scale must be one of {allowed}, got {scale!r}")
        if not finite_number(self.factor) or self.factor == 0:
            raise ValueError(f"{where}: factor must be finite and not 0, got {self.factor!r}")
        if self.name == self.other:
            raise ValueError(f"{where}: other must be another hyperparameter, got {self.other!r}")


EFFECTIVE_RATE = Coordinate("learning_rate", "momentum", other_scale="reverse_log")
"""log of learning_rate / (1 - momentum), which decides how far a parameter moves in the long run:
the tuned one grows with the batch size where that is small, and the momentum hardly matters there
(Shallue et al. 2019, section 4.7)."""
EPSILON_OVER_RATE = Coordinate("epsilon", "learning_rate", factor=-1.0)
"""log of epsilon / learning_rate, which decides where Adam turns into momentum (Choi et al. 2019,
section 3)."""
COORDINATES = (EFFECTIVE_RATE, EPSILON_OVER_RATE)
"""Those of a rule that declares no others."""


def check_coordinates(coordinates: Iterable[Coordinate], hyperparameters: Iterable[str]) -> None:
    """Refuse coordinates that a rule with these hyperparameters cannot have.

    Raises:
      ValueError: a name that the rule does not have, one that has two coordinates, or names that
        refer to each other, which might leave no coordinate of their own.
    """
    names, found = set(hyperparameters), list(coordinates)
    for coordinate in found:
        for name in (coordinate.name, coordinate.other):
            if coordinate not in COORDINATES and name not in names:
                raise unknown_name("coordinate's hyperparameter", name, names)
    others = {coordinate.name: {coordinate.other} for coordinate in found}
    if len(others) < len(found):
        raise ValueError("coordinates must be one of each hyperparameter")
    try:
        graphlib.TopologicalSorter(others).prepare()
    except graphlib.CycleError as error:
        raise ValueError(f"coordinates refer to each other: {', '.join(error.args[1])}") from None


def shared_coordinates(declared: Iterable[tuple[Coordinate, ...]]) -> tuple[Coordinate, ...]:
    """The coordinates that every one of several rules declares, in the order of the first."""
    first, *others = declared
    return tuple(c for c in first if all(c in other for other in others))
