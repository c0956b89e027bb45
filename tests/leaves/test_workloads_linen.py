"""Dropout with a traced rate: masks by place in the global batch; nothing in evaluation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.tolerances import FLOAT32, FLOAT32_SUMS

from workloads.models.fully_connected import fully_connected
from workloads.models.linen import LinenModel, dropout_mask
from workloads.models.simple_cnn import SimpleCNN

KEY = jax.random.key(3)
SMALL_CNN = LinenModel(SimpleCNN((4, 4), 16, 10))


def batch(examples=12, shape=(6, 6, 1)):
    return {
        "inputs": jax.random.uniform(jax.random.key(1), (examples, *shape)),
        "targets": jnp.arange(examples) % 10,
        "weights": jnp.ones(examples),
        "position": jnp.arange(examples, dtype=jnp.int32),
    }


def outputs(model, batch, train=True, **hyperparameters):
    @jax.jit
    def run(batch):
        params, state = model.init(jax.random.key(0), batch)
        return model.apply(
            params, state, batch, key=KEY, train=train, hyperparameters=hyperparameters
        )

    return run(batch)[0]


def test_a_mask_depends_on_key_and_position_only():
    whole = dropout_mask(KEY, jnp.arange(8), (5,), 0.5)
    parts = [
        dropout_mask(KEY, jnp.arange(8)[rows], (5,), 0.5) for rows in (slice(0, 3), slice(3, 8))
    ]
    assert np.array_equal(whole, jnp.concatenate(parts))
    assert not np.array_equal(whole, dropout_mask(jax.random.key(4), jnp.arange(8), (5,), 0.5))


def test_kept_share_follows_the_rate():
    kept = dropout_mask(KEY, jnp.arange(400), (100,), 0.3).mean()
    # 40,000 draws: the standard error is 0.0023; five of them.
    assert abs(float(kept) - 0.7) < 0.0115


@pytest.mark.parametrize("model", [fully_connected([32, 32]), SMALL_CNN])
def test_outputs_in_training_do_not_depend_on_the_split_of_the_batch(model):
    whole = batch()
    parts = [jax.tree.map(lambda x, r=rows: x[r], whole) for rows in (slice(0, 5), slice(5, 12))]
    together = outputs(model, whole, dropout_rate=0.5)
    apart = jnp.concatenate([outputs(model, part, dropout_rate=0.5) for part in parts])
    np.testing.assert_allclose(together, apart, atol=FLOAT32_SUMS)
    assert not np.allclose(together, outputs(model, whole))


def test_two_layers_draw_different_masks():
    one = fully_connected([64, 64])
    params, _ = one.init(jax.random.key(0), batch())
    identity = {"kernel": jnp.eye(64), "bias": jnp.zeros(64)}
    ones = {"kernel": jnp.zeros((36, 64)), "bias": jnp.ones(64)}
    params = {"Dense_0": ones, "Dense_1": identity, "Dense_2": params["Dense_2"]}
    params["Dense_2"] = {"kernel": jnp.ones((64, 10)), "bias": jnp.zeros(10)}
    drawn = one.apply(
        params, {}, batch(), key=KEY, train=True, hyperparameters={"dropout_rate": 0.5}
    )[0]
    # Survivors of both masks count 4 each: about 16 of 64 units, not 32 as with one mask.
    assert 40 < float(drawn.mean()) < 90


def test_dropout_is_off_in_evaluation_and_where_no_rate_is_given():
    model = fully_connected([32])
    plain = outputs(model, batch())
    assert np.array_equal(plain, outputs(model, batch(), train=False, dropout_rate=0.5))
    np.testing.assert_allclose(plain, outputs(model, batch(), dropout_rate=0.0), atol=FLOAT32)


def test_a_new_rate_does_not_recompile():
    model = fully_connected([32])
    params, state = model.init(jax.random.key(0), batch())
    traces = []

    @jax.jit
    def run(rate):
        traces.append(rate)
        hyperparameters = {"dropout_rate": rate}
        return model.apply(
            params, state, batch(), key=KEY, train=True, hyperparameters=hyperparameters
        )[0]

    assert not np.array_equal(run(0.1), run(0.6))
    assert len(traces) == 1


def test_dropout_keeps_the_expectation():
    model = fully_connected([512], classes=1)
    one = {**batch(2000), "inputs": jnp.ones((2000, 36))}
    plain = outputs(model, one)[0, 0]
    dropped = outputs(model, one, dropout_rate=0.4)[:, 0]
    error = dropped.std() / np.sqrt(2000)
    assert abs(float(dropped.mean() - plain)) < 5 * float(error)
