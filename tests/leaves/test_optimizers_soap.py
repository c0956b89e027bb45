"""SOAP's bases: what they converge to, when they turn, and axes too long for one."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.tolerances import FLOAT32

from optimizers import OPTIMIZERS
from optimizers.shampoo import LARGEST_AXIS
from optimizers.soap import RIDGE, refreshed

VALUES = {"learning_rate": 0.1, "beta1": 0.9, "beta2": 0.9, "epsilon": 1e-3, "weight_decay": 0.0,
          "refresh_steps": 3.0}  # fmt: skip


def gradients(steps: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(5).normal(size=(steps, *shape)).astype(np.float32)


def states(shape, steps, **changes):
    """(displacements, states) after each step on random gradients."""
    rule = OPTIMIZERS["soap"].transformation({**VALUES, **changes})
    w = {"w": jnp.zeros(shape)}
    state, found = rule.init(w), []
    update = jax.jit(rule.update)
    for g in gradients(steps, shape):
        moved, state = update({"w": jnp.asarray(g)}, state, w)
        found.append((np.asarray(moved["w"]), state.slots[0]))
    return found


def test_orthogonal_iterations_end_at_the_eigenvectors():
    random = np.random.default_rng(0)
    vectors = np.linalg.qr(random.normal(size=(6, 6)))[0]
    given = vectors @ np.diag(4.0 ** -np.arange(6)) @ vectors.T
    basis = refreshed(jnp.asarray(given, jnp.float32), jnp.eye(6), jnp.int32(60))
    ridge = RIDGE * np.linalg.norm(given) * np.diag(np.arange(1, 7)) / 6
    turned = np.asarray(basis).T @ (given + ridge) @ np.asarray(basis)
    off = turned - np.diag(np.diag(turned))
    assert np.max(np.abs(off)) < FLOAT32 and np.all(np.diff(np.diag(turned)) < 0)
    same = refreshed(jnp.asarray(given, jnp.float32), basis, jnp.int32(0))
    assert np.array_equal(same, basis)


def test_bases_turn_at_the_first_step_and_then_at_every_third():
    """Step 1 sets them and moves nothing; k counts from step 2, so they turn at steps 4 and 7."""
    found = states((4, 3), 8)
    assert np.array_equal(found[0][0], np.zeros((4, 3))) and np.any(found[1][0] != 0)
    bases = [np.asarray(slots["ql"]) for _, slots in found]
    turned = [not np.array_equal(*pair) for pair in itertools.pairwise(bases)]
    assert turned == [step in (4, 7) for step in range(2, 9)]
    assert not np.array_equal(bases[0], np.eye(4))


def test_in_its_basis_it_is_adam():
    """A diagonal problem: the bases are the axes, and from the second step on the rule is AdamW."""
    rule = OPTIMIZERS["soap"].transformation(VALUES)
    adam = OPTIMIZERS["adamw"].transformation({k: v for k, v in VALUES.items() if k[0] != "r"})
    w = jnp.zeros((3, 3))
    state, other = rule.init(w), adam.init(w)
    for step in range(6):
        g = jnp.diag(jnp.asarray([9.0, 3.0, 1.0]) * (1 + step))
        moved, state = rule.update(g, state, w)
        if step:
            wanted, other = adam.update(g, other, w)
            np.testing.assert_allclose(moved, wanted, atol=FLOAT32)


@pytest.mark.parametrize("shape", [(4,), (3, 2), (2, 2, 1, 3)])
def test_zero_gradients_move_nothing(shape):
    rule = OPTIMIZERS["soap"].transformation(VALUES)
    w = jnp.ones(shape)
    state = rule.init(w)
    for _ in range(4):
        moved, state = rule.update(jnp.zeros(shape), state, w)
        assert np.array_equal(moved, np.zeros(shape))


def test_a_long_axis_keeps_its_own_basis_and_two_long_ones_are_adams():
    long = LARGEST_AXIS + 1
    rule = OPTIMIZERS["soap"].transformation(VALUES)
    for shape, wanted in (((long, 3), {"m", "v", "r", "qr"}), ((long, long), {"m", "v"})):
        like = jax.ShapeDtypeStruct(shape, jnp.float32)
        assert set(jax.eval_shape(rule.init, like).slots[0]) == wanted
    moved, slots = states((long, 3), 3)[-1]
    assert slots["qr"].shape == (3, 3) and np.all(np.isfinite(moved))
    assert np.max(np.abs(moved)) < 10 * VALUES["learning_rate"]
