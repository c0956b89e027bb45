"""Batch-size schedules and rescaling rules hold the invariants they claim."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tolerances import FLOAT64, FLOAT64_SUMS

from experiments.spec.parts import PARTS
from schedules import BATCH_SIZE_SCHEDULES, SCHEDULES
from schedules.batch_size import (
    constant,
    cuts_from,
    cuts_of,
    examples_after,
    seesaw,
    smith,
    stretch_at,
    stretches,
    updates,
)
from schedules.rescaling import DECAYS_PER_STEP, RULES, STEP_COUNTS, rescale

ONE_EXAMPLE = 1
"""A cut falls on a whole example."""

EPOCH = 50_000
CUTS = (60 * EPOCH, 120 * EPOCH, 160 * EPOCH)
TOTAL = 200 * EPOCH
PLOTTED = 0.1
"""Relative: the paper gives its update counts to two digits, read off its text and curves."""
CUT_FACTOR = 1.02
"""Ratio of neighbouring cuts; the sum over them errs by at most a cut's share."""


@pytest.mark.parametrize(
    ("phases", "published", "computed"),
    [
        (constant(128), 80_000, 78_125),
        (smith(128, CUTS, 5, 5120), 29_000, 29_141),
        (smith(640, CUTS, 5, 5120), 6_500, 6_406),
        (smith(3200, CUTS, 5, 5120), 2_500, 2_305),
    ],
)
def test_update_counts_of_smith_et_al(phases, published, computed):
    """Wide ResNet on CIFAR-10. Each of at most three borders rounds up to a whole step."""
    got = updates(phases, TOTAL)
    assert 0 <= got - computed <= 3
    assert got == pytest.approx(published, rel=PLOTTED)


def test_smith_grows_to_its_cap_and_then_decays():
    phases = smith(128, CUTS, 5, 5120)
    assert [phase.batch_size for phase in phases] == [128, 640, 3200, 5120]
    assert [phase.rate_multiplier for phase in phases] == pytest.approx([1, 1, 1, 0.32])


@given(
    st.integers(1, 4096),
    st.lists(st.integers(1, 10**6), max_size=5, unique=True).map(sorted),
    st.floats(1.0, 10.0),
    st.integers(4096, 10**5),
)
def test_schedules_keep_their_invariants(batch_size, cuts, factor, highest):
    """rate / B (Smith) and rate / sqrt(B) (Seesaw) are those of the decayed rate."""
    for schedule, power in ((smith, 1.0), (seesaw, 0.5)):
        phases = schedule(batch_size, cuts, factor, highest)
        for number, phase in enumerate(phases):
            decayed = factor**-number / batch_size**power
            kept = phase.rate_multiplier / phase.batch_size**power
            assert kept == pytest.approx(decayed, rel=FLOAT64)
            assert batch_size <= phase.batch_size <= highest


def test_seesaw_saves_the_integral_of_the_shape():
    """B grows as 1/shape, so with cuts ever finer the updates tend to the integral of the shape:
    2/pi for a quarter cosine."""
    total, batch_size = 10**8, 100
    shape = lambda progress: math.cos(math.pi * progress / 2)
    cuts = cuts_of(shape, total, CUT_FACTOR, most=400)
    phases = seesaw(batch_size, cuts, CUT_FACTOR)
    assert updates(phases, total) / (total / batch_size) == pytest.approx(
        2 / math.pi, rel=CUT_FACTOR - 1
    )


def test_cuts_are_where_the_shape_crosses():
    assert cuts_of(lambda x: 1 - x, 1000, 2.0, most=3) == (500, 750, 875)
    assert cuts_of(lambda x: 1 - 0.9 * x, 1000, 2.0) == (556, 834, 973)
    assert cuts_of(lambda x: 1.0, 1000, 2.0) == ()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: smith(0, (1,)), "batch_size must be at least 1, got 0"),
        (lambda: smith(8, (5, 5)), "cuts must increase from above 0"),
        (lambda: seesaw(8, (0, 5)), "cuts must increase from above 0"),
        (lambda: smith(8, (5,), 0.5), "factor must be at least 1, got 0.5"),
        (lambda: smith(8, (5,), 2.0, 4), "max_batch_size must be at least the batch size 8, got 4"),
        (lambda: cuts_of(lambda x: 1 - x, 10, 1.0), "factor must exceed 1"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_borders_are_kept_to_whole_steps():
    """A phase ends at the first step by which its examples are consumed."""
    parts = stretches(smith(8, (20, 50, 51), 2.0))
    # 3 steps of 8 pass 20, 2 of 16 pass 50 and 51: the phase of 32 makes no step.
    assert [part[:3] for part in parts] == [(0, 0, 8), (3, 24, 16), (5, 56, 64)]
    assert examples_after(parts, range(8)).tolist() == [0, 8, 16, 24, 40, 56, 120, 184]
    assert [stretch_at(parts, step).batch_size for step in (0, 2, 3, 4, 5, 99)] == [
        8, 8, 16, 16, 64, 64,
    ]  # fmt: skip
    assert len(stretches(smith(8, (20, 50), 1.0))) == 1  # alike: one
    assert len(stretches(seesaw(8, (20, 50), 2.0, 16))) == 3  # the rate still falls


@given(
    st.integers(1, 50),
    st.lists(st.integers(1, 2000), max_size=4, unique=True).map(sorted),
    st.integers(1, 3000),
)
def test_steps_and_examples_are_counted_alike(batch_size, cuts, total):
    """Step by step: the batch of a step is that of the examples consumed before it."""
    phases = smith(batch_size, cuts, 3.0)
    consumed = made = 0
    counted = [0]
    while consumed < total:
        consumed += [p for p in phases if p.start_examples <= consumed][-1].batch_size
        made += 1
        counted.append(consumed)
    assert updates(phases, total) == made
    assert examples_after(stretches(phases), range(made + 1)).tolist() == counted


def test_cuts_follow_the_warmup_that_is_before_the_shape():
    """Falls by 10 at thirds of 900 steps after 100 of warmup, eight examples each."""
    settings = {"decay_factor": 0.1, "interval_factor": 1 / 3, "warmup_steps": 100.0}
    cuts = cuts_from(SCHEDULES["step_decay"], settings, 8, 8000, 10.0)
    assert cuts == pytest.approx((800 + 2400, 800 + 4800), abs=ONE_EXAMPLE)
    assert cuts_from(SCHEDULES["constant"], settings, 8, 8000, 10.0) == ()
    assert cuts_from(SCHEDULES["step_decay"], settings, 8, 800, 10.0) == ()  # all of it warmup


def test_table_of_batch_size_schedules():
    assert set(BATCH_SIZE_SCHEDULES) == {"constant", "smith", "seesaw"}


VALUES = {
    "learning_rate": 0.1,
    "momentum": 0.9,
    "beta2": 0.999,
    "average_decay": 0.9999,
    "weight_decay": 0.01,
    "warmup_steps": 500.0,
    "average_start": 800.0,
    "epsilon": 1e-8,
}


def half_life_examples(beta, batch_size):
    return batch_size * math.log(0.5) / math.log(beta)


# rule -> name -> the quantity it claims not to change, as f(hyperparameters, batch size).
INVARIANTS = {
    "none": {name: lambda v, b, name=name: v[name] for name in VALUES},
    "linear": {"learning_rate": lambda v, b: v["learning_rate"] / b},
    "square_root": {"learning_rate": lambda v, b: v["learning_rate"] ** 2 / b},
    "half_life": {
        "momentum": lambda v, b: half_life_examples(v["momentum"], b),
        "beta2": lambda v, b: half_life_examples(v["beta2"], b),
    },
    "ema_power": {"average_decay": lambda v, b: v["average_decay"] ** (10**6 / b)},
    "weight_decay_timescale": {
        "weight_decay": lambda v, b: b / (v["learning_rate"] * v["weight_decay"])
    },
    "warmup_examples": {
        "warmup_steps": lambda v, b: v["warmup_steps"] * b,
        "average_start": lambda v, b: v["average_start"] * b,
    },
}


def test_every_rule_has_its_invariant_and_says_it():
    assert set(INVARIANTS) == set(RULES)
    assert all(row.name == name and row.formula and row.invariant for name, row in RULES.items())


def test_every_decay_and_duration_in_steps_of_the_tables_is_known():
    """A hyperparameter of a table that counts steps is rescaled, or its name says why not."""
    names = {
        row.name
        for part in PARTS.values()
        for choice in part.values()
        for row in choice.hyperparameters
    }
    counted = {name for name in names if name.endswith("_steps")}
    assert counted <= set(STEP_COUNTS) | {"refresh_steps"}  # SOAP's: a cost, not a time constant
    assert set(STEP_COUNTS) | set(DECAYS_PER_STEP) | {"average_decay", "weight_decay"} <= names


HALF_LIFE_ROUNDING = 1e-4
"""Of a half-life: a beta 1e-12 from one has four digits of its distance in float64."""


@given(st.sampled_from(sorted(RULES)), st.integers(1, 10**5), st.integers(1, 10**5))
def test_rule_keeps_its_invariant_and_touches_nothing_else(rule, batch_size, new_batch_size):
    new = rescale(VALUES, batch_size, new_batch_size, rule)
    kept = INVARIANTS[rule]
    for name, value in VALUES.items():
        if name not in kept:
            assert new[name] == value
            continue
        # A beta within 1e-16 of one or zero has no half-life that float64 can tell.
        if 1e-12 < new[name] < 1 - 1e-12:
            before, after = kept[name](VALUES, batch_size), kept[name](new, new_batch_size)
            assert after == pytest.approx(before, rel=HALF_LIFE_ROUNDING)
    back = rescale(new, new_batch_size, batch_size, rule)
    for name, value in VALUES.items():
        if 1e-12 < new[name] < 1 - 1e-12:
            assert back[name] == pytest.approx(value, rel=HALF_LIFE_ROUNDING)


@given(st.integers(1, 10**4), st.integers(1, 10**4))
def test_rules_combine_and_decay_reads_the_new_rate(batch_size, new_batch_size):
    rules = "weight_decay_timescale+square_root+warmup_examples"
    new = rescale(VALUES, batch_size, new_batch_size, rules)
    for name in ("weight_decay_timescale", "square_root", "warmup_examples"):
        for invariant in INVARIANTS[name].values():
            wanted = invariant(VALUES, batch_size)
            assert invariant(new, new_batch_size) == pytest.approx(wanted, rel=FLOAT64_SUMS)


def test_rescale_refuses_by_name():
    with pytest.raises(ValueError, match="'liner' is unknown; did you mean 'linear'"):
        rescale(VALUES, 1, 2, "liner")
    with pytest.raises(ValueError, match="new_batch_size must be at least 1, got 0"):
        rescale(VALUES, 1, 0, "linear")
    with pytest.raises(ValueError, match="may change learning_rate once"):
        rescale(VALUES, 1, 2, "linear+square_root")
