"""docs/results.md: made of the records' numbers, and verdicts that follow from them."""

from __future__ import annotations

import json
import statistics

import pytest
from support.records_factory import make_record, make_study, store
from support.tolerances import SIX_DIGITS

from benchmarks.study_results import FILE, PAGE, of_folder, page
from benchmarks.study_verdicts import VERDICTS
from experiments import studies
from experiments.analysis.question import read_question
from experiments.analysis.summary import summarise
from experiments.spec.space import Choice


def held():
    return json.loads(FILE.read_text())


def test_the_page_is_that_of_the_recorded_numbers():
    assert PAGE.read_text(encoding="utf-8") == page(held())


def test_every_study_of_the_page_is_recorded():
    """At full size, or at the smaller one that a CPU trains."""
    for name in VERDICTS:
        sizes = {studies.get(name, smoke=smoke).name for smoke in (False, True)}
        assert sizes & set(held()), name


@pytest.mark.parametrize("name", sorted(VERDICTS))
def test_every_study_of_the_page_asks_and_expects_what_its_file_says(name):
    for smoke in (False, True):
        study = studies.get(name, smoke=smoke)
        if study.name in held():
            assert held()[study.name]["question"] == study.question
            assert held()[study.name]["expected"] == study.expected


def test_the_numbers_are_those_of_the_analysis(tmp_path):
    record = make_record(make_study((64, 256), trials=8, seeds=(0, 1)))
    store(tmp_path / "study", record)
    found, summary = of_folder(tmp_path / "study"), summarise(record)
    (member,) = found["members"].values()
    medians = [row["median"] for row in member["curve"]]
    assert medians == pytest.approx(summary.curve["median"].to_list(), rel=SIX_DIGITS)
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


def rates(**finals):
    """Members of sweeps over the rates 1, 2, 4, ...; None where training diverged."""
    return {
        "metric": "validation error",
        "members": {
            label: {
                "rates": [
                    {"rate": 2.0**k, "final": value, "clipped": 0.5, "kinds": [kind]}
                    for k, (value, kind) in enumerate(rows)
                ]
            }
            for label, rows in finals.items()
        },
    }


def stable(*values):
    return [(value, "divergence" if value is None else "stable") for value in values]


def test_the_largest_usable_rate_decides_a_study_of_stability():
    verdict = VERDICTS["norm_placement_text"]
    found = verdict(rates(pre=stable(2.5, 2.4, 2.6), post=stable(2.6, 3.1, None)))
    assert found.outcome == "yes"
    assert found.sentences[-1].endswith("of the least of all): pre 4, post 1.")
    assert verdict(rates(pre=stable(2.5, 2.4), post=stable(2.5, 2.4))).outcome == "in part"
    assert verdict(rates(pre=stable(2.5, 3.1), post=stable(2.4, 2.4))).outcome == "no"


def test_a_stride_must_be_harmless_then_harmful_and_warmup_must_cure_it():
    verdict, bad = VERDICTS["wide_resnet_stride"], stable(0.02, 0.02, 0.5)
    good = stable(0.02, 0.02, 0.03)
    assert verdict(rates(stride_2=good, stride_1=bad, stride_1_warmup=good)).outcome == "yes"
    assert verdict(rates(stride_2=good, stride_1=good, stride_1_warmup=good)).outcome == "in part"
    assert verdict(rates(stride_2=good, stride_1=bad, stride_1_warmup=bad)).outcome == "in part"


def test_a_spike_must_be_there_before_clipping_can_cure_it():
    verdict = VERDICTS["training_spike"]
    spiked = [(0.1, "stable"), (0.6, "mid-training instability")]
    calm = stable(0.1, 0.2)
    members = {"clipped_1": spiked, "clipped_0.25": calm}
    assert verdict(rates(none=spiked, **members)).outcome == "yes"
    assert verdict(rates(none=spiked, clipped_1=spiked)).outcome == "in part"
    assert verdict(rates(none=calm, **members)).outcome == "no"


def test_a_sweep_of_rates_is_read_from_its_record(tmp_path):
    space = {"learning_rate": Choice((0.01, 0.1, 1.0))}
    study = make_study((64,), trials=3, seeds=(0, 1), space=space, sampler="grid")
    record = make_record(study)
    store(tmp_path / "study", record)
    (member,) = of_folder(tmp_path / "study")["members"].values()
    rates = record.trials["learning_rate"].unique().sort().to_list()
    assert [row["rate"] for row in member["rates"]] == rates and len(rates) > 1
    goal = read_question(record).goal
    for row in member["rates"]:
        trials = record.trials.filter(learning_rate=row["rate"])
        last = [
            record.evaluations.filter(batch_size=b, seed=s, trial=t).sort("step")[goal.column][-1]
            for b, s, t, status in trials.select("batch_size", "seed", "trial", "status").rows()
            if status == "COMPLETE"
        ]
        if 2 * len(last) > len(trials):
            assert row["final"] == pytest.approx(statistics.median(last), rel=SIX_DIGITS)
            assert row["low"] == pytest.approx(min(last), rel=SIX_DIGITS)
        else:
            assert row["final"] is None
        assert len(row["kinds"]) == len(trials)


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


def test_adaptive_rules_must_gain_on_plain_sgd_with_the_batch():
    def optimizers(*adam):
        members = {"sgd": (260, 106, 99), "rmsprop": (600, 300, 300), "nadam": (600, 300, 300)}
        members |= {"adamw": (600, 300, 300), "lamb": (600, 300, 300), "adam": adam}
        curves = {label: member(dict(zip((16, 128, 1024), steps, strict=True)))
                  for label, steps in members.items()}  # fmt: skip
        return VERDICTS["optimizers_digits"]({"members": curves})

    found = optimizers(250, 50, 25)
    assert found.outcome == "yes"
    assert (
        found.sentences[1]
        == "Fewest steps: adam at 16 (250), adam at 128 (50), adam at 1,024 (25)."
    )
    assert optimizers(250, 20, 50).outcome == "in part"
    assert optimizers(100, 100, 120).outcome == "no"


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
