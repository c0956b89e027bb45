"""Every optimizer of the table runs in a study by its name; Newton's method reaches its minimum."""

from __future__ import annotations

import json

import polars as pl
import pytest

from experiments.analysis.summary import summarise
from experiments.cli import build_parser, main
from experiments.commands.chosen import chosen_study
from experiments.planning import probe
from experiments.records.store import read
from experiments.report.curve_figures import validation_curves
from experiments.report.tables import csv_table, steps_table
from experiments.report.terminal import print_steps_to_result
from experiments.runner.study import run_study
from optimizers import OPTIMIZERS

FILE = """
import dataclasses
from experiments.spec.study import Study
from workloads.base import Goal
from workloads.digits_fc import WORKLOAD

STUDY = Study(
    name="mine", question="Does it run?", batch_sizes=(32,), trials=2, record_norms="off",
    step_budget=5, example_budget=64, train_evaluation_examples=32, optimizer="sgd",
    workload=dataclasses.replace(
        WORKLOAD, name="digits_logistic", model_options={"hidden_sizes": [], "classes": 10},
        goal=Goal("cross_entropy", 0.3), search_spaces={},
    ),
)
"""


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """The path of a study of the least size."""
    path = tmp_path_factory.mktemp("studies") / "mine.py"
    path.write_text(FILE)
    return str(path)


def by_name(path, optimizer, *options):
    """The study that this command line asks for."""
    return chosen_study(
        build_parser().parse_args(["run", path, "--optimizer", optimizer, *options])
    ).resolved


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_runs_by_name_in_its_own_space(name, mine, tmp_path):
    """Two COMPLETE trials of five steps at two points of its space; both moved."""
    study = by_name(mine, name)
    record = read(run_study(study, tmp_path / name, execution="loop", workers=1))
    assert record.study["study"]["optimizer"] == name
    complete = record.trials.filter(status="COMPLETE")
    assert len(complete) == 2
    for hyperparameter, searched in study.space.items():
        found = complete[hyperparameter]
        assert found.is_between(searched.low, searched.high).all() and found.n_unique() == 2
    losses = record.evaluations.join(complete, on="trial").group_by("trial")
    moved = losses.agg(pl.col("train/cross_entropy").n_unique() > 1)["train/cross_entropy"]
    assert moved.to_list() == [True, True]
    counted = "function_evaluations" in record.evaluations.columns
    assert counted == OPTIMIZERS[name].needs_value_fn
    if counted:
        made = record.evaluations.select(pl.col("function_evaluations") - pl.col("step"))
        assert made.to_series().min() >= 0


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("trials", [1, 10, 25, 50])
def test_each_tuning_budget_has_its_default_space(name, trials, mine):
    assert set(by_name(mine, name, "--trials", str(trials)).space) == set(
        OPTIMIZERS[name].spaces(trials)
    )


def test_newton_reaches_in_two_steps_what_gradient_descent_does_not_in_five(mine, tmp_path, capsys):
    """On the whole training set; and the evaluations of its Hessian are shown beside the steps."""
    whole = ["--batch-sizes", "1024", "--trials", "1", "--seed", "25"]  # damping 0.004
    record = read(run_study(by_name(mine, "newton", *whole), tmp_path / "newton"))
    per_step = 1 + 64 * 10 + 10
    counted = record.evaluations.select(pl.col("function_evaluations") / pl.col("step"))
    assert counted.to_series().unique().to_list() == [per_step]
    summary = summarise(record)
    row = csv_table(summary).row(0, named=True)
    assert row["steps_to_result"] == 2
    assert row["function_evaluations_to_result"] == 2 * per_step
    table = steps_table(summary)
    assert table.rows[0][table.columns.index("function evaluations")] == f"{2 * per_step:,}"
    print_steps_to_result(record)
    printed = capsys.readouterr().out
    assert f"{2 * per_step:,}" in printed and "evals" in printed
    curve = validation_curves(summary)
    assert curve.table["function_evaluations"].to_list() == [per_step * k for k in range(1, 6)]
    assert "function evaluations" in json.dumps(curve.specification())
    slow = read(run_study(by_name(mine, "sgd", *whole[:2], "--trials", "4"), tmp_path / "sgd"))
    assert slow.evaluations["validation/cross_entropy"].min() > 0.6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["quickstart", "--optimizer", "newton"],
            "a model trained by newton may have at most 4,096 parameters, digits_fc has 8,970",
        ),
        (
            ["quickstart", "--optimizer", "lbfgs", "--execution", "packed"],
            "execution must be auto, loop or scan with lbfgs, whose trials run unpacked",
        ),
    ],
)
def test_what_a_second_order_rule_cannot_take_is_refused_and_nothing_written(
    arguments, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main(["run", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_second_order_rules_are_measured_and_run_unpacked(mine, tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "PROBE_SHARE", 1e9)  # however short the study
    record = read(run_study(by_name(mine, "hessian_free"), tmp_path / "unpacked"))
    (made,) = record.study["plans"]
    assert made["reason"] == "measured"
    assert {(row["mode"], row["slots"]) for row in made["probe"]} == {("scan", 1), ("loop", 1)}
