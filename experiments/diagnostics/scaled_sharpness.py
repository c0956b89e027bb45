"""Sharpness in boxes that are scaled to the parameters, so that rescaling a net changes nothing.

Keskar's box (`experiments.diagnostics.sharpness`) has the side epsilon (|x_i| + 1): two ReLU nets
that are the same function, one with a layer multiplied and the next divided by a number, have
different sharpness (Dinh et al. 2017, arXiv 1703.04933). Here the search is over z in
[-epsilon, epsilon]^n and the loss is f(x + T z), T diagonal:

    relative           T_i = |x_i|: side epsilon |x_i|. Any rescaling of units leaves it as it is.
                       The element-wise adaptive sharpness of Kwon et al. 2021 (arXiv 2102.11600),
                       with their p = infinity
    filter-normalised  T_i = |filter of i| / sqrt(its size), a filter what makes one output, as in
                       Li et al. 2018 (arXiv 1712.09913): rescaling whole layers leaves it as it is.
                       Arrays of rank 0 and 1 (biases, scales) stay

Both are in percent, 100 (max f - f(x)) / (1 + f(x)), as Keskar's. Another quantity has the name of
*preconditioned sharpness*: the largest eigenvalue of D^-1 H, D what an adaptive rule divides its
step by (Cohen et al. 2022, arXiv 2207.14484): `experiments.diagnostics.stability`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from experiments.diagnostics.problem import Params, Problem, flat
from experiments.diagnostics.sharpness import ITERATIONS, Box, Sharpness, sharpness_in

RELATIVE, FILTERS = "relative", "filter-normalised"
EPSILON = 1e-2
"""A hundredth of every weight: the +1 of Keskar's box, which dwarfs small weights, is not here."""


def relative_sharpness(
    problem: Problem,
    params: Params,
    seed: int,
    *,
    epsilon: float = EPSILON,
    iterations: int | None = ITERATIONS,
    restarts: int = 1,
) -> Sharpness:
    """The sharpness that no rescaling of units changes; arguments as of `keskar_sharpness`.

    Raises:
      ValueError: an epsilon that is not positive and finite, or as `keskar_sharpness`.
    """
    scale = np.abs(np.asarray(flat(params)[0], np.float64))
    box = _box(RELATIVE, epsilon, scale)
    random = np.random.default_rng(seed)
    return sharpness_in(problem, params, box, random, iterations=iterations, restarts=restarts)


def filter_normalised_sharpness(
    problem: Problem,
    params: Params,
    seed: int,
    *,
    epsilon: float = EPSILON,
    iterations: int | None = ITERATIONS,
    restarts: int = 1,
) -> Sharpness:
    """The sharpness that no rescaling of layers changes; arguments as of `keskar_sharpness`.

    Raises:
      ValueError: as `relative_sharpness`.
    """
    scale = np.asarray(flat(jax.tree.map(_root_mean_square, params))[0], np.float64)
    box = _box(FILTERS, epsilon, scale)
    random = np.random.default_rng(seed)
    return sharpness_in(problem, params, box, random, iterations=iterations, restarts=restarts)


def _root_mean_square(weights: jax.Array) -> jax.Array:
    """|filter| / sqrt(its size) at every entry of an array [..., filters]; 0 below rank 2."""
    if weights.ndim < 2:
        return jnp.zeros_like(weights)
    axes = tuple(range(weights.ndim - 1))
    root = jnp.sqrt(jnp.mean(weights**2, axis=axes, keepdims=True))
    return jnp.broadcast_to(root, weights.shape)


def _box(space: str, epsilon: float, scale: np.ndarray) -> Box:
    if not (np.isfinite(epsilon) and epsilon > 0):
        raise ValueError(f"epsilon must be positive and finite, got {epsilon!r}")
    return Box(space, epsilon, np.full(scale.size, float(epsilon)), scale)
