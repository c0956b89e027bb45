"""`batchscale repeat`: fresh seeds, a record of its own, resumed, never replaced."""

from __future__ import annotations

import os
import shutil
import signal

import numpy as np
import pytest
from support.comparing import assert_same_record
from support.engine_factory import tiny_study

from experiments.analysis.repeats import selected
from experiments.analysis.summary import summarise
from experiments.cli import main
from experiments.records.schema import REPEATS_FOLDER
from experiments.records.store import RecordError, read
from experiments.runner.repeat import repeat_best
from experiments.runner.study import run_study
from experiments.search.repeats import FIRST_SEED, Repeats, fresh_seeds
from experiments.spec.trial import Status, TrialResult
from workloads import Goal

SEEDS = 4


def study(**changes):
    """Two searches of three trials, some of which pass the goal."""
    return tiny_study(
        **{
            "step_budget": 40,
            "example_budget": 320,
            "seeds": (0, 3),
            "sampler": "random",
            "goal": Goal("classification_error", 0.5),
            "space": {"learning_rate": {"low": 1e-3, "high": 1.0, "scale": "log"}},
            "fixed": {"momentum": 0.9},
            **changes,
        }
    )


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A study that has ended."""
    return run_study(study(), tmp_path_factory.mktemp("searched") / "s", execution="packed")


@pytest.fixture(scope="module")
def repeated(searched, tmp_path_factory):
    """The same with its repeats."""
    folder = tmp_path_factory.mktemp("repeated") / "s"
    shutil.copytree(searched, folder)
    repeat_best(folder, SEEDS)
    return folder


def test_the_best_of_all_searches_is_trained_with_seeds_that_none_of_them_has(searched, repeated):
    before, after = read(searched), read(repeated)
    assert after.trials.equals(before.trials) and after.evaluations.equals(before.evaluations)
    repeats = after.repeats
    assert repeats.study["purpose"] == "repeat" and before.repeats is None
    assert set(repeats.trials["seed"]) == set(range(FIRST_SEED, FIRST_SEED + SEEDS))
    assert repeats.trials.height == 2 * SEEDS and set(repeats.trials["trial"]) == {0}
    summary = summarise(before)
    for batch_size, (_, chosen) in selected(repeats.study).items():
        steps = summary.curve.filter(batch_size=batch_size)
        assert (chosen.seed, chosen.trial, chosen.steps) == steps.select(
            "pooled_seed", "pooled_trial", "pooled"
        ).row(0)
        key = {"batch_size": batch_size, "seed": chosen.seed, "trial": chosen.trial}
        rate = before.trials.filter(**key)["learning_rate"].item()
        assert set(repeats.trials.filter(batch_size=batch_size)["learning_rate"]) == {rate}
    # Other parameters to begin with, other examples: no two curves are alike.
    first = repeats.evaluations.filter(batch_size=8, step=1)["train/cross_entropy"]
    assert first.n_unique() == SEEDS


def test_the_report_of_the_study_shows_them(repeated, capsys):
    summary = summarise(read(repeated))
    assert summary.repeated.finished
    assert summary.repeated.table["wanted"].to_list() == [SEEDS, SEEDS]
    assert main(["report", str(repeated), "--pictures"]) == 0
    assert "Best configurations again" in capsys.readouterr().out
    assert "Two quantities, not one." in (repeated / "report" / "index.html").read_text()
    assert (repeated / "report" / "data" / "repeats.csv").is_file()


def test_again_trains_nothing_and_more_seeds_add_to_those_there_are(repeated, tmp_path):
    folder = tmp_path / "s"
    shutil.copytree(repeated, folder)
    place = folder / REPEATS_FOLDER
    parts = {p.name: p.read_bytes() for p in (place / "records").glob("*.parquet")}
    repeat_best(folder, SEEDS)
    assert {p.name: p.read_bytes() for p in (place / "records").glob("*.parquet")} == parts
    known = read(place).trials
    repeat_best(folder, SEEDS + 2)
    grown = read(place).trials
    assert grown.height == 2 * (SEEDS + 2)
    kept = grown.join(known, on=["batch_size", "seed", "trial"], how="semi")
    assert kept.equals(known)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_interrupted_and_begun_again_the_repeats_are_the_same(
    searched, repeated, tmp_path, monkeypatch, moment
):
    """Where the plan is recorded: what was chosen is on disk, of the repeats none or few."""
    folder = tmp_path / "s"
    shutil.copytree(searched, folder)
    replace, written = os.replace, []

    def hooked(source, target, **options):
        mine = str(target) == str(folder / REPEATS_FOLDER / "study.json")
        written.extend([target] * mine)
        here = mine and len(written) == 2
        if here and moment == "before":
            os.kill(os.getpid(), signal.SIGINT)
        replace(source, target, **options)
        if here and moment == "after":
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(os, "replace", hooked)
    with pytest.raises(KeyboardInterrupt):
        repeat_best(folder, SEEDS)
    monkeypatch.setattr(os, "replace", replace)
    assert selected(read(folder).repeats.study) == selected(read(repeated).repeats.study)
    repeat_best(folder, SEEDS)
    assert_same_record(folder / REPEATS_FOLDER, repeated / REPEATS_FOLDER)


def test_a_divergence_is_not_replaced_and_one_that_was_put_back_starts_again():
    values = {"learning_rate": 0.1, "momentum": 0.9}
    repeats = Repeats(study(), FIRST_SEED, "", {8: {0: values, 1: values}, 64: {0: values}}, {})
    trial = repeats.start(8)
    assert (trial.seed, trial.index, trial.stops) == (FIRST_SEED, 1, False)  # the newest choice
    assert repeats.start(8) is None and repeats.running(8)
    repeats.release(trial)
    assert repeats.start(8) == trial
    repeats.end(TrialResult(trial, Status.INFEASIBLE, 3, {"step": np.arange(1, 3)}))
    assert not repeats.unfinished(8) and repeats.unfinished(64)
    assert repeats.count(Status.INFEASIBLE) == 1
    assert repeats.remaining_steps(8) == 0 and repeats.due() == {}


def test_a_study_without_a_trial_to_choose_is_refused(tmp_path):
    wild = study(space={}, fixed={"momentum": 0.9, "learning_rate": 1e4}, trials=1, seeds=(0,))
    folder = run_study(wild, tmp_path / "s", execution="packed")
    with pytest.raises(RecordError, match="holds no trial yet that could be repeated"):
        repeat_best(folder, SEEDS)


def test_where_trials_stop_repeats_end_at_the_goal(tmp_path):
    folder = run_study(study(stop="goal"), tmp_path / "s", execution="packed")
    repeat_best(folder, SEEDS)
    trials = read(folder).repeats.trials
    stopped = trials.filter(status="STOPPED")
    assert len(stopped) and set(stopped["reason"]) == {"goal"}
    assert (stopped["steps"] < stopped["train_steps"]).any()


def test_a_study_that_grew_is_chosen_from_again_and_older_repeats_stay(repeated, tmp_path):
    folder = tmp_path / "s"
    shutil.copytree(repeated, folder)
    run_study(study(trials=8), folder)
    summary = summarise(read(folder))
    stale = summary.repeated.table.filter("stale")["batch_size"].to_list()
    assert stale  # more trials found a better one
    repeat_best(folder, SEEDS)
    trials = read(folder).repeats.trials
    for batch_size in (8, 64):
        places = set(trials.filter(batch_size=batch_size)["trial"])
        assert places == ({0, 1} if batch_size in stale else {0})
    assert not summarise(read(folder)).repeated.table["stale"].any()


def test_bad_input_is_refused_in_one_line_and_changes_nothing(searched, tmp_path, capsys):
    before = {p: p.read_bytes() for p in searched.rglob("*") if p.is_file()}
    for words, said in (
        (["repeat", str(searched)], "--best"),
        (["repeat", str(searched), "--best", "--seeds", "0"], "--seeds"),
        (["repeat", str(tmp_path), "--best"], "holds no record"),
    ):
        try:
            code = main(words)
        except SystemExit as ended:
            code = ended.code
        error = capsys.readouterr().err
        assert code == 2 and said in error and error.count("\n") == 1
    assert {p: p.read_bytes() for p in searched.rglob("*") if p.is_file()} == before


def test_fresh_seeds_are_none_of_the_studys():
    assert fresh_seeds(3, (FIRST_SEED + 1,)) == (FIRST_SEED, FIRST_SEED + 2, FIRST_SEED + 3)
