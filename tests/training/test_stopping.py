"""Trials that stop: where they do follows from their own measurements, not from chunks or slots."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from support.engine_factory import resident_digits, same_bits, tiny_study, tiny_trial, train

from experiments.spec.trial import Status, evaluation_steps
from experiments.training.program import Program
from experiments.training.slots import End, Slot
from workloads import Goal

GOAL = Goal("classification_error", 0.4)


def trials(**changes):
    rates = (0.05, 1e-5, 0.02, 1e9)
    found = [tiny_trial(i, learning_rate=rate, train_steps=300) for i, rate in enumerate(rates)]
    return [dataclasses.replace(trial, **changes) for trial in found]


@pytest.fixture(scope="module")
def program():
    """For an easy goal."""
    return Program(tiny_study(goal=GOAL).config("off"), resident_digits(), 1e4)


def crossing(result):
    passed = result.evaluations["step"][GOAL.better(result.evaluations[GOAL.column])]
    return int(passed[0]) if len(passed) else None


@pytest.mark.parametrize(("mode", "slots"), [("scan", 1), ("packed", 4), ("loop", 1)])
def test_a_trial_stops_at_its_first_evaluation_past_the_goal_or_at_its_bound(program, mode, slots):
    whole = train(trials(), mode, slots, program)
    found = train(trials(stops=True, race_bound=205), mode, slots, program)
    assert crossing(whole[0]) and crossing(whole[0]) < 205 and crossing(whole[1]) is None
    for index, result in found.items():
        full, at = whole[index], crossing(whole[index])
        if index == 3:
            assert result.status == Status.INFEASIBLE and result.steps == full.steps
        elif at is not None and at <= 205:
            assert (result.status, result.reason, result.steps) == (Status.STOPPED, "goal", at)
        else:
            assert (result.status, result.reason, result.steps) == (Status.STOPPED, "race", 205)
            last = max(step for step in evaluation_steps(300) if step <= 205)
            assert result.evaluations["step"][-1] == last
        kept = full.evaluations["step"] <= result.steps
        table = {name: values[kept] for name, values in full.evaluations.items()}
        assert index == 3 or same_bits(table, result.evaluations)


def test_a_trial_that_passes_the_goal_never_comes_to_diverge():
    """What stops before the step that diverges is STOPPED, however far the device had gone."""
    column = {GOAL.column: np.array([1.0, GOAL.value / 2, 0.0]), "step": np.array([4, 8, 12])}
    slot = Slot(trials(stops=True)[0], None, None, None, ())
    slot.evaluations.append(column)
    assert slot.end(20, 12, GOAL) == End(8, Status.STOPPED, "goal")
    assert slot.end(20, 8, GOAL) == End(8, Status.INFEASIBLE, "")
    slot.trial = trials()[0]
    assert slot.end(20, 12, GOAL) == End(12, Status.INFEASIBLE, "")
    assert slot.end(20, None, GOAL) is None
    assert slot.end(300, None, GOAL) == End(300, Status.COMPLETE, "")


def test_a_trial_whose_goal_lies_at_its_end_is_complete():
    trial = tiny_trial(0, train_steps=8)
    slot = Slot(dataclasses.replace(trial, stops=True), None, None, None, ())
    slot.evaluations.append({GOAL.column: np.array([0.0]), "step": np.array([8])})
    assert slot.end(8, None, GOAL) == End(8, Status.COMPLETE, "")
