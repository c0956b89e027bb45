"""The loss between and around solutions: lines, arcs, curves, and planes of random directions.

With two solutions theta_0 and theta_1 (Keskar et al. 2017, arXiv 1609.04836, section 2.2.1 and
appendix; there 0 is the small batch's and 1 the large batch's)

    line    f((1 - alpha) theta_0 + alpha theta_1), alpha from -1 to 2
    arc     f(cos(alpha pi/2) theta_0 + sin(alpha pi/2) theta_1)
    curve   f((1 - t)^2 theta_0 + 2 t (1 - t) bend + t^2 theta_1), t from 0 to 1, the bend trained
            to minimise the mean of f over the curve (Garipov et al. 2018, arXiv 1802.10026)
    plane   f(theta + a d_1 + b d_2), filter-normalised directions (Li et al. 2018,
            arXiv 1712.09913)

What is measured is any number of problems, such as the loss and the error on the training and the
test split. Parameters alone are interpolated: batch norm keeps the running statistics that the
problem has, as in Keskar's code; a function that measures them again may stand in its place.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial

from experiments.diagnostics.problem import Params, Problem, finite_loss, require_wide

Quantities = Mapping[str, Problem | Callable[[Params], jax.Array]]
"""Name -> a problem, for its mean loss; or a function of the parameters, a number []."""
ALPHAS = np.linspace(-1, 2, 25)
"""Keskar's grid, with both ends and, at 8 and 16, both solutions."""
TIMES = np.linspace(0, 1, 25)


@dataclasses.dataclass(frozen=True)
class Path:
    """Values along a path.

    Attributes:
      alphas: [points] where; 0 is the first solution, 1 the second.
      values: quantity -> [points] float64; what is not finite is kept.
    """

    alphas: np.ndarray
    values: dict[str, np.ndarray]

    def barrier(self, name: str) -> float:
        """The most by which a quantity exceeds the straight line between its ends, over [0, 1].

        Raises:
          ValueError: no point at 0 or none at 1.
        """
        alphas, values = self.alphas, self.values[name]
        inside = (alphas >= 0) & (alphas <= 1)
        alphas, values = alphas[inside], values[inside]
        if not (np.isclose(alphas[0], 0) and np.isclose(alphas[-1], 1)):
            raise ValueError("a barrier needs points at 0 and at 1")
        return float(np.max(values - (1 - alphas) * values[0] - alphas * values[-1]))


def line(
    quantities: Quantities, first: Params, second: Params, alphas: np.ndarray = ALPHAS
) -> Path:
    """Quantities at (1 - alpha) ``first`` + alpha ``second``.

    Raises:
      ValueError: solutions of different shapes, parameters that are neither float32 nor float64.
    """
    return _along(quantities, (first, second), lambda a: (1 - a, a), alphas)


def arc(quantities: Quantities, first: Params, second: Params, alphas: np.ndarray = ALPHAS) -> Path:
    """Quantities at cos(alpha pi/2) ``first`` + sin(alpha pi/2) ``second``; raises as `line`."""

    def weights(a: jax.Array) -> tuple[jax.Array, ...]:
        return jnp.cos(a * jnp.pi / 2), jnp.sin(a * jnp.pi / 2)

    return _along(quantities, (first, second), weights, alphas)


def bezier(
    quantities: Quantities, first: Params, bend: Params, second: Params, times: np.ndarray = TIMES
) -> Path:
    """Quantities on the quadratic Bezier curve through both solutions; raises as `line`."""
    return _along(quantities, (first, bend, second), _bezier_weights, times)


def _bezier_weights(t: jax.Array) -> tuple[jax.Array, ...]:
    return (1 - t) ** 2, 2 * t * (1 - t), t**2


def trained_bend(
    problem: Problem,
    first: Params,
    second: Params,
    key: jax.Array,
    *,
    steps: int = 200,
    learning_rate: float = 1e-2,
) -> tuple[Params, np.ndarray]:
    """The bend of a low curve between two solutions, by Adam from their midpoint.

        bend <- bend - Adam(2 t (1 - t) grad f(curve(t))),  t ~ U(0, 1), one a step

    Args:
      problem: the loss f, on all of its examples at every step.
      first, second: the ends, which stay.
      key: of the t.
      steps, learning_rate: of Adam.

    Returns:
      (the bend, [steps] losses at the t drawn).

    Raises:
      ValueError: as `line`; a loss that is not finite at an end or during training; no step.
    """
    _require_alike((first, second))
    for end in (first, second):
        finite_loss(problem, end)
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps!r}")
    rule = optax.adam(learning_rate)

    def step(
        problem: Problem, carry: tuple[Params, Any], t: jax.Array
    ) -> tuple[tuple[Params, Any], jax.Array]:
        bend, state = carry
        weights = _bezier_weights(t)
        loss, gradient = problem.value_and_gradient(_combined(weights, (first, bend, second)))
        gradient = jax.tree.map(lambda g: weights[1].astype(g.dtype) * g, gradient)
        updates, state = rule.update(gradient, state, bend)
        return (optax.apply_updates(bend, updates), state), loss

    middle = jax.tree.map(lambda a, b: (a + b) / 2, first, second)
    dtype = jnp.result_type(*jax.tree.leaves(first))
    drawn = jax.random.uniform(key, (steps,), dtype)
    start = (middle, rule.init(middle))
    trained = jax.jit(lambda p, s, ts: jax.lax.scan(functools.partial(step, p), s, ts))
    (bend, _), found = trained(problem, start, drawn)
    losses = np.asarray(found, np.float64)
    if not np.isfinite(losses).all():
        at = int(np.argmin(np.isfinite(losses))) + 1
        raise ValueError(f"the loss on the curve is not finite at step {at}: lower learning_rate")
    return bend, losses


def filter_normalised(key: jax.Array, params: Params) -> Params:
    """A random direction d, scaled filter by filter to the parameters.

        d_f <- d_f |theta_f| / |d_f|,  d_f ~ N(0, I)

    A filter f is what makes one output: an array's slice at one place of its last axis. Arrays of
    rank 0 and 1 (biases, scales) and filters of zeros have direction 0. The plane is the same for
    a net whose layers are rescaled without changing its function (ReLU).

    Raises:
      ValueError: parameters that are neither float32 nor float64.
    """
    require_wide(params)
    leaves, tree = jax.tree.flatten(params)

    def of(key: jax.Array, weights: jax.Array) -> jax.Array:
        if weights.ndim < 2:
            return jnp.zeros_like(weights)
        drawn = jax.random.normal(key, weights.shape, weights.dtype)
        axes = tuple(range(weights.ndim - 1))
        sizes = [jnp.sqrt(jnp.sum(x**2, axis=axes, keepdims=True)) for x in (weights, drawn)]
        return drawn * (sizes[0] / sizes[1])

    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(tree, [of(k, x) for k, x in zip(keys, leaves, strict=True)])


def plane(
    quantities: Quantities,
    centre: Params,
    directions: tuple[Params, Params],
    first: np.ndarray,
    second: np.ndarray,
) -> dict[str, np.ndarray]:
    """Quantity -> [len(first), len(second)] at ``centre`` + a d_1 + b d_2.

    Raises:
      ValueError: as `line`.
    """
    pairs = np.stack(np.meshgrid(first, second, indexing="ij"), axis=-1).reshape(-1, 2)

    def weights(pair: jax.Array) -> tuple[jax.Array, ...]:
        return jnp.ones_like(pair[0]), pair[0], pair[1]

    found = _along(quantities, (centre, *directions), weights, pairs).values
    return {name: values.reshape(len(first), len(second)) for name, values in found.items()}


def _along(
    quantities: Quantities,
    corners: tuple[Params, ...],
    weights: Callable[[jax.Array], tuple[jax.Array, ...]],
    at: np.ndarray,
) -> Path:
    """Quantities at sum_k weights_k(at_i) corners_k, point by point."""
    _require_alike(corners)
    dtype = jnp.result_type(*jax.tree.leaves(corners[0]))

    functions = {
        name: Partial(Problem.loss, of) if isinstance(of, Problem) else Partial(of)
        for name, of in quantities.items()
    }

    def all_points(functions: dict[str, Partial], corners: tuple[Params, ...]) -> Any:
        def of(point: jax.Array) -> dict[str, jax.Array]:
            params = _combined(weights(point), corners)
            return {name: function(params) for name, function in functions.items()}

        return jax.lax.map(of, jnp.asarray(at, dtype))

    found = jax.jit(all_points)(functions, corners)
    return Path(np.asarray(at), {n: np.asarray(v, np.float64) for n, v in found.items()})


def _combined(weights: tuple[jax.Array, ...], corners: tuple[Params, ...]) -> Params:
    def sum_of(*leaves: jax.Array) -> jax.Array:
        terms = (w.astype(x.dtype) * x for w, x in zip(weights, leaves, strict=True))
        return functools.reduce(jnp.add, terms)

    return jax.tree.map(sum_of, *corners)


def _require_alike(corners: tuple[Params, ...]) -> None:
    for corner in corners:
        require_wide(corner)
    shapes = [jax.tree.map(jnp.shape, corner) for corner in corners]
    if any(s != shapes[0] for s in shapes):
        raise ValueError("the ends of a path must have the same arrays of parameters")
