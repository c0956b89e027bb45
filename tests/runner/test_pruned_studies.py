"""A study with a pruner: whole populations, the bits of trials that never stopped, one record."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys

import polars as pl
import pytest
from support import pruned_child
from support.comparing import assert_same_record
from support.engine_factory import tiny_study
from support.pruned_child import pruned_study

from experiments import studies
from experiments.analysis.status import study_status
from experiments.analysis.steps_to_result import steps_to_result
from experiments.analysis.view import View
from experiments.cli import main
from experiments.records.store import RecordError, read
from experiments.runner.coordinator import Coordinator
from experiments.runner.jobs import StudyJobs
from experiments.runner.study import run_study

TRIAL = ["batch_size", "seed", "trial"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Every trial at its full length."""
    folder = tmp_path_factory.mktemp("whole") / "study"
    study = pruned_study("none", pruner_resource=27, sampler="halton")
    return run_study(study, folder, execution="scan")


@pytest.fixture(scope="module")
def halved(tmp_path_factory):
    """The brackets of Hyperband, and the trial-steps that were made."""
    made, advanced = [], StudyJobs.advanced
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            StudyJobs,
            "advanced",
            lambda self, job, steps: (made.append(steps), advanced(self, job, steps))[1],
        )
        folder = run_study(
            pruned_study(), tmp_path_factory.mktemp("halved") / "study", execution="scan"
        )
    return folder, sum(made)


def complete(record):
    return record.trials.filter(status="COMPLETE")


def test_every_search_is_one_bracket_and_costs_only_its_steps(halved):
    folder, made = halved
    record = read(folder)
    assert len(record.trials) == 2 * 2 * 9
    for (batch_size, _), own in record.trials.group_by("batch_size", "seed"):
        length = {8: 64, 64: 54}[batch_size]
        ends = [length // 9, length // 3, length]
        alive = own.filter(pl.col("status") != "INFEASIBLE")
        for rung, most in zip(ends, (9, 3, 1), strict=True):
            assert len(alive.filter(pl.col("steps") >= rung)) <= most
        assert (own["status"] == "COMPLETE").sum() == 1
        assert set(own.filter(status="STOPPED")["reason"]) == {"pruned"}
        assert set(own.filter(status="STOPPED")["steps"]) <= set(ends[:2])
    # A chunk ends where a trial does; one that diverged is found after its chunk.
    ended = record.trials.filter(pl.col("status") != "INFEASIBLE")["steps"].sum()
    assert ended <= made <= record.trials["train_steps"].sum() // 3


@pytest.mark.parametrize("pruner", ["hyperband", "asha", "median", "patience"])
def test_a_trial_is_to_the_bit_the_one_that_never_stopped_up_to_its_end(
    tmp_path, whole, halved, pruner
):
    if pruner == "hyperband":
        folder = halved[0]
    else:
        patience = 3 if pruner == "patience" else None
        study = pruned_study(pruner, patience=patience, seeds=(0,))
        folder = run_study(study, tmp_path / "study", execution="scan")
    found, full = read(folder), read(whole)
    # Trials that diverged are replaced where none is pruned.
    full_trials = full.trials.join(found.trials, on=TRIAL, how="semi")
    assert len(full_trials) == len(found.trials) == 18 * len(set(found.trials["seed"]))
    assert found.trials["steps"].sum() < 0.9 * full_trials["steps"].sum()
    long = full.evaluations.join(found.trials.select(*TRIAL, "steps", "status"), on=TRIAL)
    kept = long.filter(pl.col("step") <= pl.col("steps")).drop("steps", "status")
    columns = [name for name in kept.columns if name in found.evaluations.columns]
    assert kept.select(columns).equals(found.evaluations.select(columns), null_equal=True)
    diverged = found.trials.filter(status="INFEASIBLE")
    same = diverged.join(full.trials, on=[*TRIAL, "status", "steps"], how="semi")
    assert len(same) == len(diverged) > 0


def test_a_pruned_trial_answers_nothing_and_all_that_were_started_count(halved):
    record = read(halved[0])
    view = View(record, goal=0.9)  # what a pruned trial has passed too
    assert view.counted.select(TRIAL).equals(complete(record).select(TRIAL))
    table = steps_to_result(view)
    assert table["missing"].to_list() == [0, 0, 0, 0]
    best = complete(record).select(TRIAL).rows()
    assert [(b, s, t) for b, s, t in table.select(TRIAL).iter_rows() if t is not None] == best
    status = study_status(record)
    assert (status.counted, status.wanted) == (36, 36)
    assert status.rounds == {0: (1, 1), 1: (1, 1)}


def test_killed_in_a_rung_the_same_command_makes_the_same_record(tmp_path, halved):
    """After 30 of the 52 times that a trial is put aside or ends."""
    child = [sys.executable, pruned_child.__file__, str(tmp_path / "study"), "30"]
    found = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ended = subprocess.run(child, env=found, capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    run_study(pruned_study(), tmp_path / "study", execution="scan")
    assert_same_record(tmp_path / "study", halved[0])


def test_a_study_grows_by_whole_brackets_and_keeps_those_there_are(tmp_path, halved):
    one = {"batch_sizes": (64,), "seeds": (0,)}
    folder = run_study(pruned_study(**one), tmp_path / "study", execution="scan")
    run_study(pruned_study(trials=16, **one), folder, execution="scan")
    record = read(folder)
    assert [len(found["batch_sizes"]["64"]["points"]) for found in record.study["rounds"]] == [9, 5]
    assert len(record.trials) == 14
    first = read(halved[0]).trials.filter(batch_size=64, seed=0)
    assert record.trials.filter(pl.col("trial") < 9).drop("seconds").equals(first.drop("seconds"))
    status = study_status(record)
    assert (status.counted, status.wanted) == (14, 14)  # the next bracket does not fit into 16


def test_the_best_are_repeated_at_full_length(tmp_path, halved, monkeypatch, capsys):
    monkeypatch.setattr("experiments.commands.repeat.summarise", lambda folder: 0)
    folder = shutil.copytree(halved[0], tmp_path / "study")
    assert main(["repeat", str(folder), "--best", "--seeds", "1"]) == 0
    assert "hyperband" not in capsys.readouterr().out  # it has no brackets
    repeats = read(folder).repeats
    assert repeats.trials["steps"].to_list() == repeats.trials["train_steps"].to_list()
    assert set(repeats.trials["status"]) == {"COMPLETE"}


def test_a_pruned_trial_is_incomplete_in_the_archive_of_others(tmp_path, halved):
    assert main(["export", str(halved[0]), "--to", "batch_science", str(tmp_path / "out")]) == 0
    found = [json.loads(path.read_text()) for path in tmp_path.rglob("metadata.json")]
    complete = [about for about in found if about["status"] == "COMPLETE"]
    assert len(found) == 36 and len(complete) == 4
    assert {about["steps"] for about in complete} == {54, 64}
    assert "pruned trials that were behind" in (tmp_path / "out" / "README.md").read_text()


BAD = [
    ({"trials": 8}, "trials must be at least 9, the first bracket of hyperband"),
    ({"trials": 2, "pruner": "successive_halving"}, "trials must be at least 3"),
    ({"pruner": "asha", "sampler": "rounds"}, "sampler must be one of halton, random, grid"),
    ({"stop": "goal"}, "stop must be never with the pruner hyperband, .* got 'goal'"),
    ({"stop": "race"}, "stop must be never with the pruner hyperband, .* got 'race'"),
    ({"pruner": "patience"}, "patience must be given with the pruner patience"),
    ({"pruner": "none", "patience": 3}, "patience needs a pruner"),
    ({"pruner_resource": 55}, r"pruner_resource must lie in 1\.\.54"),
    ({"pruner": "hyper"}, "pruner must be"),
    (
        {"batch_size_schedule": "seesaw", "batch_size_cuts": (100,)},
        "batch_size_schedule must be constant with the pruner hyperband",
    ),
]


@pytest.mark.parametrize(("changes", "message"), BAD, ids=[message for _, message in BAD])
def test_what_cannot_be_pruned_is_refused_in_one_line(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message) as raised:
        run_study(pruned_study(**changes), tmp_path / "study")
    assert "\n" not in str(raised.value) and list(tmp_path.iterdir()) == []


def test_another_pruner_has_another_folder(tmp_path, halved):
    before = read(halved[0]).trials
    with pytest.raises(RecordError, match=r"differs from study 'tiny' in pruner: choose another"):
        run_study(pruned_study("asha"), halved[0])
    with pytest.raises(RecordError, match="in pruner_eta: choose another folder"):
        run_study(pruned_study(pruner_eta=2, trials=9, pruner_resource=9), halved[0])
    assert read(halved[0]).trials.equals(before)


def test_the_command_prints_the_brackets_before_it_starts(tmp_path, monkeypatch, capsys, halved):
    monkeypatch.setattr(studies, "get", lambda name, smoke=False: tiny_study(step_budget=90))
    monkeypatch.setattr(Coordinator, "run", lambda self: None)
    options = ["--pruner", "hyperband", "--resource", "81", "--trials", "143"]
    main(["run", "quickstart", *options, "--execution", "scan", "--out", str(tmp_path / "study")])
    said = capsys.readouterr().out.splitlines()
    at = said.index("hyperband (trials @ 81ths of the length):")
    assert [line.split()[1] for line in said[at + 1 : at + 6]] == ["81", "34", "15", "8", "5"]
    assert said[at + 1] == "  0:   81 trials: 81 @ 1, 27 @ 3, 9 @ 9, 3 @ 27, 1 @ 81"
    assert main(["status", str(halved[0])]) == 0
    assert "tiny: 36 of 36 trials (100%), done" in capsys.readouterr().out
    study = dataclasses.replace(pruned_study(), patience=4)
    assert study.describe()["patience"] == 4 and "patience" not in pruned_study().describe()
