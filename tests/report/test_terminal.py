"""What the command line prints: within 80 columns, nothing cut off, the CSV as promised."""

import csv
import dataclasses
import io
import math

import polars as pl
import pytest
from rich.console import Console
from support.records_factory import Truth, handmade, make_record, make_study
from support.tolerances import WHOLE_NUMBERS

from experiments.analysis.summary import summarise
from experiments.report.tables import steps_table
from experiments.report.terminal import (
    print_steps_to_result,
    print_summary,
    write_steps_to_result_csv,
)

DONE, DIVERGED = "COMPLETE", "INFEASIBLE"
POWERS = tuple(2**k for k in range(11))


def printed(record, function=print_summary, **options):
    stream = io.StringIO()
    function(record, console=Console(file=stream, width=80, highlight=False), **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    "study",
    [
        {"batch_sizes": POWERS, "trials": 20},
        {"batch_sizes": POWERS, "trials": 20, "goal": 0.035},
        {"batch_sizes": (1, 32, 1024), "trials": 100, "seeds": (0, 17)},
        {"batch_sizes": (8,), "trials": 1},
    ],
)
@pytest.mark.parametrize("counted", [False, True])
def test_it_fits_80_columns_and_cuts_nothing(study, counted):
    record = make_record(make_study(**study))
    if counted:
        evaluations = (1e3 * pl.col("step")).alias("function_evaluations")
        record = dataclasses.replace(
            record, evaluations=record.evaluations.with_columns(evaluations)
        )
    text = printed(record)
    assert ("evals" in text) == counted
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    assert "…" not in text


def test_it_shows_the_numbers_of_the_summary():
    record = make_record(make_study((1, 16, 256), trials=6))
    text = printed(record)
    summary = summarise(record)
    for row in summary.steps.iter_rows(named=True):
        line = next(x for x in text.splitlines() if x.split()[:1] == [str(row["batch_size"])])
        cells = line.split()
        assert cells[1].replace(",", "") == str(row["steps_to_result"])
        limit = summary.curve.filter(pl.col("batch_size") == row["batch_size"])["limit"][0]
        ends = ["to", "never" if math.isinf(limit) else f"{limit:,.0f}"]
        assert cells[2:4] == ends
        assert cells[-1] == str(row["infeasible"])
    assert summary.verdict.next.command in text


def test_censored_and_empty_batch_sizes_have_their_rows():
    record = handmade(
        {8: [(DONE, {9: 0.5})], 16: [(DONE, {9: 0.01})], 32: [(DIVERGED, {})]}, trials=2
    )
    text = printed(record, print_steps_to_result)
    assert "> 1,280" in text and "not reached" in text and "no trials" in text
    assert "1 of 2" in text


def test_a_trial_that_diverged_past_the_goal_counts_where_trials_stop():
    trials = [(DONE, {9: 0.5}), (DIVERGED, {5: 0.01}), ("STOPPED", {9: 0.01}), (DIVERGED, {})]
    found = summarise(handmade({8: trials}, trials=4, stop="goal"))
    assert "3 of 4" in printed(found.view, print_steps_to_result)
    assert steps_table(found).rows[0][-2:] == ("3", "2")


def test_another_goal_is_the_goal_printed():
    record = make_record(make_study((16,), trials=3))
    assert "error < 0.2" in printed(record, print_steps_to_result, goal=0.2)
    with pytest.raises(ValueError, match="goal value must be a finite number, got nan"):
        printed(record, print_steps_to_result, goal=math.nan)


def test_everything_infeasible_still_prints():
    text = printed(make_record(make_study((4, 64), trials=2), Truth(diverges_above=0.0)))
    assert "all of the 16 trials diverged" in text


def test_csv_columns_are_the_contract_and_censored_is_empty(tmp_path):
    record = handmade({8: [(DONE, {9: 0.5})], 16: [(DONE, {7: 0.2, 9: 0.01})]}, trials=1)
    path = tmp_path / "steps.csv"
    write_steps_to_result_csv(record, None, path)
    header, censored, reached = list(csv.reader(path.read_text().splitlines()))
    assert header[:11] == [
        "batch_size", "steps_to_result", "trial", "evaluated_before", "complete", "infeasible",
        "incomplete", "censored_at", "seed", "goal", "best_value",
    ]  # fmt: skip
    assert censored[:11] == ["8", "", "", "", "1", "0", "0", "1280", "0", "0.1", "0.5"]
    assert reached[:11] == ["16", "9", "0", "7", "1", "0", "0", "", "0", "0.1", "0.01"]
    table = pl.read_csv(path)
    assert table["across_median"].to_list() == [None, 9.0]
    assert table["across_pooled"].to_list() == [None, 9]


def test_several_searches_show_median_range_and_pooled_and_say_what_they_are():
    record = make_record(make_study((1, 16, 256), trials=6, seeds=range(6)))
    text, summary = printed(record), summarise(record)
    assert text.splitlines().count("") and "range of 6 searches" in text
    said = " ".join(text.split())
    assert "covers the median answer of such a search with 96.9%" in said
    assert "the best known, without an interval" in said
    assert "for this split of the data and this plan" in said
    for row in summary.curve.iter_rows(named=True):
        line = next(x for x in text.splitlines() if x.split()[:1] == [str(row["batch_size"])])
        cells = line.replace(",", "").split()
        assert float(cells[1]) == pytest.approx(row["median"], abs=WHOLE_NUMBERS)
        assert (float(cells[2]), float(cells[4])) == (row["low"], row["high"])
        assert cells[5] == str(row["pooled"])


def test_one_search_says_in_words_that_it_cannot_say_how_much_earlier():
    said = " ".join(printed(make_record(make_study((1, 16, 256), trials=6))).split())
    assert "with 95% (checked by simulation)" in said
    assert "one search cannot say how much earlier another might be" in said
    assert "! low: One search cannot say how much earlier" in said
