"""Durations convert in one place, both ways, and refuse what they cannot be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.engine_factory import tiny_study
from support.records_factory import make_record

from experiments.analysis.summary import summarise
from experiments.cli import build_parser
from experiments.commands.chosen import chosen_study
from experiments.report.facts import facts
from experiments.spec.space import Choice, Integer, Real, ZeroOrLog
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
        (lambda: Duration("one"), "got 'one'"),
        (lambda: Duration(10**400), "got 1000"),
        (lambda: parse(5), "a number and a unit .* got 5"),
        (lambda: parse("soon"), "a number and a unit .* got 'soon'"),
        (lambda: parse("1.2.3 epochs"), "a number and a unit"),
        (lambda: parse("3 weeks"), "unit must be one of"),
    ],
)
def test_refusals_name_field_value_and_what_is_allowed(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("warmup", "wanted"),
    [
        ("20", {8: 20, 64: 20}),
        ("0.5 epochs", {8: 64, 64: 8}),
        ("500 examples", {8: 63, 64: 8}),
        ("10%", {8: 26, 64: 10}),
    ],
)
def test_a_study_holds_a_warmup_at_a_duration_at_every_batch_size(warmup, wanted):
    """Of 1,024 training examples; trials of 256 steps at batch size 8 and of 100 at 64."""
    study = tiny_study(step_budget=100, example_budget=2048, fixed={"warmup_steps": warmup})
    for batch_size, steps in wanted.items():
        trial = study.trial(batch_size, 0, 0, dict.fromkeys(study.space, 0.5), "")
        assert trial.hyperparameters["warmup_steps"] == steps
    assert study.describe()["fixed"]["warmup_steps"] == warmup
    record = make_record(study)
    assert f"warmup steps {warmup}" in dict(facts(summarise(record)))["Fixed"]


@pytest.mark.parametrize(
    ("name", "duration", "steps"),
    [
        ("warmup_steps", "320 examples", 20 + 10),
        ("average_start", "1 epochs", 20 + 54),
        ("warmup_steps", "0 examples", 0),
        ("warmup_steps", "100 examples", 13),
        ("average_start", "10%", 10),
        ("average_start", "30", 30),
    ],
)
def test_a_duration_that_begins_with_the_trial_follows_a_batch_that_grows(name, duration, steps):
    """8 examples a step up to 160 of 1,440 (20 steps), then 16 (80 steps); 1,024 an epoch."""
    study = tiny_study(
        batch_sizes=(8,), step_budget=1, example_budget=1440, averaging="tail_mean",
        batch_size_schedule="smith", batch_size_cuts=(160,), batch_size_factor=2.0,
        fixed={name: duration},
    )  # fmt: skip
    assert study.length(8) == 100
    trial = study.trial(8, 0, 0, dict.fromkeys(study.space, 0.5), "")
    assert trial.hyperparameters[name] == steps


@pytest.mark.parametrize("value", ["2 epochs", "61", 61.0])
def test_a_warmup_that_outlasts_its_trial_is_refused(value):
    """The trial at batch size 64 has 60 steps; that at 8 has 64."""
    message = r"warmup_steps must end within the trial: .* of a trial of 6[04]"
    with pytest.raises(ValueError, match=message):
        tiny_study(fixed={"warmup_steps": value})
    assert tiny_study(fixed={"warmup_steps": "60"})


@pytest.mark.parametrize(
    "given", [Real(1.0, 61.0), Integer(1, 61), ZeroOrLog(1.0, 61.0), Choice((0, 61))]
)
def test_a_warmup_that_may_be_searched_past_the_trials_end_is_refused(given):
    """At batch size 64 a trial has 60 steps: the greatest value of the range must fit too."""
    rate = {"learning_rate": Real(1e-3, 1.0, "log")}
    message = "warmup_steps must end within the trial: 61(.0)? is 61 steps at batch size 64"
    with pytest.raises(ValueError, match=message):
        tiny_study(space={**rate, "warmup_steps": given})
    assert tiny_study(space={**rate, "warmup_steps": Real(1.0, 60.0)})


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        ({"momentum": "5%"}, "momentum must be a number, got '5%' .durations fit warmup_steps, "),
        ({"warmup_steps": "3 weeks"}, "duration unit must be one of"),
        ({"warmup_steps": "1e12 steps"}, r"warmup_steps must lie in \[0, 1e\+09\]"),
    ],
)
def test_durations_that_do_not_fit_a_hyperparameter_are_refused(fixed, message):
    with pytest.raises(ValueError, match=message):
        tiny_study(fixed=fixed)


def asked(*options):
    return chosen_study(build_parser().parse_args(["run", *options]))


def test_run_takes_budgets_in_steps_examples_and_epochs():
    study = asked("quickstart", "--budget", "500steps", "2.5epochs")
    assert (study.step_budget, study.example_budget) == (500, 2560)
    assert study.name == "quickstart-500steps-2.5epochs"
    lengths = study.resolved.length
    assert lengths(1) == 2560 and lengths(1024) == 500
    half = asked("quickstart", "--budget", "1e4 examples")
    assert (half.step_budget, half.example_budget) == (1000, 10_000)
    same = asked("quickstart", "--budget", "1000", "20epochs")
    assert same == asked("quickstart")
    several = asked("optimizers_digits", "--budget", "100")
    assert several.name == "optimizers_digits-100steps"
    assert {member.step_budget for member in several.studies.values()} == {100}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("quickstart", "--budget", "10%"),
            "--budget must be in steps, examples or epochs, got 0.1",
        ),
        (("quickstart", "--budget", "1epoch", "9examples"), "--budget takes one example_budget"),
        (
            ("quickstart", "--budget", "0"),
            "step_budget must be a whole number of at least 1, got 0",
        ),
        (("quickstart", "--budget", "soon"), "duration must be a number and a unit"),
        (("optimizer_paths", "--budget", "9"), "--budget has no place in optimizer_paths"),
    ],
)
def test_budgets_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        asked(*options)
