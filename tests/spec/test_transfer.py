"""Hyperparameters that follow from those of one batch size by a rule."""

from __future__ import annotations

import pytest
from support.engine_factory import tiny_study

from experiments.spec.trial import Transfer
from schedules.rescaling import rescale

POINT = {"learning_rate": 0.5, "momentum": 0.25}


def trial(study, batch_size, point=POINT):
    return study.trial(batch_size, 0, 3, {n: point[n] for n in study.space}, "x")


def searched(**fields):
    space = {
        "learning_rate": {"low": 0.01, "high": 1.0, "scale": "log"},
        "momentum": {"low": 0.5, "high": 0.99, "scale": "reverse_log"},
    }
    return tiny_study(**{"batch_sizes": (8, 16, 64), "space": space, **fields})


@pytest.mark.parametrize("rule", ["none", "linear", "square_root", "half_life", "linear+half_life"])
def test_a_trial_is_that_of_the_rules_batch_size_taken_to_its_own(rule):
    plain, ruled = searched(), searched(rule=Transfer(rule, 16))
    at_base = trial(plain, 16).hyperparameters
    for batch_size in (8, 16, 64):
        found = trial(ruled, batch_size).hyperparameters
        assert found == pytest.approx(rescale(at_base, 16, batch_size, rule))
    assert trial(ruled, 64).identity != trial(plain, 64).identity


def test_the_question_is_another_with_a_rule_and_grows_in_batch_sizes():
    plain, ruled = searched(), searched(rule=Transfer("linear", 16))
    assert plain.identity("x") != ruled.identity("x")
    assert ruled.identity("x") != searched(rule=Transfer("linear", 8)).identity("x")
    grown = searched(rule=Transfer("linear", 16), batch_sizes=(8, 16, 32, 64))
    assert grown.identity("x") == ruled.identity("x")
    assert "rule" not in plain.describe()
    assert type(ruled).from_description(ruled.describe()).rule == Transfer("linear", 16)


def test_fixed_values_follow_durations_stay_and_defaults_follow():
    study = searched(
        rule=Transfer("half_life+warmup_examples", 8),
        space={"learning_rate": {"low": 0.1, "high": 0.2}},
        optimizer="adam",
        schedule="linear",
        fixed={"beta1": 0.9, "warmup_steps": 8.0, "beta2": 0.99},
    )
    found = trial(study, 64).hyperparameters
    assert found["beta2"] == pytest.approx(0.99**8) and found["warmup_steps"] == 1.0
    by_words = searched(
        rule=Transfer("warmup_examples", 8), schedule="linear", fixed={"warmup_steps": "50%"}
    )
    for batch_size in (8, 64):
        warmup = trial(by_words, batch_size).hyperparameters["warmup_steps"]
        assert warmup == by_words.number("warmup_steps", "50%", batch_size)


def test_a_searched_value_beyond_the_legal_interval_ends_at_it():
    study = searched(rule=Transfer("linear", 8), space={"learning_rate": {"low": 1.0, "high": 9e5}},
                     fixed={"momentum": 0.0}, optimizer="momentum")  # fmt: skip
    row = next(row for row in study.rows if row.name == "learning_rate")
    assert trial(study, 64, {"learning_rate": 1.0}).hyperparameters["learning_rate"] == row.high


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"rule": Transfer("linear", 8), "fixed": {"learning_rate": 9e5}, "space": {}},
         "rule linear from batch size 8, at 16: learning_rate must lie in"),
        ({"rule": "linear"}, "rule must be a Transfer"),
        ({"rule": Transfer("linear", 8), "batch_size_schedule": "smith",
          "batch_size_cuts": (256,)}, "batch_size_schedule must be constant with a rule"),
        ({"rule": Transfer("warmup_examples", 64), "schedule": "linear",
          "fixed": {"warmup_steps": 50.0}}, "warmup_steps must end within the trial"),
    ],
)  # fmt: skip
def test_what_a_rule_cannot_do_is_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        searched(**fields)


@pytest.mark.parametrize(
    ("rule", "batch_size", "words"),
    [("lineer", 8, "linear"), ("linear", 0, "at least 1"), ("linear", 2.5, "whole number"),
     (7, 8, "rule must be a name"), ("linear+square_root", 8, "learning_rate once")],
)  # fmt: skip
def test_what_is_no_rule_is_refused(rule, batch_size, words):
    with pytest.raises(ValueError, match=words):
        Transfer(rule, batch_size)
