"""Both ends of a spectrum, and its density by stochastic Lanczos quadrature.

The density is that of Ghorbani, Krishnan & Xiao (2019, arXiv:1901.10159): from each of m random
unit vectors, k Lanczos steps give nodes (Ritz values) and weights (squared first components);
the mean of the m quadratures is a sum of weighted points, smoothed by a Gaussian whose variance
is ``sigma_squared * max(1, lambda_max - lambda_min)``, of the mean extremes of the draws. Their
constants: order 90, a grid of 10,000 points, sigma_squared 1e-5. Their grid ends 0.01 beyond the
mean extremes, where a wide spectrum's Gaussians are cut in half, and is coarser than a Gaussian
once the range passes 1,000: here the grid holds the whole of every Gaussian, and none is narrower
than a step of it.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.diagnostics.curvature.lanczos import Ritz, ritz
from experiments.diagnostics.curvature.operators import Operator

ORDER = 90
GRID = 10_000
SIGMA_SQUARED = 1e-5
MARGIN = 0.01
TAIL = 5
"""Standard deviations of a Gaussian that the grid holds at either end."""


class SpectrumEnds(NamedTuple):
    """The two ends of a spectrum, named: neither is chosen by its sign or size.

    Attributes:
      largest, smallest: [] eigenvalues; the smallest of an indefinite matrix is negative.
      largest_error, smallest_error: [] bounds of |A y - value y|.
    """

    largest: jax.Array
    smallest: jax.Array
    largest_error: jax.Array
    smallest_error: jax.Array


def ends(operator: Operator, like: jax.Array, key: jax.Array, order: int = 30) -> SpectrumEnds:
    """The largest and the smallest eigenvalue by ``min(order, n)`` products from a random start."""
    found = ritz(operator, _random_unit(like, key), order)
    return SpectrumEnds(found.values[-1], found.values[0], found.errors[-1], found.errors[0])


def largest_eigenvalues(
    operator: Operator, like: jax.Array, key: jax.Array, count: int, order: int = ORDER
) -> tuple[jax.Array, jax.Array]:
    """(the ``count`` largest eigenvalues [count] descending, their error bounds [count]).

    A multiple eigenvalue is found once: Lanczos sees one vector of its eigenspace.

    Raises:
      ValueError: more than ``min(order, n)``.
    """
    most = min(order, like.shape[0])
    if not 1 <= count <= most:
        raise ValueError(f"count must lie in 1..{most} (the Lanczos steps), got {count!r}")
    found = ritz(operator, _random_unit(like, key), order)
    return found.values[::-1][:count], found.errors[::-1][:count]


@dataclasses.dataclass(frozen=True)
class Density:
    """A spectral density on a grid.

    Attributes:
      values: [points] eigenvalues, ascending.
      density: [points] >= 0, integral 1 over ``values``.
      nodes, weights: [draws, k] the quadratures it was smoothed from; each row's weights sum to 1.
    """

    values: np.ndarray
    density: np.ndarray
    nodes: np.ndarray
    weights: np.ndarray

    def moment(self, power: int) -> float:
        """Mean of lambda^power over the spectrum, from the quadratures: tr A^power / n."""
        return float((self.weights * self.nodes**power).sum(axis=1).mean())


def spectral_density(
    operator: Operator,
    like: jax.Array,
    key: jax.Array,
    *,
    draws: int = 10,
    order: int = ORDER,
    sigma_squared: float = SIGMA_SQUARED,
    points: int = GRID,
) -> Density:
    """The density of a symmetric matrix's eigenvalues.

    Args:
      operator: v [n] -> A v [n].
      like: any vector [n] of its dtype.
      key: of the start vectors.
      draws: start vectors m; the random error of a density falls as 1 / sqrt(m n).
      order: Lanczos steps k of each; memory k n numbers, one draw at a time.
    """
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws!r}")

    def one(key: jax.Array) -> Ritz:
        return ritz(operator, _random_unit(like, key), order)

    found = jax.lax.map(one, jax.random.split(key, draws))
    nodes, weights = np.asarray(found.values, float), np.asarray(found.weights, float)
    return _smoothed(nodes, weights, sigma_squared, points)


def _smoothed(nodes: np.ndarray, weights: np.ndarray, sigma_squared: float, points: int) -> Density:
    low, high = nodes[:, 0].mean(), nodes[:, -1].mean()
    deviation = np.sqrt(sigma_squared * max(1.0, high - low))
    deviation = max(deviation, (high - low) / (points - 1))  # a narrower one falls between points
    margin = max(MARGIN, TAIL * deviation)
    values = np.linspace(nodes.min() - margin, nodes.max() + margin, points)
    density = np.zeros(points)
    for node, weight in zip(nodes.ravel(), weights.ravel(), strict=True):
        density += weight * np.exp(-0.5 * ((values - node) / deviation) ** 2)
    area = np.trapezoid(density, values)
    return Density(values, density / area, nodes, weights)


def _random_unit(like: jax.Array, key: jax.Array) -> jax.Array:
    vector = jax.random.normal(key, like.shape, like.dtype)
    return vector / jnp.linalg.norm(vector)
