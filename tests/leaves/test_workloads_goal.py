"""A goal says which of two values is better, for numbers, arrays and polars columns alike."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from workloads import Goal

VALUES = [0.3, 0.1, 0.2, 0.4, math.nan, math.inf, -math.inf]
PASSED = {"min": [0.1], "max": [0.3, 0.4]}
"""Of `VALUES`, what is strictly past a goal of 0.2: not the goal itself, not what is not finite."""


@pytest.mark.parametrize("direction", ["min", "max"])
def test_better_is_strict_and_never_true_of_what_is_not_finite(direction):
    goal, wanted = Goal("error", 0.2, direction), PASSED[direction]
    assert [value for value in VALUES if goal.better(value)] == wanted
    array = np.array(VALUES)
    assert array[goal.better(array)].tolist() == wanted
    column = pl.DataFrame({"value": VALUES})
    assert column.filter(goal.better(pl.col("value")))["value"].to_list() == wanted


@pytest.mark.parametrize(("direction", "wanted", "sign"), [("min", 0.1, 1), ("max", 0.4, -1)])
def test_best_is_the_best_finite_value_and_sign_ranks_as_it_does(direction, wanted, sign):
    goal = Goal("error", 0.2, direction)
    column = pl.DataFrame({"value": VALUES})
    assert goal.best(np.array(VALUES)) == wanted
    assert goal.best(column["value"]) == wanted
    assert column.select(goal.best(pl.col("value"))).item() == wanted
    assert column.select(goal.best(pl.col("value").filter(pl.col("value") > 9))).item() is None
    assert goal.sign == sign
    assert min(filter(math.isfinite, VALUES), key=lambda value: goal.sign * value) == wanted


@pytest.mark.parametrize(
    ("metric", "value", "message"),
    [
        (5, 0.1, "goal metric must be a metric's name, got 5"),
        ("", 0.1, "goal metric must be a metric's name, got ''"),
        ("error", True, "goal value must be a finite number, got True"),
        ("error", 10**400, "goal value must be a finite number, got 1000"),
        ("error", math.nan, "goal value must be a finite number, got nan"),
    ],
)
def test_what_is_no_goal_is_refused(metric, value, message):
    with pytest.raises(ValueError, match=message):
        Goal(metric, value)


def test_best_of_no_finite_value_in_an_array_is_an_error():
    with pytest.raises(ValueError, match="zero-size"):
        Goal("error", 0.2).best(np.array([math.nan, math.inf]))
