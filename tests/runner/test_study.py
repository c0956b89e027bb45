"""The coordinator: what starts, what is recorded, resume, growth, errors in users' code."""

from __future__ import annotations

import collections
import dataclasses
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.engine_factory import TINY, tiny_study
from support.engine_twin import iterates, validation_curve
from support.kill_storms import assert_equals_its_twin, killed_while_recording
from support.run_child import killed_study
from support.tolerances import FLOAT32, FLOAT64

from experiments.planning.execution import ExecutionPlan
from experiments.records.store import RecordError, read
from experiments.runner.study import run_study
from experiments.runtime.compilation import discard_torn, switched
from experiments.search.search import Search
from experiments.spec.errors import StudyError
from experiments.spec.trial import Precision, Status, Trial, TrialResult
from experiments.training.feed import ResidentData
from experiments.training.program import Program
from workloads.datasets import DATASETS, load
from workloads.models.fully_connected import fully_connected

MODES_AGREE = 2e-3
"""Float32 sums in another order differ by some 1e-7 a step; training amplifies that."""


@given(diverges=st.sets(st.integers(0, 40)), trials=st.integers(1, 8), order=st.randoms())
def test_the_trials_started_are_the_same_whatever_the_timing(diverges, trials, order):
    search = Search(tiny_study(trials=trials, sampler="halton"), 0, "checksum")
    running = []
    while True:
        # Start a random number of trials, end a random one of those running.
        while order.random() < 0.6 and (trial := search.start(8)) is not None:
            running.append(trial)
        if not running:
            if not search.startable(8):
                break
            continue
        trial = running.pop(order.randrange(len(running)))
        status = Status.INFEASIBLE if trial.index in diverges else Status.COMPLETE
        search.end(TrialResult(trial, status, 1, {}))
    # Trial i is started while i < N + the number INFEASIBLE before, at most 4 N of them.
    expected = 0
    while expected < min(trials + len([i for i in range(expected) if i in diverges]), 4 * trials):
        expected += 1
    assert sorted(search.ended(8)) == list(range(expected))
    complete = search.count(Status.COMPLETE)
    assert complete == trials or expected == 4 * trials


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a small finished study."""
    folder = tmp_path_factory.mktemp("study") / "tiny"
    return run_study(tiny_study(), folder)


def test_the_record_holds_the_whole_question_and_every_measurement(finished):
    study, record = tiny_study(), read(finished)
    assert record.study["study"] == study.describe()
    assert record.study["dataset"]["sizes"]["train"] == 1024
    assert set(record.study["hyperparameters"]) >= {"learning_rate", "momentum"}
    assert record.study["environment"]["versions"]["jax"]
    assert len(record.study["plans"]) == 1
    assert record.trials.height == 6
    assert set(record.trials["status"]) == {"COMPLETE"}
    for row in record.trials.iter_rows(named=True):
        mine = record.evaluations.filter(
            (record.evaluations["batch_size"] == row["batch_size"])
            & (record.evaluations["trial"] == row["trial"])
        )
        assert mine["step"][-1] == row["train_steps"] == study.length(row["batch_size"])
        assert (mine["examples"] == mine["step"] * row["batch_size"]).all()
    errors = record.evaluations["validation/classification_error"].to_numpy()
    assert ((errors * 384) % 1 < FLOAT32).all()  # means over exactly 384 validation images
    assert errors.min() < 0.2 < errors.max()


def test_running_again_changes_nothing(finished):
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in (finished / "records").iterdir()}
    run_study(tiny_study(), finished)
    after = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in (finished / "records").iterdir()}
    assert before == after


def test_another_question_in_the_folder_is_refused_and_nothing_changes(finished):
    before = (finished / "study.json").read_bytes()
    with pytest.raises(RecordError, match="holds the record of study 'tiny'"):
        run_study(tiny_study(step_budget=61), finished)
    with pytest.raises(RecordError, match="already holds a record"):
        run_study(tiny_study(), finished, resume=False)
    assert (finished / "study.json").read_bytes() == before


def test_a_study_grows_and_keeps_its_first_trials(finished, tmp_path):
    grown = tmp_path / "grown"
    run_study(tiny_study(trials=2, batch_sizes=(64,)), grown)
    run_study(tiny_study(trials=3), grown)
    first, small = read(finished), read(grown)
    assert small.study["study"]["batch_sizes"] == [8, 64]
    assert small.trials.drop("seconds", "plan").equals(first.trials.drop("seconds", "plan"))
    run_study(tiny_study(trials=3, seeds=(5,)), grown)
    assert read(grown).study["study"]["seeds"] == [0, 5]
    assert read(grown).trials.height == 12


@pytest.mark.parametrize("batch_sizes", [(8, 64), (32,)])
def test_a_whole_study_compiles_once_per_batch_size(tmp_path, monkeypatch, batch_sizes):
    """Whatever the hyperparameters, the replacements and the number of workers."""
    made = []

    class Counted(Program):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            made.append(self)

    monkeypatch.setattr("experiments.runner.planning.Program", Counted)
    study = tiny_study(batch_sizes=batch_sizes, trials=5, space=killed_study().space)
    run_study(study, tmp_path / "study", execution="scan", workers=4)
    traces = sum((program.traces for program in made), collections.Counter())
    assert traces == {("chunk", batch_size, 1): 1 for batch_size in batch_sizes}


@pytest.mark.parametrize("execution", ["loop", "packed"])
def test_executions_agree_and_are_recorded(finished, tmp_path, execution):
    run_study(tiny_study(), tmp_path / "other", execution=execution)
    one, other = read(finished), read(tmp_path / "other")
    plan = ExecutionPlan.from_json(other.study["plans"][0])
    assert {e.mode for e in plan.executions.values()} == {execution}
    column = "validation/cross_entropy"
    np.testing.assert_allclose(other.evaluations[column], one.evaluations[column], rtol=MODES_AGREE)


def test_infeasible_trials_are_replaced_and_a_shortfall_ends(tmp_path):
    study = tiny_study(
        batch_sizes=(8,),
        trials=2,
        space={"learning_rate": {"low": 1e5, "high": 1e6, "scale": "log"}},
        fixed={"momentum": 0.9},
    )
    record = read(run_study(study, tmp_path / "hopeless"))
    assert record.trials["status"].to_list() == ["INFEASIBLE"] * 8
    assert record.trials["trial"].to_list() == list(range(8))


def broken_model(hidden_sizes, classes, dtype, param_dtype):
    """A user's model that fails when it is traced for training."""
    model = fully_connected(hidden_sizes, classes=classes, dtype=dtype, param_dtype=param_dtype)

    def apply(params, state, batch, *, key, train, hyperparameters):
        if train:
            raise RuntimeError("the user's layer\nfails")
        return model.apply(
            params, state, batch, key=key, train=train, hyperparameters=hyperparameters
        )

    class Broken:
        init = staticmethod(model.init)

    Broken.apply = staticmethod(apply)
    return Broken


def test_an_exception_in_a_users_code_is_recorded_and_tried_again(tmp_path):
    workload = dataclasses.replace(TINY, model=broken_model)
    study = tiny_study(workload=workload, batch_sizes=(8,))
    folder = tmp_path / "broken"
    with pytest.raises(StudyError, match=r"batch size 8 failed \(RuntimeError: the user's layer\)"):
        run_study(study, folder, workers=1)
    found = read(folder).trials
    assert found["status"].to_list() == ["INCOMPLETE"]
    assert found["message"].to_list() == ["RuntimeError: the user's layer"]
    run_study(study, folder, workers=1, keep_going=True)
    assert read(folder).trials["status"].to_list() == ["INCOMPLETE"] * 3


def test_kills_lose_nothing_finished_and_repeat_nothing(tmp_path):
    """Three; ``make soak`` makes a hundred, test_interruptions.py stops at every write."""
    killed_while_recording(tmp_path / "killed", kills=3, seed=20260)
    assert_equals_its_twin(tmp_path / "killed", tmp_path / "undisturbed")


def test_in_float64_the_engine_equals_numpy_to_twelve_digits(tmp_path):
    """64-bit numbers are a switch of the whole of jax, on for the study and for the twin alone."""
    study = tiny_study(
        precision=Precision("float64", "float64"), batch_sizes=(64,), trials=1, record_norms="every"
    )
    record = read(run_study(study, tmp_path / "double"))
    assert not jax.config.jax_enable_x64
    row = record.trials.row(0, named=True)
    values = {name: row[name] for name in record.study["hyperparameters"]}
    with switched(float64=True):
        data = ResidentData.put(load("digits").splits, 256)
        program = Program(study.config("off"), data, 1e4)
        trial = Trial(64, 0, 0, row["train_steps"], values, "")
        grid = record.evaluations["step"].to_list()
        entropies, _ = validation_curve(iterates(trial, program), grid)
    found = record.evaluations["validation/cross_entropy"].to_numpy()
    np.testing.assert_allclose(found, entropies, rtol=FLOAT64)


def test_bfloat16_trains(tmp_path):
    study = tiny_study(
        precision=Precision("bfloat16", "bfloat16"),
        batch_sizes=(64,),
        trials=1,
        space={"learning_rate": {"low": 0.05, "high": 0.1, "scale": "log"}},
        fixed={"momentum": 0.9},
    )
    record = read(run_study(study, tmp_path / "half"))
    assert record.study["study"]["precision"]["compute"] == "bfloat16"
    errors = record.evaluations["validation/classification_error"]
    assert errors.min() < 0.6 < errors.max()


def test_a_killed_process_leaves_no_torn_program_in_the_cache(tmp_path):
    old, torn = tmp_path / "a-cache", tmp_path / "b-cache"
    old.write_bytes(b"whole")
    os.utime(old, (1, 1))
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for pid in (dead.pid, os.getpid()):
        (tmp_path / f"running-{pid}").touch()
    torn.write_bytes(b"to")
    discard_torn(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"a-cache", f"running-{os.getpid()}"}


def test_a_training_set_of_another_size_is_said_or_refused(tmp_path, monkeypatch):
    spec = dataclasses.replace(DATASETS["digits"], sizes={"train": 2000})
    monkeypatch.setitem(DATASETS, "digits", spec)
    study, said = tiny_study(batch_sizes=(64,), trials=1, step_budget=2, example_budget=64), []
    run_study(study, tmp_path / "a", execution="scan", warn=said.append)
    (line,) = said
    assert "digits has 1,024 training examples here, the study counts 2,000 to an epoch" in line
    with pytest.raises(ValueError, match=r"batch_sizes must lie in 1\.\.1024 .* got 2000"):
        run_study(tiny_study(batch_sizes=(64, 2000)), tmp_path / "b")
    assert not (tmp_path / "b").exists()
