"""Sums and states of bfloat16 parameters are float32."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.tolerances import BFLOAT16, TWO_DECIMALS

from optimizers import OPTIMIZERS
from optimizers.accumulation import accumulated_gradient


@pytest.mark.parametrize("pieces", [1, 64, 257, 512, 1024])
def test_micro_batches_of_equal_gradients_add_up(pieces):
    """loss = w: every piece's gradient is 1, and so is the batch's."""

    def weighted_sum(w, piece):
        return w * piece, (piece.astype(jnp.float32), piece)

    w, ones = jnp.asarray(2.0, jnp.bfloat16), jnp.ones(pieces, jnp.bfloat16)
    loss, gradient, others = jax.jit(accumulated_gradient, static_argnums=0)(weighted_sum, w, ones)
    assert gradient.dtype == jnp.bfloat16 and float(gradient) == 1.0
    assert loss.dtype == jnp.float32 and float(loss) == 2.0 and float(others) == pieces


def test_devices_gradients_add_up():
    def weighted_sum(w, piece):
        return w * piece, (piece.astype(jnp.float32), ())

    def of_one(piece):
        w = jnp.asarray(2.0, jnp.bfloat16)
        return accumulated_gradient(weighted_sum, w, piece[None], "devices")[1]

    gradients = jax.vmap(of_one, axis_name="devices")(jnp.ones(512, jnp.bfloat16))
    assert np.unique(gradients.astype(np.float32)).tolist() == [1.0]


@pytest.mark.parametrize("name", ["schedule_free_sgd", "schedule_free_adamw"])
def test_schedule_free_in_bfloat16_is_as_in_float32(name):
    """x^2 / 2 from 1 at beta = .9: the evaluated x after 1,000 steps."""
    row = OPTIMIZERS[name]
    values = {"learning_rate": 1e-3, "beta": 0.9, "weight_decay": 0.0, "beta2": 0.99,
              "epsilon": 1e-8}  # fmt: skip
    rule = row.transformation(values)

    def evaluated(dtype):
        start = jnp.ones([], dtype)

        def step(carry, _):
            y, state = carry
            updates, state = rule.update(y, state, y)
            return (y + updates, state), None

        (y, state), _ = jax.lax.scan(step, (start, rule.init(start)), length=1000)
        return float(row.parameters_to_evaluate(state, y))

    narrow, wide = evaluated(jnp.bfloat16), evaluated(jnp.float32)
    if name == "schedule_free_sgd":
        assert wide == pytest.approx(0.58, abs=TWO_DECIMALS)
    # bfloat16 has steps of 1/256 below 1; the gradient is taken at a y so rounded.
    assert narrow == pytest.approx(wide, abs=2 * BFLOAT16)
