"""The layout of Shallue et al. (2019): in and out without loss, by the authors' definitions."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.archive import (
    CONFIGS,
    HEADER,
    WORKLOAD,
    contents,
    metadata,
    small_archive,
    study,
    write_study,
    write_trial,
)
from support.records_factory import handmade, make_record, make_study
from support.records_files import on_disk

from experiments.analysis.steps_to_result import steps_to_result
from experiments.analysis.summary import summarise
from experiments.cli import main
from experiments.records.exchange import batch_science, export
from experiments.records.exchange.batch_science import ImportRequest, import_archive
from experiments.records.exchange.export import export_batch_science
from experiments.records.store import RecordError, Writer, read
from experiments.report.answer import certainty
from experiments.report.facts import facts
from experiments.report.page import page
from experiments.spec.trial import Status
from workloads.base import Goal

ASKED = ImportRequest({"": Goal("classification_error", 0.05)})
NUMBERS = st.floats(width=64)
POSITIVE = st.floats(1e-6, 1e6)


@st.composite
def parameter_configs(draw):
    """Any legal search space: all types, all scales."""
    names = draw(st.lists(st.from_regex(r"[a-z_]{1,8}_x", fullmatch=True), max_size=4, unique=True))
    found = {}
    for name in names:
        low = draw(st.floats(0.001, 0.4))
        ends = {"min_value": low, "max_value": draw(st.floats(0.5, 0.99))}
        scale = draw(st.sampled_from(["LINEAR_SCALE", "LOG_SCALE", "REVERSE_LOG_SCALE"]))
        whole = {"min_value": draw(st.integers(1, 9)), "max_value": draw(st.integers(10, 99))}
        points = draw(st.lists(st.floats(-9, 9), min_size=1, max_size=3, unique=True))
        found[name] = draw(
            st.sampled_from(
                [
                    {**ends, "scale": scale, "type": "DOUBLE"},
                    {**whole, "scale": "", "type": "INTEGER"},
                    {"feasible_points": points, "type": "DISCRETE"},
                ]
            )
        )
    return found


@st.composite
def archives(draw):
    """Studies of one workload: {batch size: (study.json, [(metadata.json, rows)])}, header."""
    header = draw(st.permutations([*HEADER[1:], "test/cross_entropy_error", "val/perplexity"]))
    header = ("step", *header)
    configs = draw(parameter_configs())
    found = {}
    for batch_size in draw(st.lists(st.integers(1, 65536), min_size=1, max_size=3, unique=True)):
        about = study(
            batch_size,
            parameter_configs=configs,
            train_steps=draw(st.sampled_from([0, 10, 600000])),
            early_stopping=draw(st.booleans()),
        )
        trials = []
        ids = draw(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=4, unique=True))
        for trial_id in ids:
            status = draw(st.sampled_from(["COMPLETE", "INCOMPLETE", "INFEASIBLE"]))
            least = 1 if status == "COMPLETE" else 0
            steps = draw(st.lists(st.integers(0, 2**31 - 1), min_size=least, max_size=4))
            share = header.index("val/classification_error")
            rows = []
            for step in sorted(steps):
                row = [step, *draw(st.lists(st.none() | NUMBERS, min_size=4, max_size=4))]
                row[share] = draw(st.none() | st.floats(0, 1) | st.just(float("nan")))
                rows.append(row)
            parameters = {
                name: draw(st.integers(-9, 9) if c["type"] == "INTEGER" else st.floats(-1e9, 1e9))
                for name, c in configs.items()
            }
            made = metadata(trial_id, status, steps=max(steps, default=0), parameters=parameters)
            if draw(st.booleans()):
                del made["_internal_study_name"]
            trials.append((made, rows))
        found[batch_size] = (about, trials)
    return header, found


@settings(max_examples=25, deadline=None)
@given(archives(), st.sampled_from([1, 100, 1 << 20]))
def test_what_is_imported_and_exported_is_what_it_was(archive, group_bytes):
    header, studies = archive
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch_science, "GROUP_BYTES", group_bytes)
        patch.setattr(export, "MOST_ROWS", 3)
        folder = Path(name)
        for about, trials in studies.values():
            here = write_study(folder / "archive" / WORKLOAD, about)
            for made, rows in trials:
                write_trial(here, made, rows, header)
        (record,) = import_archive(folder / "archive", folder / "records", ASKED)
        read(record).verify()
        export_batch_science(record, folder / "again")
        assert contents(folder / "again") == contents(folder / "archive")


@pytest.fixture
def archive(tmp_path) -> Path:
    return small_archive(tmp_path / "archive")


def test_steps_to_result_are_those_of_the_authors(archive, tmp_path):
    """COMPLETE trials by integer id, the goal strictly passed, ties to the lowest id."""
    (record,) = import_archive(archive, tmp_path / "records", ImportRequest())
    assert record == tmp_path / "records" / WORKLOAD
    table = steps_to_result(read(record))
    columns = ["batch_size", "goal", "steps_to_result", "trial", "complete", "missing"]
    assert table.select(columns).rows() == [(4, 0.01, 20, 2, 3, 0), (16, 0.01, 10, 2, 3, 0)]
    asked = ImportRequest({WORKLOAD: Goal("classification_error", 0.009)}, trials=2)
    (record,) = import_archive(archive, tmp_path / "two", asked)
    assert steps_to_result(read(record))["steps_to_result"].to_list() == [100, 100]  # 0.009 is it
    assert steps_to_result(read(record))["trial"].to_list() == [2, 2]


def test_trials_that_do_not_count_lie_in_parts_that_answers_leave_alone(archive, tmp_path):
    (folder,) = import_archive(archive, tmp_path / "out", dataclasses.replace(ASKED, trials=2))
    answer = steps_to_result(read(folder))
    *_, others = sorted((folder / "records").glob("evaluations-*.parquet"))
    others.write_bytes(b"damaged")
    assert steps_to_result(read(folder)).equals(answer)
    with pytest.raises(RecordError, match=others.name):
        read(folder).verify()


def test_the_record_says_what_the_archive_does_and_no_default(archive, tmp_path):
    folder = tmp_path / "records"
    (record,) = import_archive(archive / WORKLOAD, folder, ImportRequest())
    assert record == folder
    held = read(record)
    summary = summarise(held)
    assert summary.question.train_steps == {4: 100, 16: 100}
    assert (summary.question.step_budget, summary.question.example_budget) == (100, 400)
    assert summary.question.train_size == 55_000
    assert summary.question.trials == 3  # of 100, the fewest that every batch size has
    assert held.study["imported"]["studies"]["4"] == study(4)
    assert held.trials["status"].value_counts(sort=True)["count"].to_list() == [6, 2, 2]
    shown = dict(facts(summary))
    assert shown["Imported"] == f"{WORKLOAD}, in the layout batch_science"
    assert not shown.keys() & {"Precision", "Schedule", "Seeds"}
    assert certainty(summary).startswith("none for one search of this sampler")
    text = page(summary, [])
    assert "none can be added" in text and "<p>Next:" not in text


def test_a_time_budget_counts_what_a_trial_made(archive, tmp_path):
    for path in archive.rglob("study.json"):
        about = json.loads(path.read_text())
        early = about["batch_size"] == 16
        path.write_text(json.dumps(about | {"train_steps": 0, "early_stopping": early}))
    (record,) = import_archive(archive, tmp_path / "records", ImportRequest())
    summary = summarise(read(record))
    shown = dict(facts(summary))
    assert shown["Early stopping"].startswith("at 16: trials may have stopped before")
    assert shown["Time budget"].startswith("everywhere: a trial is COMPLETE whatever its steps")
    assert (summary.question.step_budget, summary.question.example_budget) == (100, 400)
    trials = read(record).trials
    assert trials.filter(status="COMPLETE")["train_steps"].unique().to_list() == [100]
    assert trials.filter(status="INFEASIBLE")["train_steps"].unique().to_list() == [5]
    assert read(record).study["study"]["train_steps"] == {"4": 100, "16": 100}


def test_nothing_can_be_trained_in_an_imported_record(archive, tmp_path, capsys):
    (record,) = import_archive(archive, tmp_path / "records", ImportRequest())
    before = (record / "study.json").read_bytes()
    assert main(["run", "quickstart", "--smoke", "--out", str(record)]) == 2
    assert "was imported" in capsys.readouterr().err
    assert main(["evaluate", str(record), "--trial", "4/2"]) == 2
    assert "was imported" in capsys.readouterr().err
    with pytest.raises(RecordError, match="was imported"):
        Writer.open(record, {"identity": "other", "study": {"name": "other"}})
    assert (record / "study.json").read_bytes() == before


# A record of ours, out and in.


def test_our_record_comes_back_with_the_same_answer(tmp_path):
    definition = make_study((4, 64), trials=6, goal=0.2)
    ours = on_disk(tmp_path / "ours", make_record(definition))
    assert main(["export", str(ours), "--to", "batch_science", str(tmp_path / "out")]) == 0
    (back,) = import_archive(
        tmp_path / "out", tmp_path / "back", ImportRequest({"": definition.goal}, trials=6)
    )
    assert back == tmp_path / "back" / "digits" / "digits_fc" / "nesterov_momentum"
    columns = ["batch_size", "steps_to_result", "trial", "complete", "infeasible", "best_value"]
    found, expected = (steps_to_result(read(folder)).select(columns) for folder in (back, ours))
    assert found.equals(expected) and expected["steps_to_result"].null_count() == 0
    assert read(back).study["study"]["space"] == read(ours).study["study"]["space"]
    assert read(back).study["study"]["train_steps"] == read(ours).study["study"]["train_steps"]
    assert "No budget questions" not in (tmp_path / "out" / "README.md").read_text()


def test_every_search_is_an_archive_of_its_own(tmp_path):
    ours = on_disk(tmp_path / "ours", make_record(make_study((4,), trials=1, seeds=(3, 5))))
    export_batch_science(ours, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["README.md", "seed_3", "seed_5"]


def test_a_raced_study_has_no_length_and_forbids_budgets(tmp_path):
    record = handmade(
        {4: [("COMPLETE", {1: 0.9, 9: 0.05}), ("STOPPED", {1: 0.9}), ("INFEASIBLE", {1: 0.9})]}
    )
    export_batch_science(on_disk(tmp_path / "raced", record), tmp_path / "out")
    (path,) = (tmp_path / "out").rglob("study.json")
    about = json.loads(path.read_text())
    assert (about["train_steps"], about["early_stopping"]) == (0, True)
    held = [json.loads((path.parent / str(i) / "metadata.json").read_text()) for i in range(3)]
    assert [each["status"] for each in held] == ["COMPLETE", "COMPLETE", "INFEASIBLE"]
    assert [each["steps"] for each in held] == [9, 1, 1]
    assert "No budget questions" in (tmp_path / "out" / "README.md").read_text()


def test_the_archive_says_that_what_diverged_past_the_goal_counts_no_more(tmp_path):
    curves = {4: [("COMPLETE", {1: 0.9, 9: 0.05}), ("INFEASIBLE", {1: 0.9, 5: 0.05})]}
    said = "a trial counts which diverged after it had passed the goal"
    for stop, steps in (("goal", 5), ("never", 9)):
        ours = on_disk(tmp_path / stop, handmade(curves, trials=2, stop=stop))
        assert steps_to_result(read(ours))["steps_to_result"].to_list() == [steps]
        export_batch_science(ours, tmp_path / f"{stop}_out")
        goal = read(ours).study["study"]["goal"]
        request = ImportRequest({"": Goal(goal["metric"], goal["value"])}, trials=2)
        (back,) = import_archive(tmp_path / f"{stop}_out", tmp_path / f"{stop}_back", request)
        assert steps_to_result(read(back))["steps_to_result"].to_list() == [9]
        assert (said in (tmp_path / f"{stop}_out" / "README.md").read_text()) == (stop == "goal")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"batch_size_schedule": "step"}, "grows within a trial"),
        ({"space": {"loss": {"type": "choice", "values": ["a", "b"]}}}, "has no place"),
    ],
)
def test_what_the_layout_cannot_say_is_refused(changes, says, tmp_path, capsys):
    record = handmade({4: [("COMPLETE", {1: 0.9})]})
    study = {**record.study, "study": {**record.study["study"], **changes}}
    ours = on_disk(tmp_path / "ours", dataclasses.replace(record, study=study))
    assert main(["export", str(ours), "--to", "batch_science", str(tmp_path / "out")]) == 2
    assert says in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["ours"]


# What is no archive.


def edit(path: Path, **changes) -> None:
    about = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in about.items() if v is not None}))


def csv(path: Path, text: str) -> None:
    path.write_text(text)


HEAD = ",".join(HEADER)
BROKEN = {
    "no study.json": ("4/study.json", Path.unlink, "study.json is missing"),
    "no metadata": ("4/2/metadata.json", Path.unlink, "metadata.json is missing"),
    "no measurements": ("4/2/measurements.csv", Path.unlink, "measurements.csv is missing"),
    "broken study": ("4/study.json", lambda p: csv(p, "{"), "study.json cannot be read"),
    "broken metadata": ("4/2/metadata.json", lambda p: csv(p, "[1"), "metadata.json cannot"),
    "a list": ("4/2/metadata.json", lambda p: csv(p, "[1]"), "must hold an object"),
    "unknown schema": ("4/study.json", lambda p: edit(p, seed=1), "unknown field 'seed'"),
    "a field less": ("4/study.json", lambda p: edit(p, train_steps=None), "'train_steps'"),
    "unknown status": ("4/2/metadata.json", lambda p: edit(p, status="DONE"), "got 'DONE'"),
    "no number": ("4/2/metadata.json", lambda p: edit(p, parameters={"a": "b"}), "parameter a"),
    "beyond floats": ("4/2/metadata.json", lambda p: edit(p, parameters={"a": 10**400}),
                      "parameter a"),
    "another size": ("4/study.json", lambda p: edit(p, batch_size=8), "folder the name 4"),
    "another model": ("4/study.json", lambda p: edit(p, model="x"), "the model"),
    "a name that moves the cursor": ("4/study.json", lambda p: edit(p, model="x\x1b[2K"),
                                     "model must be a name without control characters"),
    "a parameter that colours": ("4/2/metadata.json", lambda p: edit(
        p, parameters={"rate\x1b[31m": 0.1}), "got 'rate\\x1b[31m'"),
    "another type": ("4/study.json", lambda p: edit(p, parameter_configs={"a": {"type": "X"}}),
                     "DISCRETE, DOUBLE, INTEGER"),
    "another scale": ("4/study.json", lambda p: edit(p, parameter_configs={
        "a": {"type": "DOUBLE", "min_value": 1, "max_value": 2, "scale": "SQUARE"}}), "'SQUARE'"),
    "log of zero": ("4/study.json", lambda p: edit(p, parameter_configs={
        "a": {"type": "DOUBLE", "min_value": 0, "max_value": 2, "scale": "LOG_SCALE"}}),
        "parameter a"),
    "an id twice": ("4/2/metadata.json", lambda p: shutil.copytree(p.parent, p.parents[1] / "02"),
                    "is of trial 2, as is another"),
    "another id": ("4/2/metadata.json", lambda p: edit(p, trial_id=5), "folder the name 2"),
    "no trial": ("4/2/metadata.json", lambda p: (p.parents[1] / "best").mkdir(), "best is no"),
    "unknown column": ("4/2/measurements.csv", lambda p: csv(p, "step,val/a,loss\n"), "'loss'"),
    "no step": ("4/2/measurements.csv", lambda p: csv(p, "val/a,step\n"), "'step'"),
    "a column twice": ("4/2/measurements.csv", lambda p: csv(p, "step,val/a,val/a\n"), "two"),
    "other columns": ("4/2/measurements.csv", lambda p: csv(
        p, "step,val/classification_error\n1,0.5\n"), "other trials of the study"),
    "empty": ("4/2/measurements.csv", lambda p: csv(p, ""), "measurements.csv"),
    "no row": ("4/2/measurements.csv", lambda p: csv(p, f"{HEAD}\n"), "no measurement"),
    "a word": ("4/2/measurements.csv", lambda p: csv(p, f"{HEAD}\n0,1,1\n1,x,1\n"), "line 3"),
    "half a step": ("4/2/measurements.csv", lambda p: csv(p, f"{HEAD}\n0.5,1,1\n"), "line 2"),
    "no step here": ("4/2/measurements.csv", lambda p: csv(p, f"{HEAD}\n,1,1\n"), "line 2"),
    "a short line": ("4/2/measurements.csv", lambda p: csv(p, f"{HEAD}\n0,1\n"), "line 2 has 2"),
    "a long line": ("4/2/measurements.csv", lambda p: csv(p, f"{HEAD}\n0,1,1,1\n"), "line 2"),
    "short and long": ("4/2/measurements.csv", lambda p: csv(p, f"{HEAD}\n0,1\n0,1,1,1\n"),
                       "line 2 has 2"),
    "a blank line": ("4/2/measurements.csv", lambda p: csv(p, f"{HEAD}\n0,1,1\n\n"), "line 3"),
    "in percent": ("4/2/measurements.csv", lambda p: csv(p, f"{HEAD}\n0,1,90\n"), "share in"),
    "a cut": ("4/2/measurements.csv", lambda p: csv(p, f"{HEAD}\n0,1,0.9\n1,0."), "line 3"),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_an_archive_that_is_none_is_one_line_and_leaves_nothing(what, archive, tmp_path, capsys):
    name, spoil, says = BROKEN[what]
    path = archive / WORKLOAD / name
    spoil(path)
    there = sorted(tmp_path.iterdir())
    out = tmp_path / "records"
    assert main(["import-batch-science", str(archive), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and says in error and str(path.parents[1]) in error
    assert sorted(tmp_path.iterdir()) == there


def test_what_cannot_be_asked_is_one_line(archive, tmp_path, capsys):
    out = str(tmp_path / "records")
    command = ["import-batch-science", str(archive), "--out", out]
    for words, says in (
        (["--goal", "classification_error"], "--goal takes"),
        (["--goal", "test/classification_error=1"], "--goal takes"),
        (["--goal", "a=1", "--goal", "a=2"], "twice"),
        (["--goal", "x/y/z:a=1"], "no workload x/y/z"),
        (["--goal", "perplexity=4"], "validation/perplexity"),
    ):
        assert main([*command, *words]) == 2
        assert says in capsys.readouterr().err
    assert main(["import-batch-science", str(archive / WORKLOAD / "4"), "--out", out]) == 2
    assert "the folder above" in capsys.readouterr().err
    assert main(["import-batch-science", str(tmp_path / "none"), "--out", out]) == 2
    assert "no folder" in capsys.readouterr().err
    (archive / WORKLOAD).rename(archive / "mnist" / "sgd")
    assert main(command) == 2
    assert "no goal of mnist/sgd is published" in capsys.readouterr().err
    assert not (tmp_path / "records").exists()


def test_a_folder_that_is_there_is_left_alone(archive, tmp_path, capsys):
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "mine").write_text("mine")
    assert main(["import-batch-science", str(archive), "--out", str(tmp_path / "records")]) == 2
    assert "already exists" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "records").iterdir()] == ["mine"]


def test_the_union_of_search_spaces_covers_all_batch_sizes(archive, tmp_path):
    path = archive / WORKLOAD / "4" / "study.json"
    other = {**CONFIGS["learning_rate"], "max_value": 100.0}
    points = {"feasible_points": [0.0, 0.2], "type": "DISCRETE"}
    edit(path, parameter_configs={**CONFIGS, "learning_rate": other, "label_smoothing": points})
    (record,) = import_archive(archive, tmp_path / "records", ImportRequest())
    space = read(record).study["study"]["space"]
    assert space["learning_rate"] == {"type": "real", "low": 0.0001, "high": 100.0, "scale": "log"}
    assert space["label_smoothing"]["values"] == [0.0, 0.01, 0.1, 0.2]
    assert space["learning_rate_decay_steps"]["type"] == "integer"


def test_statuses_are_those_of_the_record():
    """What the record adds to the archive's statuses, `export` must know."""
    from experiments.records.exchange.layout import STATUSES

    assert {status.value for status in Status} - {*STATUSES} <= {export.STOPPED}
