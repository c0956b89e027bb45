"""Keskar's sharpness against maxima that are known exactly, in float64."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.tolerances import FLOAT64_SUMS

from experiments.diagnostics.problem import Problem
from experiments.diagnostics.sharpness import keskar_sharpness, random_matrix

OF_A_RISE = 1e-6
"""A rise of a thousandth of the loss has three digits fewer than the maximum."""
APART = 1e-3
"""Another seed's random directions have a maximum that differs by more."""

EXACT = 1e-9
"""Relative error of a maximum at a corner of the box: rounding of float64 alone."""


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def quadratic(matrix, centre, rows=3):
    """1/2 (theta - centre)^T H (theta - centre) + 1/4, as the mean over six examples in chunks."""
    data = {
        "inputs": jnp.arange(1.0, 7).reshape(-1, rows) / 3.5,
        "weights": jnp.ones((6 // rows, rows)),
    }

    def outputs(theta, chunk):
        away = theta - centre
        return chunk["inputs"] * (0.5 * away @ matrix @ away + 0.25)

    def sums(outputs, chunk):
        return jnp.sum(chunk["weights"] * outputs), jnp.sum(chunk["weights"])

    return Problem(outputs, sums, data)


def over_vertices(matrix, centre, x, epsilon, space=None):
    """The exact maximum of the convex quadratic over the box: at one of its 2^p corners."""
    space = np.eye(len(x)) if space is None else space
    width = epsilon * (np.abs(np.linalg.pinv(space) @ x) + 1)
    corners = np.array(list(itertools.product((-1, 1), repeat=len(width)))) * width[None, :]
    away = (x - centre)[None, :] + corners @ space.T
    return 0.25 + 0.5 * np.einsum("vi,ij,vj->v", away, matrix, away).max()


def test_a_separable_quadratics_maximum_is_exact():
    """The noisy quadratic model, h_i = 1/i: every coordinate moves outwards by its own width."""
    h = 1 / np.arange(1, 101)
    x = np.linspace(-2, 2, 100)  # no coordinate is 0
    exact = 0.25 + 0.5 * np.sum(h * (np.abs(x) + 1e-3 * (np.abs(x) + 1)) ** 2)
    found = keskar_sharpness(quadratic(jnp.diag(h), 0.0), jnp.asarray(x), 0, iterations=None)
    assert found.maximum == pytest.approx(exact, rel=EXACT)
    loss = 0.25 + 0.5 * np.sum(h * x**2)
    assert found.value == pytest.approx(100 * (exact - loss) / (1 + loss), rel=OF_A_RISE)
    assert (found.space, found.dimensions, found.converged.all()) == ("full", 100, True)


def test_at_a_minimum_the_start_is_not_the_stationary_centre():
    h = 1 / np.arange(1, 13)
    found = keskar_sharpness(quadratic(jnp.diag(h), 0.0), jnp.zeros(12), 1, epsilon=0.1)
    assert found.maximum == pytest.approx(0.25 + 0.5 * 0.01 * h.sum(), rel=EXACT)
    assert found.value == pytest.approx(100 * 0.005 * h.sum() / 1.25, rel=OF_A_RISE)


@pytest.mark.parametrize("space", [None, "normal", "orthonormal"])
def test_a_convex_maximum_is_that_of_the_vertices(space):
    random = np.random.default_rng(3)
    factor = random.standard_normal((12, 12))
    matrix, x = factor @ factor.T, random.standard_normal(12)
    centre = x + random.standard_normal(12) / 100
    options = {} if space is None else {"dimensions": 5, "distribution": space}
    found = keskar_sharpness(
        quadratic(jnp.asarray(matrix), jnp.asarray(centre)), jnp.asarray(x), 7,
        epsilon=0.02, iterations=None, restarts=20, **options,
    )  # fmt: skip
    drawn = space and random_matrix(np.random.default_rng(7), 12, 5, space)
    exact = over_vertices(matrix, centre, x, 0.02, drawn)
    assert found.maximum == pytest.approx(exact, rel=EXACT)
    assert (found.maxima <= exact * (1 + EXACT)).all()
    assert found.dimensions == (12 if space is None else 5)


def test_the_result_does_not_depend_on_the_chunks_and_repeats_with_its_seed():
    h, x = jnp.diag(jnp.arange(1.0, 6)), jnp.linspace(-1, 1, 5)
    first, cut, other = (
        keskar_sharpness(quadratic(h, 0.1, rows), x, seed, iterations=1, dimensions=3)
        for rows, seed in ((6, 0), (2, 0), (6, 1))
    )
    assert first.value == pytest.approx(cut.value, rel=FLOAT64_SUMS)
    assert first.value != pytest.approx(other.value, rel=APART)


def test_bad_input_is_refused_in_one_line():
    problem, x = quadratic(jnp.eye(4), 0.0), jnp.ones(4)
    with pytest.raises(ValueError, match="dimensions must be at most the 4 parameters, got 5"):
        keskar_sharpness(problem, x, 0, dimensions=5)
    with pytest.raises(ValueError, match="float32 or float64 to be diagnosed, got float16"):
        keskar_sharpness(problem, x.astype(jnp.float16), 0)
    with pytest.raises(ValueError, match="must be finite, got nan"):
        keskar_sharpness(problem, x * jnp.nan, 0)
    with pytest.raises(ValueError, match="must exceed -1"):
        keskar_sharpness(quadratic(-100 * jnp.eye(4), 0.0), x, 0)
    with pytest.raises(ValueError, match="epsilon must be positive"):
        keskar_sharpness(problem, x, 0, epsilon=0.0)
    with pytest.raises(ValueError, match="restarts must be at least 1, got 0"):
        keskar_sharpness(problem, x, 0, restarts=0)
    steep = Problem(
        lambda theta, chunk: jnp.where(jnp.sum(theta) > 4, jnp.inf, 1.0) * chunk["inputs"],
        problem.sums,
        problem.chunks,
    )
    with pytest.raises(ValueError, match="finite in the whole box, got inf"):
        keskar_sharpness(steep, x, 0, restarts=20)
