"""Clipping: norms never grow, directions never turn, percentiles are what they say."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tolerances import FLOAT32

from optimizers import CLIPPINGS
from optimizers.clipping import AGC_FLOOR, final_linear
from optimizers.norms import norm_of
from optimizers.quantiles import (
    RELATIVE_ERROR,
    empty_histogram,
    empty_window,
    histogram_add,
    histogram_percentile,
    window_add,
    window_percentile,
)

SIZES = st.floats(1e-6, 1e6)
PERCENTILES = st.floats(0.0, 100.0)
ROUNDING = 1e-5
"""float32 products and sums of at most 30 entries."""
PARAMS = {
    "Conv_0": {"kernel": np.full((2, 2, 1, 3), 0.3), "bias": np.ones(3)},
    "Dense_0": {"kernel": np.array([[1.0, 0.0], [2.0, 0.0], [2.0, 0.0]]), "bias": np.zeros(2)},
    "head": {"kernel": np.ones((2, 2))},
}
PARAMS = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), PARAMS)
DEFAULTS = {"clip_threshold": 1.0, "clip_percentile": 50.0, "clip_window": 8.0, "clip_ratio": 0.01}
UPDATES = {
    name: jax.jit(lambda g, s, p, hp, row=row: row.transformation(hp).update(g, s, p))
    for name, row in CLIPPINGS.items()
}
START = {name: row.transformation(DEFAULTS).init(PARAMS) for name, row in CLIPPINGS.items()}


def gradients_of_size(size: float, seed: int):
    random = np.random.default_rng(seed)
    raw = jax.tree.map(lambda x: random.normal(size=x.shape), PARAMS)
    norm = np.sqrt(sum(np.sum(g**2) for g in jax.tree.leaves(raw)))
    return jax.tree.map(lambda g: np.float32(g * (size / norm)), raw)


def clip(name, sizes, seed=0, **changes):
    """[(gradient, clipped gradient, whether clipped)] over steps of these sizes."""
    hp = jax.tree.map(jnp.float32, DEFAULTS | changes)
    state = START[name]
    steps = []
    for step, size in enumerate(sizes):
        gradient = gradients_of_size(size, seed + step)
        clipped, state = UPDATES[name](gradient, state, PARAMS, hp)
        steps.append((gradient, clipped, bool(state.clipped)))
    return steps


def units(tree):
    """One row per unit: all entries that share the last index of a kernel, or a whole bias."""
    for leaf in jax.tree.leaves(tree):
        yield from (leaf.reshape(-1, leaf.shape[-1]).T if leaf.ndim > 1 else leaf[None])


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(CLIPPINGS)), st.lists(SIZES, min_size=1, max_size=6), PERCENTILES)
def test_never_grows_never_turns_and_says_what_it_did(name, sizes, percentile):
    for before, after, was in clip(name, sizes, clip_percentile=percentile):
        same = all(
            np.array_equal(one, other)
            for one, other in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
        )
        assert was != same
        for whole, scaled in zip(units(before), units(after), strict=True):
            lengths = np.linalg.norm(whole), np.linalg.norm(scaled)
            assert lengths[1] <= lengths[0] * (1 + ROUNDING)
            assert whole @ scaled >= lengths[0] * lengths[1] * (1 - ROUNDING)


@settings(max_examples=20, deadline=None)
@given(st.floats(1e-20, 0.99), st.integers(0, 9))
def test_agc_leaves_units_below_their_ratio_untouched(share, seed):
    """To the bit: every unit's gradient at ``share`` of the norm it may have."""
    limits = []
    for weights in units(PARAMS):
        limits.append(0.01 * max(np.linalg.norm(weights), AGC_FLOOR))
    smallest = share * min(limits)
    ((gradient, clipped, was),) = clip("agc", [smallest], seed)
    assert not was
    for one, other in zip(jax.tree.leaves(gradient), jax.tree.leaves(clipped), strict=True):
        assert np.array_equal(one, other)


@settings(max_examples=20, deadline=None)
@given(SIZES, st.floats(1e-3, 1e3))
def test_global_norm_clips_to_the_threshold_and_only_above_it(size, threshold):
    ((gradient, clipped, was),) = clip("global_norm", [size], clip_threshold=threshold)
    norm = float(NORM(gradient))
    assert was == (norm > np.float32(threshold))
    expected = min(norm, threshold)
    assert float(NORM(clipped)) == pytest.approx(expected, rel=ROUNDING)
    optax_form, _ = optax.clip_by_global_norm(threshold).update(gradient, optax.EmptyState())
    for one, other in zip(jax.tree.leaves(clipped), jax.tree.leaves(optax_form), strict=True):
        np.testing.assert_allclose(one, other, rtol=ROUNDING)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(["autoclip", "window_autoclip"]), st.lists(SIZES, min_size=1, max_size=12))
def test_percentile_100_never_clips_and_0_clips_to_the_least(name, sizes):
    assert not any(was for *_, was in clip(name, sizes, clip_percentile=100.0))
    least = np.inf
    for before, after, _ in clip(name, sizes, clip_percentile=0.0, clip_window=1024.0):
        least = min(least, float(NORM(before)))
        assert float(NORM(after)) == pytest.approx(least, rel=ROUNDING)


@pytest.mark.parametrize(("name", "window"), [("autoclip", 10_000), ("window_autoclip", 4)])
def test_adaptive_threshold_is_the_percentile_of_the_history(name, window):
    sizes = np.random.default_rng(1).lognormal(0.0, 2.0, size=15)
    steps = clip(name, sizes, clip_percentile=30.0, clip_window=float(min(window, 1024)))
    for step, (before, after, was) in enumerate(steps):
        threshold = np.percentile(sizes[max(0, step + 1 - window) : step + 1], 30.0)
        expected = min(sizes[step], threshold)
        tolerance = 1.01 * RELATIVE_ERROR if name == "autoclip" else ROUNDING
        assert float(NORM(after)) == pytest.approx(expected, rel=tolerance)
        assert was == (float(NORM(after)) < float(NORM(before)) * (1 - ROUNDING))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(1e-11, 1e11), min_size=1, max_size=40), PERCENTILES)
def test_histogram_percentile_keeps_its_stated_error(values, percentile):
    histogram = empty_histogram()
    for value in values:
        histogram = HISTOGRAM_ADD(histogram, value)
    values = np.float32(values)
    exact = np.percentile(values.astype(float), percentile)
    got = float(HISTOGRAM_PERCENTILE(histogram, percentile))
    # 1 % of slack: float32 places a value within 3e-6 of a bin's edge in the wrong bin.
    assert got == pytest.approx(exact, rel=1.01 * RELATIVE_ERROR)
    assert values.min() <= got <= values.max()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(1e-11, 1e11), min_size=1, max_size=40), PERCENTILES, st.integers(1, 1024))
def test_window_percentile_is_exact(values, percentile, length):
    window = empty_window()
    for value in values:
        window = WINDOW_ADD(window, value)
    recent = np.float32(values)[-length:]
    got = float(WINDOW_PERCENTILE(window, percentile, length))
    assert got == pytest.approx(np.percentile(recent.astype(float), percentile), rel=ROUNDING)
    assert recent.min() <= got <= recent.max()


HISTOGRAM_ADD, HISTOGRAM_PERCENTILE = jax.jit(histogram_add), jax.jit(histogram_percentile)
NORM = jax.jit(norm_of)
WINDOW_ADD, WINDOW_PERCENTILE = jax.jit(window_add), jax.jit(window_percentile)


def test_window_forgets_past_its_capacity():
    window = empty_window()
    for value in np.arange(1100.0, 0.0, -1.0):
        window = WINDOW_ADD(window, value)
    assert float(WINDOW_PERCENTILE(window, 100.0, 1024)) == 1024.0
    assert float(WINDOW_PERCENTILE(window, 0.0, 1024)) == 1.0


def test_agc_scales_each_unit_against_its_weights():
    """Unit 0 of Dense_0 has |W| = 3; unit 1 has zero weights, taken as 1e-3."""
    gradient = jax.tree.map(jnp.ones_like, PARAMS)
    hp = jax.tree.map(jnp.float32, DEFAULTS | {"clip_ratio": 0.1})
    clipped, state = UPDATES["agc"](gradient, START["agc"], PARAMS, hp)
    root = np.sqrt(3.0)
    np.testing.assert_allclose(clipped["Dense_0"]["kernel"][:, 0], 0.1 * 3.0 / root, rtol=FLOAT32)
    np.testing.assert_allclose(clipped["Dense_0"]["kernel"][:, 1], 0.1 * 1e-3 / root, rtol=FLOAT32)
    np.testing.assert_allclose(clipped["Conv_0"]["kernel"], 0.1 * 0.6 / 2.0, rtol=FLOAT32)
    for excluded in ("Conv_0", "Dense_0"):
        assert np.array_equal(clipped[excluded]["bias"], gradient[excluded]["bias"])
    assert np.array_equal(clipped["head"]["kernel"], gradient["head"]["kernel"])
    assert bool(state.clipped)
    optax_form, _ = optax.adaptive_grad_clip(0.1).update(gradient, optax.EmptyState(), PARAMS)
    for module in ("Conv_0", "Dense_0"):
        np.testing.assert_allclose(
            clipped[module]["kernel"], optax_form[module]["kernel"], rtol=FLOAT32
        )


@pytest.mark.parametrize(
    ("shapes", "wanted"),
    [
        ({"Dense_2": (4, 3), "Dense_10": (3, 2), "Conv_0": (3, 3, 1, 4)}, "Dense_10"),
        ({"Block_0": {"Dense_7": (4, 4)}, "Dense_0": (4, 2)}, "Dense_0"),
        ({"Dense_9": (4, 3), "logits": (3, 2)}, "logits"),
        ({"Conv_0": (3, 3, 1, 4)}, None),
    ],
)
def test_final_linear_layer_is_found(shapes, wanted):
    is_shape = lambda node: isinstance(node, tuple)
    params = jax.tree.map(
        lambda shape: {"kernel": np.ones(shape), "bias": np.ones(shape[-1])},
        shapes,
        is_leaf=is_shape,
    )
    path = final_linear(params)
    assert (path and path[0].key, path and path[-1].key) == (wanted, wanted and "kernel")


@pytest.mark.parametrize("name", CLIPPINGS)
def test_diverged_gradients_pass_and_are_not_remembered(name):
    hp = DEFAULTS | {"clip_percentile": 100.0, "clip_threshold": 1e6, "clip_ratio": 1e6}
    hp = jax.tree.map(jnp.float32, hp)
    bad = jax.tree.map(lambda x: jnp.full_like(x, jnp.inf), PARAMS)
    passed, state = UPDATES[name](bad, START[name], PARAMS, hp)
    assert not bool(state.clipped)
    assert all(np.isinf(leaf).all() for leaf in jax.tree.leaves(passed))
    good = gradients_of_size(2.0, 0)
    after, state = UPDATES[name](good, state, PARAMS, hp)
    assert not bool(state.clipped)
    assert float(NORM(after)) == pytest.approx(2.0, rel=ROUNDING)


@pytest.mark.parametrize("name", CLIPPINGS)
def test_packed_clips_as_alone_and_keeps_dtypes(name):
    row = CLIPPINGS[name]
    gradient = gradients_of_size(3.0, 1)

    @jax.jit
    def clipped(hp):
        rule = row.transformation(hp)
        return rule.update(gradient, rule.init(PARAMS), PARAMS)

    choices = [DEFAULTS, {key: 2.5 * value for key, value in DEFAULTS.items()} | {
        "clip_percentile": 90.0}]  # fmt: skip
    stacked = jax.tree.map(lambda *v: jnp.asarray(v, jnp.float32), *choices)
    together = jax.jit(jax.vmap(clipped))(stacked)
    for slot, hp in enumerate(choices):
        for one, other in zip(jax.tree.leaves(clipped(hp)), jax.tree.leaves(together), strict=True):
            np.testing.assert_allclose(one, other[slot], rtol=FLOAT32)
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), (gradient, PARAMS))
    after, _ = jax.eval_shape(UPDATES[name], half[0], START[name], half[1], choices[0])
    assert {leaf.dtype for leaf in jax.tree.leaves(after)} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_norm_neither_overflows_nor_vanishes(size):
    assert float(NORM({"a": jnp.full(4, size, jnp.float32)})) == pytest.approx(2 * size)
