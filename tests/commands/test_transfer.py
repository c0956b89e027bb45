"""``batchscale run STUDY --rule RULE --from B``: the best trial of one batch size, taken on."""

from __future__ import annotations

import argparse
import dataclasses
import shutil

import polars as pl
import pytest
from support.engine_factory import tiny_study
from support.records_factory import Truth, make_record, make_study, store

from experiments.analysis.summary import summarise
from experiments.cli import main
from experiments.commands.chosen import add_study_arguments, chosen_study
from experiments.commands.transfer import of_best_trial
from experiments.records.store import read
from experiments.runner.study import run_study
from experiments.spec.study import resolve
from experiments.spec.trial import Transfer
from experiments.studies import get

SMOKE = get("quickstart", smoke=True)
REACHED = Truth(least_steps=5.0, critical=8.0)


def chosen(*words):
    parser = argparse.ArgumentParser()
    add_study_arguments(parser)
    return chosen_study(parser.parse_args(["quickstart", "--smoke", *words]))


@pytest.fixture
def searched(tmp_path):
    """A record of the study's smoke variant, simulated."""
    record = make_record(SMOKE, REACHED)
    store(tmp_path / "searched", record)
    return tmp_path / "searched", summarise(record)


def test_it_takes_the_best_trial_of_all_searches_with_fresh_seeds(searched):
    folder, summary = searched
    study = chosen("--rule", "square_root", "--from", "64", "--best-of", str(folder))
    best = summary.curve.filter(batch_size=64).row(0, named=True)
    key = {"batch_size": 64, "seed": best["pooled_seed"], "trial": best["pooled_trial"]}
    row = summary.record.trials.filter(**key).row(0, named=True)
    assert study.fixed == {name: row[name] for name in summary.question.hyperparameters}
    assert study.rule == Transfer("square_root", 64)
    assert study.name == "quickstart-smoke-square_root-from-64"
    assert (study.trials, study.seeds, dict(study.space)) == (1, (2, 3, 4, 5, 6, 7), {})
    trial = resolve(study).trial(1024, 2, 0, {}, "")
    assert trial.hyperparameters["learning_rate"] == pytest.approx(4 * row["learning_rate"])
    words = ("--rule", "linear", "--best-of", str(folder))
    assert chosen(*words, "--seed", "7").seeds == (7,)
    assert chosen(*words, "--seeds", "3").seeds == (2, 3, 4)
    assert chosen(*words).rule == Transfer("linear", 4)


def test_a_study_that_goes_on_keeps_the_trial_it_was_begun_with(searched, tmp_path):
    folder, _ = searched
    out = tmp_path / "ruled"
    words = ("--rule", "linear", "--from", "64", "--best-of", str(folder))
    begun = chosen(*words)
    store(out, make_record(begun, REACHED))
    shutil.rmtree(folder)  # it may as well have grown
    parser = argparse.ArgumentParser()
    add_study_arguments(parser)
    options = parser.parse_args(["quickstart", "--smoke", *words])
    options.out = out
    again = chosen_study(options)
    assert dict(again.fixed) == dict(begun.fixed) and again.seeds == begun.seeds
    assert resolve(again).identity("x") == resolve(begun).identity("x")


def test_the_trial_that_is_taken_on_is_trained_to_its_end_whatever_the_search_pruned(tmp_path):
    study = make_study((4, 64), trials=9, pruner="hyperband", pruner_resource=9)
    store(tmp_path / "searched", make_record(study, REACHED))
    ruled = dataclasses.replace(study, rule=Transfer("linear", 4))
    found = of_best_trial(ruled, tmp_path / "searched", None)
    assert (found.trials, found.pruner, found.stop) == (1, "none", "never")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--rule", "lineer"), "linear"),
        (("--from", "64"), "--from goes with --rule"),
        (("--best-of", "x"), "--best-of goes with --rule"),
        (("--rule", "linear", "--from", "64"), "holds no record"),
        (("--rule", "linear", "--from", "7", "--best-of", "SEARCHED"), "(4, 64, 1024), got 7"),
        (("--rule", "linear", "--from", "64", "--best-of", "SEARCHED", "--optimizer", "adam"),
         "has other hyperparameters than this study: beta1"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_changes_nothing(
    searched, words, said, capsys, tmp_path, monkeypatch
):
    folder, _ = searched
    monkeypatch.chdir(tmp_path)
    words = [str(folder) if word == "SEARCHED" else word for word in words]
    assert main(["run", "quickstart", "--smoke", *words]) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["searched"]


def test_trials_are_trained_with_what_the_rule_makes_of_the_values(tmp_path):
    study = tiny_study(space={}, fixed={"learning_rate": 0.01, "momentum": 0.5}, trials=1,
                       rule=Transfer("linear+half_life", 8), batch_sizes=(8, 64))  # fmt: skip
    run_study(study, tmp_path / "ruled", execution="scan", workers=1)
    held = read(tmp_path / "ruled").trials.sort("batch_size")
    assert held["learning_rate"].to_list() == pytest.approx([0.01, 0.08])
    assert held["momentum"].to_list() == pytest.approx([0.5, 0.5**8])
    assert summarise(read(tmp_path / "ruled")).question.rule == Transfer("linear+half_life", 8)
    assert held.filter(pl.col("status") == "COMPLETE").height == 2
