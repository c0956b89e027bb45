"""The gradient's noise scale in the norms of sign descent and of spectral descent.

A rule that steps in the direction of steepest descent under a norm |.| is told the gradient up to
an error in the dual norm |.|_*. With g_B the mean of B examples' gradients and G their mean, the
noise scale of a norm is the batch size at which a bound of E |g_B - G|_* equals |G|_*:

    norm         rules           dual      bound of E |g_B - G|_*       noise scale
    Euclidean    SGD             l2        sqrt(tr(Sigma) / B)          tr(Sigma) / |G|^2
    l_infinity   signSGD, Lion   l1        sum_i sigma_i / sqrt(B)      (sum_i sigma_i / |G|_1)^2
    spectral     Muon            nuclear   sum_W tr(C_W^1/2) / sqrt(B)  (sum_W ... / |G|_nuc)^2

sigma_i^2 is the variance of coordinate i; C_W = E D D^T, or E D^T D where that is the smaller
matrix, for each array W, D an example's deviation from the mean. The bounds are Jensen's: E |x| <=
sqrt(E x^2), and E tr((D D^T)^1/2) <= tr((E D D^T)^1/2), the root being operator concave. An array
of rank above 2 is a matrix with its last axis as columns; one of rank 0 or 1 is a single row, whose
nuclear norm is its length. The Euclidean one is McCandlish et al.'s (2018, arXiv 1812.06162, eq.
2.9); that batch sizes for sign and spectral descent follow from the dual norms is Naganuma et al.
2026 (arXiv 2602.03001).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.diagnostics.gradient_statistics import example_gradients
from experiments.diagnostics.problem import Chunk, Params, Problem, finite_loss, flat


@dataclasses.dataclass(frozen=True)
class DualNoise:
    """A norm's noise of one example's gradient, and the length of the mean gradient.

    Attributes:
      error: the bound of sqrt(B) E |g_B - G|_*.
      length: |G|_*.
    """

    error: float
    length: float

    @property
    def scale(self) -> float:
        """The noise scale (error / length)^2, in examples; infinite where G is 0."""
        return (self.error / self.length) ** 2 if self.length > 0 else math.inf


def dual_noise(problem: Problem, params: Params) -> dict[str, DualNoise]:
    """``euclidean``, ``sign`` and ``spectral`` noise of the examples' gradients.

    Variances have N - 1 in their denominator. Memory of a chunk's rows times the parameters, and of
    a square matrix on the shorter side of every array.

    Raises:
      ValueError: fewer than two examples, a loss that is not finite, parameters that are neither
        float32 nor float64.
    """
    finite_loss(problem, params)
    real = int((np.asarray(problem.chunks["weights"]) > 0).sum())
    if real < 2:
        raise ValueError(f"a covariance needs at least two examples, got {real}")
    mean, sums = jax.jit(_moments)(problem, params)
    squares, covariances = jax.tree.map(lambda x: np.asarray(x, np.float64) / (real - 1), sums)
    gradient = [np.asarray(x, np.float64) for x in jax.tree.leaves(mean)]
    whole = np.concatenate([x.ravel() for x in gradient])
    nuclear = sum(np.linalg.norm(_matrix(x), "nuc") for x in gradient)
    roots = sum(map(_root_trace, covariances))
    return {
        "euclidean": DualNoise(math.sqrt(squares.sum()), float(np.linalg.norm(whole))),
        "sign": DualNoise(float(np.sqrt(squares).sum()), float(np.abs(whole).sum())),
        "spectral": DualNoise(float(roots), float(nuclear)),
    }


def _moments(problem: Problem, params: Params) -> tuple[Params, Any]:
    """(G, (sum of squared deviations [n], of every array the sum of D D^T or D^T D))."""
    mean, unflat = problem.gradient(params), flat(params)[1]
    real = jnp.sum(problem.chunks["weights"] > 0)
    scale = real / problem.count(params)

    def of(chunk: Chunk) -> Any:
        held = (chunk["weights"] > 0)[:, None]
        gradients = example_gradients(problem, params, chunk)
        away = gradients * scale.astype(gradients.dtype) - flat(mean)[0][None, :]
        away = jnp.where(held, away, 0)
        arrays = [jax.vmap(_matrix)(x) for x in jax.tree.leaves(jax.vmap(unflat)(away))]
        return jnp.sum(away**2, axis=0), [_products(x) for x in arrays]

    return mean, problem.summed(of)


def _products(away: jax.Array) -> jax.Array:
    """Sum of D D^T over examples [rows, m, k], or of D^T D where k < m."""
    if away.shape[1] <= away.shape[2]:
        return jnp.einsum("rik,rjk->ij", away, away, precision="highest")
    return jnp.einsum("rki,rkj->ij", away, away, precision="highest")


def _matrix(array: Any) -> Any:
    return array.reshape(-1, array.shape[-1]) if array.ndim > 1 else array.reshape(1, -1)


def _root_trace(matrix: np.ndarray) -> float:
    """tr(C^1/2) of a positive semi-definite C."""
    return float(np.sqrt(np.clip(np.linalg.eigvalsh(matrix), 0, None)).sum())
