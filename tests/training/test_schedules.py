"""Schedules that the engine executes: of the momentum, and of a rate that evaluation lowers."""

from __future__ import annotations

import numpy as np
import pytest
from support.engine_factory import (
    resident_digits,
    same_bits,
    tiny_program,
    tiny_study,
    tiny_trial,
    train,
)
from support.engine_twin import iterates, validation, validation_curve
from support.tolerances import FLOAT32

from experiments.analysis.question import read_question
from experiments.cli import build_parser
from experiments.commands.chosen import chosen_study
from experiments.records.store import read
from experiments.runner.study import run_study
from experiments.spec.trial import evaluation_steps
from experiments.training.program import Program
from schedules import MOMENTUM_SCHEDULES
from workloads.base import Goal

AMPLIFIED = 1e-2
"""A rate at which nothing improves amplifies rounding."""

TWIN_AGREES = 1e-4
"""Float32 against float64 over some tens of steps."""
MOMENTUM = {
    "annealed": (
        {"initial_momentum": 0.3, "anneal_steps_factor": 0.5},
        lambda t: min(0.3 + (0.95 - 0.3) * t / 12, 0.95),
    ),
    "sutskever": (
        {"momentum_period_steps": 3.0},
        lambda t: min(1 - 2 ** (-1 - np.log2(t // 3 + 1)), 0.95),
    ),
}


def program_of(record_norms="off", **changes):
    study = tiny_study(**changes)
    return Program(study.config(record_norms), resident_digits(), study.divergence_factor)


def test_every_momentum_schedule_of_the_table_is_tried_here():
    assert MOMENTUM.keys() == MOMENTUM_SCHEDULES.keys() - {"constant"}


@pytest.mark.parametrize("name", MOMENTUM)
def test_the_rule_is_given_the_momentum_of_its_step(name):
    settings, momentum = MOMENTUM[name]
    program = program_of(momentum_schedule=name)
    trial = tiny_trial(0, 48, train_steps=24, momentum=0.95, **settings)
    grid = evaluation_steps(24)
    found = train([trial], program=program)[0].evaluations["validation/cross_entropy"]
    entropies, _ = validation_curve(iterates(trial, program, momentum=momentum), grid)
    np.testing.assert_allclose(found, entropies, rtol=TWIN_AGREES)
    constant, _ = validation_curve(iterates(trial, program), grid)
    assert np.max(np.abs(found - constant)) > 100 * TWIN_AGREES


def test_beta1_is_a_momentum_and_a_schedule_that_stays_changes_nothing():
    values = {"learning_rate": 0.01, "beta1": 0.8, "beta2": 0.999, "epsilon": 1e-8}
    still = tiny_trial(0, 48, 24, **values, initial_momentum=0.8, anneal_steps_factor=0.5)
    moving = tiny_trial(0, 48, 24, **values, initial_momentum=0.0, anneal_steps_factor=0.5)
    scheduled = program_of(optimizer="adam", momentum_schedule="annealed")
    plain = train([tiny_trial(0, 48, 24, **values)], program=tiny_program("off", "adam"))[0]
    found = train([still], program=scheduled)[0], train([moving], program=scheduled)[0]
    curves = [r.evaluations["validation/cross_entropy"] for r in (plain, *found)]
    np.testing.assert_allclose(curves[1], curves[0], rtol=TWIN_AGREES)
    assert np.max(np.abs(curves[2] - curves[0])) > 100 * TWIN_AGREES


def plateau_twin(direction, grid, factor, patience, least):
    """multiplier(t, theta_t): cut where nothing better came for ``patience`` steps."""
    kept = {"multiplier": 1.0, "best": np.inf, "since": 0}

    def multiplier(t, theta):
        if t in grid:
            loss = validation(theta)[0] * (1 if direction == "min" else -1)
            if loss < kept["best"]:
                kept.update(best=loss, since=t)
            elif t - kept["since"] >= patience:
                kept.update(multiplier=max(kept["multiplier"] * factor, least), since=t)
        return kept["multiplier"]

    return multiplier


@pytest.mark.parametrize(("direction", "mode", "slots"), [("min", "packed", 2), ("max", "loop", 1)])
def test_a_plateau_lowers_the_rate_where_validation_no_longer_improves(direction, mode, slots):
    program = program_of("every", schedule="plateau", goal=Goal("cross_entropy", 0.1, direction))
    settings = {"plateau_factor": 0.3, "patience_steps": 2.0, "least_multiplier": 0.1}
    trials = [
        tiny_trial(i, 48, 60, learning_rate=0.6, momentum=0.9, **settings, warmup_steps=3.0 * i)
        for i in range(slots + 1)
    ]
    found = train(trials, mode, slots, program=program)  # the last in a used slot
    alone = train(trials[-1:], mode, slots, program=program)[slots]
    assert same_bits(alone.norms, found[slots].norms)
    assert same_bits(alone.evaluations, found[slots].evaluations)
    grid = evaluation_steps(60)
    falls = plateau_twin(direction, grid, 0.3, 2.0, 0.1)
    wanted = []

    def multiplier(t, theta):
        wanted.append(falls(t, theta))
        return wanted[-1]

    path = iterates(trials[0], program, multiplier)
    assert sorted(set(wanted)) == [0.1, 0.3, 1.0]
    np.testing.assert_allclose(
        found[0].norms["learning_rate"], 0.6 * np.array(wanted), rtol=FLOAT32
    )
    np.testing.assert_allclose(
        found[0].evaluations["validation/cross_entropy"],
        validation_curve(path, grid)[0],
        rtol=AMPLIFIED,
    )
    assert found[1].norms["learning_rate"][0] == 0.0  # warmup is prepended here too


def test_a_study_records_its_schedules(tmp_path):
    study = tiny_study(
        schedule="plateau", momentum_schedule="annealed", batch_sizes=(64,), trials=1,
        fixed={"patience_steps": 5.0, "initial_momentum": 0.25},
    )  # fmt: skip
    record = read(run_study(study, tmp_path / "scheduled", execution="scan"))
    question = read_question(record)
    assert (question.schedule, question.momentum_schedule) == ("plateau", "annealed")
    assert record.trials.select("patience_steps", "initial_momentum").row(0) == (5.0, 0.25)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"momentum_schedule": "anealed"}, "momentum schedule 'anealed' is unknown; did you mean"),
        ({"momentum_schedule": "annealed", "optimizer": "sgd"},
         "must be constant with sgd, which has neither momentum nor beta1, got 'annealed'"),
        ({"schedule": "plateau", "fixed": {"patience_steps": 0.0}}, r"must lie in \[1, 1e\+09\]"),
    ],
)  # fmt: skip
def test_what_a_schedule_cannot_be_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny_study(**changes)


def test_the_command_line_puts_schedules_into_a_study():
    typed = ["run", "quickstart", "--schedule", "linear", "--momentum-schedule", "sutskever"]
    study = chosen_study(build_parser().parse_args(typed)).resolved
    assert (study.schedule, study.momentum_schedule) == ("linear", "sutskever")
    assert study.name == "quickstart-linear-sutskever"
    assert {"end_learning_rate_factor", "decay_steps_factor"} <= study.space.keys()
    assert "warmup_steps" not in study.space and "momentum_period_steps" not in study.space
