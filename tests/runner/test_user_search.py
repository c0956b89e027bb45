"""A search over a user's own function or model: distinct points, brackets, kills, one record."""

from __future__ import annotations

import gc
import math
import os
import signal
import subprocess
import sys
import threading
import tracemalloc
import types
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import polars as pl
import pytest
from support import searched_child
from support.searching import RATE, rows, run, valley

from experiments.analysis.search_record import searched
from experiments.records.store import RecordError, read
from experiments.runner import search_driver, search_known
from experiments.runner.search import run_search, search
from experiments.runner.search_objectives import Report
from experiments.runtime.stopping import OutOfTime, Stop
from experiments.search import fidelity
from experiments.search.fidelity import Populations, Pruner
from experiments.search.pruning import hyperband
from experiments.search.record import Round
from experiments.search.samplers.base import Proposal
from experiments.search.samplers.table import SAMPLERS
from experiments.spec.conditions import ConditionalSpace, When
from experiments.spec.errors import StudyError
from experiments.spec.space import Choice, Integer, Real, ZeroOrLog
from experiments.spec.trial import Status, TrialResult
from experiments.spec.user_search import UserSearch

FINITE = {"a": Choice((1, 2, 3)), "b": Choice(("x", "y", True))}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_nothing_is_proposed_twice_and_a_finite_space_ends_and_says_so(tmp_path, sampler, capsys):
    found = run(
        tmp_path, FINITE, lambda h, budget, report: h["a"] + len(str(h["b"])), trials=60,
        sampler=sampler, show=True,
    )  # fmt: skip
    assert len(found.table) == 9 and found.exhausted
    assert found.table.select("a", "b").n_unique() == 9
    assert found.value == 2 and found.best["a"] == 1 and found.best["b"] in ("x", "y")
    assert "the space holds no other point: 9 of 60 trials" in capsys.readouterr().out


def test_a_value_of_every_kind_comes_to_the_function_as_it_was_written(tmp_path):
    space = {
        "units": Integer(16, 64, step=16),
        "decay": ZeroOrLog(1e-5, 1e-2),
        "nesterov": Choice((True, False)),
        "name": Choice(("a", "b")),
        "layers": Choice((1, 2)),
        "second": When("layers", 2, Integer(1, 8)),
        "third": When("second", (7, 8), Choice((0.5, "none"))),
    }
    seen = []

    def objective(hyperparameters, budget, report):
        seen.append(hyperparameters)
        return 1.0 if hyperparameters["decay"] == 0 else 0.5

    found = run(tmp_path, space, objective, trials=40)
    assert {h["units"] for h in seen} == {16, 32, 48, 64}
    assert {type(h["nesterov"]) for h in seen} == {bool}
    assert {h["decay"] == 0 for h in seen} == {True, False}
    for h in seen:
        assert ("second" in h) == (h["layers"] == 2)
        assert ("third" in h) == (h.get("second", 0) in (7, 8))
    known = [found.searched.hyperparameters(row) for row in found.table.iter_rows(named=True)]
    assert sorted(map(str, known)) == sorted(str({n: h[n] for n in space if n in h}) for h in seen)


def test_hyperband_makes_its_brackets_and_a_promotion_costs_only_the_further_units(tmp_path):
    found = searched_child.run(tmp_path)
    begun = (tmp_path / "epochs").read_text().split("\n")[:-1]
    assert len(begun) == len(set(begun))  # no epoch of a trial was made twice
    brackets = hyperband(9, 3)
    first = 0
    for bracket in brackets:
        own = found.table.slice(first, bracket[0].trials)
        first += bracket[0].trials
        for rung in bracket:
            reached = own.filter(pl.col("resource") >= rung.resource)
            assert len(reached) == rung.trials
        full = own["status"] == "COMPLETE"
        assert full.sum() == bracket[-1].trials
        assert set(own.filter(~full)["reason"]) <= {"pruned"}
    assert len(begun) == found.table["resource"].sum()
    assert first == len(found.table)
    assert not (tmp_path / "record" / "trials").exists()


@pytest.mark.parametrize("at", [7, 40])
def test_killed_in_a_rung_the_same_call_makes_the_same_record(tmp_path, at):
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    whole = searched_child.run(tmp_path / "whole")
    child = [sys.executable, searched_child.__file__, str(tmp_path / "killed")]
    settings = {**os.environ, "KILL": str(at)}
    ended = subprocess.run(child, env=settings, capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    again = searched_child.run(tmp_path / "killed")
    for one, other in zip(rows(whole.folder), rows(again.folder), strict=True):
        assert one.equals(other, null_equal=True)
    assert whole.best == again.best
    begun = (tmp_path / "killed" / "epochs").read_text().split("\n")[:-1]
    lost = len(begun) - len(set(begun))
    assert lost <= 9  # of the one trial that was under way
    assert len(set(begun)) == whole.table["resource"].sum()


@pytest.mark.parametrize("pruner", ["successive_halving", "asha", "median", "patience"])
@pytest.mark.parametrize("direction", ["min", "max"])
def test_every_pruner_finds_the_valley_with_less_training(tmp_path, pruner, direction):
    sign = 1 if direction == "min" else -1

    def objective(hyperparameters, budget, report):
        level = (math.log10(hyperparameters["rate"]) + 2) ** 2
        for unit in range(1, budget + 1):
            value = math.nan if level > 3 else sign * (level + 1 / min(unit, 5))
            if not report(unit, value):
                return

    found = run(
        tmp_path, objective=objective, trials=18, budget=9, pruner=pruner, direction=direction,
        patience=3 if pruner == "patience" else None,
    )  # fmt: skip
    table = found.table
    assert len(table) == 18
    assert (table["status"] == "INFEASIBLE").sum() > 0
    finite = table.filter(pl.col("value").is_not_null())
    assert sign * found.value == min(sign * finite["value"])
    assert table["resource"].sum() < 0.8 * 18 * 9
    assert 0.002 < found.best["rate"] < 0.05
    stopped = table.filter(status="STOPPED")
    reason = "patience" if pruner == "patience" else "pruned"
    assert set(stopped["reason"]) == {reason}


def test_a_search_whose_time_is_over_asks_its_trainers_to_save_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.runner.search.MOST_TRIALS", 3)  # of a search with a limit
    asked, ask = [], Stop.ask
    monkeypatch.setattr(Stop, "ask", lambda self, kind: (asked.append(kind), ask(self, kind))[1])
    limit = types.SimpleNamespace(begins=lambda number, trials, resources: True, over=lambda: True)
    question = UserSearch(RATE, objective=valley, trials=3, budget=9)
    with pytest.raises(StudyError, match="no trial"):
        run_search(question, tmp_path / "s", show=False, limit=limit)
    assert asked == [OutOfTime]


@pytest.mark.parametrize("workers", [1, 4])
def test_the_record_does_not_depend_on_the_workers(tmp_path, workers):
    found = run(tmp_path, trials=18, budget=9, pruner="asha", workers=workers)
    other = run(tmp_path, trials=18, budget=9, pruner="asha", folder=tmp_path / "other")
    for one, two in zip(rows(found.folder), rows(other.folder), strict=True):
        assert one.equals(two, null_equal=True)


def test_a_search_grows_and_keeps_its_trials(tmp_path):
    first = run(tmp_path, trials=9, budget=9, pruner="hyperband")
    grown = run(tmp_path, trials=17, budget=9, pruner="hyperband")
    whole = run(tmp_path, trials=17, budget=9, pruner="hyperband", folder=tmp_path / "whole")
    assert len(first.table) == 9
    for one, other in zip(rows(grown.folder), rows(whole.folder), strict=True):
        assert one.equals(other, null_equal=True)


def test_an_adaptive_sampler_learns_from_earlier_brackets(tmp_path):
    found = run(tmp_path, trials=22 + 9, budget=9, pruner="hyperband", sampler="tpe")
    sources = [set(group["source"]) for group in found.table.partition_by("round")]
    assert sources[0] == {"quasi-random"} and all("model" in s for s in sources[1:])


@pytest.mark.parametrize("pruner", ["none", "hyperband"])
def test_of_a_recorded_trial_only_what_others_are_compared_with_is_kept(
    tmp_path, monkeypatch, pruner
):
    """So memory hardly grows with the trials; a search that is taken up again keeps no more."""
    made = []

    def known(question):
        made.append(search_known.Known(question))
        return made[-1]

    monkeypatch.setattr(search_driver, "Known", known)
    for trials in (17, 34):
        found = run(tmp_path, trials=trials, budget=9, pruner=pruner)
        assert not made[-1].results
        told = [trial.value for trial in made[-1].seen()]
        np.testing.assert_array_equal(told, found.table["value"])


def test_what_raises_ends_the_search_in_one_line_or_is_left_out(tmp_path):
    def objective(hyperparameters, budget, report):
        if hyperparameters["rate"] < 1e-2:
            raise RuntimeError("no\nmemory")
        return hyperparameters["rate"]

    with pytest.raises(StudyError, match=r"trial \d+ failed \(RuntimeError: no\); finished"):
        run(tmp_path, objective=objective, trials=8)
    found = run(tmp_path, objective=objective, trials=8, keep_going=True)
    assert set(found.table["status"]) == {"COMPLETE", "INCOMPLETE"} and len(found.table) == 8
    assert found.best["rate"] >= 1e-2


def test_interrupted_it_records_what_finished_and_goes_on(tmp_path):
    calls = []

    def objective(hyperparameters, budget, report):
        calls.append(hyperparameters["rate"])
        if len(calls) == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return hyperparameters["rate"]

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, objective=objective, trials=8)
    assert 3 <= len(read(tmp_path / "record").trials) < 8
    found = run(tmp_path, objective=objective, trials=8)
    assert len(found.table) == 8 and len(calls) <= 9
    assert found.value == min(calls)


def test_trials_that_another_rule_pruned_are_not_trained_again(tmp_path, monkeypatch):
    """As of a record that an earlier version made."""

    def eager(curves, *, minimize):
        return np.arange(len(curves)) > 0

    asked = {"trials": 9, "budget": 4, "pruner": "median"}
    with monkeypatch.context() as patch:
        patch.setattr(fidelity, "median_stop", eager)
        before = run(tmp_path, **asked)
    assert (before.table["status"] == "STOPPED").sum() == 8

    def objective(hyperparameters, budget, report):
        raise AssertionError("a trial was trained again")

    again = run(tmp_path, objective=objective, allow_changed_code=True, **asked)
    assert again.table.equals(before.table)


def statuses(folder):
    """Trial -> how it ended, by the record."""
    return dict(read(folder).trials.select("trial", "status").iter_rows())


@pytest.fixture
def taken(monkeypatch):
    """An event that is set once the search has taken the result of a trial."""
    event, take = threading.Event(), search_driver.Driver._take

    def taking(driver, result):
        said = take(driver, result)
        event.set()
        return said

    monkeypatch.setattr(search_driver.Driver, "_take", taking)
    return event


def test_trials_that_finish_beside_or_after_a_failure_are_recorded(tmp_path, taken):
    def objective(hyperparameters, budget, report):
        if report.folder.name == "0":
            raise RuntimeError("no")
        taken.wait()
        return hyperparameters["rate"]

    with pytest.raises(StudyError, match="trial 0 failed"):
        run(tmp_path, objective=objective, trials=8, workers=3)
    ended = {0: "INCOMPLETE", 1: "COMPLETE", 2: "COMPLETE"}
    assert statuses(tmp_path / "record") == ended


def test_interrupted_it_records_what_finished_then_waits_for_the_rest_and_records_it(
    tmp_path, taken, monkeypatch
):
    """A trial that never reports cannot be ended; a second Ctrl-C may find it still at it."""
    waits, before = threading.Event(), []

    class Pool(ThreadPoolExecutor):
        def shutdown(self, *args, **options):
            before.append(statuses(tmp_path / "record"))
            waits.set()
            super().shutdown(*args, **options)

    def objective(hyperparameters, budget, report):
        if report.folder.name == "1":
            taken.wait()
            os.kill(os.getpid(), signal.SIGINT)
            waits.wait()
        return hyperparameters["rate"]

    monkeypatch.setattr(search_driver, "ThreadPoolExecutor", Pool)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, objective=objective, trials=2, workers=2)
    assert before == [{0: "COMPLETE"}]
    assert statuses(tmp_path / "record") == {0: "COMPLETE", 1: "COMPLETE"}


def test_a_value_that_ends_a_trial_counts_though_the_search_is_to_end(tmp_path):
    stop = Stop()
    trial = types.SimpleNamespace(patience=None)
    job = types.SimpleNamespace(trial=trial, target=3, steps=[], values_so_far=[])
    report = Report(job, tmp_path, sign=1, stop=stop)
    assert report(1, 0.5)
    stop.ask(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        report(2, 0.4)
    assert report(3, 0.3) is False and report.values[3] == 0.3
    with pytest.raises(KeyboardInterrupt):  # of a function that goes on whatever it is told
        report(4, 0.2)


BAD = [
    ({"space": {}}, "space must hold at least one hyperparameter"),
    ({"space": {"a": When("b", 1, Real(0, 1))}}, "parent of a: hyperparameter 'b' is unknown"),
    (
        {"space": {"a": Choice((1, 2)), "b": When("a", 3, Real(0, 1))}},
        "space of b: its parent a never has the value 3",
    ),
    (
        {"space": {"a": When("b", 0.5, Real(0, 1)), "b": When("a", 0.5, Real(0, 1))}},
        "it depends on itself",
    ),
    (
        {"space": {"a": {"type": "real", "low": 0.0, "high": 1.0, "scale": "log"}}},
        "space of a: range low must be above 0 on a log scale, got 0.0",
    ),
    ({"space": {"status": Real(0, 1)}}, "hyperparameter 'status' has the name of a column"),
    ({"space": {"batch_size": Real(0.5, 4)}}, "hyperparameter batch_size must be a whole number"),
    ({"trials": 0}, "trials must be a whole number"),
    ({"pruner": "hyperbend"}, "did you mean 'hyperband'"),
    ({"pruner": "hyperband", "budget": 81, "trials": 80}, "trials must be at least 81, the first"),
    ({"pruner": "asha", "budget": 9, "trials": 2}, "trials must be at least 3"),
    ({"pruner": "patience"}, "pruner patience needs patience"),
    ({"pruner": "median", "sampler": "gp"}, "sampler must be one of halton, random, grid"),
    ({"eta": 1}, "eta must be a whole number"),
    ({"direction": "up"}, "direction must be 'min' or 'max'"),
    ({"build": valley}, "a search takes either build or objective, got both"),
    ({"objective": None}, "a search takes either build or objective, got neither"),
    ({"objective": None, "build": valley}, "build needs either a workload or data"),
    ({"workload": "digits_fc"}, "workload belongs to build"),
    ({"name": "a/b"}, "name must be a file name"),
]


@pytest.mark.parametrize(("changes", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_input_is_refused_in_one_line_and_nothing_is_written(tmp_path, changes, message):
    asked = {"space": RATE, "objective": valley, "show": False, **changes}
    with pytest.raises(ValueError, match=message) as raised:
        search(folder=tmp_path / "record", **asked)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"pruner": "asha"}, "pruner"),
        ({"budget": 3}, "pruner"),
        ({"sampler": "random"}, "sampler"),
        ({"space": {"rate": Real(1e-3, 1.0, "log")}}, "space"),
        ({"seed": 1}, "seeds"),
    ],
)
def test_another_search_has_another_folder(tmp_path, changes, named):
    asked = {"space": RATE, "objective": valley, "trials": 9, "budget": 9, "pruner": "hyperband"}
    run(tmp_path, **asked)
    before = rows(tmp_path / "record")
    with pytest.raises(RecordError, match=r"holds the record of study .* choose another folder"):
        run(tmp_path, **{**asked, **changes})
    assert rows(tmp_path / "record")[0].equals(before[0])


def test_a_folder_without_a_search_is_refused(tmp_path):
    with pytest.raises(RecordError, match="holds no record"):
        searched(tmp_path)


def test_extrapolation_stops_what_hardly_beats_earlier_rounds(tmp_path):
    """The valley's curves are level + 1 / epoch; of the first round all train to their end."""
    found = run(tmp_path, trials=9, budget=28, pruner="extrapolation", sampler="tpe")
    pruned = found.table.filter(reason="pruned")
    assert 0 < len(pruned) <= 6 and pruned["round"].min() > 0
    assert set(pruned["resource"]) <= {7, 14, 21}
    whole = found.table.filter(status="COMPLETE")
    assert len(whole) + len(pruned) == 9 and found.value == whole["value"].min()
    for rate, number in pruned.select("rate", "round").iter_rows():
        best = whole.filter(pl.col("round") < number)["value"].min()
        assert (math.log10(rate) + 2) ** 2 + 1 / 28 > best  # none would have beaten it
    with pytest.raises(ValueError, match="sampler must be one of rounds, gp, tpe, cma with the"):
        run(tmp_path, folder=tmp_path / "other", pruner="extrapolation", budget=40)


def kept_bytes(trials):
    """Bytes that are alive when so many trials, of two numbers and one evaluation, are recorded."""
    space = {"a": Real(0.0, 1.0), "b": Real(0.0, 1.0)}
    question = search_known.SearchQuestion(
        ConditionalSpace.of(space), trials, "halton", 0, Pruner("none", 1), None, 0.0,
        "validation/value", lambda batch_size: [1], "an identity", 1,
    )  # fmt: skip
    points = {1: tuple((i / trials, i / 7) for i in range(trials))}
    found = Round(0, 0, Proposal(points, {1: ()}, {1: ("quasi-random",) * trials}))
    known, populations = search_known.Known(question), Populations(question.pruner)
    populations.add(known.add(found))
    del found, points
    for index in populations.jobs(known.curve):
        table = {"step": np.array([1]), "validation/value": np.array([index / 3])}
        known.take(TrialResult(known.trial(index), Status.COMPLETE, 1, table))
        known.final.add(index)
        known.recorded(index)
    assert populations.jobs(known.curve) == {} and len(known.final) == trials
    assert known.curve(trials - 1, 1) == [(trials - 1) / 3] and known.points[1] == (
        1 / trials,
        1 / 7,
    )
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def test_some_numbers_are_kept_of_a_trial_and_no_object():
    """Two of its point, six of how it ended: 66 bytes, and what arrays have in reserve."""
    tracemalloc.start()
    try:
        kept_bytes(10)
        few, many = kept_bytes(300), kept_bytes(3000)
    finally:
        tracemalloc.stop()
    assert (many - few) / 2700 < 90
