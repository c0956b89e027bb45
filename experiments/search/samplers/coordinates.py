"""Coordinates of a search space: each is a hyperparameter's own axis, or a declared sum of two.

Which sums a rule declares: `optimizers.coordinates`. In the logarithms of the hyperparameters they
are linear; a sum applies where both axes are on the scales that make it true.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import TypeGuard

import numpy as np

from experiments.spec.space import Distribution, Real
from optimizers.coordinates import COORDINATES, Coordinate


@dataclasses.dataclass(frozen=True)
class Coordinates:
    """A linear map of positions to coordinates, each of which spans 1 in the study's space.

    Attributes:
      forward: [d, d]; coordinates = forward @ positions, up to a constant.
      backward: its inverse.
    """

    forward: np.ndarray
    backward: np.ndarray

    def of(self, positions: np.ndarray) -> np.ndarray:
        """Coordinates of [..., d] positions."""
        return positions @ self.forward.T

    def positions(self, coordinates: np.ndarray) -> np.ndarray:
        """The inverse of `of`."""
        return coordinates @ self.backward.T


def _span(distribution: Real) -> float:
    """Length of its axis in natural logarithms (or plain units)."""
    if distribution.scale == "log":
        return math.log(distribution.high / distribution.low)
    if distribution.scale == "reverse_log":
        return math.log1p(-distribution.low) - math.log1p(-distribution.high)
    return distribution.high - distribution.low


def _on(distribution: Distribution | None, scale: str) -> TypeGuard[Real]:
    return isinstance(distribution, Real) and distribution.scale == scale


def coordinates(
    space: Mapping[str, Distribution], declared: Iterable[Coordinate] = COORDINATES
) -> Coordinates:
    """The coordinates of a space; rows and columns in the alphabetical order of the names.

    Args:
      space: hyperparameter -> distribution.
      declared: sums that apply where the space holds both hyperparameters on their scales.
    """
    names, sums = sorted(space), {coordinate.name: coordinate for coordinate in declared}
    forward = np.eye(len(names))
    for row, name in enumerate(names):
        if (found := sums.get(name)) is not None:
            own, other = space[name], space.get(found.other)
            if _on(own, found.scale) and _on(other, found.other_scale):
                forward[row, names.index(found.other)] = found.factor * _span(other) / _span(own)
        forward[row] /= np.abs(forward[row]).sum()
    return Coordinates(forward, np.linalg.inv(forward))
