"""Searches in rounds: what is recorded before what, and that an interruption changes nothing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.comparing import assert_same_record
from support.engine_factory import tiny_study

from experiments.analysis.budgets import best_under_budgets
from experiments.analysis.steps_to_result import crossings, steps_to_result, trial_counts
from experiments.analysis.summary import summarise
from experiments.analysis.view import View
from experiments.cli import main
from experiments.records.store import RecordError, Writer, read, read_study
from experiments.report.curve_figures import tuning_curves
from experiments.runner.study import run_study
from experiments.search.pacing import last_lap
from experiments.search.record import Ended, Round
from experiments.search.search import Search
from experiments.spec.fields import DEFAULT_SAMPLER
from experiments.spec.study import as_typed
from experiments.spec.trial import Status
from workloads import Goal


def searched_study(**changes):
    """Two searches of six trials in rounds; some pass the goal, some diverge."""
    return tiny_study(
        **{
            "step_budget": 30,
            "example_budget": 240,
            "trials": 6,
            "seeds": (0, 3),
            "sampler": "rounds",
            "goal": Goal("classification_error", 0.5),
            "space": {"learning_rate": {"low": 1e-3, "high": 300.0, "scale": "log"}},
            "fixed": {"momentum": 0.9},
            **changes,
        }
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The record of both searches, never interrupted."""
    return run_study(searched_study(), tmp_path_factory.mktemp("whole") / "s", execution="scan")


def same(folder, other):
    assert_same_record(folder, other)
    assert rounds_of(folder) == rounds_of(other)


def rounds_of(folder):
    """The recorded rounds, by seed: the order in which two seeds' were recorded is chance."""
    return sorted(read_study(folder)["rounds"], key=lambda found: (found["seed"], found["round"]))


def test_every_round_follows_from_the_earlier_ones_of_its_own_seed(finished):
    study, record = searched_study(), read(finished)
    column = study.goal.column
    assert {"INFEASIBLE", "COMPLETE"} == set(record.trials["status"])
    for seed in study.seeds:
        rounds = [Round.from_json(r) for r in rounds_of(finished) if r["seed"] == seed]
        assert len(rounds) >= 5
        for number, recorded in enumerate(rounds):
            again = Search(study, seed, "", recorded=rounds[:number])
            for batch_size in study.batch_sizes:
                for index in range(again.proposed(batch_size)):
                    key = {"batch_size": batch_size, "seed": seed, "trial": index}
                    rows = record.evaluations.filter(**key)
                    passed = rows.filter(study.goal.better(rows[column]))["step"]
                    again.ended(batch_size)[index] = Ended(
                        Status(record.trials.filter(**key)["status"].item()),
                        0,
                        passed[0] if len(passed) else None,
                        rows["step"].max() or 0,
                    )
            assert again.propose(recorded.counts) == recorded


def test_a_search_alone_makes_the_trials_that_it_makes_beside_another(finished, tmp_path):
    folder = run_study(searched_study(seeds=(3,)), tmp_path / "alone", execution="scan")
    mine, whole = read(folder).trials, read(finished).trials.filter(seed=3)
    assert mine.drop("seconds", "plan").equals(whole.drop("seconds", "plan"))
    run_study(searched_study(), folder)  # the other joins
    assert rounds_of(folder) == rounds_of(finished)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_interrupted_where_a_round_is_recorded_a_study_goes_on_with_the_same_points(
    finished, tmp_path, monkeypatch, moment
):
    folder, replace, written = tmp_path / "study", os.replace, []

    def hooked(source, target, **options):
        mine = str(target) == str(folder / "study.json")
        written.extend([target] * mine)
        here = mine and len(written) == 6  # the second round of one search, at the latest
        if here and moment == "before":
            os.kill(os.getpid(), signal.SIGINT)
        replace(source, target, **options)
        if here and moment == "after":
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(os, "replace", hooked)
    with pytest.raises(KeyboardInterrupt):
        run_study(searched_study(), folder, execution="scan")
    assert 0 < read(folder).trials.height < read(finished).trials.height
    monkeypatch.setattr(os, "replace", replace)
    run_study(searched_study(), folder)
    same(folder, finished)


KILLED = """
import os, signal, sys
from pathlib import Path
from experiments.runner import coordinator
from experiments.report.curve_figures import tuning_curves
from experiments.runner.study import run_study
sys.path.insert(0, str(Path(sys.argv[2])))
from runner.test_searches import searched_study

folder, replace = Path(sys.argv[1]), os.replace
coordinator.COMMIT_SECONDS = 0.0
written = []

def hooked(source, target, **options):
    written.append(Path(target).name)
    if written.count("study.json") >= 6 and Path(target).name.startswith("trials"):
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target, **options)

os.replace = hooked
run_study(searched_study(), folder, execution="scan")
"""


def test_killed_in_a_round_a_study_goes_on_with_the_same_points(finished, tmp_path):
    folder, tests = tmp_path / "study", Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(tests)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert 0 < read(folder).trials.height < read(finished).trials.height
    run_study(searched_study(), folder)
    same(folder, finished)


def test_another_sampler_or_box_is_refused_and_a_default_stays_what_it_was(finished, raced):
    before = (finished / "study.json").read_bytes()
    for change, field in [
        ({"sampler": "halton"}, "sampler"),
        ({"expand": False}, "expand"),
        ({"space": {"learning_rate": {"low": 1e-3, "high": 2.0, "scale": "log"}}}, "space"),
    ]:
        with pytest.raises(RecordError, match=f"differs from study 'tiny' in {field}"):
            run_study(searched_study(**change), finished)
    halton = as_typed(searched_study(**RACED, stop="never", trials=8, space=SLOW), sampler=None)
    assert halton.resolved.sampler == DEFAULT_SAMPLER == "rounds"
    for typed, folder in [
        (as_typed(searched_study(), sampler=None), finished),
        (halton, raced["never"]),  # begun with what is not the default
    ]:
        before = (folder / "study.json").read_bytes()
        run_study(typed, folder)
        assert (folder / "study.json").read_bytes() == before


RACED = {"sampler": "halton", "step_budget": 60, "example_budget": 480, "race_factor": 2.0}
SLOW = {"learning_rate": {"low": 3e-4, "high": 300.0, "scale": "log"}}


@pytest.fixture(scope="module")
def raced(tmp_path_factory):
    """The same points three times: never stopping, at the goal, racing (the first in full)."""
    base = tmp_path_factory.mktemp("raced")
    return {
        stop: run_study(
            searched_study(**RACED, stop=stop, trials=8, space=SLOW), base / stop, execution="scan"
        )
        for stop in ("never", "goal", "race")
    }


def test_steps_to_result_of_trials_that_stop_are_those_of_trials_that_do_not(raced):
    """For a list of points; one that diverges after it passed is in none of these."""
    views = {stop: View(read(folder)) for stop, folder in raced.items()}
    columns = ["batch_size", "seed", "steps_to_result", "trial", "evaluated_before"]
    never = steps_to_result(views["never"]).select(columns)
    assert never["steps_to_result"].null_count() == 0
    for stop in ("goal", "race"):
        assert steps_to_result(views[stop]).select(columns).equals(never)
        assert trial_counts(views[stop])["missing"].sum() == 0
    saved = {stop: view.steps_saved[0] for stop, view in views.items()}
    assert saved["race"] > saved["goal"] > saved["never"] == 0
    reasons = read(raced["race"]).trials.drop_nulls("reason")
    assert set(reasons["reason"]) == {"goal", "race"} and set(reasons["seed"]) == {3}
    early = steps_to_result(views["race"], 0.7).select(columns)
    assert early.equals(steps_to_result(views["never"], 0.7).select(columns))


def test_a_racing_trial_ends_at_its_bound_which_follows_from_earlier_rounds(raced):
    record = read(raced["race"])
    passed = crossings(View(read(raced["never"]))).select("batch_size", "seed", "trial", "step")
    for row in record.trials.iter_rows(named=True):
        key = {name: row[name] for name in ("batch_size", "seed")}
        first = row["trial"]  # (with eight trials a round is one)
        steps = passed.filter(**key).filter(passed.filter(**key)["trial"] < first)["step"].min()
        bound = row["train_steps"] if steps is None else 2 * steps
        if steps is None and row["status"] != "COMPLETE":  # then its round goes in laps
            own = passed.filter(**key, trial=first)["step"].to_list()
            bound = last_lap(row["train_steps"], own) or bound
        assert row["race_bound"] == (bound if bound < row["train_steps"] else None)
        if row["reason"] == "race":
            assert row["steps"] == row["race_bound"] and row["seed"] == 3


def test_only_searches_at_full_length_answer_the_budgets_and_a_stricter_goal(raced):
    views = {stop: View(read(folder)) for stop, folder in raced.items()}
    found = best_under_budgets(views["race"])
    assert set(found["seed"]) == {0}
    assert found.equals(best_under_budgets(views["never"]).filter(seed=0))
    strict = steps_to_result(views["race"], 0.3)
    assert strict.filter(seed=3)["steps_to_result"].null_count() == 2
    assert not View(read(raced["race"]), 0.3).all_answer


def test_killed_while_racing_a_study_ends_with_the_same_record(raced, tmp_path, monkeypatch):
    folder, replace, written = tmp_path / "study", os.replace, []
    study = searched_study(**RACED, stop="race", trials=8, space=SLOW)

    def hooked(source, target, **options):
        replace(source, target, **options)
        written.extend([target] * (str(target) == str(folder / "study.json")))
        if len(written) == 8:
            written.append("asked")
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(os, "replace", hooked)
    with pytest.raises(KeyboardInterrupt):
        run_study(study, folder, execution="scan")
    monkeypatch.setattr(os, "replace", replace)
    run_study(study, folder)
    same(folder, raced["race"])


KILLED_IN_A_LAP = """
import os, signal, sys
from pathlib import Path
from experiments.runner import coordinator
from experiments.runner.study import run_study
from experiments.search.pacing import OpenRound
sys.path.insert(0, str(Path(sys.argv[2])))
from runner.test_searches import RACED, SLOW, searched_study

coordinator.COMMIT_SECONDS = 0.0
go_on, begun = OpenRound.go_on, []

def hooked(pace):
    begun.append(pace.lap)
    if len(begun) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return go_on(pace)

OpenRound.go_on = hooked
study = searched_study(**RACED, stop="race", trials=8, space=SLOW)
run_study(study, Path(sys.argv[1]), execution="scan")
"""


def test_killed_in_a_lap_a_study_ends_with_the_same_record(raced, tmp_path):
    folder, tests = tmp_path / "study", Path(__file__).parents[1]
    words = [sys.executable, "-c", KILLED_IN_A_LAP, str(folder), str(tests)]
    assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
    run_study(searched_study(**RACED, stop="race", trials=8, space=SLOW), folder)
    same(folder, raced["race"])


def test_rules_that_count_function_evaluations_do_not_stop():
    with pytest.raises(ValueError, match="stop must be never with lbfgs.*got 'goal'"):
        tiny_study(optimizer="lbfgs", stop="goal")


def test_searches_that_stop_answer_together_and_a_stricter_goal_is_that_of_the_full_one(raced):
    whole, stopped = summarise(read(raced["never"])), summarise(read(raced["race"]))
    columns = ["batch_size", "searches", "median", "high", "coverage", "pooled"]
    assert stopped.curve.select(columns).equals(whole.curve.select(columns))
    assert set(stopped.full_values["seed"]) == {0} and set(whole.full_values["seed"]) == {0, 3}
    assert tuning_curves(stopped)["k"].max() == 8
    strict = summarise(read(raced["race"]), 0.3)
    assert strict.searches == 1 and len(strict.critical.searches) == 1
    assert (
        strict.curve["pooled"].to_list()
        == strict.of_seed(strict.steps)["steps_to_result"].to_list()
    )
    assert not any(getattr(found, "some", False) for found in strict.verdict.findings)


def test_status_says_how_far_a_study_is_from_its_record_alone(raced, tmp_path, capsys):
    assert main(["status", str(raced["race"])]) == 0
    shown = capsys.readouterr().out
    assert "tiny: 32 of 32 trials (100%), done" in shown
    rounds = [sum(r["seed"] == seed for r in rounds_of(raced["race"])) for seed in (0, 3)]
    assert f"rounds: {rounds[0]} of {rounds[0]} (seed 0), {rounds[1]} of" in shown
    record = read(raced["race"])
    fewest = steps_to_result(record).filter(batch_size=8)["steps_to_result"].min()
    row = next(line for line in shown.splitlines() if line.split()[:2] == ["8", "16/16"])
    assert row.split()[4] == str(fewest)
    own = record.trials.filter(batch_size=8)["status"].to_list()
    shares = [f"{own.count(status) / len(own):.0%}" for status in ("INFEASIBLE", "STOPPED")]
    assert row.split()[2:4] == shares and shares[1] != "0%"
    # In the midst of it: some trials are there, none is wanted less.
    half = tmp_path / "half"
    shutil.copytree(raced["race"], half)
    study = read_study(half)
    Writer.open(half, {**study, "study": {**study["study"], "trials": 16}}).close()
    assert main(["status", str(half)]) == 0
    shown = capsys.readouterr().out
    assert "tiny: 32 of 64 trials (50%)," in shown and "s left" in shown
    assert main(["status", str(tmp_path)]) == 2
