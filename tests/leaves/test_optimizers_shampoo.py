"""Shampoo's roots, its behaviour at zero, and axes too long for a preconditioner."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.tolerances import FIVE_DECIMALS, FLOAT32, FLOAT32_SOLVES

from optimizers import OPTIMIZERS
from optimizers.shampoo import LARGEST_AXIS, inverse_root

ROOT = jax.jit(inverse_root, static_argnums=1)
HYPERPARAMETERS = {"learning_rate": 0.1, "momentum": 0.0, "epsilon": 1e-2}


def statistics(size: int, rank: int, scale: float) -> np.ndarray:
    factor = scale * np.random.default_rng(size).normal(size=(size, rank))
    return factor @ factor.T


@pytest.mark.parametrize("root", [2, 4])
@pytest.mark.parametrize(("epsilon", "tolerance"), [(1e-2, 1e-5), (1e-4, 1e-4), (1e-6, 1e-2)])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_float32_roots_are_as_exact_as_stated(root, epsilon, tolerance, scale):
    """Rank 3 of 24, the worst case: the smallest eigenvalue is the ridge alone."""
    given = statistics(24, 3, scale)
    values, vectors = np.linalg.eigh(given + epsilon * np.linalg.norm(given) * np.eye(24))
    wanted = vectors @ np.diag(values ** (-1 / root)) @ vectors.T
    got = ROOT(jnp.asarray(given, jnp.float32), root, epsilon)
    assert np.max(np.abs(got - wanted)) < tolerance * np.max(np.abs(wanted))


def test_fourth_roots_by_hand():
    """2^(-1/4) and 8^(-1/4)."""
    root = ROOT(jnp.diag(jnp.asarray([2.0, 8.0])), 4, 0.0)
    np.testing.assert_allclose(root, np.diag([0.84090, 0.59460]), atol=FIVE_DECIMALS)


def test_root_of_nothing_is_the_identity():
    assert np.array_equal(ROOT(jnp.zeros((3, 3)), 4, 1e-4), np.eye(3))


@pytest.mark.parametrize("shape", [(4,), (3, 2), (2, 2, 1, 3)])
def test_zero_gradients_move_nothing(shape):
    params = {"w": jnp.ones(shape)}
    rule = OPTIMIZERS["shampoo"].transformation(HYPERPARAMETERS)
    updates, _ = rule.update({"w": jnp.zeros(shape)}, rule.init(params), params)
    assert np.array_equal(updates["w"], np.zeros(shape))


def test_a_long_axis_has_no_preconditioner_and_the_other_takes_the_square_root():
    long = LARGEST_AXIS + 1
    gradient = np.random.default_rng(0).normal(size=(long, 3))
    params = {"w": jnp.zeros((long, 3))}
    rule = OPTIMIZERS["shampoo"].transformation(HYPERPARAMETERS)
    state = rule.init(params)
    assert {name: slot.shape for name, slot in state.slots[0].items()} == {
        "v": (long, 3), "r": (3, 3),
    }  # fmt: skip
    updates, _ = rule.update({"w": jnp.asarray(gradient, jnp.float32)}, state, params)
    right = gradient.T @ gradient
    values, vectors = np.linalg.eigh(right + 1e-2 * np.linalg.norm(right) * np.eye(3))
    wanted = -0.1 * gradient @ vectors @ np.diag(values**-0.5) @ vectors.T
    np.testing.assert_allclose(updates["w"], wanted, rtol=FLOAT32_SOLVES, atol=FLOAT32)


def test_two_long_axes_are_treated_entrywise():
    shape = (LARGEST_AXIS + 1, LARGEST_AXIS + 1)
    slots = jax.eval_shape(
        lambda w: OPTIMIZERS["shampoo"].transformation(HYPERPARAMETERS).init(w).slots[0],
        jax.ShapeDtypeStruct(shape, jnp.float32),
    )
    assert set(slots) == {"v", "h"}
