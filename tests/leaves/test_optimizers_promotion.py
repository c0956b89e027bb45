"""Our own rules mix no dtypes in silence: they trace under strict promotion and rank rules."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from optimizers import AVERAGINGS, CLIPPINGS, OPTIMIZERS
from schedules import MOMENTUM_SCHEDULES, SCHEDULES

PARAMS = {"bias": jnp.ones(5), "conv": jnp.ones((1, 2, 3, 4)), "kernel": jnp.ones((3, 2))}
OPTAX_MIXES = {"optax_adam", "optax_nadam", "adamw", "nadamw", "lamb"}
"""Optax 0.2.8 raises its float32 decays to the power of an int32 count."""


def numbers(row) -> dict:
    defaults = {h.name: 1.0 if h.default is None else h.default for h in row.hyperparameters}
    return jax.tree.map(jnp.float32, defaults)


def loss(params):
    return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))


def optimizer_step(row, hp):
    rule = row.transformation(hp)
    extra = {"value": loss(PARAMS), "value_fn": loss} if row.needs_value_fn else {}
    return rule.update(PARAMS, rule.init(PARAMS), PARAMS, **extra)


def clipping_step(row, hp):
    rule = row.transformation(hp)
    return rule.update(PARAMS, rule.init(PARAMS), PARAMS)


def averaging_step(row, hp):
    rule = row.functions(hp)
    return rule.value(rule.update(rule.init(PARAMS), PARAMS), PARAMS)


def schedule_step(row, hp):
    return row.multiplier(jnp.int32(3), jnp.int32(9), hp)


def momentum_step(row, hp):
    return row.momentum(jnp.int32(3), jnp.int32(9), jnp.float32(0.9), hp)


TABLES = (
    (OPTIMIZERS, optimizer_step),
    (CLIPPINGS, clipping_step),
    (AVERAGINGS, averaging_step),
    (SCHEDULES, schedule_step),
    (MOMENTUM_SCHEDULES, momentum_step),
)
STEPS = [
    pytest.param(row, step, id=f"{step.__name__}-{name}")
    for table, step in TABLES
    for name, row in table.items()
    if name not in OPTAX_MIXES
]


@pytest.mark.parametrize(("row", "step"), STEPS)
def test_traces_under_strict_promotion(row, step):
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        shapes = jax.eval_shape(lambda hp: step(row, hp), numbers(row))
    assert jax.tree.leaves(shapes)


def test_the_exceptions_are_still_optaxs():
    """When Optax mends one of these, it leaves the list."""
    for name in OPTAX_MIXES:
        with jax.numpy_dtype_promotion("strict"), pytest.raises(Exception, match="dtype promotion"):
            jax.eval_shape(
                lambda hp, name=name: optimizer_step(OPTIMIZERS[name], hp),
                numbers(OPTIMIZERS[name]),
            )
