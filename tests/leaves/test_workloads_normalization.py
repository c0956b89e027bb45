"""Batch norm by ghost batches: against NumPy, at any batch size, split or padded."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.tolerances import FLOAT32, FLOAT32_SUMS
from support.workloads_families import FAMILIES

from workloads.models.linen import Context
from workloads.models.normalization import EPSILON, BatchNorm, Normalization, ghost_sizes

INPUTS_ROUNDED = 2e-3
"""The input's own rounding, which float32 holds to 5e-4 at 1e4, in deviations."""

EPSILON_OVER_VARIANCE = 1e-3
"""What epsilon takes off a normalised variance of one, where the input's is above 0.01."""


def context(weights, train=True):
    examples = len(weights)
    return Context(train, None, jnp.arange(examples), jnp.asarray(weights, jnp.float32), {})


def images(examples, seed=0):
    return jax.random.normal(jax.random.key(seed), (examples, 3, 2, 4)) * 2 + 1


def train(module, x, weights=None, state=None):
    """(outputs, new state) of a training step from the old state (the initial one if None)."""
    weights = np.ones(len(x)) if weights is None else weights
    variables = module.init(jax.random.key(0), x[:1], context(weights[:1], train=False))
    state = variables["batch_stats"] if state is None else state
    y, changed = module.apply(
        {"params": variables["params"], "batch_stats": state},
        x,
        context(weights),
        mutable=["batch_stats"],
    )
    return y, changed["batch_stats"]


@pytest.mark.parametrize(
    ("examples", "ghost", "expected"),
    [
        (1, 4, (0, 1)),
        (4, 4, (0, 4)),
        (7, 4, (0, 7)),
        (8, 4, (1, 4)),
        (11, 4, (1, 7)),
        (12, 4, (2, 4)),
        (100, None, (0, 100)),
        (3, 1, (2, 1)),
    ],
)
def test_ghost_sizes(examples, ghost, expected):
    assert ghost_sizes(examples, ghost) == expected


@pytest.mark.parametrize("examples", [1, 3, 4, 7, 8, 11, 12])
def test_every_batch_size_is_normalised_by_its_ghost_batches(examples):
    x = np.asarray(images(examples))
    y, state = train(BatchNorm(ghost_size=4), x)
    count, _ = ghost_sizes(examples, 4)
    groups = np.split(x, [4 * (i + 1) for i in range(count)])
    expected = [(g - g.mean((0, 1, 2))) / np.sqrt(g.var((0, 1, 2)) + EPSILON) for g in groups]
    np.testing.assert_allclose(y, np.concatenate(expected), atol=2 * FLOAT32_SUMS)
    shares = np.array([len(g) for g in groups]) / examples
    mean = sum(s * g.mean((0, 1, 2)) for s, g in zip(shares, groups, strict=True))
    np.testing.assert_allclose(state["mean"] / state["weight"], mean, atol=FLOAT32_SUMS)


def test_statistics_do_not_depend_on_the_batch_size():
    """The first ghost batch of a large batch sees what it sees alone."""
    x = images(16)
    whole, _ = train(BatchNorm(ghost_size=4), x)
    alone, _ = train(BatchNorm(ghost_size=4), x[:4])
    np.testing.assert_allclose(whole[:4], alone, atol=FLOAT32)


def test_states_of_shards_cut_at_ghost_borders_average_to_the_state_of_the_batch():
    """What accumulation and several devices rely on: weighted means of states from one start."""
    module, x = BatchNorm(ghost_size=4), images(12)
    _, start = train(module, images(12, seed=9))
    together, whole = train(module, x, state=start)
    parts = [train(module, shard, state=start) for shard in (x[:4], x[4:12])]
    mean = jax.tree.map(lambda a, b: (4 * a + 8 * b) / 12, parts[0][1], parts[1][1])
    for found, expected in zip(jax.tree.leaves(mean), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(found, expected, rtol=FLOAT32_SUMS, atol=FLOAT32)
    np.testing.assert_allclose(jnp.concatenate([y for y, _ in parts]), together, atol=FLOAT32)


def test_padded_examples_count_nowhere():
    x = images(6)
    padded = jnp.concatenate([x, 1e3 * jnp.ones((2, 3, 2, 4))])
    module = BatchNorm(ghost_size=None)
    y, state = train(module, x)
    y_padded, state_padded = train(module, padded, weights=[1] * 6 + [0] * 2)
    np.testing.assert_allclose(y_padded[:6], y, atol=FLOAT32_SUMS)
    for found, expected in zip(jax.tree.leaves(state_padded), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(found, expected, rtol=FLOAT32_SUMS)


def test_a_batch_of_padding_alone_stays_finite():
    y, state = train(BatchNorm(ghost_size=2), images(4), weights=[0.0] * 4)
    assert np.isfinite(y).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


def test_evaluation_uses_unbiased_running_averages():
    """After t steps the average is sum_i d^(t-i) s_i / sum_i d^(t-i): exact from step one."""
    module, state = BatchNorm(ghost_size=None, decay=0.8), None
    steps = [images(8, seed) for seed in range(3)]
    for x in steps:
        _, state = train(module, x, state=state)
    weights = np.array([0.64, 0.8, 1.0]) / 2.44
    mean = sum(w * x.mean((0, 1, 2)) for w, x in zip(weights, steps, strict=True))
    variance = sum(w * x.var((0, 1, 2)) for w, x in zip(weights, steps, strict=True))
    variables = module.init(jax.random.key(0), steps[0], context(np.ones(8), train=False))
    x = images(5, seed=7)
    y = module.apply(
        {"params": variables["params"], "batch_stats": state}, x, context(np.ones(5), train=False)
    )
    shape = (1, 1, 1, 4)
    expected = (x - mean.reshape(shape)) / np.sqrt(variance.reshape(shape) + EPSILON)
    np.testing.assert_allclose(y, expected, atol=FLOAT32_SUMS)


def test_before_the_first_step_evaluation_changes_nothing_but_the_scale():
    module, x = BatchNorm(), images(4)
    variables = module.init(jax.random.key(0), x, context(np.ones(4), train=False))
    y = module.apply(variables, x, context(np.ones(4), train=False))
    np.testing.assert_allclose(y, x / np.sqrt(1 + EPSILON), rtol=FLOAT32_SUMS)


@pytest.mark.parametrize("mean", [0.0, 1450.0, 1e4])
def test_layer_norm_far_from_zero_has_deviation_one(mean):
    """float32 holds 1e4 to 6e-4: the input's own rounding is what is left."""
    x = jnp.asarray(np.random.default_rng(0).normal(mean, 1.0, size=(16, 512)), jnp.float32)
    y, _ = Normalization("layer").init_with_output(jax.random.key(0), x, context(np.ones(16)))
    np.testing.assert_allclose(np.std(y, axis=1), 1.0, atol=INPUTS_ROUNDED)


def test_layer_and_none():
    x = images(4)
    layer = Normalization("layer")
    variables = layer.init(jax.random.key(0), x, context(np.ones(4)))
    y = layer.apply(variables, x, context(np.ones(4)))
    np.testing.assert_allclose(y.mean(axis=-1), 0.0, atol=FLOAT32_SUMS)
    np.testing.assert_allclose(y.var(axis=-1), 1.0, atol=EPSILON_OVER_VARIANCE)
    assert Normalization("none").apply({}, x, context(np.ones(4))) is x


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_a_family_with_batch_statistics_says_what_must_not_be_cut_apart(family):
    model, batch = family.make(), family.batch(2)
    _, state = jax.eval_shape(lambda: model.init(jax.random.key(0), batch))
    together = getattr(model, "ghost_batch_size", lambda batch: 1)(batch)
    assert (together == 1) == (not jax.tree.leaves(state))
