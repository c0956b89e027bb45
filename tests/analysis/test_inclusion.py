"""A general rule beside its special case: whose space holds whose, and the paired ratio."""

from __future__ import annotations

import dataclasses
import math

import polars as pl
import pytest
from support.records_factory import handmade

from experiments.analysis.inclusion import contains, paired_ratios
from experiments.analysis.question import read_question
from experiments.analysis.summary import summarise
from experiments.report.comparison import inclusion_table
from experiments.spec.space import Real
from experiments.studies.optimizers_digits import NESTED, STUDY

DONE = "COMPLETE"


def searched(optimizer, steps, **changes):
    """Searches of one trial each: seed -> steps at the batch size 8, None where it never passed."""
    space = {**NESTED[optimizer], **changes}
    records = []
    for seed, passed in steps.items():
        curve = {1: 0.9, 1000: 0.5} if passed is None else {1: 0.9, passed: 0.01}
        one = handmade({8: [(DONE, curve)]}, trials=1, optimizer=optimizer, space=space)
        lone = pl.lit(seed, dtype=pl.Int64).alias("seed")
        records.append((one, one.trials.with_columns(lone), one.evaluations.with_columns(lone)))
    first = records[0][0]
    described = {**first.study["study"], "seeds": list(steps)}
    return dataclasses.replace(
        first,
        study={**first.study, "study": described},
        trials=pl.concat(trials for _, trials, _ in records),
        evaluations=pl.concat(evaluations for _, _, evaluations in records),
    )


def questions(**changes):
    return {
        name: read_question(searched(name, {0: 10}, **changes.get(name, {}))) for name in NESTED
    }


def test_the_spaces_of_the_study_hold_each_other_and_no_others():
    held = questions()
    pairs = {(a, b) for a in held for b in held if contains(held[a], held[b])}
    assert pairs == {("momentum", "sgd"), ("nesterov", "sgd"), ("adam", "momentum"),
                     ("nadam", "nesterov")}  # fmt: skip
    assert set(NESTED) <= set(STUDY.studies)
    assert all(len(study.seeds) == 6 for study in STUDY.studies.values())


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("momentum", {"momentum": Real(0.5, 0.99, "reverse_log")}),
        ("nesterov", {"learning_rate": Real(1e-2, 10.0, "log")}),
        ("adam", {"epsilon": Real(1e-8, 1e-3, "log")}),
        ("adam", {"learning_rate": Real(1e-4, 900.0, "log")}),
        ("nadam", {"beta1": Real(0.0, 0.9, "reverse_log")}),
        ("nadam", {"beta2": Real(0.9, 0.999, "reverse_log")}),
    ],
)
def test_a_space_that_lacks_a_part_of_the_special_case_holds_none(name, changes):
    held = questions(**{name: changes})
    special = {"adam": "momentum", "nadam": "nesterov"}.get(name, "sgd")
    assert not contains(held[name], held[special])


def test_ratios_are_paired_by_search_with_the_exact_range_of_their_median():
    steps = {seed: 100 + 10 * seed for seed in range(6)}
    ratios = (1.2, 0.9, 1.0, 1.5, 1.1, 0.8)
    general = {seed: round(ratio * steps[seed]) for seed, ratio in enumerate(ratios)}
    members = {
        "plain": summarise(searched("sgd", steps)),
        "heavy": summarise(searched("momentum", general)),
    }
    (row,) = paired_ratios(members).iter_rows(named=True)
    assert (row["general"], row["special"], row["batch_size"], row["searches"]) == (
        "heavy", "plain", 8, 6,
    )  # fmt: skip
    assert row["ratio"] == pytest.approx(1.05)
    assert (row["low"], row["high"]) == pytest.approx((0.8, 1.5))
    assert row["coverage"] == pytest.approx(1 - 2 * 0.5**6)


def test_a_search_that_was_not_begun_makes_no_pair():
    """The last two of six seeds have no trial yet: with the general rule, then with the other."""
    four, six = (dict.fromkeys(range(n), 100) for n in (4, 6))
    for plain, heavy in ((six, four), (four, six)):
        members = {}
        for label, optimizer, steps in (("plain", "sgd", plain), ("heavy", "momentum", heavy)):
            record = searched(optimizer, steps)
            described = {**record.study["study"], "seeds": list(six)}
            study = {**record.study, "study": described}
            members[label] = summarise(dataclasses.replace(record, study=study))
        (row,) = paired_ratios(members).iter_rows(named=True)
        assert (row["searches"], row["low"], row["ratio"], row["high"]) == (4, 1.0, 1.0, 1.0)


def test_a_general_search_that_misses_the_goal_is_open_above():
    members = {
        "plain": summarise(searched("sgd", dict.fromkeys(range(6), 100))),
        "heavy": summarise(searched("momentum", {**dict.fromkeys(range(5), 100), 5: None})),
    }
    (row,) = paired_ratios(members).iter_rows(named=True)
    assert row["ratio"] == 1.0 and math.isinf(row["high"])
    compared = type("", (), {"members": members})
    assert inclusion_table(compared).rows == (("heavy", "plain", "8", "1", "1 to never", "6"),)
    assert paired_ratios({"plain": members["plain"]}).is_empty()
