"""Norms whose squares neither overflow nor vanish, and the rules that are free of scale by them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.tolerances import FLOAT32

from optimizers import CLIPPINGS, OPTIMIZERS
from optimizers.clipping import clip_units
from optimizers.muon import orthogonalize
from optimizers.norms import all_finite, largest_of, norm_of, norms_along
from optimizers.quantiles import RELATIVE_ERROR

ITERATED = 2e-4
"""Roots and orthogonalisation by iteration in float32, of the largest entry."""

ROUNDING = 2e-6
"""Of sums of some hundred float32 terms."""
DIGITS_STATED = 1e-5
"""The hand-worked value is stated to five digits."""
FREE_OF_SCALE = {
    "lars": {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.0, "trust_coefficient": 0.1},
    "lion": {"learning_rate": 0.1, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.1},
    "muon": {
        "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.1,
        "adam_learning_rate_factor": 0.3,
    },
    "shampoo": {"learning_rate": 0.1, "momentum": 0.9, "epsilon": 1e-2},
}  # fmt: skip
"""Rules that promise a step free of the gradient's scale, at settings where it is."""
MATRICES_ONLY = ("muon",)
"""AdamW, which moves the other arrays, has an epsilon."""
SCALES = [1e-15, 1e-12, 1e-9, 1e-5, 1e5, 1e9, 1e12, 1e15]


@pytest.mark.parametrize("size", [2e-38, 1e-25, 1e-19, 1.0, 1e19, 3e37])
def test_a_norm_neither_overflows_nor_vanishes(size):
    tree = {"a": jnp.full(60, size, jnp.float32), "b": [jnp.full((5, 8), -size, jnp.float32)]}
    assert float(jax.jit(norm_of)(tree)) == pytest.approx(10 * size, rel=ROUNDING)
    rows = jnp.asarray([[3.0, 4.0], [0.0, 0.0]], jnp.float32) * jnp.float32(size)
    lengths = norms_along(rows, (1,))
    np.testing.assert_allclose(lengths, [[5 * np.float32(size)], [0.0]], rtol=ROUNDING)


def test_a_norm_of_bfloat16_is_that_of_float32_sums():
    values = jnp.asarray(np.random.default_rng(0).normal(size=5000), jnp.bfloat16)
    exact = np.linalg.norm(np.asarray(values, np.float64))
    norm = norm_of(values)
    assert norm.dtype == jnp.float32 and float(norm) == pytest.approx(exact, rel=ROUNDING)
    wide = norm_of(values.astype(jnp.float64) if jax.config.jax_enable_x64 else values)
    assert float(wide) == pytest.approx(exact, rel=ROUNDING)


def test_nothing_has_norm_zero_and_what_is_not_finite_shows():
    assert float(norm_of({})) == 0.0 and bool(all_finite({}))
    assert float(norm_of({"a": jnp.zeros(3), "b": jnp.zeros((0, 2))})) == 0.0
    for poison in (np.inf, -np.inf, np.nan):
        tree = {"a": jnp.ones(3).at[1].set(poison), "b": jnp.ones(2), "n": jnp.arange(3)}
        assert not np.isfinite(norm_of(tree)) and not bool(all_finite(tree))
        assert not np.isfinite(largest_of(tree))
    # The norm of finite numbers may exceed the dtype; they are finite all the same.
    assert bool(all_finite(jnp.full(4, 3e38))) and np.isinf(norm_of(jnp.full(4, 3e38)))


@pytest.mark.parametrize("scale", [1e-8, 1e-9, 1e-10, 1e-15, 1e-25, 1e15, 1e21])
def test_muons_matrix_does_not_depend_on_the_scale(scale):
    matrix = np.random.default_rng(0).normal(size=(64, 32)).astype(np.float32)
    matrix = jnp.asarray(matrix / np.linalg.norm(matrix))
    one, other = jax.jit(orthogonalize)(matrix), jax.jit(orthogonalize)(matrix * scale)
    np.testing.assert_allclose(one, other, atol=ITERATED * float(jnp.max(jnp.abs(one))))


def steps(name, values, scale, dtype=jnp.float32):
    """Displacements of three steps on gradients times ``scale``, and at last one of zeros."""
    random = np.random.default_rng(3)
    shapes = {"kernel": (6, 4), "conv": (2, 2, 3, 4)}
    if name not in MATRICES_ONLY:
        shapes["bias"] = (5,)
    params = {k: jnp.asarray(random.normal(size=s), dtype) for k, s in shapes.items()}
    rule = OPTIMIZERS[name].transformation(values)
    state, made = rule.init(params), []
    update = jax.jit(rule.update)
    for _ in range(3):
        gradient = {k: jnp.asarray(random.normal(size=s) * scale, dtype) for k, s in shapes.items()}
        updates, state = update(gradient, state, params)
        made.append(updates)
    return made


@pytest.mark.parametrize("name", FREE_OF_SCALE)
def test_a_step_is_free_of_the_gradients_scale_where_the_rule_promises_it(name):
    at_one = steps(name, FREE_OF_SCALE[name], 1.0)
    for scale in SCALES:
        for one, other in zip(at_one, steps(name, FREE_OF_SCALE[name], scale), strict=True):
            for key, array in one.items():
                tolerance = ITERATED * float(jnp.max(jnp.abs(array)))
                np.testing.assert_allclose(
                    other[key], array, rtol=0, atol=tolerance, err_msg=f"{key} at {scale:g}"
                )


@pytest.mark.parametrize("scale", [1e-18, 1e21])
def test_lars_is_free_of_scales_whose_squares_float32_cannot_hold(scale):
    at_one, there = (steps("lars", FREE_OF_SCALE["lars"], x) for x in (1.0, scale))
    for key, array in at_one[0].items():
        np.testing.assert_allclose(there[0][key], array, rtol=ROUNDING)


def test_lars_step_by_hand():
    """w = (3, 4), g = (0.6, 0.8): r = 0.01 5 / (1 + 0.1 5), v = 2 r (g + 0.1 w)."""
    values = {"learning_rate": 2.0, "momentum": 0.9, "weight_decay": 0.1}
    rule = OPTIMIZERS["lars"].transformation({**values, "trust_coefficient": 0.01})
    w = jnp.asarray([3.0, 4.0])
    updates, _ = rule.update(jnp.asarray([0.6, 0.8]), rule.init(w), w)
    length = 2.0 * 0.01 * 5 / 1.5
    np.testing.assert_allclose(w + updates, [3 - length * 0.9, 4 - length * 1.2], rtol=ROUNDING)
    np.testing.assert_allclose(w + updates, [2.94, 3.92], rtol=ROUNDING)


def test_two_lars_steps_along_the_parameters():
    """g along w, no decay: v = -.01 w, then -(.9 .01 + .01 .99) w; w falls by 2.89 % in all."""
    values = {"learning_rate": 1.0, "momentum": 0.9, "weight_decay": 0.0}
    rule = OPTIMIZERS["lars"].transformation({**values, "trust_coefficient": 0.01})
    w = jnp.asarray([3.0, 4.0])
    state = rule.init(w)
    for _ in range(2):
        updates, state = rule.update(7 * w, state, w)
        w = w + updates
    np.testing.assert_allclose(w, [2.9133, 3.8844], rtol=ROUNDING)


@pytest.mark.parametrize(("second", "reached"), [(1.0, 0.81), (0.1, 0.88630)])
def test_two_adafactor_steps_by_hand(second, reached):
    """w = 1, gradients 1 and ``second``: V = 1, then 2^-.8 + (1 - 2^-.8) g^2; u = g / sqrt(V)."""
    rule = OPTIMIZERS["adafactor"].transformation({"learning_rate": 0.1, "decay_exponent": 0.8})
    w = jnp.ones(3)
    state = rule.init(w)
    for size in (1.0, second):
        updates, state = rule.update(jnp.full(3, size), state, w)
        w = w + updates
    np.testing.assert_allclose(w, reached, rtol=DIGITS_STATED)


@pytest.mark.parametrize(
    "name", [name for name, row in OPTIMIZERS.items() if not row.needs_value_fn]
)
@pytest.mark.parametrize("epsilon", ["default", "least"])
def test_zero_gradients_give_no_nan_and_move_only_what_decays(name, epsilon):
    """Three times zero, in a rule whose epsilon is its default and the least that is legal."""
    rows = OPTIMIZERS[name].hyperparameters
    values = {row.name: 0.1 if row.default is None else row.default for row in rows}
    values = {k: 0.0 if k == "weight_decay" else v for k, v in values.items()}
    if epsilon == "least":
        values |= {row.name: row.low for row in rows if row.name == "epsilon"}
    params = {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(4)}
    rule = OPTIMIZERS[name].transformation(jax.tree.map(jnp.float32, values))
    state, zero = rule.init(params), jax.tree.map(jnp.zeros_like, params)
    for _ in range(3):
        updates, state = rule.update(zero, state, params)
        assert all_finite((updates, state))
        # Adafactor divides by its floor, RMSProp by its first average: 0 all the same.
        assert float(largest_of(updates)) < FLOAT32  # schedule-free: the rounding of z and x
    one = {"kernel": zero["kernel"].at[0, 0].set(1.0), "bias": zero["bias"].at[0].set(1.0)}
    updates, state = rule.update(one, state, params)
    assert all_finite((updates, state))


@pytest.mark.parametrize("name", [n for n, r in OPTIMIZERS.items() if "adam" in n or n == "lamb"])
def test_an_epsilon_of_zero_is_refused(name):
    row = next((h for h in OPTIMIZERS[name].hyperparameters if h.name == "epsilon"), None)
    assert row is not None
    with pytest.raises(ValueError, match="epsilon must lie in"):
        row.check(0.0)


def clipped(name, gradient, params, **values):
    rule = CLIPPINGS[name].transformation(values)
    used, state = rule.update(gradient, rule.init(params), params)
    return used, bool(state.clipped)


@pytest.mark.parametrize("size", [1e38, 1e25, 1e-25])
def test_a_clipped_gradient_has_the_thresholds_norm_at_any_size(size):
    gradient = {"a": jnp.asarray([0.6, 0.0], jnp.float32) * size, "b": jnp.full(1, 0.8 * size)}
    threshold = 1.0 if size > 1 else 1e-26
    used, was = clipped("global_norm", gradient, gradient, clip_threshold=jnp.float32(threshold))
    assert was
    assert float(norm_of(used)) == pytest.approx(threshold, rel=ROUNDING)


def test_agc_clips_units_whose_squares_overflow():
    gradient, weights = jnp.full((4, 3), 1e19, jnp.float32), jnp.full((4, 3), 0.5, jnp.float32)
    used, was = clip_units(gradient, weights, 0.01)
    assert bool(was)
    np.testing.assert_allclose(norms_along(used, (0,)), 0.01, rtol=ROUNDING)


@pytest.mark.parametrize("shape", [(2, 2, 2), (1, 2, 2, 2, 2)])
def test_agcs_units_of_any_rank_share_the_last_index(shape):
    random = np.random.default_rng(0)
    gradient, weights = random.normal(size=(2, *shape))
    used, _ = clip_units(jnp.asarray(gradient), jnp.asarray(weights), 0.1)
    for unit in range(shape[-1]):
        limit = 0.1 * np.linalg.norm(weights[..., unit])
        size = np.linalg.norm(gradient[..., unit])
        wanted = gradient[..., unit] * min(1.0, limit / size)
        np.testing.assert_allclose(used[..., unit], wanted, rtol=ROUNDING)


@pytest.mark.parametrize("name", ["autoclip", "window_autoclip"])
def test_gradients_of_zero_do_not_become_the_threshold(name):
    params = jnp.ones(4)
    rule = CLIPPINGS[name].transformation({"clip_percentile": 10.0, "clip_window": 64.0})
    state = rule.init(params)
    for _ in range(5):
        used, state = rule.update(jnp.zeros(4), state, params)
        assert not state.clipped and not used.any()
    for _ in range(3):
        used, state = rule.update(jnp.ones(4), state, params)
        np.testing.assert_allclose(used, 1.0, rtol=1.01 * RELATIVE_ERROR)
