"""Keskar's sharpness: how far the loss rises in a small box around a solution.

For a solution x [n], the mean loss f and a matrix A [n, p] (Keskar et al. 2017, arXiv 1609.04836,
Metric 2.1):

    C = {z [p]: |z_i| <= epsilon (|(A^+ x)_i| + 1)}
    phi = 100 (max_{z in C} f(x + A z) - f(x)) / (1 + f(x))

A is the identity (the full space), or random with p = 100 columns. The paper's epsilon are 1e-3
and 5e-4, and its maximum is inexact: 10 iterations of L-BFGS-B. At a minimum the centre of the box
is stationary, so the search starts at random points of the box. The denominator is not invariant
to the loss's scale, nor the box to rescalings of the parameters.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import Bounds, minimize

from experiments.diagnostics.problem import Params, Problem, finite_loss, flat

Distribution = Literal["normal", "orthonormal"]
EPSILONS = (1e-3, 5e-4)
DIMENSIONS = 100
ITERATIONS = 10


@dataclasses.dataclass(frozen=True)
class Sharpness:
    """A measured sharpness, and all that determines it.

    Attributes:
      value: phi, in percent; a lower bound, since the maximum is local.
      loss, maximum: f(x), and the largest f found in the box.
      epsilon: of the box.
      space: "full"; "normal" or "orthonormal", the distribution of A; or a scaled box's name.
      dimensions: p.
      iterations: the most of L-BFGS-B; None to convergence.
      maxima: [restarts] the largest f of each start, at least f(x).
      converged: [restarts] whether L-BFGS-B stopped by itself.
      evaluations: losses with their gradients, over all restarts.
    """

    value: float
    loss: float
    maximum: float
    epsilon: float
    space: str
    dimensions: int
    iterations: int | None
    maxima: np.ndarray
    converged: np.ndarray
    evaluations: int


@dataclasses.dataclass(frozen=True)
class Box:
    """The set in which a maximum is sought: x + A z with |z_i| <= ``width``.

    Attributes:
      space: what A is, as `Sharpness` says.
      epsilon: of the widths.
      width: [p] at least 0.
      matrix: A [n, p], or [n] where it is diagonal; None for the identity.
    """

    space: str
    epsilon: float
    width: np.ndarray
    matrix: np.ndarray | None = None


def keskar_sharpness(
    problem: Problem,
    params: Params,
    seed: int,
    *,
    epsilon: float = EPSILONS[0],
    dimensions: int | None = None,
    distribution: Distribution = "normal",
    iterations: int | None = ITERATIONS,
    restarts: int = 1,
) -> Sharpness:
    """phi(epsilon, A) of the mean loss at ``params``.

    Args:
      problem, params: the loss on all of its examples, chunk by chunk, and the solution x.
      seed: of A and of the starts.
      epsilon: size of the box.
      dimensions: columns of a random A; None for the full space.
      distribution: of A. "normal": independent N(0, 1) entries; "orthonormal": the Q of their QR
        decomposition. A takes n p numbers.
      iterations: of L-BFGS-B; None to convergence, at the relative change of 10 eps of f's dtype.
      restarts: starts, independent and uniform in the box; the largest maximum counts.

    Raises:
      ValueError: a loss that is not finite at x or in the box, or f(x) <= -1; parameters that are
        neither float32 nor float64; more dimensions than parameters; an epsilon, dimensions,
        iterations or restarts that are not positive.
    """
    _check(epsilon, dimensions, iterations, restarts, distribution)
    centre = np.asarray(flat(params)[0], np.float64)
    random = np.random.default_rng(seed)
    matrix = None
    if dimensions is not None:
        matrix = random_matrix(random, centre.size, dimensions, distribution)
    width = epsilon * (np.abs(_coordinates(matrix, centre)) + 1)
    space = "full" if matrix is None else distribution
    box = Box(space, epsilon, width, matrix)
    return sharpness_in(problem, params, box, random, iterations=iterations, restarts=restarts)


def sharpness_in(
    problem: Problem,
    params: Params,
    box: Box,
    random: np.random.Generator,
    *,
    iterations: int | None = ITERATIONS,
    restarts: int = 1,
) -> Sharpness:
    """100 (max f(x + A z) - f(x)) / (1 + f(x)) over a box; raises as `keskar_sharpness`."""
    loss = finite_loss(problem, params)
    if loss <= -1:
        raise ValueError(f"sharpness divides by 1 + f(x): the loss must exceed -1, got {loss}")
    centre, width = flat(params)[0], box.width
    columns = None if box.matrix is None else jnp.asarray(box.matrix, centre.dtype)
    function = functools.partial(_value_and_gradient, problem, params, columns)
    negative = _negative(function, centre.dtype)
    maxima, converged, evaluations = [], [], 0
    for start in random.uniform(-width, width, (restarts, len(width))):
        found = minimize(
            negative,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=Bounds(-width, width),
            options=_options(iterations, centre.dtype),
        )
        maxima.append(max(-float(found.fun), loss))
        converged.append(bool(found.success))
        evaluations += int(found.nfev)
    maximum = max(maxima)
    return Sharpness(
        value=100 * (maximum - loss) / (1 + loss),
        loss=loss,
        maximum=maximum,
        epsilon=box.epsilon,
        space=box.space,
        dimensions=len(width),
        iterations=iterations,
        maxima=np.array(maxima),
        converged=np.array(converged),
        evaluations=evaluations,
    )


@jax.jit
def _value_and_gradient(
    problem: Problem, params: Params, columns: jax.Array | None, z: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """f(x + A z) and its gradient in z [p]; one program for all boxes of one shape."""
    centre, unflat = flat(params)
    away = z if columns is None else _product(columns, z)
    value, tree = problem.value_and_gradient(unflat(centre + away))
    gradient = flat(tree)[0]
    return value, gradient if columns is None else _product(columns.T, gradient)


def _product(matrix: jax.Array, vector: jax.Array) -> jax.Array:
    """A z of A [n, p], or of a diagonal A as a vector [n]."""
    if matrix.ndim == 1:
        return matrix * vector
    return jnp.matmul(matrix, vector, precision="highest")


def random_matrix(
    random: np.random.Generator, n: int, p: int, distribution: Distribution
) -> np.ndarray:
    """A [n, p], float64.

    Raises:
      ValueError: p > n.
    """
    if p > n:
        raise ValueError(f"dimensions must be at most the {n} parameters, got {p!r}")
    normal = random.standard_normal((n, p))
    return normal if distribution == "normal" else np.linalg.qr(normal)[0]


def _coordinates(matrix: np.ndarray | None, x: np.ndarray) -> np.ndarray:
    """A^+ x [p], by the normal equations: columns of a random A are far from dependent."""
    return x if matrix is None else np.linalg.solve(matrix.T @ matrix, matrix.T @ x)


def _negative(
    function: Callable[[jax.Array], tuple[jax.Array, jax.Array]], dtype: np.dtype
) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """-f and its gradient in the double precision of SciPy."""

    def of(z: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = function(jnp.asarray(z, dtype))
        if not np.isfinite(value):
            raise ValueError(f"the loss must be finite in the whole box, got {float(value)}")
        return -float(value), -np.asarray(gradient, np.float64)

    return of


def _options(iterations: int | None, dtype: np.dtype) -> dict[str, float]:
    """No stop by the gradient's size: SciPy's default, 1e-5, exceeds that of many solutions."""
    if iterations is None:
        return {"gtol": 0.0, "ftol": 10 * float(np.finfo(dtype).eps)}
    return {"gtol": 0.0, "ftol": 0.0, "maxiter": iterations}


def _check(
    epsilon: float,
    dimensions: int | None,
    iterations: int | None,
    restarts: int,
    distribution: str,
) -> None:
    if not (np.isfinite(epsilon) and epsilon > 0):
        raise ValueError(f"epsilon must be positive and finite, got {epsilon!r}")
    counts = {"dimensions": dimensions, "iterations": iterations, "restarts": restarts}
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ValueError(f"{name} must be at least 1, got {count!r}")
    if distribution not in ("normal", "orthonormal"):
        raise ValueError(f"distribution must be normal or orthonormal, got {distribution!r}")
