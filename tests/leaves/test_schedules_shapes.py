"""Schedules: against their formulas, in range, continuous where the formula is, traceable."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tolerances import FLOAT32

from schedules import MOMENTUM_SCHEDULES, PLATEAU, SCHEDULES
from schedules.plateau import observe, start

ROUNDING = 1e-5
STAIRS = ("step_decay", "staircase")
"""The shapes whose formula jumps."""
MULTIPLIERS = {
    name: jax.jit(jax.vmap(row.multiplier, (0, None, None))) for name, row in SCHEDULES.items()
}


def defaults(name: str, **changes: float) -> dict[str, float]:
    values = {row.name: row.default for row in SCHEDULES[name].hyperparameters} | changes
    return {key: jnp.float32(value) for key, value in values.items()}


def curve(name: str, train_steps: int, **changes: float) -> np.ndarray:
    """Multipliers at steps 0 .. train_steps - 1."""
    return np.asarray(
        MULTIPLIERS[name](jnp.arange(train_steps), train_steps, defaults(name, **changes))
    )


# (settings, step of 100 -> expected multiplier), in the words of the sources.
FORMULAS = {
    "constant": ({}, lambda t: 1.0),
    "plateau": ({}, lambda t: 1.0),
    "linear": (
        {"end_learning_rate_factor": 0.1, "decay_steps_factor": 0.5},
        lambda t: 1 - 0.9 * t / 50 if t <= 50 else 0.1,
    ),
    "cosine": (
        {"end_learning_rate_factor": 0.1, "decay_steps_factor": 0.5},
        lambda t: 0.1 + 0.9 * (1 + math.cos(math.pi * t / 50)) / 2 if t <= 50 else 0.1,
    ),
    "polynomial": (
        {"end_learning_rate_factor": 0.1, "decay_steps_factor": 0.5, "power": 3.0},
        lambda t: 0.1 + 0.9 * (1 - t / 50) ** 3 if t <= 50 else 0.1,
    ),
    "step_decay": (
        {"decay_factor": 0.5, "interval_factor": 0.2},
        lambda t: 0.5 ** (t // 20),
    ),
    "staircase": (
        {"decay_factor": 0.1, "milestone_1": 0.3, "milestone_2": 0.6, "milestone_3": 1.0},
        lambda t: 1.0 if t < 30 else 0.1 if t < 60 else 0.01,
    ),
    "exponential": ({"decay_rate": 3.0}, lambda t: math.exp(-3.0 * t / 100)),
    "inverse_time": ({"decay_rate": 3.0}, lambda t: 1 / (1 + 3.0 * t / 100)),
    "inverse_sqrt": ({"timescale_steps": 20.0}, lambda t: math.sqrt(20 / (20 + t))),
    "warmup_stable_decay": (
        {"end_learning_rate_factor": 0.1, "decay_fraction": 0.2},
        lambda t: 1.0 if t <= 80 else 1 - 0.9 * (t - 80) / 20,
    ),
}


def test_every_schedule_has_its_formula():
    assert set(FORMULAS) == set(SCHEDULES)


@pytest.mark.parametrize("name", SCHEDULES)
def test_equals_its_formula_alone_and_after_a_warmup(name):
    values, formula = FORMULAS[name]
    wanted = [formula(t) for t in range(100)]
    np.testing.assert_allclose(curve(name, 100, **values), wanted, rtol=ROUNDING)
    # total = max_train_steps + warmup_steps: a ramp of 30 steps, then the same 100 values.
    warm = curve(name, 130, warmup_steps=30.0, **values)
    np.testing.assert_allclose(warm[:30], np.arange(30) / 30, rtol=ROUNDING)
    np.testing.assert_allclose(warm[30:], wanted, rtol=ROUNDING)


def settings_of(name):
    rows = SCHEDULES[name].settings
    ranges = {row.name: st.floats(max(row.low, 1e-3), min(row.high, 100.0)) for row in rows}
    return st.tuples(st.just(name), st.fixed_dictionaries(ranges))


@settings(max_examples=60)
@given(
    st.sampled_from(sorted(SCHEDULES)).flatmap(settings_of),
    st.integers(0, 60),
    st.floats(0.0, 1.0),
)
def test_finite_in_range_and_continuous_at_the_joint(chosen, warmup, foot):
    name, values = chosen
    length = 64
    got = curve(name, length, warmup_steps=float(warmup), warmup_start_factor=foot, **values)
    assert np.all(np.isfinite(got))
    assert np.all((got >= -ROUNDING) & (got <= 1 + ROUNDING))
    # The shape starts at one, so the last step of the ramp is one increment below it.
    if warmup:
        assert got[warmup] == pytest.approx(1.0, abs=ROUNDING)
        assert got[warmup - 1] == pytest.approx(1.0 - (1.0 - foot) / warmup, abs=ROUNDING)
    after = got[warmup:]
    assert np.all(np.diff(after) <= ROUNDING)


@pytest.mark.parametrize("name", sorted(set(SCHEDULES) - set(STAIRS)))
def test_continuous_in_time(name):
    """Halving the spacing of the grid halves the largest jump (a discontinuity would not)."""
    values, _ = FORMULAS[name]
    coarse = np.max(np.abs(np.diff(curve(name, 1000, **values | scaled(values, 10)))))
    fine = np.max(np.abs(np.diff(curve(name, 2000, **values | scaled(values, 20)))))
    assert fine <= 0.51 * coarse + ROUNDING


def scaled(values, factor):
    """Settings given in steps, for a trial that is ``factor`` times longer."""
    return {key: factor * value for key, value in values.items() if key.endswith("_steps")}


def test_packed_and_single_agree_with_one_trace():
    """Every number, the trial's length included, may differ between slots."""
    for name, row in SCHEDULES.items():
        traces = []

        def counted(step, length, hp, row=row, traces=traces):
            traces.append(1)
            return row.multiplier(step, length, hp)

        compiled = jax.jit(counted)
        choices = [defaults(name), {key: 0.5 * value for key, value in defaults(name).items()}]
        choices = [
            hp | {"warmup_steps": jnp.float32(w)} for hp, w in zip(choices, (3, 7), strict=True)
        ]
        lengths = (50, 80)
        alone = [compiled(20, n, hp) for n, hp in zip(lengths, choices, strict=True)]
        assert len(traces) == 1
        stacked = jax.tree.map(lambda *v: jnp.stack(v), *choices)
        together = jax.vmap(row.multiplier, (None, 0, 0))(20, jnp.asarray(lengths), stacked)
        np.testing.assert_allclose(together, alone, rtol=FLOAT32)


def test_goyal_imagenet_schedule():
    """k = 32: the ramp goes from the small batch's rate to 32 times it in 5 of 90 epochs; then
    drops at epochs 30, 60 and 80. Our shape begins after the ramp: 85 epochs are left."""
    epoch, k = 100, 32
    milestones = {f"milestone_{i}": (e - 5) / 85 for i, e in enumerate((30, 60, 80), start=1)}
    got = curve(
        "staircase", 90 * epoch, warmup_steps=5.0 * epoch, warmup_start_factor=1 / k, **milestones
    )
    rate = 0.1 * k * got
    assert rate[0] == pytest.approx(0.1)
    assert rate[5 * epoch] == pytest.approx(3.2)
    for start_epoch, wanted in ((29.99, 3.2), (30, 0.32), (59.99, 0.32), (60, 0.032), (80, 0.0032)):
        assert rate[round(start_epoch * epoch)] == pytest.approx(wanted), start_epoch


def test_half_of_a_cosine_is_half_way_between_warmup_and_end():
    """550 of 1,000 steps, of which 100 warm up."""
    got = curve("cosine", 1000, warmup_steps=100.0, end_learning_rate_factor=0.0)
    assert got[550] == pytest.approx(0.5, abs=ROUNDING)


def test_vaswani_rate_is_inverse_sqrt_with_equal_warmup():
    got = curve("inverse_sqrt", 500, warmup_steps=40.0, timescale_steps=40.0)
    step = np.arange(500)
    wanted = np.minimum(np.maximum(step, 1) ** -0.5, step * 40**-1.5) * 40**0.5
    np.testing.assert_allclose(got, wanted, rtol=ROUNDING)


@pytest.mark.parametrize("row", [r for s in SCHEDULES.values() for r in s.hyperparameters])
def test_settings_out_of_range_are_refused_by_name(row):
    row.check(row.default)
    with pytest.raises(ValueError, match=f"{row.name} must lie in"):
        row.check(row.high * 2 + 1)
    with pytest.raises(ValueError, match=f"{row.name} must lie in"):
        row.check(row.low - 1)


def momentum_curve(name, train_steps, momentum, **changes):
    row = MOMENTUM_SCHEDULES[name]
    hp = {setting.name: setting.default for setting in row.hyperparameters} | changes
    return np.asarray(
        jax.vmap(lambda t: row.momentum(t, train_steps, momentum, hp))(jnp.arange(train_steps))
    )


def test_momentum_schedules_equal_their_formulas():
    np.testing.assert_allclose(momentum_curve("constant", 10, 0.9), 0.9, rtol=FLOAT32)
    annealed = momentum_curve("annealed", 100, 0.99, initial_momentum=0.5, anneal_steps_factor=0.5)
    np.testing.assert_allclose(annealed[[0, 25, 50, 99]], [0.5, 0.745, 0.99, 0.99], rtol=FLOAT32)
    got = momentum_curve("sutskever", 2000, 0.9)
    paper = [min(1 - 2 ** (-1 - math.log2(t // 250 + 1)), 0.9) for t in range(2000)]
    np.testing.assert_allclose(got, paper, rtol=FLOAT32)


SETTINGS = {row.name: row.default for row in PLATEAU} | {"patience_steps": 10.0}


def plateau(values, sign=1, **changes):
    """Multipliers after evaluations at steps 5, 10, 15, ..."""
    state, multipliers = start(), []
    for index, value in enumerate(values):
        state = observe(state, 5 * (index + 1), value, sign, **SETTINGS | changes)
        multipliers.append(float(state.multiplier))
    return multipliers


def test_plateau_cuts_after_patience_and_waits_again():
    # Best at step 10; no better at 15 and 20: at 20 patience (10 steps) is over. Again at 30.
    got = plateau([3.0, 2.0, 2.5, 2.0, 2.1, 2.2, 1.0, 1.1])
    assert got == [1.0, 1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.25]


def test_plateau_of_a_metric_to_maximise_and_its_floor():
    rising = plateau([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], sign=-1)
    assert rising == [1.0] * 6
    assert min(plateau([1.0] * 40, least_multiplier=0.2)) == pytest.approx(0.2)


@pytest.mark.parametrize("sign", [1, -1])
def test_plateau_below_zero(sign):
    """-1, -2, ... improves where less is better; -6, -5, ... where more is."""
    better = [-1.0, -2.0, -3.0, -4.0, -5.0, -6.0][::sign]
    assert plateau(better, sign) == [1.0] * 6
    assert plateau([-1.0] * 4, sign) == [1.0, 1.0, 0.5, 0.5]


def test_plateau_takes_nothing_that_is_not_finite_for_an_improvement_and_packs():
    assert plateau([1.0, math.nan, math.nan, math.nan]) == [1.0, 1.0, 0.5, 0.5]
    assert plateau([1.0, -math.inf, -math.inf, 0.5]) == [1.0, 1.0, 0.5, 0.5]
    assert plateau([1.0, math.inf, math.inf, 1.5], sign=-1) == [1.0, 1.0, 0.5, 0.5]
    one = observe(start(), 20, 1.0, 1, **SETTINGS)
    packed = jax.vmap(lambda value: observe(one, 40, value, 1, **SETTINGS))(jnp.asarray([0.5, 1.5]))
    assert packed.multiplier.tolist() == [1.0, 0.5]
    assert packed.best.tolist() == [0.5, 1.0]
