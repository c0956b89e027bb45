"""Noise scales in dual norms against explicit gradients, and against what batches really do."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.diagnostics.dual_noise import DualNoise, dual_noise
from experiments.diagnostics.gradient_statistics import gradient_statistics
from experiments.diagnostics.problem import Problem, in_chunks


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def linear(gradients, rows):
    """A problem whose example i has the gradient ``gradients[i]`` {name: [N, ...]}, wherever."""
    chunks = jax.tree.map(jnp.asarray, in_chunks(gradients, rows))
    names = list(gradients)

    def outputs(params, chunk):
        return sum(
            jnp.sum(params[name][None] * chunk[name], axis=tuple(range(1, chunk[name].ndim)))
            for name in names
        )

    def sums(outputs, chunk):
        return jnp.sum(chunk["weights"] * outputs), jnp.sum(chunk["weights"])

    params = {name: jnp.zeros(gradients[name].shape[1:]) for name in names}
    return Problem(outputs, sums, chunks), params


def drawn(n=40):
    random = np.random.default_rng(0)
    return {
        "bias": random.normal(0.3, 1.0, (n, 3)),
        "kernel": random.normal(0.1, 2.0, (n, 2, 5)),
        "filters": random.normal(0.0, 0.5, (n, 2, 2, 3)),
    }


@pytest.mark.parametrize("rows", [40, 7])
def test_they_are_the_moments_of_the_examples_gradients(rows):
    gradients = drawn()
    found = dual_noise(*linear(gradients, rows))
    flat = np.concatenate([g.reshape(40, -1) for g in gradients.values()], axis=1)
    sigma, mean = flat.std(axis=0, ddof=1), flat.mean(axis=0)
    assert found["euclidean"].error == pytest.approx(math.sqrt(np.sum(sigma**2)))
    assert found["euclidean"].length == pytest.approx(np.linalg.norm(mean))
    assert found["sign"].error == pytest.approx(sigma.sum())
    assert found["sign"].length == pytest.approx(np.abs(mean).sum())
    error = length = 0.0
    for array in (gradients["bias"][:, None, :], gradients["kernel"],
                  gradients["filters"].reshape(40, 4, 3)):  # fmt: skip
        away = array - array.mean(axis=0, keepdims=True)
        sides = [np.einsum("nij,nkj->ik", away, away), np.einsum("nij,nik->jk", away, away)]
        small = min(sides, key=len) / 39
        error += np.sqrt(np.linalg.eigvalsh(small).clip(0)).sum()
        length += np.linalg.svd(array.mean(axis=0), compute_uv=False).sum()
    assert found["spectral"].error == pytest.approx(error)
    assert found["spectral"].length == pytest.approx(length)


def test_the_euclidean_one_is_that_of_the_gradient_statistics():
    problem, params = linear(drawn(), 40)
    statistics = gradient_statistics(problem, params)
    scale = dual_noise(problem, params)["euclidean"].scale
    assert scale == pytest.approx(statistics.trace / statistics.squared_norm)


def test_the_errors_of_batches_lie_below_the_bounds_and_near_them():
    """Gaussian coordinates: E |x| is sqrt(2/pi) of the bound; the nuclear norm's lies near it."""
    random = np.random.default_rng(3)
    gradients = {"kernel": random.normal(0.2, 1.0, (4000, 3, 30))}
    bounds = dual_noise(*linear(gradients, 4000))
    mean, size = gradients["kernel"].mean(axis=0), 16
    batches = random.choice(4000, (400, size))
    away = gradients["kernel"][batches].mean(axis=1) - mean
    errors = {
        "sign": np.abs(away).sum(axis=(1, 2)).mean(),
        "spectral": np.linalg.svd(away, compute_uv=False).sum(axis=1).mean(),
    }
    for name, least in (("sign", math.sqrt(2 / math.pi) * 0.98), ("spectral", 0.95)):
        bound = bounds[name].error / math.sqrt(size)
        assert least * bound < errors[name] < bound


def test_without_a_gradient_it_is_infinite_and_one_example_has_no_covariance():
    assert DualNoise(1.0, 0.0).scale == math.inf
    one = {"bias": np.ones((1, 3))}
    with pytest.raises(ValueError, match="a covariance needs at least two examples, got 1"):
        dual_noise(*linear(one, 1))
