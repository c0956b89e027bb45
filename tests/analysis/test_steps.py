"""Steps to result, budgets and counts: exactly the published definitions."""

import dataclasses
import math

import numpy as np
import polars as pl
import pytest
from support.records_factory import MemoryRecord, handmade, make_record, make_study

from experiments.analysis.best_hyperparameters import best_trials, scaling_rules
from experiments.analysis.budgets import best_under_budgets, best_within
from experiments.analysis.steps_to_result import crossings, steps_to_result, trial_counts
from experiments.analysis.summary import summarise
from workloads.base import Goal

DONE, DIVERGED, FAILED = "COMPLETE", "INFEASIBLE", "INCOMPLETE"


def row_of(record: MemoryRecord, batch_size: int = 8, goal: object = None) -> dict:
    table = steps_to_result(record, goal)
    return table.filter(pl.col("batch_size") == batch_size).row(0, named=True)


def test_a_value_equal_to_the_goal_does_not_count():
    record = handmade({8: [(DONE, {10: 0.3, 20: 0.1, 30: 0.0999})]}, trials=1)
    row = row_of(record)
    assert (row["steps_to_result"], row["evaluated_before"]) == (30, 20)


def test_the_fewest_steps_of_any_trial_and_ties_go_to_the_lowest_trial():
    record = handmade(
        {
            8: [
                (DONE, {10: 0.2, 20: 0.2, 30: 0.01}),
                (DONE, {10: 0.2, 20: 0.09}),
                (DONE, {5: 0.3, 20: 0.01}),
            ]
        },
        trials=3,
    )
    row = row_of(record)
    assert (row["steps_to_result"], row["trial"], row["evaluated_before"]) == (20, 1, 10)


def test_only_the_first_n_complete_trials_count():
    curves = [(DONE, {10: 0.5, 40: 0.05}), (DIVERGED, {1: 0.01}), (DONE, {10: 0.05}), (FAILED, {})]
    assert row_of(handmade({8: curves}, trials=1))["steps_to_result"] == 40
    row = row_of(handmade({8: curves}, trials=2))
    assert (row["steps_to_result"], row["trial"]) == (10, 2)
    assert (row["complete"], row["infeasible"], row["incomplete"], row["missing"]) == (2, 1, 1, 0)


def test_trials_recorded_out_of_order_are_counted_by_index():
    record = handmade({8: [(DONE, {10: 0.5, 40: 0.05}), (DONE, {10: 0.05})]}, trials=1)
    shuffled = dataclasses.replace(
        record, trials=record.trials.reverse(), evaluations=record.evaluations.reverse()
    )
    assert row_of(shuffled)["steps_to_result"] == 40


def test_function_evaluations_are_the_fewest_of_any_counted_trial_past_the_goal():
    """As steps, with the evaluations made by then in their place: here another trial's."""
    curves = [
        (DONE, {10: 0.2, 20: 0.05, 30: 0.01}),
        (DONE, {10: 0.2, 20: 0.2, 30: 0.05}),
        (DIVERGED, {1: 0.01}),
    ]
    record = handmade({8: curves, 16: curves[1:2]}, trials=2, goal=0.1)
    assert "function_evaluations_to_result" not in steps_to_result(record).columns
    per_step = pl.col("trial").replace_strict({0: 7, 1: 2, 2: 1})
    counted = record.evaluations.with_columns(
        (per_step * pl.col("step")).cast(pl.Float64).alias("function_evaluations")
    )
    record = dataclasses.replace(record, evaluations=counted)
    row = row_of(record)
    assert (row["steps_to_result"], row["trial"]) == (20, 0)
    assert row["function_evaluations_to_result"] == 2 * 30
    assert row_of(record, 16)["function_evaluations_to_result"] == 7 * 30
    assert row_of(record, 16, goal=0.001)["function_evaluations_to_result"] is None


def test_a_trial_that_passed_the_goal_and_diverged_later_does_not_count():
    record = handmade({8: [(DIVERGED, {10: 0.01}), (DONE, {10: 0.5, 90: 0.05})]}, trials=1)
    assert row_of(record)["steps_to_result"] == 90


def test_a_later_measurement_short_of_the_goal_does_not_undo_it():
    record = handmade({8: [(DONE, {10: 0.3, 20: 0.05, 30: 0.4, 40: 0.05})]}, trials=1)
    row = row_of(record)
    assert (row["steps_to_result"], row["evaluated_before"]) == (20, 10)


def test_a_first_measurement_past_the_goal_was_last_short_of_it_at_step_zero():
    row = row_of(handmade({8: [(DONE, {1: 0.05})]}, trials=1))
    assert (row["steps_to_result"], row["evaluated_before"]) == (1, 0)


def test_values_that_are_not_finite_never_pass_a_goal():
    curve = {1: math.nan, 2: math.inf, 3: 0.5}
    record = handmade({8: [(DONE, curve)]}, trials=1)
    study = {**record.study, "study": dict(record.study["study"])}
    study["study"]["goal"] = {**study["study"]["goal"], "direction": "max", "value": 0.4}
    row = row_of(dataclasses.replace(record, study=study))
    assert (row["steps_to_result"], row["best_value"]) == (3, 0.5)


def test_unreached_batch_sizes_are_censored_at_their_length_and_kept():
    record = handmade(
        {8: [(DONE, {10: 0.5, 1280: 0.2})], 16: [(DONE, {10: 0.05})], 32: [(DIVERGED, {1: 0.9})]},
        trials=2,
    )
    row = row_of(record, 8)
    assert (row["steps_to_result"], row["censored_at"], row["best_value"]) == (None, 1280, 0.2)
    assert row_of(record, 16)["censored_at"] is None
    nothing = row_of(record, 32)
    assert (nothing["steps_to_result"], nothing["censored_at"]) == (None, None)
    assert (nothing["complete"], nothing["infeasible"], nothing["missing"]) == (0, 1, 2)


def test_planned_searches_without_a_trial_have_a_row():
    record = make_record(make_study((4, 16), trials=2, seeds=(0, 3)))
    some = dataclasses.replace(record, trials=record.trials.filter(pl.col("batch_size") == 4))
    counts = trial_counts(some)
    assert counts.select("batch_size", "seed").rows() == [(4, 0), (4, 3), (16, 0), (16, 3)]
    assert counts["complete"].to_list() == [2, 2, 0, 0]
    assert counts["missing"].to_list() == [0, 0, 2, 2]


def test_each_seed_is_a_search_of_its_own():
    record = make_record(make_study((16,), trials=4, seeds=(0, 1)))
    both = steps_to_result(record)
    for seed in (0, 1):
        alone = dataclasses.replace(
            record,
            trials=record.trials.filter(pl.col("seed") == seed),
            evaluations=record.evaluations.filter(pl.col("seed") == seed),
        )
        wanted = both.filter(pl.col("seed") == seed)
        assert steps_to_result(alone).filter(pl.col("seed") == seed).equals(wanted)


def test_against_a_plain_python_twin_on_a_simulated_study():
    record = make_record(make_study((1, 16, 256), trials=10))
    for batch_size in (1, 16, 256):
        trials = sorted(
            row["trial"]
            for row in record.trials.iter_rows(named=True)
            if row["batch_size"] == batch_size and row["status"] == DONE
        )[:10]
        rows = sorted(
            (row["step"], row["trial"])
            for row in record.evaluations.iter_rows(named=True)
            if row["batch_size"] == batch_size
            and row["trial"] in trials
            and row["validation/classification_error"] < 0.1
        )
        found = row_of(record, batch_size)
        assert (found["steps_to_result"], found["trial"]) == rows[0]


def test_crossings_hold_one_row_a_counted_trial():
    record = handmade({8: [(DONE, {10: 0.5}), (DONE, {}), (DONE, {5: 0.4, 9: 0.01})]}, trials=3)
    table = crossings(record)
    assert table["step"].to_list() == [None, None, 9]
    assert table["evaluated_before"].to_list() == [None, None, 5]


def test_another_goal_of_the_same_metric():
    record = handmade({8: [(DONE, {10: 0.3, 20: 0.08})]}, trials=1)
    assert row_of(record, goal=0.35)["steps_to_result"] == 10
    assert row_of(record, goal=Goal("cross_entropy", 0.5, split="train"))["steps_to_result"] == 20


@pytest.mark.parametrize("goal", [math.nan, math.inf, "0.1", True])
def test_a_goal_that_is_no_finite_number_is_refused(goal):
    record = handmade({8: [(DONE, {10: 0.3})]}, trials=1)
    with pytest.raises(ValueError, match="goal value must be a finite number"):
        steps_to_result(record, goal)


def test_a_goal_in_the_wrong_direction_is_refused():
    record = handmade({8: [(DONE, {10: 0.3})]}, trials=1)
    with pytest.raises(ValueError, match="direction of classification_error must be 'min'"):
        steps_to_result(record, Goal("classification_error", 0.1, "max"))


def test_a_goal_on_what_was_not_measured_names_what_was():
    record = handmade({8: [(DONE, {10: 0.3})]}, trials=1)
    with pytest.raises(ValueError, match="did you mean 'validation/classification_error'"):
        steps_to_result(record, Goal("clasification_error", 0.1))


def test_budgets_cut_at_steps_and_at_examples_both_included():
    curve = {10: 0.5, 20: 0.3, 21: 0.2, 40: 0.1}
    record = handmade({8: [(DONE, curve)], 16: [(DONE, curve)]}, trials=1)
    assert best_within(record, steps=20)["best_value"].to_list() == [0.3, 0.3]
    assert best_within(record, examples=320)["best_value"].to_list() == [0.1, 0.3]
    assert best_within(record, examples=160)["step"].to_list() == [20, 10]
    assert best_within(record, steps=5).is_empty()


def test_budgets_take_the_best_checkpoint_and_ties_the_earliest():
    curves = [(DONE, {10: 0.2, 20: 0.4}), (DONE, {5: 0.4, 10: 0.2}), (DIVERGED, {1: 0.0})]
    row = best_within(handmade({8: curves}, trials=2), steps=100).row(0, named=True)
    assert (row["best_value"], row["step"], row["trial"], row["examples"]) == (0.2, 10, 0, 80)


def test_the_two_budgets_are_the_studys():
    record = make_record(make_study((4, 64), trials=3, step_budget=100, epochs=2))
    table = best_under_budgets(record)
    step, epoch = (table.filter(pl.col("budget") == name) for name in ("step", "epoch"))
    assert step["step"].max() <= 100 and epoch["examples"].max() <= 2048


def test_budgets_of_several_searches_have_their_median_and_range():
    seeds = range(6)
    record = make_record(make_study((4, 64), trials=3, step_budget=100, epochs=2, seeds=seeds))
    summary = summarise(record)
    for row in summary.budgets_across.iter_rows(named=True):
        same = (pl.col("budget") == row["budget"]) & (pl.col("batch_size") == row["batch_size"])
        values = summary.budgets.filter(same)["best_value"].to_numpy()
        assert len(values) == row["searches"] == 6 and row["coverage"] == 1 - 2**-5
        assert row["median"] == pytest.approx(np.median(values)) and row["limit"] is None
        assert (row["low"], row["high"]) == (values.min(), values.max())
        assert row["pooled"] == values.min()


def test_of_one_search_another_is_bounded_on_the_unlucky_side_alone():
    record = make_record(make_study((4, 64), trials=20))
    downward = summarise(record).budgets_across.row(0, named=True)
    assert downward["low"] is None and downward["limit"] > downward["median"]
    goal = {**record.study["study"]["goal"], "direction": "max", "value": 0.9}
    column = "validation/classification_error"
    upward = dataclasses.replace(
        record,
        study={**record.study, "study": {**record.study["study"], "goal": goal}},
        evaluations=record.evaluations.with_columns((1 - pl.col(column)).alias(column)),
    )
    turned = summarise(upward).budgets_across.row(0, named=True)
    assert turned["median"] == pytest.approx(1 - downward["median"])
    assert turned["limit"] == pytest.approx(1 - downward["limit"])


def test_best_trials_are_those_of_the_steps_to_result_or_else_of_the_best_value():
    record = handmade(
        {
            8: [(DONE, {10: 0.3, 90: 0.0}), (DONE, {10: 0.05})],
            16: [(DONE, {10: 0.3}), (DONE, {20: 0.2})],
        },
        trials=2,
    )
    best = best_trials(record)
    assert best["trial"].to_list() == [1, 1] and best["reached"].to_list() == [True, False]
    assert best["effective_learning_rate"].to_list() == pytest.approx([1.0, 1.0])


def test_rules_start_at_the_smallest_batch_size():
    best = pl.DataFrame({"batch_size": [16, 4], "effective_learning_rate": [9.0, 0.5]})
    rules = scaling_rules(best)
    assert rules["linear"].to_list() == [0.5, 2.0] and rules["sqrt"].to_list() == [0.5, 1.0]
