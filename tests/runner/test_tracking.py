"""Trials passed on to trackers: what arrives is what was recorded, and no tracker ends a study."""

from __future__ import annotations

import dataclasses
import importlib.util
import struct

import pytest
from support.engine_factory import tiny_study

from experiments.cli import main
from experiments.records.store import read
from experiments.runner import tracking as module
from experiments.runner.study import run_study
from experiments.runner.tracking import TensorBoard, TrackerRun, WeightsAndBiases, tracking
from experiments.spec.trial import Status

ERROR = "validation/classification_error"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(folder, results in the order they were recorded) of a study of a few short trials."""
    results = []
    study = tiny_study(step_budget=12, example_budget=96, trials=2)
    folder = tmp_path_factory.mktemp("tracked") / "s"
    run_study(study, folder, execution="scan", recorded=results.extend)
    return folder, results


def events(path):
    """(step, tag, value) of an event file: length, its crc, a protocol buffer, its crc."""
    from tensorboardX.proto.event_pb2 import Event

    data, at = path.read_bytes(), 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        event = Event.FromString(data[at + 12 : at + 12 + length])
        at += 12 + length + 4
        for value in event.summary.value:
            yield event.step, value.tag, value.simple_value


def offline(path):
    """Records of a .wandb file: a log in blocks of 32 KiB, as LevelDB's."""
    from wandb.proto import wandb_internal_pb2

    data, at, parts = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
        length, kind = struct.unpack_from("<HB", data, at + 4)
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield wandb_internal_pb2.Record.FromString(parts)
            parts = b""


def measured(folder, key):
    """(step, error) as recorded."""
    place = dict(zip(("batch_size", "seed", "trial"), map(int, key.split("-")), strict=True))
    return read(folder).evaluations.filter(**place).select("step", ERROR).rows()


def test_results_are_told_of_once_and_after_they_were_recorded(finished):
    folder, results = finished
    told = [(r.trial.batch_size, r.trial.seed, r.trial.index) for r in results]
    assert sorted(told) == read(folder).trials.select("batch_size", "seed", "trial").rows()
    assert len(set(told)) == len(told)


def test_a_trial_that_raised_has_no_measurements(finished):
    result = dataclasses.replace(finished[1][0], status=Status.INCOMPLETE, evaluations={})
    run = TrackerRun.of("s", result)
    assert list(run.rows()) == [] and run.outcome["status"] == "INCOMPLETE"


def test_tensorboard_is_given_every_measurement_of_every_trial(finished, tmp_path):
    folder, results = finished
    with tracking("tensorboard", "s", tmp_path, pytest.fail) as take:
        take(results)
    runs = sorted((tmp_path / "tracking").iterdir())
    assert len(runs) == len(results)
    for run in runs:
        (file,) = run.iterdir()
        found = [(step, value) for step, tag, value in events(file) if tag == ERROR]
        assert found == [(step, pytest.approx(value)) for step, value in measured(folder, run.name)]


def test_weights_and_biases_is_given_every_measurement_offline(finished, tmp_path, monkeypatch):
    import wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    folder, results = finished
    run = TrackerRun.of("s", results[0])
    WeightsAndBiases(tmp_path).write(run)
    wandb.teardown()  # its service writes the file, the last of it as it ends
    (file,) = (tmp_path / "tracking").rglob("*.wandb")
    found, names = [], set()
    for record in offline(file):
        names |= {record.run.display_name, record.run.run_group}
        items = {i.key or "/".join(i.nested_key): i.value_json for i in record.history.item}
        if items:
            found.append((record.history.step.num, float(items[ERROR])))
    assert found == measured(folder, run.key) and {f"s/{run.key}", "s"} <= names


def test_a_tracker_that_fails_is_said_once_and_ends_nothing(finished, tmp_path):
    _, results = finished
    (tmp_path / "tracking").write_text("in the way")
    said = []
    with tracking("tensorboard", "s", tmp_path, said.append) as take:
        take(results)
    assert len(said) == 1 and said[0].startswith("--track tensorboard ended, the study goes on: ")


def test_trials_of_a_search_arrive_once_they_have_ended(tmp_path, monkeypatch):
    """One that is put aside has not."""
    monkeypatch.setattr("experiments.commands.run.summarise", lambda folder: 0)
    (tmp_path / "mine.py").write_text(SEARCH)
    folder = tmp_path / "s"
    words = ["run", str(tmp_path / "mine.py"), "--track", "tensorboard", "--out", str(folder)]
    assert main(words) == 0
    record = read(folder)
    for row in record.trials.iter_rows(named=True):
        (file,) = (folder / "tracking" / f"1-0-{row['trial']}").iterdir()
        found = [(step, value) for step, tag, value in events(file) if tag == "validation/value"]
        own = record.evaluations.filter(trial=row["trial"]).select("step", "validation/value")
        assert found == [(step, pytest.approx(value)) for step, value in own.iter_rows()]


SEARCH = """
from experiments.spec.space import Real
from experiments.spec.user_search import UserSearch
def objective(hyperparameters, budget, report):
    for unit in range(report.last + 1, budget + 1):
        report(unit, hyperparameters["rate"] / unit)
STUDY = UserSearch({"rate": Real(0.1, 1.0)}, objective=objective, trials=3, budget=3, name="mine",
                   pruner="successive_halving")
"""


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["quickstart", "--track", "tensorbord"], "did you mean 'tensorboard'"),
        (["optimizers_digits", "--track", "tensorboard"], "--track follows a study"),
    ],
)
def test_what_cannot_be_tracked_is_refused(words, line, tmp_path, capsys):
    assert main(["run", *words, "--out", str(tmp_path / "s")]) == 2
    assert line in capsys.readouterr().err and not (tmp_path / "s").exists()


def test_a_tracker_that_is_not_installed_says_what_to_install(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["run", "quickstart", "--track", "wandb", "--out", str(tmp_path / "s")]) == 2
    assert "pip install 'batchscale[tracking]'" in capsys.readouterr().err


def test_every_tracker_has_a_sink():
    assert set(module.SINKS) == set(module.MODULES) and module.SINKS["tensorboard"] is TensorBoard
