"""Figures of the search: all searches, contours of the effective rate, the best of each tenth."""

from __future__ import annotations

import math

import polars as pl
import pytest
from support.records_factory import Truth, make_record, make_study

from experiments.analysis.summary import summarise
from experiments.report.search_figures import classified_trials, isolated, search_scatter


@pytest.fixture(scope="module")
def summary():
    """Two searches of two batch sizes, some of whose trials diverge."""
    return summarise(make_record(make_study((4, 64), trials=6, seeds=(0, 1)), Truth()))


def test_all_searches_are_drawn_and_one_trial_of_a_batch_size_is_the_best(summary):
    table = classified_trials(summary)
    assert set(table["seed"]) == {0, 1} and "infeasible" in set(table["class"])
    best = table.filter(pl.col("class") == "best")
    assert sorted(best["batch_size"]) == [4, 64]
    pooled = dict(summary.curve.select("batch_size", "pooled").rows())
    for batch_size, steps in best.select("batch_size", "steps_to_goal").iter_rows():
        assert steps == pooled[batch_size]


def test_contours_are_lines_of_equal_effective_rate_inside_the_panel(summary):
    panel = search_scatter(summary).chart.to_dict()["concat"][0]
    lines, points = panel["layer"]
    assert lines["mark"]["type"] == "line" and points["mark"]["type"] == "point"
    ends = lines["data"]["values"]
    assert len(ends) >= 4
    low, high = points["encoding"]["y"]["scale"]["domain"]
    for end in ends:
        rate = end["learning_rate"] / end["1-momentum"]
        assert math.log10(rate) == pytest.approx(end["contour"])
        assert low * (1 - 1e-9) <= end["learning_rate"] <= high * (1 + 1e-9)


def test_the_isolated_curve_is_the_best_of_each_tenth(summary):
    shown = classified_trials(summary).with_columns(
        y=pl.col("best_value"),
        mark=pl.when(pl.col("class") == "infeasible").then(pl.lit("infeasible"))
        .otherwise(pl.lit("trial")),
    )  # fmt: skip
    found = isolated(summary, shown, "learning_rate")
    searched = summary.question.space["learning_rate"]
    kept = shown.filter(pl.col("mark") == "trial")
    for batch_size, rate, value in found.iter_rows():
        tenth = int(10 * searched.position(rate))
        beside = [
            v
            for b, r, v in kept.select("batch_size", "learning_rate", "y").iter_rows()
            if b == batch_size and int(10 * searched.position(r)) == tenth
        ]
        assert value == min(beside)
    assert found.height < kept.height
