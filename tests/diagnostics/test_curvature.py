"""Curvature against jax.hessian in float64, and against spectra that are known."""

from __future__ import annotations

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.tolerances import FLOAT64, FLOAT64_ROUNDING, FLOAT64_SUMS

from experiments.diagnostics.curvature.lanczos import hutchinson_trace, ritz, xtrace
from experiments.diagnostics.curvature.operators import (
    block,
    gauss_newton,
    hessian,
    preconditioned,
)
from experiments.diagnostics.curvature.spectrum import ends, largest_eigenvalues, spectral_density
from experiments.diagnostics.problem import Problem, flat, in_chunks
from workloads.losses import softmax_cross_entropy
from workloads.models.convolution import convolve

LAST = 1e-4
"""The smallest of 100 eigenvalues: the last to converge, a hundredth of the largest."""

SIZES = (8, 12, 6)
LANCZOS = 1e-6
"""Relative error of converged Ritz values in float64, far above rounding."""


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def net(params, chunk):
    hidden = jnp.tanh(chunk["inputs"] @ params["w1"] + params["b1"][None, :])
    return hidden @ params["w2"] + params["b2"][None, :]


def sums(outputs, chunk):
    losses = softmax_cross_entropy(outputs, chunk["targets"])
    return jnp.sum(chunk["weights"] * losses), jnp.sum(chunk["weights"])


def digits_like(rows, examples=50):
    """A small classification problem and its parameters, in float64."""
    generator = np.random.default_rng(0)
    data = {
        "inputs": generator.normal(size=(examples, SIZES[0])),
        "targets": generator.integers(0, SIZES[2], examples),
    }
    params = {
        "w1": generator.normal(size=SIZES[:2]) / 4,
        "b1": generator.normal(size=SIZES[1]) / 10,
        "w2": generator.normal(size=SIZES[1:]) / 5,
        "b2": generator.normal(size=SIZES[2]) / 10,
    }
    chunks = jax.tree.map(jnp.asarray, in_chunks(data, rows))
    return Problem(net, sums, chunks), jax.tree.map(jnp.asarray, params)


def dense(operator, n):
    return np.asarray(jax.jit(jax.vmap(operator, out_axes=1))(jnp.eye(n)))


@pytest.fixture(scope="module")
def exact():
    """(Hessian, Gauss-Newton matrix) of the whole problem by jax.hessian and explicit Jacobians."""
    with jax.enable_x64(True):
        problem, params = digits_like(rows=50)
        theta, unflat = flat(params)
        data = jax.tree.map(lambda x: x[0], problem.chunks)

        def loss(vector):
            total, count = sums(net(unflat(vector), data), data)
            return total / count

        jacobian = jax.jit(jax.jacfwd(lambda v: net(unflat(v), data)))(theta)  # [B, K, n]
        probabilities = jax.nn.softmax(net(params, data), axis=-1)
        inner = jax.vmap(lambda p: jnp.diag(p) - jnp.outer(p, p))(probabilities)
        newton = jnp.einsum("bkn,bkl,blm->nm", jacobian, inner, jacobian) / len(probabilities)
        return np.asarray(jax.jit(jax.hessian(loss))(theta)), np.asarray(newton)


@pytest.mark.parametrize("rows", [50, 20])
def test_products_are_those_of_the_dense_matrices_in_any_chunks(exact, rows):
    problem, params = digits_like(rows)
    n = flat(params)[0].size
    np.testing.assert_allclose(dense(hessian(problem, params), n), exact[0], atol=FLOAT64)
    np.testing.assert_allclose(dense(gauss_newton(problem, params), n), exact[1], atol=FLOAT64)


def test_nets_of_convolutions_have_the_products_of_ones_that_can_be_differentiated_forwards():
    """Ours have a reverse rule alone; XLA's own have both."""

    def with_convolution(convolution):
        def outputs(params, chunk):
            hidden = jnp.tanh(convolution(chunk["inputs"], params["kernel"]))
            return hidden.mean(axis=(1, 2)) @ params["w"]

        return outputs

    random = np.random.default_rng(0)
    data = {"inputs": random.normal(size=(7, 4, 4, 1)), "targets": random.integers(0, 3, 7)}
    params = {"kernel": random.normal(size=(3, 3, 1, 2)), "w": random.normal(size=(2, 3))}
    params, chunks = jax.tree.map(jnp.asarray, (params, in_chunks(data, 4)))
    n = flat(params)[0].size
    usual = functools.partial(
        jax.lax.conv_general_dilated, window_strides=(1, 1), padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip
    for make in (hessian, gauss_newton):
        ours, xlas = (
            dense(make(Problem(with_convolution(c), sums, chunks), params), n)
            for c in (convolve, usual)
        )
        assert np.abs(xlas).max() > 0.01
        np.testing.assert_allclose(ours, xlas, atol=FLOAT64)


def test_the_top_five_of_a_net_of_2410_parameters_are_those_of_its_dense_hessian():
    from scipy.linalg import eigh

    random = np.random.default_rng(3)
    data = {"inputs": random.normal(size=(64, 64)), "targets": random.integers(0, 10, 64)}
    params = {"w1": random.normal(size=(64, 32)) / 8, "b1": np.zeros(32),
              "w2": random.normal(size=(32, 10)) / 5, "b2": np.zeros(10)}  # fmt: skip
    params, chunks = jax.tree.map(jnp.asarray, (params, in_chunks(data, 40)))
    problem = Problem(net, sums, chunks)
    theta, unflat = flat(params)
    assert theta.size == 2410
    matrix = jax.jit(jax.hessian(lambda v: problem.loss(unflat(v))))(theta)
    true = eigh(np.asarray(matrix), eigvals_only=True, subset_by_index=[2405, 2409])
    found, _ = largest_eigenvalues(hessian(problem, params), theta, jax.random.key(0), 5)
    np.testing.assert_allclose(found, true[::-1], rtol=LANCZOS)


def test_loss_and_gradient_do_not_depend_on_the_chunks():
    (whole, params), (cut, _) = digits_like(50), digits_like(7)
    np.testing.assert_allclose(whole.loss(params), cut.loss(params), rtol=FLOAT64_ROUNDING)
    pair = whole.gradient(params), cut.gradient(params)
    for one, other in zip(*map(jax.tree.leaves, pair), strict=True):
        np.testing.assert_allclose(one, other, atol=FLOAT64_ROUNDING)


def test_the_top_five_and_both_ends_are_those_of_the_hessian(exact):
    problem, params = digits_like(50)
    like, true = flat(params)[0], np.linalg.eigvalsh(exact[0])
    operator = hessian(problem, params)
    found, errors = largest_eigenvalues(operator, like, jax.random.key(0), 5)
    np.testing.assert_allclose(found, true[::-1][:5], rtol=LANCZOS)
    assert (np.asarray(errors) < LANCZOS).all()
    both = ends(operator, like, jax.random.key(1), order=90)
    assert both.smallest < 0 < both.largest  # an indefinite matrix, both ends named
    np.testing.assert_allclose((both.largest, both.smallest), true[[-1, 0]], rtol=LANCZOS)


def test_the_preconditioned_spectrum_is_that_of_the_divided_matrix(exact):
    problem, params = digits_like(50)
    like = flat(params)[0]
    diagonal = jnp.linspace(0.5, 2.0, like.size)
    operator = preconditioned(hessian(problem, params), diagonal)
    found, _ = largest_eigenvalues(operator, like, jax.random.key(0), 3)
    true = np.linalg.eigvals(exact[0] / np.asarray(diagonal)[:, None]).real
    np.testing.assert_allclose(found, np.sort(true)[::-1][:3], rtol=LANCZOS)


def test_a_block_is_the_matrix_of_its_parameters(exact):
    problem, params = digits_like(50)
    like = flat(params)[0]
    inside = np.zeros(like.size, bool)
    inside[: SIZES[1]] = True  # b1 comes first in the flat order
    operator = block(hessian(problem, params), inside)
    found = ends(operator, like[inside], jax.random.key(0), order=SIZES[1])
    true = np.linalg.eigvalsh(exact[0][np.ix_(inside, inside)])
    np.testing.assert_allclose(found.largest, true[-1], rtol=LANCZOS)
    np.testing.assert_allclose(found.smallest, true[0], rtol=LANCZOS)


def test_traces_lie_within_their_errors(exact):
    problem, params = digits_like(50)
    like, operator = flat(params)[0], hessian(problem, params)
    rough = hutchinson_trace(operator, like, jax.random.key(0), 100)
    fine = xtrace(operator, like, jax.random.key(0), 50)
    truth = np.trace(exact[0])
    assert abs(rough.value - truth) < 4 * rough.error
    assert abs(fine.value - truth) < 4 * fine.error


def quadratic(spectrum):
    return lambda v: jnp.asarray(spectrum) * v


def test_the_noisy_quadratic_models_spectrum():
    """h_i = 1/i, i = 1..100: ends 1 and 0.01, second 0.5, trace 5.18738 (the harmonic number)."""
    spectrum = 1 / np.arange(1, 101)
    like, operator = jnp.zeros(100), quadratic(spectrum)
    found, _ = largest_eigenvalues(operator, like, jax.random.key(0), 2)
    np.testing.assert_allclose(found, [1, 0.5], rtol=LANCZOS)
    np.testing.assert_allclose(
        ends(operator, like, jax.random.key(0), 100).smallest, 0.01, rtol=LAST
    )
    # Random signs see the trace of a diagonal matrix exactly: turn it.
    basis = jnp.asarray(np.linalg.qr(np.random.default_rng(0).normal(size=(100, 100)))[0])
    turned = lambda v: basis @ (operator(basis.T @ v))
    fine = xtrace(turned, like, jax.random.key(0), 20)
    rough = hutchinson_trace(turned, like, jax.random.key(0), 40)
    for trace in (fine, rough):
        assert abs(trace.value - 5.1873775) < 4 * trace.error
    assert fine.error < rough.error / 2  # the same 40 products: a decaying spectrum is deflated


@pytest.mark.parametrize(
    ("spectrum", "smallest", "largest"),
    [
        (np.zeros(12), 0, 0),
        (np.r_[np.zeros(9), 1, 2, 5], 0, 5),
        (np.r_[np.full(6, 3.0), np.full(6, -4.0)], -4, 3),
        (np.array([7.0]), 7, 7),
    ],
)
def test_few_distinct_values_and_the_zero_matrix_end_lanczos_early(spectrum, smallest, largest):
    found = ends(quadratic(spectrum), jnp.zeros(len(spectrum)), jax.random.key(0), order=30)
    np.testing.assert_allclose(
        (found.smallest, found.largest), (smallest, largest), atol=FLOAT64, rtol=LANCZOS
    )
    weights = ritz(quadratic(spectrum), jnp.ones(len(spectrum)), 30).weights
    np.testing.assert_allclose(weights.sum(), 1, rtol=FLOAT64)


def test_the_density_has_integral_one_and_the_moments_of_the_matrix(exact):
    problem, params = digits_like(50)
    like, operator = flat(params)[0], hessian(problem, params)
    found = spectral_density(operator, like, jax.random.key(0), draws=8, order=40, points=2000)
    np.testing.assert_allclose(np.trapezoid(found.density, found.values), 1, rtol=FLOAT64)
    np.testing.assert_allclose(found.weights.sum(axis=1), 1, rtol=FLOAT64)
    # k Lanczos steps are exact for v^T A^p v up to p = 2k - 1; what is left is the draws' error.
    for power in (1, 2):
        per_draw = (found.weights * found.nodes**power).sum(axis=1)
        error = per_draw.std(ddof=1) / np.sqrt(len(per_draw))
        truth = np.trace(np.linalg.matrix_power(exact[0], power)) / like.size
        assert abs(found.moment(power) - truth) < 5 * error


def test_a_density_of_known_points_is_their_gaussians_with_the_references_constants():
    """Ghorbani et al.: variance 1e-5 max(1, range); 10,000 points; here to 5 deviations beyond."""
    spectrum = np.r_[np.full(30, -1.0), np.full(10, 4.0)]
    found = spectral_density(
        quadratic(spectrum), jnp.zeros(40), jax.random.key(0), draws=1, sigma_squared=1e-3
    )
    assert len(found.values) == 10_000
    beyond = 5 * np.sqrt(1e-3 * 5)
    np.testing.assert_allclose(found.values[[0, -1]], [-1 - beyond, 4 + beyond], atol=FLOAT64_SUMS)
    kept = found.weights[0] > 1e-8
    np.testing.assert_allclose(found.nodes[0][kept], [-1, 4], atol=FLOAT64_SUMS)
    variance = 1e-3 * 5
    bells = sum(
        weight * np.exp(-0.5 * (found.values - node) ** 2 / variance)
        for weight, node in zip(found.weights[0][kept], (-1, 4), strict=True)
    )
    np.testing.assert_allclose(
        found.density, bells / np.trapezoid(bells, found.values), atol=FLOAT64_SUMS
    )
    assert inspect.signature(spectral_density).parameters["sigma_squared"].default == 1e-5


def test_an_eigenvalue_that_stands_alone_keeps_its_mass_however_wide_the_spectrum():
    """The references' Gaussian is narrower than a step of the grid once the range passes 1,000."""
    spectrum = np.r_[np.linspace(0, 1, 39), 1e5]
    found = spectral_density(quadratic(spectrum), jnp.zeros(40), jax.random.key(0), draws=1)
    beyond = found.values > 5e4
    mass = np.trapezoid(found.density[beyond], found.values[beyond])
    largest = found.weights[0][found.nodes[0] > 5e4].sum()
    np.testing.assert_allclose(mass, largest, rtol=LANCZOS)
    assert largest > 1e-3


def test_bad_numbers_are_refused_in_one_line():
    with pytest.raises(ValueError, match=r"count must lie in 1\.\.4 .* got 5"):
        largest_eigenvalues(quadratic(np.ones(4)), jnp.zeros(4), jax.random.key(0), 5)
    with pytest.raises(ValueError, match="draws must be at least 1"):
        spectral_density(quadratic(np.ones(4)), jnp.zeros(4), jax.random.key(0), draws=0)
    with pytest.raises(ValueError, match="rows of a chunk must be at least 1"):
        in_chunks({"inputs": np.ones((3, 2))}, 0)
    with pytest.raises(ValueError, match="at least one example"):
        in_chunks({"inputs": np.ones((0, 2))}, 4)
