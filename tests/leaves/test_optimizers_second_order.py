"""Newton, Newton-CG and L-BFGS against NumPy and SciPy; evaluations are counted as made."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize
from support.tolerances import FLOAT32, FLOAT64, FLOAT64_SUMS

from optimizers import OPTIMIZERS
from optimizers.second_order import function_evaluations
from workloads.models.convolution import convolve

DESCENDED = 0.02
"""What 40 steps leave of the way to the minimum, each solved to a tolerance of 1e-2."""

NAMES = [name for name, optimizer in OPTIMIZERS.items() if optimizer.needs_value_fn]

CONVERGED = 1e-3
"""Of a minimum, after the steps that the test makes."""


def logistic(size: int = 5, examples: int = 60):
    """Regularised logistic regression in float64: (loss of a parameter tree, start)."""
    random = np.random.default_rng(3)
    inputs = random.normal(size=(examples, size)) * np.geomspace(1, 10, size)
    labels = np.where(random.random(examples) < 0.5, 1.0, -1.0)

    def loss(params):
        margins = labels * (jnp.asarray(inputs) @ params["w"] + params["b"])
        penalty = 0.05 * (jnp.sum(params["w"] ** 2) + params["b"] ** 2)
        return jnp.mean(jnp.logaddexp(0.0, -margins)) + penalty

    return loss, {"b": jnp.asarray(0.0), "w": jnp.zeros(size)}


def defaults(name: str, **changes: float) -> dict[str, float]:
    rows = OPTIMIZERS[name].hyperparameters
    return {row.name: row.default for row in rows} | changes


def take_steps(name, loss, params, steps, **changes):
    """(parameters, state) after full-batch steps."""
    rule = OPTIMIZERS[name].transformation(defaults(name, **changes))

    def step(carry, _):
        params, state = carry
        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = rule.update(gradient, state, params, value=value, value_fn=loss)
        return (optax.apply_updates(params, updates), state), None

    train = jax.jit(lambda params: jax.lax.scan(step, (params, rule.init(params)), length=steps)[0])
    return train(params)


def test_newton_step_solves_the_damped_system():
    with jax.enable_x64(True):
        loss, start = logistic()
        flat, unravel = jax.flatten_util.ravel_pytree(start)
        of_vector = lambda w: loss(unravel(w))
        gradient = np.asarray(jax.jit(jax.grad(of_vector))(flat))
        hessian = np.asarray(jax.jit(jax.hessian(of_vector))(flat))
        moved, state = take_steps("newton", loss, start, 1, damping=0.1)
        wanted = -np.linalg.solve(hessian + 0.1 * np.eye(flat.size), gradient)
        np.testing.assert_allclose(jax.flatten_util.ravel_pytree(moved)[0], wanted, rtol=FLOAT64)
        assert function_evaluations(state) == 1 + flat.size


def test_hessian_free_step_is_newtons_when_solved_tightly():
    with jax.enable_x64(True):
        loss, start = logistic()
        newton, _ = take_steps("newton", loss, start, 1, damping=0.1)
        free, state = take_steps("hessian_free", loss, start, 1, damping=0.1, tolerance=1e-12)
        for one, other in zip(jax.tree.leaves(newton), jax.tree.leaves(free), strict=True):
            np.testing.assert_allclose(one, other, rtol=FLOAT64_SUMS)
        # Conjugate gradients end in at most n products; one trial of the line search.
        assert 1 + 1 + 1 <= function_evaluations(state) <= 1 + 6 + 2


@pytest.mark.parametrize("name", ["newton", "hessian_free"])
def test_finds_the_minimum_that_scipy_finds(name):
    with jax.enable_x64(True):
        loss, start = logistic()
        flat, unravel = jax.flatten_util.ravel_pytree(start)
        wanted = scipys_minimum(jax.jit(jax.value_and_grad(lambda w: loss(unravel(w)))), flat)
        params, _ = take_steps(name, loss, start, 25)
        assert abs(float(loss(params)) - wanted) < FLOAT64_SUMS


@pytest.mark.parametrize("name", ["lbfgs", "hessian_free"])
def test_evaluations_counted_are_evaluations_made(name):
    calls = []
    loss, start = logistic()

    def counted(params):
        jax.debug.callback(lambda: calls.append(1))
        return loss(params)

    _, state = take_steps(name, counted, start, 5)
    jax.effects_barrier()
    assert function_evaluations(state) == len(calls)


@pytest.mark.parametrize("name", NAMES)
def test_packed_equals_single_without_recompilation(name):
    """In float64: in float32 rounding decides when a line search near the minimum gives up."""
    with jax.enable_x64(True):
        loss, start = logistic()
        traces = []

        def train(hp):
            traces.append(1)
            rule = OPTIMIZERS[name].transformation(hp)

            def step(carry, _):
                params, state = carry
                value, gradient = jax.value_and_grad(loss)(params)
                updates, state = rule.update(gradient, state, params, value=value, value_fn=loss)
                return (optax.apply_updates(params, updates), state), value

            (params, state), _ = jax.lax.scan(step, (start, rule.init(start)), length=3)
            return loss(params), function_evaluations(state)

        single = jax.jit(train)
        choices = [defaults(name), {key: 0.5 * value for key, value in defaults(name).items()}]
        choices = [jax.tree.map(jnp.float64, hp) for hp in choices]
        alone = [single(hp) for hp in choices]
        assert len(traces) == 1
        losses, counts = jax.jit(jax.vmap(train))(jax.tree.map(lambda *v: jnp.stack(v), *choices))
        np.testing.assert_allclose(losses, [value for value, _ in alone], rtol=FLOAT64_SUMS)
        np.testing.assert_array_equal(counts, [count for _, count in alone])


def test_lbfgs_direction_is_the_two_loop_recursion_and_its_length_a_wolfe_step():
    """Displacements lie along -H g of NumPy's two-loop recursion to 1e-10 and satisfy the strong
    Wolfe conditions (1e-4, 0.9)."""
    with jax.enable_x64(True):
        loss, start = logistic()
        flat, unravel = jax.flatten_util.ravel_pytree(start)
        of_vector = jax.jit(jax.value_and_grad(lambda w: loss(unravel(w))))
        rule = OPTIMIZERS["lbfgs"].transformation(defaults("lbfgs"))
        step = jax.jit(
            lambda w, state, value, gradient: rule.update(
                gradient, state, w, value=value, value_fn=lambda v: loss(unravel(v))
            )
        )
        w, state, pairs = flat, rule.init(flat), []
        value, gradient = of_vector(w)
        for number in range(20):
            updates, state = step(w, state, value, gradient)
            new_value, new_gradient = of_vector(w + updates)
            p = np.asarray(updates)
            if number:  # the first direction is g scaled, its length a matter of convention
                direction = -two_loop(np.asarray(gradient), pairs[-10:])
                cosine = p @ direction / np.linalg.norm(p) / np.linalg.norm(direction)
                assert cosine > 1 - 1e-10
            slope, new_slope = float(gradient @ updates), float(new_gradient @ updates)
            assert new_value <= value + 1e-4 * slope
            assert abs(new_slope) <= 0.9 * abs(slope)
            pairs.append((p, np.asarray(new_gradient - gradient)))
            w, value, gradient = w + updates, new_value, new_gradient
        assert abs(float(value) - scipys_minimum(of_vector, flat)) < FLOAT64_SUMS


def scipys_minimum(value_and_gradient, start) -> float:
    """Least value that SciPy's L-BFGS-B finds."""
    method = {"jac": True, "method": "L-BFGS-B", "tol": 1e-14}
    return scipy.optimize.minimize(value_and_gradient, start, **method).fun


def two_loop(q: np.ndarray, pairs: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """H q, Nocedal and Wright 2006, algorithm 7.4, H0 = s.y / y.y of the last pair."""
    alphas = []
    for s, y in reversed(pairs):
        alpha = s @ q / (y @ s)
        q = q - alpha * y
        alphas.append(alpha)
    s, y = pairs[-1]
    r = s @ y / (y @ y) * q
    for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
        r = r + s * (alpha - y @ r / (y @ s))
    return r


@pytest.mark.parametrize("scale", [1e-20, 1e-10, 1.0, 1e10, 1e16])
def test_newton_cg_goes_as_at_scale_one_in_float32(scale):
    """Rosenbrock's function times a scale, undamped: gradients whose squares overflow or vanish."""

    def loss(w):
        return scale * (100 * (w[1] - w[0] ** 2) ** 2 + (1 - w[0]) ** 2)

    values = {"learning_rate": 1.0, "damping": 0.0, "tolerance": 1e-2}
    rule = OPTIMIZERS["hessian_free"].transformation(values)

    @jax.jit
    def step(w, state):
        value, gradient = jax.value_and_grad(loss)(w)
        updates, state = rule.update(gradient, state, w, value=value, value_fn=loss)
        return w + updates, state

    w = jnp.asarray([-1.2, 1.0], jnp.float32)
    state = rule.init(w)
    for _ in range(40):
        w, state = step(w, state)
    np.testing.assert_allclose(w, [1.0, 1.0], atol=DESCENDED)


@pytest.mark.parametrize("name", ["newton", "hessian_free"])
def test_a_convolution_whose_gradient_is_our_own_is_solved_too(name):
    """A loss quadratic in the kernel: one step ends where its gradient is zero."""
    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 5, 5, 1)))

        def loss(kernel):
            return jnp.mean((convolve(x, kernel) - 1.0) ** 2)

        settings = {"damping": 0.0} | ({"tolerance": 1e-12} if name == "hessian_free" else {})
        start = jnp.zeros((2, 2, 1, 1))
        kernel, _ = take_steps(name, loss, start, 1, learning_rate=1.0, **settings)
        assert float(jnp.abs(jax.grad(loss)(kernel)).max()) < FLOAT64_SUMS


def test_lbfgs_stays_where_the_loss_is_defined():
    """-log(1 - x) - 100 x falls towards the border of its domain: least at x = .99."""
    x, _ = take_steps("lbfgs", lambda x: -jnp.log(1 - x) - 100 * x, jnp.asarray(0.0), 30)
    assert float(x) == pytest.approx(0.99, abs=FLOAT32)


def test_negative_curvature_still_descends():
    """At a saddle's shoulder Newton climbs towards the saddle, Newton-CG goes down."""

    def saddle(params):
        x, y = params
        return 0.5 * x**2 - 0.5 * y**2 + 0.25 * y**4

    start = jnp.asarray([1.0, 0.1])
    newton, _ = take_steps("newton", saddle, start, 5, damping=0.0)
    free, _ = take_steps("hessian_free", saddle, start, 20, damping=0.0)
    np.testing.assert_allclose(newton, [0.0, 0.0], atol=FLOAT32)
    np.testing.assert_allclose(np.abs(free), [0.0, 1.0], atol=CONVERGED)
