"""Durations convert in one place, both ways, and refuse what they cannot be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedules.durations import UNITS, Duration, of_steps, parse

SIZES = st.integers(1, 10**7)


@given(st.sampled_from(UNITS), st.integers(0, 10**9), SIZES, SIZES, st.integers(1, 10**9))
def test_steps_survive_the_round_trip(unit, steps, batch_size, train_size, train_steps):
    steps = min(steps, train_steps)
    there = of_steps(steps, unit, batch_size, train_size, train_steps)
    assert there.unit == unit
    assert there.steps(batch_size, train_size, train_steps) == steps


@given(st.floats(0, 1e6), SIZES, SIZES)
def test_steps_cover_the_duration_and_no_step_more(amount, batch_size, train_size):
    for unit, examples in (("examples", amount), ("epochs", amount * train_size)):
        steps = Duration(amount, unit).steps(batch_size, train_size)
        slack = 1e-8 * examples + 1e-8
        assert steps * batch_size >= examples - slack
        assert (steps - 1) * batch_size < examples + slack


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("500", Duration(500, "steps")),
        ("90 epochs", Duration(90, "epochs")),
        ("1 epoch", Duration(1, "epochs")),
        ("1e6examples", Duration(1e6, "examples")),
        (" 5 % ", Duration(0.05, "fraction")),
        ("0.1 fraction", Duration(0.1, "fraction")),
    ],
)
def test_parse(text, wanted):
    assert parse(text) == wanted
    assert parse(str(wanted)) == wanted


def test_smith_epochs_and_playbook_warmup():
    assert Duration(200, "epochs").steps(128, 50_000) == 78_125
    assert Duration(0.1, "fraction").steps(128, train_steps=30) == 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Duration(1, "hours"), "unit must be one of steps, examples, epochs, fraction"),
        (lambda: Duration(-1), r"duration in steps must lie in \[0, inf\), got -1"),
        (lambda: Duration(float("nan")), "got nan"),
        (lambda: Duration(1.5, "fraction"), r"must lie in \[0, 1\], got 1.5"),
        (lambda: Duration(1, "epochs").steps(8), "train_size must be at least 1"),
        (lambda: Duration(1, "fraction").steps(8), "train_steps must be at least 1"),
        (lambda: Duration(1, "examples").steps(0), "batch_size must be at least 1, got 0"),
        (lambda: parse("soon"), "a number and a unit .* got 'soon'"),
        (lambda: parse("1.2.3 epochs"), "a number and a unit"),
        (lambda: parse("3 weeks"), "unit must be one of"),
    ],
)
def test_refusals_name_field_value_and_what_is_allowed(call, message):
    with pytest.raises(ValueError, match=message):
        call()
