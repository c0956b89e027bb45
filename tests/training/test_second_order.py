"""Second-order rules in the engine: they see the whole batch's loss; evaluations are counted."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.engine_factory import TINY, resident_digits, tiny_study, tiny_trial, train

from experiments.spec.trial import Status
from experiments.training.program import Program
from experiments.training.state import gather, init_state
from experiments.training.step import make_step

LINEAR = dataclasses.replace(
    TINY, model_options={"hidden_sizes": [], "classes": 10}, name="digits_linear"
)
"""Logistic regression: 650 parameters, a convex loss."""
WHOLE = 1024
STEPS = 8


def full_batch(optimizer, **values):
    """The evaluations of a few full-batch steps on the convex problem."""
    study = tiny_study(
        optimizer=optimizer, workload=LINEAR, batch_sizes=(WHOLE,), train_evaluation_examples=WHOLE
    )
    program = Program(study.config("off"), resident_digits(WHOLE), study.divergence_factor)
    settings = {**{k: v for k, v in study.hyperparameters.items() if v is not None}, **values}
    trial = tiny_trial(0, WHOLE, STEPS, **settings)
    result = train([trial], program=program)[0]
    assert result.status == Status.COMPLETE
    return result.evaluations


@pytest.fixture(scope="module")
def gradient_descent():
    return full_batch("sgd", learning_rate=1.0)["train/cross_entropy"]


@pytest.mark.parametrize(
    ("optimizer", "settings"), [("lbfgs", {}), ("hessian_free", {"damping": 1e-2})]
)
def test_a_few_steps_go_further_than_gradient_descent_at_counted_cost(
    optimizer, settings, gradient_descent
):
    found = full_batch(optimizer, learning_rate=1.0, **settings)
    losses, counted = found["train/cross_entropy"], found["function_evaluations"]
    assert (np.diff(losses) < 0).all()  # every step was accepted by its line search
    assert losses[-1] < 0.5 * gradient_descent[-1]
    assert (np.diff(counted) >= 1).all() and counted[-1] > STEPS


def started(config, values, data):
    """The state before the first step."""
    keys, example = jnp.zeros((2, 2), jnp.uint32), gather(data, jnp.zeros(1, jnp.int32))
    return jax.jit(init_state, static_argnums=0)(config, keys, values, jnp.int32(4), example)


def test_the_line_search_sees_the_loss_of_the_very_batch():
    """One L-BFGS step from the start: no pairs yet, so a steepest descent that must descend."""
    config = tiny_study(optimizer="lbfgs", workload=LINEAR).config("every")
    values = {"learning_rate": jnp.float32(1.0)}
    data = resident_digits(WHOLE).train
    state = started(config, values, data)
    step = jax.jit(make_step(config))
    batch, other = gather(data, jnp.arange(64)), gather(data, jnp.arange(64, 128))
    moved, before = step(state, values, batch)
    _, after = step(moved, values, batch)
    assert after["loss"] < before["loss"]
    elsewhere, _ = step(state, values, other)
    kernels = [jax.tree.leaves(s.params)[-1] for s in (moved, elsewhere)]
    assert not np.allclose(*kernels)


def test_first_order_rules_record_no_such_column(gradient_descent):
    assert "function_evaluations" not in full_batch("sgd", learning_rate=1.0)


def test_clipping_and_several_devices_are_refused():
    with pytest.raises(ValueError, match="clipping must be none with lbfgs"):
        tiny_study(optimizer="lbfgs", clipping="agc")
    config = tiny_study(optimizer="lbfgs", workload=LINEAR).config("off")
    values = {"learning_rate": jnp.float32(1.0)}
    data = resident_digits(WHOLE).train
    state = started(config, values, data)
    shares = jax.tree.map(lambda x: x.reshape(2, 4, *x.shape[1:]), gather(data, jnp.arange(8)))
    step = make_step(config)
    with pytest.raises(ValueError, match="take every batch whole"):
        jax.vmap(lambda b: step(state, values, b, axis_name="d"), axis_name="d")(shares)
