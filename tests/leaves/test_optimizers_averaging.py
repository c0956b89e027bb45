"""Averages are the weighted means they claim; accumulation equals the big batch."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.averaging_weights import WEIGHTS
from support.tolerances import BFLOAT16, FLOAT32

from optimizers import AVERAGINGS, CLIPPINGS, OPTIMIZERS
from optimizers.accumulation import accumulated_gradient

STEPS = 12
PATH = np.random.default_rng(0).normal(size=(STEPS, 3)).astype(np.float32)
DEFAULTS = {"average_decay": 0.9, "average_start": 4.0}


def averaged(name, dtype=jnp.float32, hp=DEFAULTS):
    """Values after every step, [steps, 3]."""
    rule = AVERAGINGS[name].functions(hp)

    def step(state, theta):
        state = rule.update(state, {"w": theta})
        return state, rule.value(state, {"w": theta})["w"]

    start = rule.init({"w": jnp.full(3, 7.0, dtype)})
    return jax.lax.scan(step, start, jnp.asarray(PATH, dtype))[1]


@pytest.mark.parametrize("name", AVERAGINGS)
def test_value_is_the_weighted_mean_of_the_iterates(name):
    """Weights sum to one; in particular the initial parameters (7, 7, 7) have none."""
    got = averaged(name)
    for t in range(1, STEPS + 1):
        wanted = np.average(PATH[:t].astype(float), axis=0, weights=WEIGHTS[name](t))
        np.testing.assert_allclose(got[t - 1], wanted, rtol=2 * FLOAT32, atol=FLOAT32)


@pytest.mark.parametrize("name", AVERAGINGS)
def test_before_the_first_step_the_value_is_the_parameters(name):
    rule = AVERAGINGS[name].functions(DEFAULTS)
    start = {"w": jnp.arange(3.0)}
    assert np.array_equal(rule.value(rule.init(start), start)["w"], start["w"])


@pytest.mark.parametrize("name", AVERAGINGS)
def test_bfloat16_parameters_are_averaged_in_float32(name):
    """The result is the float32 average of the rounded iterates, rounded once."""
    got = averaged(name, jnp.bfloat16)
    assert got.dtype == jnp.bfloat16
    rounded = np.asarray(jnp.asarray(PATH, jnp.bfloat16), float)
    wanted = np.average(rounded, axis=0, weights=WEIGHTS[name](STEPS))
    np.testing.assert_allclose(np.asarray(got[-1], float), wanted, rtol=BFLOAT16)


def test_packed_averages_equal_single_ones():
    choices = [{"average_decay": 0.9, "average_start": 4.0},
               {"average_decay": 0.5, "average_start": 0.0}]  # fmt: skip
    stacked = jax.tree.map(lambda *values: jnp.asarray(values), *choices)
    for name in AVERAGINGS:
        together = jax.vmap(lambda hp, name=name: averaged(name, hp=hp))(stacked)
        for slot, hp in enumerate(choices):
            np.testing.assert_allclose(together[slot], averaged(name, hp=hp), rtol=FLOAT32)


def regression():
    """(weighted sum of squares and weight of a batch, parameters, a batch of 13 examples)."""
    random = np.random.default_rng(2)
    batch = {
        "inputs": random.normal(size=(13, 4)),
        "targets": random.normal(size=(13, 2)),
        "weights": random.uniform(0.5, 2.0, size=13),
    }
    params = {"w": random.normal(size=(4, 2)), "b": np.zeros(2)}

    def weighted_sum(params, batch):
        outputs = jnp.tanh(batch["inputs"] @ params["w"] + params["b"][None])
        losses = jnp.sum((outputs - batch["targets"]) ** 2, axis=-1)
        return jnp.sum(batch["weights"] * losses), (jnp.sum(batch["weights"]), ())

    return weighted_sum, *jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), (params, batch))


def split(batch, micro_batches):
    """[B, ...] as [micro_batches, ceil(B / micro_batches), ...], padded with zeros."""

    def of(array):
        size = -(-array.shape[0] // micro_batches)
        missing = size * micro_batches - array.shape[0]
        padded = jnp.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1))
        return padded.reshape(micro_batches, size, *array.shape[1:])

    return jax.tree.map(of, batch)


@pytest.mark.parametrize("micro_batches", [1, 2, 3, 8])
def test_accumulated_equals_full_batch_with_clipping_and_momentum(micro_batches):
    """13 examples in 2, 3 or 8 parts are uneven: the last part is padded with weight zero."""
    weighted_sum, params, batch = regression()
    hp = {"learning_rate": 0.1, "momentum": 0.9, "clip_threshold": 0.5}

    def train(parts):
        rule, clip = OPTIMIZERS["momentum"], CLIPPINGS["global_norm"]
        rule, clip = rule.transformation(hp), clip.transformation(hp)
        theta, state, clip_state = params, rule.init(params), clip.init(params)

        def step(carry, _):
            theta, state, clip_state = carry
            _, gradient, _ = accumulated_gradient(weighted_sum, theta, split(batch, parts))
            gradient, clip_state = clip.update(gradient, clip_state, theta)
            updates, state = rule.update(gradient, state, theta)
            return (optax.apply_updates(theta, updates), state, clip_state), clip_state.clipped

        (theta, *_), clipped = jax.lax.scan(step, (theta, state, clip_state), length=5)
        return theta, jnp.sum(clipped)

    def direct(theta):
        total, (weight, _) = weighted_sum(theta, batch)
        return total / weight

    loss, gradient, _ = accumulated_gradient(weighted_sum, params, split(batch, micro_batches))
    wanted_loss, wanted = jax.value_and_grad(direct)(params)
    np.testing.assert_allclose(loss, wanted_loss, rtol=FLOAT32)
    for one, other in zip(jax.tree.leaves(gradient), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=FLOAT32, atol=FLOAT32)
    (theta, clipped), (whole, clipped_whole) = (
        jax.jit(train, static_argnums=0)(micro_batches),
        jax.jit(train, static_argnums=0)(1),
    )
    assert clipped == clipped_whole > 0
    for one, other in zip(jax.tree.leaves(theta), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(one, other, rtol=FLOAT32, atol=FLOAT32)


def test_tokens_are_weighted_alike_whatever_sentence_they_stand_in():
    """Sentences of 1 and of 3 tokens with losses w and 2 w: (1 + 3 * 2) / 4, no mean of 1 and 2."""

    def of_sentences(w, sentences):
        losses, counted = sentences
        return jnp.sum(w * losses * counted), (jnp.sum(counted), ())

    sentences = jnp.asarray([[1.0, 9, 9], [2, 2, 2]]), jnp.asarray([[1.0, 0, 0], [1, 1, 1]])
    loss, gradient, _ = accumulated_gradient(of_sentences, jnp.float32(1.0), sentences)
    assert float(loss) == float(gradient) == 1.75


def test_a_mean_of_means_would_be_wrong():
    """The uneven parts above do tell the two apart."""
    weighted_sum, params, batch = regression()
    parts = split(batch, 3)

    def mean(theta, part):
        total, (weight, _) = weighted_sum(theta, part)
        return total / weight

    means = jax.vmap(jax.grad(mean), (None, 0))(params, parts)["w"].mean(axis=0)
    _, right, _ = accumulated_gradient(weighted_sum, params, parts)
    assert np.max(np.abs(means - right["w"])) > 1e-3


def test_accumulated_over_virtual_devices():
    weighted_sum, params, batch = regression()
    shards = jax.tree.map(lambda x: x.reshape(2, 4, *x.shape[1:]), split(batch, 8))
    per_device = jax.vmap(
        lambda shard: accumulated_gradient(weighted_sum, params, shard, axis_name="data"),
        axis_name="data",
    )(shards)
    _, wanted, _ = accumulated_gradient(weighted_sum, params, split(batch, 1))
    for device in (0, 1):
        np.testing.assert_allclose(
            per_device[1]["w"][device], wanted["w"], rtol=FLOAT32, atol=FLOAT32
        )
