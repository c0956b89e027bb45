"""Scaled sharpness: exact on separable quadratics, and what rescaling a ReLU net leaves alone."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.diagnostics.problem import Problem
from experiments.diagnostics.scaled_sharpness import (
    filter_normalised_sharpness,
    relative_sharpness,
)
from experiments.diagnostics.sharpness import keskar_sharpness

EXACT = 1e-9
"""Relative error of a maximum at a corner of the box: rounding of float64 alone."""
SAME = 1e-7
"""Two searches that differ by roundings of the parameters' scale, in float64."""


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def of(function):
    """``function(params)`` as the mean over one example."""
    chunks = {"inputs": jnp.ones((1, 1)), "weights": jnp.ones((1, 1))}
    return Problem(
        lambda params, chunk: function(params) * chunk["inputs"],
        lambda outputs, chunk: (jnp.sum(outputs), jnp.sum(chunk["weights"])),
        chunks,
    )


def test_a_separable_quadratics_relative_maximum_is_exact():
    h, x = 1 / np.arange(1, 31), np.linspace(-2, 2, 30)
    problem = of(lambda theta: 0.25 + 0.5 * jnp.sum(h * theta**2))
    found = relative_sharpness(problem, jnp.asarray(x), 0, epsilon=0.1, iterations=None)
    exact = 0.25 + 0.5 * np.sum(h * (1.1 * x) ** 2)
    assert found.maximum == pytest.approx(exact, rel=EXACT)
    assert (found.space, found.dimensions) == ("relative", 30)


def test_a_filters_box_is_as_wide_as_its_root_mean_square_and_vectors_stay():
    """A quadratic with its minimum at 0: every entry moves outwards by epsilon times the root mean
    square of its column; biases by nothing."""
    kernel = np.random.default_rng(0).normal(size=(4, 3))
    kernel += np.sign(kernel)  # no entry's box reaches across 0
    params = {"bias": jnp.ones(3), "kernel": jnp.asarray(kernel)}
    problem = of(lambda p: 0.5 * jnp.sum(p["kernel"] ** 2) + 5 * jnp.sum(p["bias"] ** 2))
    found = filter_normalised_sharpness(problem, params, 0, epsilon=0.2, iterations=None)
    width = 0.2 * np.sqrt(np.mean(kernel**2, axis=0, keepdims=True))
    exact = 0.5 * np.sum((np.abs(kernel) + width) ** 2) + 15
    assert found.maximum == pytest.approx(exact, rel=EXACT)


def relu_net(scales):
    """A ReLU net whose hidden units are multiplied by ``scales`` and divided again."""
    random = np.random.default_rng(1)
    x, y = random.normal(size=(20, 5)), random.normal(size=(20, 2))
    first, second = random.normal(size=(5, 6)), random.normal(size=(6, 2))

    def loss(p):
        return jnp.mean((jax.nn.relu(x @ p["first"]) @ p["second"] - y) ** 2)

    params = {"first": first * scales[None, :], "second": second / scales[:, None]}
    return of(loss), jax.tree.map(jnp.asarray, params)


def test_what_rescaling_leaves_alone():
    units, layer = np.array([0.1, 0.5, 1.0, 2.0, 5.0, 10.0]), np.full(6, 30.0)
    plain = relu_net(np.ones(6))
    base = [f(*plain, 3).value for f in (relative_sharpness, filter_normalised_sharpness)]
    assert relative_sharpness(*relu_net(units), 3).value == pytest.approx(base[0], rel=SAME)
    assert relative_sharpness(*relu_net(layer), 3).value == pytest.approx(base[0], rel=SAME)
    filters = filter_normalised_sharpness(*relu_net(layer), 3)
    assert filters.value == pytest.approx(base[1], rel=SAME)
    keskar = keskar_sharpness(*plain, 3).value, keskar_sharpness(*relu_net(layer), 3).value
    assert keskar[1] > 1.5 * keskar[0]


@pytest.mark.parametrize("measure", [relative_sharpness, filter_normalised_sharpness])
def test_bad_numbers_are_refused_in_one_line(measure):
    problem, params = relu_net(np.ones(6))
    with pytest.raises(ValueError, match=r"epsilon must be positive and finite, got -1"):
        measure(problem, params, 0, epsilon=-1)
    coarse = jax.tree.map(lambda x: x.astype(jnp.float16), params)
    with pytest.raises(ValueError, match="float32 or float64 to be diagnosed, got float16"):
        measure(problem, coarse, 0)
