"""docs/results.md: made of the records' numbers, and verdicts that follow from them."""

from __future__ import annotations

import json

import pytest
from support.records_factory import make_record, make_study, store

from benchmarks.study_results import FILE, PAGE, of_folder, page
from benchmarks.study_verdicts import VERDICTS
from experiments import studies
from experiments.analysis.summary import summarise


def held():
    return json.loads(FILE.read_text())


def test_the_page_is_that_of_the_recorded_numbers():
    assert PAGE.read_text(encoding="utf-8") == page(held())


@pytest.mark.parametrize("name", sorted(VERDICTS))
def test_every_study_of_the_page_asks_and_expects_what_its_file_says(name):
    study = studies.get(name)
    if name in held():
        assert held()[name]["question"] == study.question
        assert held()[name]["expected"] == study.expected


def test_the_numbers_are_those_of_the_analysis(tmp_path):
    record = make_record(make_study((64, 256), trials=8, seeds=(0, 1)))
    store(tmp_path / "study", record)
    found, summary = of_folder(tmp_path / "study"), summarise(record)
    (member,) = found["members"].values()
    medians = [row["median"] for row in member["curve"]]
    assert medians == pytest.approx(summary.curve["median"].to_list(), rel=1e-5)
    assert found["trials"] == len(record.trials) and found["searches"] == 2
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def member(steps, limit=None, relation="=", best=None):
    """An entry of a member: batch size -> steps, the end of perfect scaling, best values."""
    rows = [{"batch_size": b, "median": s} for b, s in steps.items()]
    ends = {"value": limit, "relation": relation, "low": None, "high": None}
    values = [
        {"budget": "epoch", "within": 100, "batch_size": b, "median": v}
        for b, v in (best or {}).items()
    ]
    return {"curve": rows, "limit": ends, "budgets": values}


def test_a_verdict_is_yes_in_part_no_or_not_known():
    def momentum(sgd, nesterov, ends):
        members = {"sgd": member(sgd, ends[0]), "nesterov": member(nesterov, ends[1]),
                   "momentum": member(nesterov, ends[1])}  # fmt: skip
        return VERDICTS["momentum_digits"]({"members": members}).outcome

    assert momentum({8: 100, 64: 100}, {8: 100, 64: 50}, (8, 32)) == "yes"
    assert momentum({8: 100, 64: 100}, {8: 100, 64: 50}, (32, 8)) == "in part"
    assert momentum({8: 200, 64: 100}, {8: 100, 64: 90}, (32, 8)) == "no"
    sizes = {"a=1": member({8: 100}, 8.0), "b=2": member({8: 100}, None)}
    assert VERDICTS["train_size_digits"]({"members": sizes}).outcome == "not known"


def test_the_verdict_on_beta2_needs_both_the_fall_and_the_gain():
    def beta2(**losses):
        members = {label.replace("kept", "beta2=0."): member({}, best=values)
                   for label, values in losses.items()}  # fmt: skip
        return VERDICTS["beta2_digits"]({"members": members, "metric": "loss"}).outcome

    falls = {"kept9": {1: 1.0, 64: 4.0}, "kept5": {1: 4.0, 64: 1.0}}
    assert beta2(**falls, half_life={1: 1.1, 64: 1.1}) == "yes"
    assert beta2(**falls, half_life={1: 9.0, 64: 1.1}) == "in part"
    rises = {"kept5": {1: 1.0, 64: 4.0}, "kept9": {1: 4.0, 64: 1.0}}
    assert beta2(**rises, half_life={1: 9.0, 64: 1.1}) == "no"
