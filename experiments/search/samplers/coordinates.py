"""Coordinates in which the optimum moves least from one batch size to another.

Of a rule with momentum the effective rate, learning_rate / (1 - momentum), decides how far a
parameter moves in the long run: at small batch sizes the tuned one grows with the batch size and
the momentum hardly matters (Shallue et al. 2019, section 4.7). Of Adam, epsilon
divided by the rate decides where it turns into momentum (Choi et al. 2019, section 3). In the
logarithms of both these are linear, so a coordinate is a sum of axes: `COMBINED` says, for a
hyperparameter, what is added to its own axis. It applies where both axes are on the scales that
make it true; other hyperparameters are their own coordinates.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from experiments.spec.space import Distribution, Real

COMBINED: Mapping[str, tuple[tuple[str, str, str, float], ...]] = {
    # name: (other, own scale, other's scale, factor of the other's axis); the axis of a reverse
    # logarithm is -log(1 - value).
    "learning_rate": (("momentum", "log", "reverse_log", 1.0),),
    "epsilon": (("learning_rate", "log", "log", -1.0),),
}


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


def coordinates(
    space: Mapping[str, Distribution],
    combined: Mapping[str, tuple[tuple[str, str, str, float], ...]] = COMBINED,
) -> Coordinates:
    """The coordinates of a space; rows and columns in the alphabetical order of the names."""
    names = sorted(space)
    forward = np.eye(len(names))
    for row, name in enumerate(names):
        own = space[name]
        for other_name, scale, other_scale, factor in combined.get(name, ()):
            other = space.get(other_name)
            if (
                isinstance(own, Real)
                and isinstance(other, Real)
                and (own.scale, other.scale) == (scale, other_scale)
            ):
                forward[row, names.index(other_name)] = factor * _span(other) / _span(own)
        forward[row] /= np.abs(forward[row]).sum()
    return Coordinates(forward, np.linalg.inv(forward))
