"""Contracts that every optimizer of the table keeps; a new row inherits them all."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from support.optimizers_twins import TWINS

from optimizers import AVERAGINGS, CLIPPINGS, OPTIMIZERS

STEPS = 20
NAMES = [name for name, optimizer in OPTIMIZERS.items() if not optimizer.needs_value_fn]
# Two values each, so that a hyperparameter that is ignored or swapped shows.
VALUES = {
    "learning_rate": (0.1, 0.03),
    "momentum": (0.9, 0.5),
    "beta": (0.9, 0.7),
    "beta1": (0.9, 0.8),
    "beta2": (0.99, 0.95),
    "decay": (0.9, 0.99),
    "decay_exponent": (0.8, 0.6),
    "epsilon": (1e-3, 1e-1),
    "weight_decay": (0.1, 0.01),
    "trust_coefficient": (0.1, 0.03),
    "adam_learning_rate_factor": (0.3, 0.1),
    "damping": (1e-3, 1e-1),
    "tolerance": (1e-2, 1e-1),
    "refresh_steps": (3.0, 2.0),
}
SHAPES = {"bias": (5,), "conv": (1, 2, 3, 4), "kernel": (3, 2)}
MATRIX_RULES = ("muon", "shampoo", "soap", "adafactor", "lamb", "lars")
"""Rules that mix the entries of an array: errors are relative to the array's largest entry."""
TOLERANCE_FLOAT64 = 1e-12
TOLERANCE_FLOAT32 = 5e-5
"""Rounding is 6e-8 an operation; 20 steps of about ten operations, some cancelling (momentum
against the new gradient, schedule-free y against z), measured at up to 3e-5 over the table."""
TURNED = {"soap": 300.0}
"""Rules that divide by the size of a turned gradient: its small entries are the rounding of its
large ones, here up to 10 over an epsilon of 1e-3; measured at 9e-3 in float32, 6e-11 in float64."""


def hyperparameters(name: str, which: int) -> dict[str, float]:
    """Every number is one that float32 holds exactly, so that both precisions get the same."""
    rows = OPTIMIZERS[name].hyperparameters
    return {row.name: float(np.float32(VALUES[row.name][which])) for row in rows}


@functools.cache
def problem() -> tuple[dict, dict, np.ndarray]:
    """(parameters, gradients [steps, ...] spanning 1e-8..10, rate factors [steps])."""
    random = np.random.default_rng(7)
    params = {name: random.normal(size=shape) for name, shape in SHAPES.items()}
    gradients = {}
    for name, shape in SHAPES.items():
        size = 10.0 ** random.uniform(-8, 1, size=(STEPS, *shape))
        gradients[name] = size * random.choice([-1.0, 1.0], size=size.shape)
    factors = np.linspace(0.5, 1.0, STEPS) * (1 + 0.3 * np.cos(np.arange(STEPS)))
    return jax.tree.map(lambda x: x.astype(np.float32).astype(float), (params, gradients, factors))


def run(name, params, gradients, factors, hp):
    """Displacements from the start, [steps, ...], of an optimizer fed given gradients."""
    optimizer = OPTIMIZERS[name]

    def at(factor):
        now = {**hp, "learning_rate": hp["learning_rate"] * factor}
        return optimizer.transformation(now)

    def step(carry, inputs):
        params, displacement, state = carry
        gradient, factor = inputs
        updates, state = at(factor).update(gradient, state, params)
        displacement = optax.apply_updates(displacement, updates)
        return (optax.apply_updates(params, updates), displacement, state), displacement

    start = (params, optax.tree.zeros_like(params), at(factors[0]).init(params))
    return jax.lax.scan(step, start, (gradients, factors))[1]


def twin_displacements(name: str, hp: dict[str, float]) -> dict[str, np.ndarray]:
    params, gradients, factors = problem()
    others = {k: v for k, v in hp.items() if k != "learning_rate"}
    rates = hp["learning_rate"] * factors
    return {
        leaf: np.stack(list(TWINS[name](w, gradients[leaf], rates, **others))) - w
        for leaf, w in params.items()
    }


def relative_error(name: str, got: dict, wanted: dict) -> float:
    """Largest error of a path over its own largest displacement, per entry or per array."""
    worst = 0.0
    for leaf, path in wanted.items():
        axes = tuple(range(path.ndim)) if name in MATRIX_RULES else (0,)
        scale = np.max(np.abs(path), axis=axes, keepdims=True)
        worst = max(worst, float(np.max(np.abs(np.asarray(got[leaf]) - path) / scale)))
    return worst


def loss_arguments(name: str, params) -> dict:
    """What a second-order rule asks for besides the gradient: a sum of squares."""

    def loss(params):
        return sum(0.5 * jnp.sum(leaf.astype(jnp.float32) ** 2) for leaf in jax.tree.leaves(params))

    needs = OPTIMIZERS[name].needs_value_fn
    return {"value": loss(params), "value_fn": loss} if needs else {}


def as_dtype(tree, dtype):
    return jax.tree.map(lambda array: jnp.asarray(array, dtype), tree)


@pytest.mark.parametrize("name", NAMES)
def test_equals_its_float64_twin_without_recompilation(name):
    """In float64, one after the other; a change of any hyperparameter traces nothing anew."""
    traces = []

    def counted(*arguments):
        traces.append(1)
        return run(name, *arguments)

    with jax.enable_x64(True):
        single = jax.jit(counted)
        for which in (0, 1):
            hp = hyperparameters(name, which)
            got = single(*as_dtype((*problem(), hp), jnp.float64))
            error = relative_error(name, got, twin_displacements(name, hp))
            tolerance = TOLERANCE_FLOAT64 * TURNED.get(name, 1.0)
            assert error < tolerance, f"hyperparameters {hp}: {error:.1e}"
    assert len(traces) == 1


@pytest.mark.parametrize("name", NAMES)
def test_packed_in_float32_each_slot_equals_its_twin(name):
    """Under vmap every hyperparameter differs between the slots."""
    choices = [hyperparameters(name, which) for which in (0, 1)]
    stacked = jax.tree.map(lambda *values: jnp.asarray(values, jnp.float32), *choices)
    packed = jax.jit(jax.vmap(functools.partial(run, name), (None, None, None, 0)))
    together = packed(*as_dtype(problem(), jnp.float32), stacked)
    for slot, hp in enumerate(choices):
        in_slot = {leaf: path[slot] for leaf, path in together.items()}
        error = relative_error(name, in_slot, twin_displacements(name, hp))
        tolerance = TOLERANCE_FLOAT32 * TURNED.get(name, 1.0)
        assert error < tolerance, f"hyperparameters {hp}: {error:.1e}"


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_dtypes_are_kept(name, dtype):
    """Updates come in the parameters' dtype; the state's dtypes do not change (float32 or int)."""
    params = as_dtype(problem()[0], dtype)
    hp = as_dtype(hyperparameters(name, 0), jnp.float32)

    def step(params, hp):
        rule = OPTIMIZERS[name].transformation(hp)
        state = rule.init(params)
        return (state, *rule.update(params, state, params, **loss_arguments(name, params)))

    before, updates, after = jax.eval_shape(step, params, hp)
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype(dtype)}
    kinds = [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(before)]
    assert kinds == [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(after)]
    assert {kind for _, kind in kinds} <= {jnp.dtype(jnp.float32), jnp.dtype(jnp.int32)}


def assert_finite(tree, name):
    """The engine takes a state that is not finite for a divergence."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        assert np.all(np.isfinite(leaf)), f"{name}{jax.tree_util.keystr(path)}"


def test_states_are_finite_before_the_first_step():
    params = as_dtype(problem()[0], jnp.float32)
    for table in (OPTIMIZERS, CLIPPINGS):
        for name, row in table.items():
            hp = {h.name: 1.0 if h.default is None else h.default for h in row.hyperparameters}
            assert_finite(row.transformation(hp).init(params), name)
    for name, row in AVERAGINGS.items():
        hp = {h.name: h.default for h in row.hyperparameters}
        assert_finite(row.functions(hp).init(params), name)


def test_states_survive_a_checkpoint_bit_for_bit(tmp_path):
    params = as_dtype(problem()[0], jnp.float32)

    @jax.jit
    def states_after_a_step(params):
        states = {}
        for name in OPTIMIZERS:
            rule = OPTIMIZERS[name].transformation(hyperparameters(name, 0))
            extra = loss_arguments(name, params)
            states[name] = rule.update(params, rule.init(params), params, **extra)[1]
        return states

    states = states_after_a_step(params)
    for name, state in states.items():
        assert_finite(state, name)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "states", states)
        checkpointer.wait_until_finished()
        like = jax.tree.map(jnp.zeros_like, states)
        restored = checkpointer.restore(tmp_path / "states", like)
    assert jax.tree.structure(restored) == jax.tree.structure(states)
    for saved, read in zip(jax.tree.leaves(states), jax.tree.leaves(restored), strict=True):
        assert saved.dtype == read.dtype
        assert np.asarray(saved).tobytes() == np.asarray(read).tobytes()
