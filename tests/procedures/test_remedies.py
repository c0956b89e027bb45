"""warmup-search, clip-threshold and steps-search on small problems, their rules by hand."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from support.engine_factory import TINY
from support.tolerances import FLOAT64

from experiments import studies
from experiments.analysis.clip_threshold import threshold_from_norms
from experiments.analysis.rate_sweep import SweepRun
from experiments.analysis.training_stability import Judged, LossCurve
from experiments.cli import main
from experiments.procedures.clip_threshold import clip_threshold
from experiments.procedures.procedure import Running
from experiments.procedures.steps_found import StepsFindings, extended
from experiments.procedures.steps_found import said_of as said_of_steps
from experiments.procedures.steps_search import judged_on, steps_search
from experiments.procedures.sweep_options import SweepOptions
from experiments.procedures.variants import base_of, plain
from experiments.procedures.warmup_found import ComparedSetting, Length, WarmupFindings, said_of
from experiments.procedures.warmup_search import warmup_search
from experiments.records.store import read
from experiments.spec.space import Choice
from experiments.spec.study import Study
from experiments.spec.trial import Transfer
from workloads.cifar10_resnet8 import WORKLOAD as RESNET

ROUNDING = 1e-5
"""Relative: a program that also records norms may add in another order."""
QUICK = Running(train={"execution": "scan", "workers": 1})


def digits(**fields):
    fields = {"step_budget": 100, "optimizer": "sgd", "workload": TINY, **fields}
    return Study(
        name="digits", question="How far can the rate go?", batch_sizes=(64,),
        example_budget=64, **fields,
    )  # fmt: skip


@pytest.fixture(scope="module")
def warmed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("warmup") / "w"
    return warmup_search(digits(), folder, SweepOptions(running=QUICK), unstable_rate=0.2, seeds=2)


def test_a_warmup_starts_at_ten_times_the_unstable_rate_and_stays_twice_as_long(warmed):
    first = warmed.values["tried"][0]
    assert (first["factor"], first["learning_rate"], first["warmup_steps"]) == (10, 2.0, 10)
    stage = next(p for p in warmed.folder.iterdir() if p.name.endswith("x10-warmup-10"))
    record = read(stage)
    assert record.trials["train_steps"].to_list() == [30]
    rates = record.scan("norms").sort("step").collect()["learning_rate"].to_numpy()
    assert rates[10:] == pytest.approx(np.full(20, 2.0))
    assert np.all(np.diff(rates[:11]) > 0) and rates[0] < 0.3


def test_the_shortest_that_holds_is_prepended_and_compared_over_seeds(warmed):
    values = warmed.values
    held = [t for t in values["tried"] if t["holds"]]
    assert values["warmup_steps"] in [t["warmup_steps"] for t in held]
    assert values["total_steps"] == 100 + values["warmup_steps"]
    names = [c["name"] for c in values["compared"]]
    assert names[0] == "no warmup" and len(names) >= 2
    assert all(len(c["values"]) == 2 for c in values["compared"])
    assert f"--fix warmup_steps={values['warmup_steps']} learning_rate=" in str(warmed.said.noted)
    study = studies.get(str(warmed.folder / "warmup.py")).resolved
    assert study.fixed["warmup_steps"] == values["warmup_steps"]
    assert study.length(64) == values["total_steps"]


def test_a_long_warmup_is_noted(warmed):
    assert values_of(warmed)["warmup_steps"] > 0.05 * 100
    assert any("more than 5% of max_train_steps" in n.text for n in warmed.said.noted)


def values_of(outcome):
    return json.loads((outcome.folder / "verdict.json").read_text())["values"]


def length(factor, rate, warmup, kind, level=-1.0):
    curve = LossCurve([1, 2, 3, 4], list(np.exp([0.0, level, level, level])), 1.0, 4)
    return Length(
        factor, rate, warmup, SweepRun((64, 0, 0), rate, curve, Judged(kind, None, ""), 1, 1)
    )


def test_the_shortest_stable_warmup_is_chosen_by_the_best_checkpoint():
    base = base_of(digits())
    lengths = [
        length(10, 2.0, 10, "divergence"),
        length(10, 2.0, 100, "stable"),
        length(10, 2.0, 1000, "stable"),
        length(100, 20.0, 1000, "stable", level=0.2),
    ]
    found = WarmupFindings(base, 0.2, 0.1, lengths)
    assert found.shortest(10).warmup_steps == 100
    assert found.shortest(100) is None  # its loss ends above what it was before training
    assert found.chosen.warmup_steps == 100
    good = [*lengths[:3], length(100, 20.0, 10, "stable")]
    compared = [
        ComparedSetting("no warmup", 0.1, 0, (0.2, 0.2)),
        ComparedSetting("10x", 2.0, 100, (0.1, 0.12)),
        ComparedSetting("100x", 20.0, 10, (0.05, 0.06)),
    ]
    found = WarmupFindings(base, 0.2, 0.1, good, compared)
    assert (found.chosen.rate, found.chosen.warmup_steps) == (20.0, 10)
    assert ComparedSetting("x", 1.0, 1, (None, None, 0.1)).median is None


@pytest.mark.parametrize(
    ("without", "mine", "said"),
    [
        ((0.2, None, None), (0.1, 0.15, 0.18), "better in every seed: median {} 0.15, none"),
        ((None, None, None), (0.1, 0.15, 0.18), "better in every seed"),
        ((0.1, 0.15, None), (0.2, 0.3, 0.4), "no different: median {} 0.3, 0.15 at 0.1"),
        ((0.2, 0.2, 0.3), (0.1, 0.15, None), "no different: median {} 0.15, 0.2 at 0.1"),
        ((0.2, 0.2, 0.3), (0.4, 0.5, None), "worse in every seed: median {} 0.5, 0.2 at 0.1"),
        ((0.2, 0.2, 0.3), (0.4, None, None), "worse in every seed: median {} none (it diverges)"),
    ],
)
def test_a_seed_that_diverges_is_worse_than_any_value(without, mine, said):
    """The twin: a divergence as an infinite error, its median and its order."""
    compared = [
        ComparedSetting("no warmup", 0.1, 0, without),
        ComparedSetting("10x", 2.0, 10, mine),
    ]
    found = WarmupFindings(base_of(digits()), 0.2, 0.1, [length(10, 2.0, 10, "stable")], compared)
    first, second = ([np.inf if v is None else v for v in values] for values in (without, mine))
    assert found.better == (max(second) < min(first)) and found.worse == (min(second) > max(first))
    medians = [np.inf if c.median is None else c.median for c in compared]
    assert medians == [np.median(first), np.median(second)]
    metric = "validation classification error"
    assert said.format(metric) in said_of(found, "digits", "", Path("w")).answer
    # Where larger is better the same numbers, negated, rank alike.
    lower = ComparedSetting("x", 2.0, 10, tuple(v and -v for v in mine), sign=-1.0)
    assert lower.ranked == second and lower.median == (compared[1].median and -compared[1].median)


def test_the_best_value_is_drawn_against_the_rate_with_and_without_the_warmup():
    def at(rate, kind, best):
        curve = LossCurve([1, 2], [1.0, 0.5], 1.0, 2)
        return SweepRun((64, 0, 0), rate, curve, Judged(kind, None, ""), best, 2)

    without = [at(0.1, "stable", 0.2), at(0.2, "divergence", 0.8)]
    with_it = [at(0.1, "stable", 0.3), at(0.2, "stable", 0.1)]
    found = WarmupFindings(
        base_of(digits()), 0.2, 0.1, [length(10, 2.0, 10, "stable")], (), without, with_it
    )
    said = said_of(found, "digits", "", Path("w"))
    (figure,) = (one for one in said.figures if one.name == "value_against_rate")
    rows = figure.table.select("group", "rate", "value").rows()
    assert rows == [("none", 0.1, 0.2), ("none", 0.2, None), ("10 steps", 0.1, 0.3),
                    ("10 steps", 0.2, 0.1)]  # fmt: skip
    assert "with that warmup is 0.1 at 0.2; without it 0.2 at 0.1" in str(said.noted)
    found = dataclasses.replace(found, swept=(), with_warmup=())
    names = [figure.name for figure in said_of(found, "digits", "", Path("w")).figures]
    assert names == ["warmups"]


@pytest.fixture(scope="module")
def clipped(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip") / "c"
    return clip_threshold(
        digits(), folder, SweepOptions(rates=(0.5, 16.0), factor=4.0, running=QUICK)
    )


def test_the_threshold_is_the_90th_percentile_of_the_best_rates_norms(clipped):
    values = clipped.values
    stage = next(p for p in clipped.folder.iterdir() if p.name.endswith("sweep"))
    record = read(stage)
    trial = record.trials.filter(pl.col("learning_rate") == values["best_learning_rate"])
    norms = record.scan("norms").filter(pl.col("trial") == trial["trial"][0]).collect()
    assert values["threshold"] == pytest.approx(
        np.percentile(norms["gradient_norm"].to_numpy(), 90), rel=FLOAT64
    )
    page = (clipped.folder / "report" / "index.html").read_text()
    assert 'id="norm_against_step"' in page and 'id="norm_histogram"' in page


def test_thresholds_fall_while_training_is_unstable_and_the_others_are_compared(clipped):
    settings = clipped.values["settings"]
    assert settings[0]["clipping"] == "none"
    fixed = [s for s in settings if s["percentile"] is not None]
    assert fixed[0]["percentile"] == 90
    percentiles = [s["percentile"] for s in fixed]
    assert percentiles == [90.0, 75.0, 50.0, 25.0, 10.0][: len(percentiles)]
    assert not any(s["holds"] for s in fixed[:-1])
    assert [s["clipping"] for s in settings[-2:]] == ["window_autoclip", "agc"]
    one = next((s for s in fixed if s["holds"]), None)
    assert clipped.values["lower_the_rate_instead"] == (one is None or one["clipped"] > 0.5)
    said = " ".join(noted.text for noted in clipped.said.noted)
    if one is not None and one["clipped"] > 0.5:
        assert "extremely aggressive" in said and "diagnose" in clipped.said.next.command


def test_a_record_without_norms_has_its_best_trial_trained_again(tmp_path, capsys):
    from experiments.runner.study import run_study

    rates = Choice((1e-6, 0.05, 1e-7))
    study = digits(
        trials=3, step_budget=30, record_norms="off", sampler="grid", pruner="patience",
        patience=27, space={"learning_rate": rates}, rule=Transfer("linear", 8),
    )  # fmt: skip
    folder = run_study(study, tmp_path / "off", execution="scan", workers=1)
    assert main(["clip-threshold", str(folder), "--execution", "scan"]) == 0
    out = capsys.readouterr().out
    assert "the record holds no norms: its best trial was trained again" in out
    again = read(tmp_path / "off-clip-threshold")
    norms = again.scan("norms").collect()["gradient_norm"]
    assert len(norms) == 30 and f"{threshold_from_norms(norms, 90.0):.4g}" in out
    # That very trial: its index, from which its initialisation and order derive, and its rate as
    # recorded, after the rule; so it measures what it measured before.
    first, second = read(folder), again
    assert second.trials.select("batch_size", "seed", "trial", "learning_rate").rows() == [
        (64, 0, 1, 0.05 * 8)
    ]
    measured = [
        r.scan("evaluations").filter(pl.col("trial") == 1).sort("step").collect()
        for r in (first, second)
    ]
    loss = "train/cross_entropy"
    assert measured[0]["step"].to_list() == measured[1]["step"].to_list()
    assert measured[1][loss].to_numpy() == pytest.approx(measured[0][loss].to_numpy(), rel=ROUNDING)
    before = (tmp_path / "off-clip-threshold/records/trials-000001.parquet").stat().st_mtime_ns
    assert main(["clip-threshold", str(folder)]) == 0  # and nothing is trained a third time
    after = (tmp_path / "off-clip-threshold/records/trials-000001.parquet").stat().st_mtime_ns
    assert before == after and capsys.readouterr().out == out
    assert main(["clip-threshold"]) == 2
    assert "takes either DIR or --study" in capsys.readouterr().err


@pytest.fixture(scope="module")
def stepped(tmp_path_factory):
    folder = tmp_path_factory.mktemp("steps") / "s"
    study = digits(optimizer="adam", step_budget=200)
    return steps_search(study, folder, SweepOptions(rates=(0.003, 0.3), factor=3.0, running=QUICK))


def test_max_train_steps_is_the_fastest_perfect_fit(stepped):
    values = stepped.values
    stage = next(p for p in stepped.folder.iterdir() if f"sweep-{values['steps_tried']}" in p.name)
    record = read(stage)
    rows = record.scan("evaluations").collect()
    perfect = rows.filter(pl.col("train/classification_error") == 0.0)["step"].min()
    assert values["max_train_steps"] == perfect
    assert values["judged_on"] == values["training_examples"] == 1024  # no fit of a part of them
    assert record.study["study"]["train_evaluation_examples"] == 1024
    study = studies.get(str(stepped.folder / "longer.py")).resolved
    assert study.step_budget == 10 * perfect
    assert "warmup length, initialization (very likely)" in str(stepped.said.noted)


def fit(rates, steps, best_steps, length=1000):
    judged = Judged("stable", None, "")
    runs = [
        SweepRun((64, 0, i), rate, LossCurve([1], [1.0], 1.0, length), judged, 0.1, best)
        for i, (rate, best) in enumerate(zip(rates, best_steps, strict=True))
    ]
    fitted = {run.key: step for run, step in zip(runs, steps, strict=True) if step}
    return StepsFindings(base_of(digits()), length, runs, fitted)


def test_the_first_tenth_and_the_last_quarter_and_an_end_of_the_sweep():
    found = fit([0.1, 0.2, 0.4], [300, 200, 200], [100, 50, 100])
    assert (found.fastest.rate, found.at_end, found.when) == (0.2, "", "early")
    assert fit([0.1, 0.2], [0, 90], [800, 750]).at_end == "upper"
    assert fit([0.1, 0.2], [0, 90], [800, 750]).when == "late"
    assert fit([0.1, 0.2], [0, 0], [101, 50]).when == ""
    assert fit([0.1, 0.2], [0, 0], [100, 50]).fastest is None


def test_schedules_are_extended_as_the_playbook_does():
    linear = base_of(digits(schedule="linear", fixed={"decay_steps_factor": 1.0}))
    fields, words = extended(linear, 100, 1000)
    assert fields["schedule"] == "warmup_stable_decay"
    assert fields["fixed"]["decay_fraction"] == 0.1 and "keeps its 100 steps" in words
    cosine = base_of(digits(schedule="cosine"))
    fields, words = extended(cosine, 100, 1000)
    assert "schedule" not in fields and "base rate stays" in words


def test_a_fit_is_judged_on_all_training_examples_or_it_is_said_on_how_many():
    assert judged_on(base_of(digits())).study.train_evaluation_examples == 1024
    large = Study(
        name="r", question="?", workload=RESNET, batch_sizes=(64,), step_budget=2000,
        example_budget=64,
    )  # fmt: skip
    base = judged_on(base_of(large))
    examples, size = base.study.train_evaluation_examples, base.study.resolved.train_size
    evaluations = len(base.study.resolved.grid(2000))
    assert 1024 < examples < size and examples * evaluations <= 3 * 2000 * 64
    runs = fit([0.1, 0.2], [300, 200], [100, 50]).runs
    found = StepsFindings(base, 2000, runs, {runs[1].key: 200})
    said = said_of_steps(found, base, "r", "", Path("s"))
    part = f"the first {examples:,} of the {size:,} training examples"
    assert f"a constant rate of 0.2 fits {part} by then" in said.answer
    assert said.facts["A fit is judged on"] == part
    none = dataclasses.replace(found, fitted={})
    said = said_of_steps(none, base, "'my study.py' --steps 2000", "", Path("a b/s"))
    assert f"No constant rate fits {part}" in said.answer
    assert shlex.split(said.next.command) == [
        "batchscale", "steps-search", "my study.py", "--steps", "8000", "--out", "a b/s-longer",
    ]  # fmt: skip
    assert judged_on(base_of(large, 64, 10**6)).study.train_evaluation_examples == size


def test_a_steps_search_regularizes_nothing_and_augments_nothing():
    study = Study(
        name="r", question="?", workload=RESNET, batch_sizes=(8,), step_budget=10,
        example_budget=8, schedule="cosine", optimizer="adamw",
    )  # fmt: skip
    base = plain(base_of(study))
    assert base.study.schedule == "constant" and base.study.fixed["weight_decay"] == 0.0
    assert base.study.workload.preprocess == "workloads.preprocessing:cifar_plain"
    smoothed = dataclasses.replace(TINY, hyperparameters={"label_smoothing": 0.1})
    assert plain(base_of(digits(workload=smoothed))).study.fixed["label_smoothing"] == 0.0
