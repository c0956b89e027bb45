"""The best configuration again: fixed beforehand, never replaced, and an interval that covers."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import polars as pl
import pytest
from support.records_factory import (
    MemoryRecord,
    describe,
    handmade,
    make_record,
    make_study,
    measurements,
)

from experiments.analysis.intervals import Answer, median_best_of
from experiments.analysis.repeats import CONFIGURATIONS, selected
from experiments.analysis.summary import summarise
from experiments.report.figures import drawn
from experiments.report.page import page
from experiments.report.repeats import repeat_table, repeat_words
from experiments.report.terminal import print_summary

PASSED, MISSED = 0.05, 0.5
REPEATS = 500
ALLOWED = 0.02
"""Two Monte Carlo standard errors of a coverage near 97.9 % in 500 repeats, and a little."""


def with_repeats(record, outcomes, *, chosen=None, seeds=None, **changes):
    """``record`` with repeats: batch size -> (status, first step past the goal or None), a seed."""
    best = summarise(record).best.rows_by_key("batch_size", named=True)
    study = make_study(tuple(best), trials=1, seeds=tuple(range(100, 110)), **changes)
    seeds = study.seeds if seeds is None else seeds
    rows, curves = [], []
    for batch_size, ends in outcomes.items():
        for seed, (status, passed) in zip(seeds, ends, strict=False):
            length = study.length(batch_size)
            curve = {1: MISSED, length: MISSED} | ({} if passed is None else {passed: PASSED})
            if passed is not None and passed > 2:
                curve[passed - 1] = MISSED
            row = {"batch_size": batch_size, "seed": seed, "trial": 0, "identity": "",
                   "status": status, "train_steps": length, "steps": length, "seconds": 0.1,
                   "plan": 0, "message": "", "learning_rate": 0.1, "momentum": 0.9}  # fmt: skip
            rows.append(row)
            steps = sorted(curve)
            curves.append(measurements(batch_size, seed, 0, steps, [curve[s] for s in steps]))
    described = describe(study)
    described["study"]["seeds"] = list(study.seeds)
    described[CONFIGURATIONS] = chosen or [
        {"batch_size": b, "seed": row[0]["seed"], "trial": row[0]["trial"], "steps": 10,
         "hyperparameters": {"learning_rate": 0.1, "momentum": 0.9}}
        for b, row in best.items()
    ]  # fmt: skip
    repeats = MemoryRecord(described, pl.DataFrame(rows), pl.concat(curves))
    return dataclasses.replace(record, repeats=repeats)


def once(steps=20):
    """A study of one batch size whose one trial gets there after ``steps``."""
    return handmade({16: [("COMPLETE", {steps - 1: MISSED, steps: PASSED, 640: MISSED})]}, trials=1)


def test_the_median_and_the_second_to_the_ninth_of_ten_count_what_never_got_there_as_infinite():
    ends = [("COMPLETE", s) for s in (30, 12, 25, 18, 21, 40)]
    ends += [("COMPLETE", None), ("INFEASIBLE", 15), ("COMPLETE", 28), ("COMPLETE", 33)]
    found = summarise(with_repeats(once(), {16: ends})).repeated
    row = found.table.row(0, named=True)
    # In order: 12 18 21 25 28 30 33 40 and two that never got there, one although it passed early.
    assert (row["median"], row["low"], row["high"]) == (29.0, 17.0, math.inf)
    assert row["coverage"] == pytest.approx(1 - 22 / 1024)
    assert (row["never"], row["diverged"], row["ended"], row["wanted"]) == (2, 1, 10, 10)
    assert row["selection"] == 29.0 / 10


def test_there_is_no_interval_before_every_repeat_has_ended():
    """Those that end first are the early ones."""
    ends = [("COMPLETE", s) for s in (12, 14, 15)] + [("INCOMPLETE", None)]
    found = summarise(with_repeats(once(), {16: ends})).repeated
    row = found.table.row(0, named=True)
    assert (row["ended"], row["low"], row["coverage"]) == (3, None, None)
    assert not found.finished


def test_repeats_enter_no_search_and_the_selecting_trial_no_repeat():
    ends = [("COMPLETE", 5)] * 10
    with_them, without = summarise(with_repeats(once(), {16: ends})), summarise(once())
    assert with_them.curve.equals(without.curve) and with_them.steps.equals(without.steps)
    assert with_them.curve["pooled"].to_list() == [20]
    assert set(with_them.repeated.trials["seed"]) == set(range(100, 110))


def test_a_newer_choice_replaces_the_older_one_and_an_old_one_is_named():
    values = {"hyperparameters": {"learning_rate": 0.1, "momentum": 0.9}, "steps": 10}
    chosen = [{"batch_size": 16, "seed": 0, "trial": trial, **values} for trial in (3, 0)]
    place, configuration = selected({CONFIGURATIONS: chosen})[16]
    assert place == 1 and configuration.trial == 0
    record = with_repeats(once(), {16: [("COMPLETE", 5)] * 10}, chosen=chosen)
    row = summarise(record).repeated.table.row(0, named=True)
    assert row["ended"] == 0 and not row["stale"]  # those rows are of the older one
    old = with_repeats(once(), {16: [("COMPLETE", 5)] * 10}, chosen=chosen[:1])
    summary = summarise(old)
    assert summary.repeated.table["stale"].to_list() == [True]
    assert "found a better one at batch size 16" in repeat_words(summary)


def test_a_stricter_goal_than_the_one_at_which_repeats_stopped_has_no_answer():
    ends = {16: [("STOPPED", 5)] * 10}
    record = with_repeats(once(), ends, stop="goal", sampler="random")
    assert summarise(record).repeated.table["median"].to_list() == [5.0]
    assert summarise(record, 0.01).repeated is None


def test_the_interval_covers_the_median_of_the_configuration():
    """Log-normal steps on a grid of 5 %, a tenth of them diverging; and it is not too wide."""
    generator = np.random.default_rng(0)
    grid = np.unique(np.round(20 * 1.05 ** np.arange(120)))
    held, width = 0, []
    for _ in range(REPEATS):
        true = generator.lognormal(math.log(300), 0.4, 10)
        true[generator.uniform(size=10) < 0.1] = np.inf
        answers = []
        for steps in true:
            if np.isinf(steps):
                answers.append(Answer(math.inf, math.inf))
            else:
                at = np.searchsorted(grid, steps)
                answers.append(Answer(float(grid[at - 1]), float(grid[at])))
        found = median_best_of(1, answers)
        # Median of the mixture: the 5/9 quantile of those that do not diverge.
        held += found.low < math.exp(math.log(300) + 0.4 * 0.13971) <= found.high
        width.append(found.high / found.low)
    assert held / REPEATS >= 1 - 22 / 1024 - ALLOWED
    assert np.median(width) < 4


def test_selecting_the_luckiest_of_many_is_told_by_repeating_it():
    """All configurations alike: the pooled best is early by luck alone, the repeats are not."""
    generator = np.random.default_rng(1)
    steps = np.round(generator.lognormal(math.log(200), 0.3, (500, 60)))
    best, typical = steps.min(axis=1), np.round(generator.lognormal(math.log(200), 0.3, (500, 10)))
    effect = np.median(typical, axis=1) / best
    assert 1.5 < np.median(effect) < 2.6


def test_page_figure_and_terminal_show_both_curves_and_that_they_are_two(capsys):
    record = make_record(make_study((4, 64, 256), trials=6, seeds=(0, 1)))
    record = with_repeats(
        record,
        {4: [("COMPLETE", 900 + 9 * i) for i in range(10)],
         64: [("COMPLETE", 90 + i) for i in range(10)],
         256: [("COMPLETE", None)] * 10},
    )  # fmt: skip
    summary = summarise(record)
    figures = {figure.name: figure for figure in drawn(summary)}
    assert figures["repeats"].chart.to_dict()
    text = page(summary, list(figures.values()))
    assert "Two quantities, not one." in text and 'id="table-repeats"' in text
    rows = {row[0]: row for row in repeat_table(summary).rows}
    assert rows["256"][-3:] == ("200 to never", "10 of 10", "")
    assert rows["4"][4:6] == ("940", "908 to 972")
    print_summary(summary)
    assert "Best configurations again" in capsys.readouterr().out
    assert "repeats" not in {figure.name for figure in drawn(summarise(once()))}
