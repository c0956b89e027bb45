"""A view resolves a record once, and its measurements are read in one pass."""

from __future__ import annotations

import dataclasses

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from support.records_factory import handmade, make_record, make_study

from experiments.analysis.best_hyperparameters import best_trials
from experiments.analysis.budgets import best_under_budgets, best_within
from experiments.analysis.question import TRIAL
from experiments.analysis.steps_to_result import best_values, crossings, steps_to_result
from experiments.analysis.summary import summarise, summary_of
from experiments.analysis.view import View, by_trial, view_of
from experiments.cli import main
from experiments.records.files import RecordError
from experiments.records.store import Writer
from experiments.report.terminal import print_summary
from experiments.report.write import write_report_of


class Counting:
    """A record that counts how often its evaluations are read."""

    repeats = None

    def __init__(self, record) -> None:
        self.study, self.trials, self._record, self.read = record.study, record.trials, record, 0

    def scan(self, table: str, of: pl.DataFrame | None = None) -> pl.LazyFrame | None:
        def counted(frame: pl.DataFrame) -> pl.DataFrame:
            self.read += 1
            return frame

        rows = self._record.scan(table, of)
        return None if rows is None else rows.map_batches(counted)


def test_how_often_a_summary_and_its_report_read_the_evaluations(tmp_path):
    """Each pass over the archive's 71.6 million rows costs seconds: none is made twice."""
    record = Counting(make_record(make_study((4, 64), trials=4)))
    summary = summarise(record)
    assert record.read == 2  # every outcome; the curves of the best trials, for the verdict
    print_summary(summary)
    assert summary_of(summary) is summary and record.read == 2
    write_report_of(summary, tmp_path, pictures=())
    # Budgets at several levels; the best trials' curves; every trial's ends and its thinned curve.
    assert record.read == 6


def test_a_view_gives_what_the_record_gives():
    record = make_record()
    view = View(record, 0.2)
    assert view_of(view) is view and view_of(view, view.goal) is view
    assert view_of(view, 0.3).goal.value == 0.3
    for function in (steps_to_result, crossings, best_values, best_trials, best_under_budgets):
        assert_frame_equal(function(view), function(record, 0.2))


def test_budgets_are_those_of_their_limits():
    record = make_record()
    question = View(record).question
    both = best_under_budgets(record)
    for budget, limit in (
        ("step", {"steps": question.step_budget}),
        ("epoch", {"examples": question.example_budget}),
    ):
        assert_frame_equal(both.filter(budget=budget).drop("budget"), best_within(record, **limit))


def test_rows_that_lie_in_any_order_give_the_same_trials():
    record = make_record(make_study((4, 64), trials=4, seeds=(0, 1)))
    rows, columns = View(record).measurements(), [pl.col("value").min(), pl.len()]
    apart = rows.collect().sample(fraction=1.0, shuffle=True, seed=3).lazy()
    together = [by_trial(found, columns).sort(TRIAL) for found in (rows, apart)]
    assert_frame_equal(*together)
    assert len(together[0]) == rows.select(TRIAL).unique().collect().height > 8


def test_outcomes_of_a_handmade_curve():
    """The goal is 0.1; passing, falling back and passing again counts from the first time."""
    curve = {1: 0.5, 4: 0.09, 9: 0.2, 20: 0.05, 40: 0.05}
    record = handmade({8: [("COMPLETE", curve), ("INFEASIBLE", {1: 0.01})]}, step_budget=9)
    row = View(record).outcomes.row(0, named=True)
    assert View(record).outcomes.height == 1
    assert (row["passed_step"], row["passed_examples"], row["evaluated_before"]) == (4, 32, 1)
    assert (row["best_value"], row["best_step"], row["best_examples"]) == (0.05, 20, 160)
    assert (row["step_best_value"], row["step_best_step"]) == (0.09, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda study: study.pop("goal"), "study.json cannot be understood: .* field goal"),
        (lambda study: study.update(batch_sizes=3), "study.json cannot be understood"),
    ],
)
def test_a_study_file_that_lacks_a_field_is_one_line(change, message):
    record = make_record(make_study((4,), trials=1))
    study = dict(record.study["study"])
    change(study)
    record = dataclasses.replace(record, study={**record.study, "study": study})
    with pytest.raises(RecordError, match=message):
        View(record)


def test_before_the_first_trial_there_are_no_steps_to_result(tmp_path, capsys):
    with Writer.open(tmp_path, make_record(make_study((4,), trials=1)).study):
        pass
    assert main(["steps-to-result", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"batchscale: error: no trial is recorded yet in {tmp_path}\n"
    )
