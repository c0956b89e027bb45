"""The studies of a procedure's stages: each can be made from any study, and asks what it says."""

from __future__ import annotations

import dataclasses

import polars as pl
import pytest
from support.engine_factory import TINY

from experiments import studies
from experiments.analysis.rate_sweep import Bracket, SweepRun
from experiments.analysis.training_stability import Judged, LossCurve
from experiments.cli import main
from experiments.procedures import fixes, remedies
from experiments.procedures.clip_found import ClipFindings
from experiments.procedures.clip_threshold import thresholds_of
from experiments.procedures.diagnose import probe_of
from experiments.procedures.rates import Sweep, SweepEnds, pilot_of
from experiments.procedures.variants import base_of, changed, held_study_file, rate_range
from experiments.procedures.warmup_search import trial_of
from experiments.spec.space import Real
from experiments.spec.study import Study
from experiments.spec.trial import Transfer

SMOOTHED = dataclasses.replace(TINY, hyperparameters={"label_smoothing": 0.0})


def digits(**fields):
    fields = {"batch_sizes": (64,), "step_budget": 100, "optimizer": "sgd", **fields}
    return Study(
        name="digits", question="How far can the rate go?", example_budget=64,
        **{"workload": TINY, **fields},
    )  # fmt: skip


@pytest.mark.parametrize("warmup", [60.0, "60%", "3.75 epochs"])  # 16 steps an epoch
def test_stages_shorter_than_a_held_warmup_can_be_made(warmup):
    held = {"warmup_steps": warmup, "average_start": "50%"}
    base = base_of(digits(averaging="tail_mean", fixed=held))
    pilot, probe = pilot_of(base, SweepEnds(0.1, 1.0)).resolved, probe_of(base, 0.1).resolved
    assert (pilot.length(64), pilot.fixed["warmup_steps"]) == (20, 20.0)
    # The probe's 500 steps follow the warmup: at the rate that is probed.
    assert (probe.length(64), probe.fixed["warmup_steps"]) == (560, 60.0)
    # In its own shorter trial no iterate after step 50 of the base's is there to be averaged.
    warmed = trial_of(base, 10.0, 0.2, 10).resolved
    assert (warmed.length(64), warmed.fixed["average_start"]) == (30, 30.0)
    assert base.variant("sweep", (0.1,)).fixed == held


def test_a_share_of_a_long_trial_keeps_its_steps_in_a_short_probe():
    base = base_of(digits(step_budget=2000, averaging="tail_mean", fixed={
        "warmup_steps": "5%", "average_start": "10%"}))  # fmt: skip
    probe = probe_of(base, 0.1).resolved
    assert probe.length(64) == 600
    assert probe.fixed == {"warmup_steps": 100.0, "average_start": 200.0}


@pytest.mark.parametrize(
    "words",
    [["diagnose"], ["warmup-search"], ["steps-search"], ["clip-threshold", "--study"]],
    ids=lambda words: words[0],
)
def test_a_stage_that_cannot_be_is_refused_before_a_folder_is_made(words, tmp_path, capsys):
    out = tmp_path / "d"
    assert main([*words, "digits_fc", "--rates", "1e5", "9e5", "--out", str(out)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "learning_rate must lie in (0, 1e+06], got 1600000.0" in line and not out.exists()


COSINE = {"end_learning_rate_factor": 0.1, "decay_steps_factor": 0.5}


def test_another_part_takes_its_own_numbers_with_it_and_nothing_else():
    base = base_of(digits(schedule="cosine", fixed={**COSINE, "warmup_start_factor": 0.5}))
    warmed = trial_of(base, 10.0, 0.2, 10)
    assert warmed.schedule == "constant"
    assert warmed.fixed == {"warmup_steps": 10.0, "warmup_start_factor": 0.5}
    longer = changed(base.study, schedule="linear")
    assert longer.fixed == base.study.fixed
    # A number that stood at one rule's default is no choice for another rule.
    lion = digits(optimizer="lion", fixed={"beta1": 0.8, "beta2": 0.99, "weight_decay": 0.1})
    assert changed(lion, optimizer="adamw", space=None).fixed == {
        "beta1": 0.8, "weight_decay": 0.1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("clipping", "held"),
    [
        ("agc", {"clip_ratio": 0.1}),
        ("autoclip", {"clip_percentile": 50.0}),
        ("window_autoclip", {"clip_percentile": 50.0, "clip_window": 64.0}),
        ("global_norm", {"clip_threshold": 9.0}),
    ],
)
def test_clipping_is_a_remedy_in_place_of_any_other(clipping, held):
    base = base_of(digits(clipping=clipping, fixed=held))
    tried = remedies.clipping_of(base, 0.5, [1.0, 2.0])
    assert (tried.clipping, tried.fixed) == ("global_norm", {})
    cured = fixes.Tried("clipping", True, "", {"clip_threshold": 2.0, "learning_rate": 0.5})
    assert fixes.changes_of(base, cured)["clipping"] == "global_norm"
    text = held_study_file(base, "It held.", **fixes.changes_of(base, cured))
    assert "fixed={'clip_threshold': 2.0, 'learning_rate': 0.5}" in text


def test_another_optimizer_keeps_all_that_it_has_too(tmp_path):
    held = {**COSINE, "warmup_steps": "5%", "clip_threshold": 2.0, "label_smoothing": 0.1}
    study = digits(
        workload=SMOOTHED, optimizer="nesterov", schedule="cosine", clipping="global_norm",
        fixed={**held, "momentum": 0.8},
    )  # fmt: skip
    base = base_of(study)
    other = remedies.optimizer_of(base)
    assert (other.optimizer, other.schedule, other.clipping) == ("adam", "cosine", "global_norm")
    assert other.fixed == held
    cured = fixes.Tried("another optimizer", True, "", {"optimizer": "adam", "learning_rate": 0.5})
    path = tmp_path / "cured.py"
    path.write_text(held_study_file(base, "It held.", **fixes.changes_of(base, cured)))
    made = studies.get(str(path)).resolved
    assert made.fixed == {**held, "learning_rate": 0.5} and made.optimizer == "adam"


def test_no_stage_is_pruned():
    for pruner in ({"pruner": "hyperband"}, {"pruner": "patience", "patience": 3}):
        base = base_of(digits(**pruner))
        assert pilot_of(base, SweepEnds(0.1, 1.0)).resolved.length(64) == 20  # below R = 27


def test_a_rule_from_another_batch_size_is_applied_once():
    study = digits(
        batch_sizes=(8, 32, 64), optimizer="nesterov", rule=Transfer("linear+half_life", 8),
        space={"learning_rate": Real(0.01, 0.1, "log")}, fixed={"momentum": 0.9},
    )  # fmt: skip
    base = base_of(study, 32)
    assert base.study.fixed == {"momentum": pytest.approx(0.9**4)}
    assert rate_range(study, 32) == pytest.approx((0.04, 0.4))
    assert rate_range(study) == rate_range(study, 32)  # the middle one
    for size in (32, 512):  # the check of noise at 16 times the batch
        trained = base.variant("noise", (0.3,), batch_size=size).resolved
        values = trained.trial(size, 0, 0, {"learning_rate": 0.5}, "").hyperparameters
        assert (values["learning_rate"], values["momentum"]) == (0.3, base.study.fixed["momentum"])
    assert "Transfer" not in held_study_file(base, "It held.", fixed={"learning_rate": 0.3})


def norms_of(values):
    run = SweepRun(
        (64, 0, 0), 0.1, LossCurve([1], [1.0], 1.0, 2), Judged("stable", None, ""), 0.5, 2
    )
    sweep = Sweep([run], run, Bracket(0.1, 0.2), {}, 1.0, ())
    return base_of(digits()), sweep, pl.DataFrame({"gradient_norm": values})


@pytest.mark.parametrize(
    ("percentile", "tried"),
    [(90.0, [90, 75, 50, 25, 10]), (75.0, [75, 50, 25, 10]), (60.0, [60, 50, 25, 10]),
     (10.0, [10]), (5.0, [5])],
)  # fmt: skip
def test_no_threshold_is_tried_twice(percentile, tried):
    found = ClipFindings(*norms_of([float(n) for n in range(101)]), percentile)
    assert thresholds_of(found) == {float(p): float(p) for p in tried}
    level = ClipFindings(*norms_of([2.0] * 50 + [float(n) for n in range(3, 54)]), percentile)
    assert len(set(thresholds_of(level).values())) == len(thresholds_of(level))


@pytest.mark.parametrize("words", [
    ["--smoke"], ["--batch-size", "64"], ["--steps", "9"], ["--optimizer", "adam"],
    ["--schedule", "cosine"], ["--clipping", "agc"], ["--averaging", "ema"],
    ["--momentum-schedule", "annealed"], ["--seed", "0"], ["--record-curvature", "0"],
    ["--hold", "momentum=0.9"], ["--model", "a=1"], ["--budget", "5min"],
    ["--rates", "0.1", "1"], ["--factor", "2"],
])  # fmt: skip
def test_with_a_record_what_would_change_a_training_is_refused(words, tmp_path, capsys):
    assert main(["clip-threshold", str(tmp_path), *words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"{words[0]} has no place beside DIR" in line


@pytest.mark.parametrize("words", [["--rates", "0.1", "1"], ["--factor", "2"]])
def test_a_sweep_that_is_not_made_takes_no_options(words, tmp_path, capsys):
    out = tmp_path / "w"
    given = ["warmup-search", "digits_fc", "--unstable-rate", "1", *words, "--out", str(out)]
    assert main(given) == 2 and not out.exists()
    assert f"{words[0]} has no place beside --unstable-rate" in capsys.readouterr().err
    assert main([*given[:2], "--unstable-rate", "inf", "--out", str(out)]) == 2
    assert "unstable_rate must be a positive number, got inf" in capsys.readouterr().err
