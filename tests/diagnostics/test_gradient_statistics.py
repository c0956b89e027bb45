"""Gradient statistics against explicit per-example Jacobians and the noisy quadratic model."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.tolerances import FIVE_DECIMALS, FLOAT64

from experiments.diagnostics.gradient_statistics import (
    alignments,
    gradient_statistics,
    measured_errors,
)
from experiments.diagnostics.problem import Problem, flat, in_chunks
from workloads.losses import softmax_cross_entropy

DRAWN = 0.1
"""Three standard errors of the root mean square of 400 draws."""

EXAMPLES = 23


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def net(params, chunk):
    return jnp.tanh(chunk["inputs"] @ params["w1"]) @ params["w2"] + params["b2"][None, :]


def sums(outputs, chunk):
    losses = softmax_cross_entropy(outputs, chunk["targets"])
    return jnp.sum(chunk["weights"] * losses), jnp.sum(chunk["weights"])


def tiny(rows=EXAMPLES):
    """Twenty-three examples through 4-5-3 tanh units."""
    random = np.random.default_rng(0)
    data = {
        "inputs": random.normal(size=(EXAMPLES, 4)),
        "targets": random.integers(0, 3, EXAMPLES),
    }
    params = {
        "w1": random.normal(size=(4, 5)), "w2": random.normal(size=(5, 3)), "b2": np.zeros(3)
    }  # fmt: skip
    chunks = jax.tree.map(jnp.asarray, in_chunks(data, rows))
    return Problem(net, sums, chunks), jax.tree.map(jnp.asarray, params)


@pytest.fixture(scope="module")
def jacobian():
    """[examples, n] the Jacobian of the vector of losses."""
    with jax.enable_x64(True):
        problem, params = tiny()
        theta, unflat = flat(params)
        data = jax.tree.map(lambda x: x[0], problem.chunks)

        def losses(vector):
            return softmax_cross_entropy(net(unflat(vector), data), data["targets"])

        return np.asarray(jax.jit(jax.jacfwd(losses))(theta))


@pytest.mark.parametrize("rows", [EXAMPLES, 10])
def test_they_are_those_of_the_explicit_jacobian_in_any_chunks(jacobian, rows):
    found, mean = gradient_statistics(*tiny(rows)), jacobian.mean(axis=0)
    covariance = np.cov(jacobian, rowvar=False)
    np.testing.assert_allclose(found.norms, np.linalg.norm(jacobian, axis=1), rtol=FLOAT64)
    np.testing.assert_allclose(found.trace, np.trace(covariance), rtol=FLOAT64)
    np.testing.assert_allclose(found.squared_norm, mean @ mean, rtol=FLOAT64)
    norm = np.trace(covariance) / (0.25 * mean @ mean)
    inner = mean @ covariance @ mean / (0.25 * (mean @ mean) ** 2)
    np.testing.assert_allclose(found.norm_test(0.5), norm, rtol=FLOAT64)
    np.testing.assert_allclose(found.inner_product_test(0.5), inner, rtol=FLOAT64)
    assert inner < norm


def test_the_standard_error_is_exact_over_all_batches(jacobian):
    """Of two examples: all 23^2 ordered pairs, and all with different examples."""
    found, mean = gradient_statistics(*tiny()), jacobian.mean(axis=0)
    pairs = (jacobian[:, None] + jacobian[None, :]) / 2
    squares = ((pairs - mean[None, None, :]) ** 2).sum(axis=-1)
    np.testing.assert_allclose(found.standard_error(2), np.sqrt(squares.mean()), rtol=FLOAT64)
    apart = squares[~np.eye(EXAMPLES, dtype=bool)]
    without = found.standard_error(2, replacement=False)
    np.testing.assert_allclose(without, np.sqrt(apart.mean()), rtol=FLOAT64)
    assert found.standard_error(8) == pytest.approx(found.standard_error(2) / 2)


def test_measured_errors_fall_as_predicted():
    problem, params = tiny(10)
    statistics = gradient_statistics(problem, params)
    found = measured_errors(problem, params, 0, (1, 4, EXAMPLES), draws=400)
    predicted = [statistics.standard_error(b, replacement=False) for b in (1, 4, EXAMPLES)]
    np.testing.assert_allclose(found, predicted, rtol=DRAWN, atol=FLOAT64)  # B = N exact


def quadratic(examples, weights=None):
    """1/2 sum h_k theta_k^2 + theta^T noise_i, h_k = 1/k, k = 1..100."""
    h = 1 / jnp.arange(1, 101)
    chunks = jax.tree.map(jnp.asarray, in_chunks({"inputs": examples}, 64))

    def outputs(theta, chunk):
        return 0.5 * jnp.sum(h * theta**2) + chunk["inputs"] @ theta

    def total(outputs, chunk):
        return jnp.sum(chunk["weights"] * outputs), jnp.sum(chunk["weights"])

    return Problem(outputs, total, chunks)


def test_the_noisy_quadratic_models_trace_is_known():
    """Noise +-sqrt(100 h_k) e_k has mean 0 and covariance exactly H = diag(1/k); trace 5.18738."""
    h = 1 / np.arange(1, 101)
    noise = np.diag(np.sqrt(100 * h))
    found = gradient_statistics(quadratic(np.concatenate([noise, -noise])), jnp.ones(100))
    assert found.trace * 199 / 200 == pytest.approx(5.18738, abs=FIVE_DECIMALS)
    assert found.standard_error(1) ** 2 == pytest.approx(5.18738, abs=FIVE_DECIMALS)
    assert found.squared_norm == pytest.approx(np.sum(h**2))
    variance = 200 / 199 * np.sum(h**3)  # G^T Sigma G with G = H 1
    expected = variance / np.sum(h**2) ** 2
    assert found.inner_product_test(1.0) == pytest.approx(expected)


def test_alignments_are_the_cosines_of_neighbours():
    gradients = [{"a": jnp.array(v)} for v in ([1.0, 0.0], [2.0, 2.0], [-1.0, -1.0], [0.0, 0.0])]
    np.testing.assert_allclose(alignments(gradients), [np.sqrt(0.5), -1, np.nan], rtol=FLOAT64)


def test_bad_input_is_refused_in_one_line():
    problem, params = tiny()
    statistics = gradient_statistics(problem, params)
    with pytest.raises(ValueError, match="theta must be positive and finite, got 0"):
        statistics.norm_test(0)
    with pytest.raises(ValueError, match=r"batch_size must lie in 1\.\.23, got 24"):
        statistics.standard_error(24, replacement=False)
    with pytest.raises(ValueError, match=r"batch_size must lie in 1\.\.23, got 0"):
        measured_errors(problem, params, 0, (4, 0))
    with pytest.raises(ValueError, match="at least two examples, got 1"):
        gradient_statistics(quadratic(np.ones((1, 100))), jnp.ones(100))
    with pytest.raises(ValueError, match="must be finite, got nan"):
        gradient_statistics(problem, jax.tree.map(lambda x: x * jnp.nan, params))
    with pytest.raises(ValueError, match="got float16"):
        gradient_statistics(problem, jax.tree.map(lambda x: x.astype(jnp.float16), params))
    with pytest.raises(ValueError, match="needs two gradients, got 1"):
        alignments([params])
