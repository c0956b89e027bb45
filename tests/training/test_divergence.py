"""Divergence is judged at every step from the loss and the gradient, whatever is recorded."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from support.engine_factory import tiny_trial, train
from support.objectives import objective_program
from support.tolerances import FLOAT32_SUMS

from experiments.spec.trial import Status
from experiments.training.step import divergence_limit
from workloads.digits_fc import WORKLOAD

ARRIVED = 1e-3
"""A hundred steps end this near the minimum."""

NORMS = ("every", "evaluations", "off")
EXECUTIONS = (("scan", 1), ("loop", 1), ("packed", 2))


def outcome(program, steps, mode="scan", slots=1, **values):
    """(status, steps, the whole result) of a trial from the objective's start."""
    trial = tiny_trial(0, train_steps=steps, momentum=0.0, **values)
    result = train([trial], mode, slots, program)[0]
    return result.status, result.steps, result


@pytest.mark.parametrize("record_norms", NORMS)
@pytest.mark.parametrize(("mode", "slots"), EXECUTIONS)
def test_a_gradient_that_is_not_finite_is_found_at_its_step(record_norms, mode, slots):
    """w^2 at rate .005 comes below .5 with step 69: step 70's gradient is the first NaN."""
    program = objective_program("nan_below_half", record_norms)
    run = {"mode": mode, "slots": slots, "learning_rate": 0.005}
    assert outcome(program, 100, **run)[:2] == (Status.INFEASIBLE, 70)
    # A trial of 69 steps never meets that gradient, whatever is measured at its end.
    assert outcome(program, 69, **run)[:2] == (Status.COMPLETE, 69)


def test_an_evaluation_far_away_changes_no_step():
    """The state is seldom looked at: the step is that of the gradient all the same."""
    program = objective_program("nan_below_half", "off")
    trial = tiny_trial(0, train_steps=200, learning_rate=0.005, momentum=0.0)
    for mode, slots in EXECUTIONS:
        result = train([trial], mode, slots, program, grid=lambda steps: [1, 60, steps])[0]
        assert (result.status, result.steps) == (Status.INFEASIBLE, 70)


@pytest.mark.parametrize("optimizer", ["hessian_free", "newton", "lbfgs", "sgd", "adam"])
def test_a_first_gradient_that_is_not_finite_ends_every_rule_at_once(optimizer):
    program = objective_program("nan_gradient", "off", optimizer=optimizer)
    values = {"damping": 1e-4, "tolerance": 1e-2, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8}
    found = outcome(program, 20, learning_rate=0.1, **values)
    assert found[:2] == (Status.INFEASIBLE, 1)


@pytest.mark.parametrize(("objective", "start"), [("square_minus_2", 1.0), ("from_zero", 1.0)])
def test_an_objective_of_any_sign_may_train(objective, start):
    """-1 falls to -2; 0 rises to .06 and more (the rate is negative in effect: w falls below 1)."""
    program = objective_program(objective, "off", start=start)
    status, _, result = outcome(program, 100, learning_rate=0.1)
    assert status == Status.COMPLETE
    if objective == "square_minus_2":
        assert result.evaluations["train/loss"][-1] == pytest.approx(-2, abs=ARRIVED)


def test_a_positive_objective_may_not_exceed_its_multiple():
    """w^2 at rate 1.5 quadruples: 10,000 times the first loss is passed after step 7."""
    program = objective_program("square", "off", start=4.0)
    assert outcome(program, 100, learning_rate=1.5)[:2] == (Status.INFEASIBLE, 8)


@pytest.mark.parametrize(
    ("factor", "initial", "scale", "limit"),
    [
        (1e4, 2.3, 1.0, 2.3e4),
        (1.5, 2.0, 1.0, 3.0),
        (1e4, -1.0, 1.0, 9998.0),
        (1e4, 0.0, 1.0, 9999.0),
        (1e4, 0.01, 0.02, 0.01 + 9999 * 0.02),
        (11.0, -50.0, 1.0, 450.0),
    ],
)
def test_the_limit_is_the_first_loss_and_so_many_times_its_size(factor, initial, scale, limit):
    assert float(divergence_limit(factor, np.float32(initial), scale)) == pytest.approx(limit)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("inf"), float("nan")])
def test_a_workloads_loss_scale_is_positive(scale):
    with pytest.raises(ValueError, match=r"digits_fc: loss_scale must be positive and finite"):
        dataclasses.replace(WORKLOAD, loss_scale=scale)


def test_a_loss_scale_is_described_where_it_is_not_one():
    assert "loss_scale" not in WORKLOAD.describe()
    other = dataclasses.replace(WORKLOAD, loss_scale=2.0)
    assert type(other).from_description(other.describe()) == other != WORKLOAD


@pytest.mark.parametrize("clipping", ["none", "global_norm"])
@pytest.mark.parametrize("record_norms", NORMS)
def test_a_gradient_whose_square_overflows_is_no_divergence(record_norms, clipping):
    """100 entries of 1e19: the norm is 1e20, the update's .1 where nothing is clipped."""
    program = objective_program("large_gradient", record_norms, 100, 1e-21, clipping=clipping)
    values = {"clip_threshold": 1e19} if clipping != "none" else {}
    status, steps, result = outcome(program, 5, learning_rate=1e-21, **values)
    assert (status, steps) == (Status.COMPLETE, 5)
    if record_norms != "off":
        table = result.norms if record_norms == "every" else result.evaluations
        np.testing.assert_allclose(table["gradient_norm"], 1e20, rtol=FLOAT32_SUMS)
        moved = 0.1 if clipping == "none" else 0.01
        np.testing.assert_allclose(table["update_norm"], moved, rtol=FLOAT32_SUMS)


def test_a_small_gradients_norm_is_recorded():
    program = objective_program("small_gradient", "every", 100)
    result = outcome(program, 5, learning_rate=0.1)[2]
    np.testing.assert_allclose(result.norms["gradient_norm"], 1e-24, rtol=FLOAT32_SUMS)
