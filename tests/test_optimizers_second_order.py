"""Newton, Newton-CG and L-BFGS against NumPy and SciPy; evaluations are counted as made."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize

from optimizers import OPTIMIZERS
from optimizers.second_order import function_evaluations

NAMES = [name for name, optimizer in OPTIMIZERS.items() if optimizer.needs_loss]


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
    rule = OPTIMIZERS[name].transformation(defaults(name, **changes))
    state = rule.init(params)

    @jax.jit
    def step(params, state):
        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = rule.update(gradient, state, params, value=value, value_fn=loss)
        return optax.apply_updates(params, updates), state

    for _ in range(steps):
        params, state = step(params, state)
    return params, state


def test_newton_step_solves_the_damped_system():
    with jax.enable_x64(True):
        loss, start = logistic()
        flat, unravel = jax.flatten_util.ravel_pytree(start)
        gradient = np.asarray(jax.grad(lambda w: loss(unravel(w)))(flat))
        hessian = np.asarray(jax.hessian(lambda w: loss(unravel(w)))(flat))
        moved, state = take_steps("newton", loss, start, 1, damping=0.1)
        wanted = -np.linalg.solve(hessian + 0.1 * np.eye(flat.size), gradient)
        np.testing.assert_allclose(jax.flatten_util.ravel_pytree(moved)[0], wanted, rtol=1e-12)
        assert function_evaluations(state) == 1 + flat.size


def test_hessian_free_step_is_newtons_when_solved_tightly():
    with jax.enable_x64(True):
        loss, start = logistic()
        newton, _ = take_steps("newton", loss, start, 1, damping=0.1)
        free, state = take_steps("hessian_free", loss, start, 1, damping=0.1, tolerance=1e-12)
        for one, other in zip(jax.tree.leaves(newton), jax.tree.leaves(free), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9)
        # Conjugate gradients end in at most n products; one trial of the line search.
        assert 1 + 1 + 1 <= function_evaluations(state) <= 1 + 6 + 2


@pytest.mark.parametrize("name", NAMES)
def test_finds_the_minimum_that_scipy_finds(name):
    with jax.enable_x64(True):
        loss, start = logistic()
        flat, unravel = jax.flatten_util.ravel_pytree(start)
        wanted = scipy.optimize.minimize(
            jax.jit(lambda w: loss(unravel(w))), flat, jac=jax.jit(jax.grad(lambda w: loss(unravel(w)))),
            method="L-BFGS-B", tol=1e-14,
        )  # fmt: skip
        params, _ = take_steps(name, loss, start, 30)
        assert abs(float(loss(params)) - wanted.fun) < 1e-9


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


def test_negative_curvature_still_descends():
    """At a saddle's shoulder Newton climbs towards the saddle, Newton-CG goes down."""

    def saddle(params):
        x, y = params
        return 0.5 * x**2 - 0.5 * y**2 + 0.25 * y**4

    start = jnp.asarray([1.0, 0.1])
    newton, _ = take_steps("newton", saddle, start, 5, damping=0.0)
    free, _ = take_steps("hessian_free", saddle, start, 20, damping=0.0)
    np.testing.assert_allclose(newton, [0.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(np.abs(free), [0.0, 1.0], atol=1e-3)
