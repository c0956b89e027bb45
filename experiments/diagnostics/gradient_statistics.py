"""Statistics of per-example gradients at fixed parameters, exact on the examples given.

Example i of N has the gradient g_i = N w_i grad l_i / sum_j w_j c_j, so that their mean is the
gradient G of the mean loss, and

    tr(Sigma) = 1/(N - 1) sum_i |g_i - G|^2

is the trace of the covariance of one example's gradient. For a batch of B examples drawn with
replacement E |g_B - G|^2 = tr(Sigma) / B; without replacement it is (1/B - 1/N) tr(Sigma)
(McCandlish et al. 2018, arXiv 1812.06162, eq. 2.2 and footnote 6). Differences from G are summed,
not squared norms subtracted: nothing cancels in float32.

`experiments.diagnostics.gradient_noise` estimates the noise scale while a trial trains; this
module looks at one set of parameters, in evaluation mode, example by example.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from experiments.diagnostics.problem import Chunk, Params, Problem, finite_loss, flat


@dataclasses.dataclass(frozen=True)
class GradientStatistics:
    """Of N examples, float64.

    Attributes:
      norms: [N] |g_i|.
      deviations: [N] |g_i - G|^2.
      projections: [N] g_i^T G.
      squared_norm: |G|^2.
    """

    norms: np.ndarray
    deviations: np.ndarray
    projections: np.ndarray
    squared_norm: float

    @property
    def trace(self) -> float:
        """tr(Sigma), unbiased."""
        return float(self.deviations.sum() / (len(self.norms) - 1))

    def standard_error(self, batch_size: int, *, replacement: bool = True) -> float:
        """Root of E |g_B - G|^2 for a batch of these examples: as 1 / sqrt(B) with replacement.

        The N examples are the population here, so tr(Sigma) has N in its denominator with
        replacement, and N - 1 without.

        Raises:
          ValueError: B below 1, or above N without replacement.
        """
        n = len(self.norms)
        if batch_size < 1 or (batch_size > n and not replacement):
            raise ValueError(f"batch_size must lie in 1..{n}, got {batch_size!r}")
        if replacement:
            return math.sqrt(self.deviations.sum() / n / batch_size)
        return math.sqrt(self.trace * (1 / batch_size - 1 / n))

    def norm_test(self, theta: float) -> float:
        """The least batch size with E |g_B - G|^2 <= theta^2 |G|^2: tr(Sigma) / (theta |G|)^2.

        Byrd, Chin, Nocedal & Wu 2012; infinite where G is 0.
        """
        _check_theta(theta)
        return _ratio(self.trace, theta**2 * self.squared_norm)

    def inner_product_test(self, theta: float) -> float:
        """The least batch size with Var(g_B^T G) <= theta^2 |G|^4: Var(g_i^T G) / (theta |G|^2)^2.

        Bollapragada, Byrd & Nocedal 2018 (arXiv 1710.11258); infinite where G is 0. It asks of a
        batch's gradient to be a descent direction, not to be close to G: never more than the norm
        test asks for.
        """
        _check_theta(theta)
        return _ratio(float(self.projections.var(ddof=1)), theta**2 * self.squared_norm**2)


def gradient_statistics(problem: Problem, params: Params) -> GradientStatistics:
    """Every example's gradient, a chunk at a time: memory of a chunk's rows times the parameters.

    Raises:
      ValueError: fewer than two examples, a loss that is not finite, parameters that are neither
        float32 nor float64.
    """
    finite_loss(problem, params)
    real = np.asarray(problem.chunks["weights"]) > 0
    if real.sum() < 2:
        raise ValueError(f"a covariance needs at least two examples, got {int(real.sum())}")

    def all_chunks(
        problem: Problem, params: Params
    ) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        mean = flat(problem.gradient(params))[0]
        scale = (real.sum() / problem.count(params)).astype(mean.dtype)

        def of(chunk: Chunk) -> tuple[jax.Array, jax.Array, jax.Array]:
            gradients = scale * example_gradients(problem, params, chunk)
            away = gradients - mean[None, :]
            return (
                jnp.linalg.norm(gradients, axis=1),
                jnp.sum(away**2, axis=1),
                jnp.matmul(gradients, mean, precision="highest"),
            )

        return *jax.lax.map(of, problem.chunks), jnp.sum(mean**2)

    *columns, squared = jax.jit(all_chunks)(problem, params)
    norms, deviations, projections = (np.asarray(c, np.float64)[real] for c in columns)
    return GradientStatistics(norms, deviations, projections, float(squared))


def example_gradients(problem: Problem, params: Params, chunk: Chunk) -> jax.Array:
    """[rows, n] gradients of w_i l_i, each example on its own as a chunk of one row."""

    def of(example: Chunk) -> jax.Array:
        alone = jax.tree.map(lambda x: x[None], example)
        gradient = jax.grad(lambda p: problem.sums(problem.outputs(p, alone), alone)[0])(params)
        return flat(gradient)[0]

    return jax.vmap(of)(chunk)


def measured_errors(
    problem: Problem, params: Params, seed: int, batch_sizes: Sequence[int], draws: int = 100
) -> np.ndarray:
    """[sizes] root mean square |g_B - G| over ``draws`` random batches without replacement.

    What `GradientStatistics.standard_error` predicts. One batch lies in memory at a time.

    Raises:
      ValueError: a size outside 1..N, or no draw.
    """
    finite_loss(problem, params)
    real = np.flatnonzero(np.asarray(problem.chunks["weights"]).ravel() > 0)
    for size in batch_sizes:
        if not 1 <= size <= len(real):
            raise ValueError(f"batch_size must lie in 1..{len(real)}, got {size!r}")
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws!r}")
    random = np.random.default_rng(seed)

    def squares(problem: Problem, chosen: jax.Array) -> jax.Array:
        examples = _rows(problem.chunks)
        mean = flat(problem.gradient(params))[0]

        def of(rows: jax.Array) -> jax.Array:
            batch = jax.tree.map(lambda x: x[rows][None], examples)
            drawn = dataclasses.replace(problem, chunks=batch)
            return jnp.sum((flat(drawn.gradient(params))[0] - mean) ** 2)

        return jax.lax.map(of, chosen)

    found = []
    for size in batch_sizes:
        chosen = np.stack([random.choice(real, size, replace=False) for _ in range(draws)])
        found.append(np.sqrt(np.mean(np.asarray(jax.jit(squares)(problem, chosen), np.float64))))
    return np.array(found)


def alignments(gradients: Sequence[Params]) -> np.ndarray:
    """[T - 1] cosines of each gradient with the next, of T trees; NaN where one is 0.

    Near 1 the steps could have been larger; near -1 they cross a valley and back.

    Raises:
      ValueError: fewer than two.
    """
    if len(gradients) < 2:
        raise ValueError(f"an alignment needs two gradients, got {len(gradients)}")
    vectors = [np.asarray(flat(g)[0], np.float64) for g in gradients]
    found = []
    for one, other in itertools.pairwise(vectors):
        lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
        found.append(float(one @ other) / lengths if lengths > 0 else math.nan)
    return np.array(found)


def _rows(chunks: Chunk) -> Chunk:
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), chunks)


def _ratio(above: float, below: float) -> float:
    return above / below if below > 0 else math.inf


def _check_theta(theta: float) -> None:
    if not (theta > 0 and math.isfinite(theta)):
        raise ValueError(f"theta must be positive and finite, got {theta!r}")
