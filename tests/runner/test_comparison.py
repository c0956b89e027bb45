"""Comparisons: what makes them fair, their folders, their joint page; the optimizers of digits."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics

import polars as pl
import pytest
from support.engine_factory import tiny_study
from support.records_factory import Truth, make_record, make_study

from experiments import studies
from experiments.analysis import compare
from experiments.analysis.compare import Compared, best_value, fewest_steps, read_compared
from experiments.analysis.steps_to_result import COUNTED_TO_RESULT
from experiments.analysis.summary import summarise
from experiments.cli import main
from experiments.records.store import RecordError, read
from experiments.report.comparison import answers, comparison_page, joint_table
from experiments.report.comparison_figures import (
    comparison_figures,
    steps_figure,
    trials_figure,
    value_figure,
)
from experiments.runner.comparison import run_comparison
from experiments.runner.study import run_study
from experiments.spec.comparison import Comparison, of_optimizers
from experiments.spec.fields import COMPARED
from experiments.spec.study import Study
from experiments.training.state import parameter_count
from optimizers import OPTIMIZERS
from workloads.datasets import load


def small(**changes):
    """Two optimizers on the smallest study there is."""
    study = tiny_study(batch_sizes=(64,), trials=2, step_budget=20, example_budget=64)
    settings = {"studies": of_optimizers(study, ("sgd", "adam")), **changes}
    return Comparison("small", "Which is better?", **settings)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return run_comparison(small(), tmp_path_factory.mktemp("comparison") / "small")


def test_each_member_is_an_ordinary_record_of_its_own(finished, tmp_path):
    assert {path.name for path in finished.iterdir()} == {
        "comparison.json",
        "lock",
        "sgd",
        "adam",
    }
    alone = read(run_study(small().studies["adam"], tmp_path / "alone"))
    member = read(finished / "adam")
    assert member.evaluations.equals(alone.evaluations)
    assert member.trials.drop("seconds", "plan").equals(alone.trials.drop("seconds", "plan"))


def test_running_again_repeats_nothing_and_may_grow(finished, tmp_path):
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*.parquet")}
    run_comparison(small(), finished)
    assert before == {p: p.stat().st_mtime_ns for p in finished.rglob("*.parquet")}
    grown = tmp_path / "grown"
    run_comparison(small().changed(trials=1), grown)
    run_comparison(small(), grown)
    assert read(grown / "sgd").trials.height == 2
    members = json.loads((grown / "comparison.json").read_text())["studies"]
    assert members == ["sgd", "adam"]


def test_a_folder_of_something_else_is_refused_and_left_alone(finished, tmp_path):
    other = dataclasses.replace(small(), name="other")
    for comparison, folder, options, message in (
        (other, finished, {}, "holds comparison 'small', not 'other'"),
        (small(), finished, {"resume": False}, "already holds comparison 'small'"),
        (small(), finished / "sgd", {}, "holds the record of a study"),
    ):
        before = sorted(path for path in finished.rglob("*"))
        with pytest.raises(RecordError, match=message):
            run_comparison(comparison, folder, **options)
        assert before == sorted(path for path in finished.rglob("*"))
    with pytest.raises(RecordError, match=r"comparison\.json cannot be read"):
        read_compared(tmp_path)


@pytest.mark.parametrize("field", COMPARED)
def test_members_that_differ_in_task_or_budget_are_refused(field):
    one = tiny_study()
    changes = {
        "workload": dataclasses.replace(one.workload, name="another"),
        "goal": dataclasses.replace(one.goal, value=0.5),
        "batch_sizes": (8,),
        "step_budget": one.step_budget + 1,
        "example_budget": one.example_budget + 1,
        "train_steps": {8: 1000},
        "trials": one.trials + 1,
        "seeds": (7,),
        "precision": dataclasses.replace(one.precision, compute="bfloat16"),
        "evaluation_spacing": 0.5,
        "train_evaluation_examples": 1,
        "divergence_factor": 2.0,
    }
    other = dataclasses.replace(one, **{field: changes[field]})
    with pytest.raises(ValueError, match=f"studies must agree in {field}: a has .*, b has "):
        Comparison("unfair", "Is it fair?", {"a": one, "b": other})


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (("a",), "studies must hold at least two, got 1"),
        (("a", "../b"), r"got '\.\./b'"),
        (("a", "report"), "not 'report', got 'report'"),
    ],
)
def test_labels_are_folder_names_and_more_than_one(members, message):
    with pytest.raises(ValueError, match=message):
        Comparison("c", "?", dict.fromkeys(members, tiny_study()))


def test_each_optimizer_brings_its_own_search_space():
    with pytest.raises(ValueError, match="optimizer 'adan' is unknown"):
        of_optimizers(tiny_study(), ("sgd", "adan"))
    spaces = {name: s.resolved.space for name, s in small().changed(trials=30).studies.items()}
    assert set(spaces["sgd"]) == {"learning_rate"}
    grown = of_optimizers(tiny_study(trials=30), ("adam",))["adam"].resolved.space
    assert set(grown) == {"learning_rate", "beta1", "epsilon"}


def compared(**members):
    """A comparison of made-up records, without folders."""
    summaries = {name: summarise(record) for name, record in members.items()}
    counted = any(COUNTED_TO_RESULT in summary.steps.columns for summary in summaries.values())
    table = pl.concat([compare._rows(name, s, counted) for name, s in summaries.items()])
    return Compared("made_up", "Who <wins>?", "", summaries, ("late",), table)


FAST = make_record(make_study((4, 64), trials=20, goal=0.1), Truth(least_steps=20.0))
SLOW = make_record(make_study((4, 64), trials=20, goal=0.1), Truth(least_steps=60.0))


def test_the_winner_and_those_it_cannot_be_told_apart_from():
    both = compared(slow=SLOW, fast=FAST, twin=FAST)
    for batch_size in (4, 64):
        winner = fewest_steps(both, batch_size)
        rows = both.table.filter(pl.col("batch_size") == batch_size)
        steps = dict(rows.select("label", "steps_to_result").iter_rows())
        assert winner.label == "fast" and winner.value == min(s for s in steps.values() if s)
        assert "twin" in winner.near
        high = rows.filter(pl.col("label") == "fast")["steps_high"][0]
        reaches = steps["slow"] is not None and steps["slow"] <= high
        assert ("slow" in winner.near) == reaches
        best = best_value(both, batch_size)
        assert best.value == rows["best_value"].min()


def test_function_evaluations_stand_beside_steps_where_a_member_counts_them():
    """A first-order rule makes one a step; its steps are its evaluations."""
    evaluations = FAST.evaluations.with_columns(function_evaluations=3.0 * pl.col("step"))
    counting = dataclasses.replace(FAST, evaluations=evaluations)
    assert COUNTED_TO_RESULT not in compared(slow=SLOW, fast=FAST).table.columns
    both = compared(slow=SLOW, fast=counting)
    rows = both.table.select("label", "steps_to_result", COUNTED_TO_RESULT).drop_nulls().rows()
    assert {label for label, *_ in rows} == {"slow", "fast"}
    assert all(made == (3 if label == "fast" else 1) * steps for label, steps, made in rows)
    assert "function evaluations" in joint_table(both).columns
    names = [figure.name for figure in comparison_figures(both)]
    assert COUNTED_TO_RESULT in names and names[0] == "steps_to_result"


def test_a_goal_that_nobody_reaches_is_said():
    hopeless = make_record(make_study((4,), trials=3, goal=1e-9))
    found = compared(a=hopeless, b=hopeless)
    assert fewest_steps(found, 4) is None
    assert "nobody reached" in answers(found)[0] and "the best validation" in answers(found)[0]


def test_the_page_names_the_missing_and_escapes_what_it_is_given():
    found = compared(slow=SLOW, fast=FAST)
    figures = [steps_figure(found), value_figure(found), trials_figure(found)]
    text = comparison_page(found, figures)
    assert "<b>late</b>: not run yet" in text
    assert "Who &lt;wins&gt;?" in text and "Who <wins>?" not in text
    for figure in figures:
        json.dumps(figure.specification(), allow_nan=False)


def test_a_record_without_trials_is_drawn():
    study = make_study((4, 64), trials=3)
    record = make_record(study)
    empty = dataclasses.replace(
        record, trials=record.trials.clear(), evaluations=record.evaluations.clear(), norms=None
    )
    found = compared(a=empty, b=empty)
    for draw in (steps_figure, value_figure, trials_figure):
        draw(found).specification()
    assert best_value(found, 4) is None and answers(found)


def test_report_rebuilds_the_joint_page_from_the_folder(finished, capsys):
    assert main(["report", str(finished)]) == 0
    printed = capsys.readouterr().out
    assert "At batch size 64" in printed and f"report: {finished}/report/index.html" in printed
    report = finished / "report"
    assert (report / "figures" / "steps_to_result.png").read_bytes().startswith(b"\x89PNG")
    table = pl.read_csv(report / "data" / "best_value.csv")
    assert table["label"].to_list() == ["sgd", "adam"]


def test_the_command_runs_a_comparison_from_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "from support.engine_factory import tiny_study\n"
        "from experiments.spec.comparison import Comparison, of_optimizers\n"
        "study = tiny_study(batch_sizes=(64,), trials=1, step_budget=8, example_budget=64)\n"
        "STUDY = Comparison('mine', 'Which?', of_optimizers(study, ('sgd', 'momentum')))\n"
    )
    assert main(["run", "mine.py", "--trials", "2"]) == 0
    assert read(tmp_path / "runs" / "mine" / "momentum").trials.height == 2
    capsys.readouterr()
    assert main(["run", "mine.py", "--optimizer", "adam"]) == 2
    assert "--optimizer has no place in mine" in capsys.readouterr().err


def test_optimizers_digits_runs_whole_and_is_fair(tmp_path, monkeypatch, capsys):
    """Equal counted trials, own spaces, each best inside its space or its edge reported."""
    monkeypatch.chdir(tmp_path)
    assert main(["run", "optimizers_digits", "--smoke"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    asked = studies.get("optimizers_digits", smoke=True)
    found = read_compared(tmp_path / "runs" / asked.name)
    page = (tmp_path / "runs" / asked.name / "report" / "index.html").read_text()
    assert list(found.members) == list(asked.studies) and found.missing == ()
    assert set(found.table["missing"]) == {0} and len(set(found.table["complete"])) == 1
    for label, member in asked.studies.items():
        study, summary = member.resolved, found.members[label]
        counts = summary.view.counted["batch_size"].value_counts().rows()
        equal = study.trials * len(study.seeds)
        assert sorted(counts) == [(b, equal) for b in study.batch_sizes]
        assert summary.question.space == study.space
        reported = [sentence for member, sentence in found.findings() if member == label]
        for (batch_size,), rows in summary.best.partition_by("batch_size", as_dict=True).items():
            for name, searched in study.space.items():
                middle = statistics.median(searched.position(value) for value in rows[name])
                if not 0.05 < middle < 0.95:
                    assert any(name in s and str(batch_size) in s for s in reported)
        assert f"<td>{label}</td>" in page and label in printed
        for sentence in reported:
            assert sentence in page and sentence in printed
    assert set(asked.studies["sgd"].resolved.space) < set(studies.get("quickstart").resolved.space)


def test_second_order_digits_is_small_enough_for_newton_and_sees_the_whole_training_set():
    for smoke in (False, True):
        members = studies.get("second_order_digits", smoke=smoke).studies
        assert {"lbfgs", "newton", "hessian_free"} < set(members)
        for study in members.values():
            assert study.batch_sizes[-1] == study.resolved.train_size
            examples = load("digits").splits["train"]
            size = parameter_count(study.resolved.config("off"), examples)
            assert size == 650 <= OPTIMIZERS["newton"].largest_model


def test_optimizers_digits_is_what_it_says():
    comparison = studies.get("optimizers_digits")
    assert len(comparison.studies) >= 8
    for label, study in comparison.studies.items():
        assert isinstance(study, Study) and study.optimizer == label
        assert len(study.batch_sizes) == 3 and study.trials == 20
        assert "learning_rate" in study.resolved.space
    smoke = studies.get("optimizers_digits", smoke=True)
    assert sum(
        s.trials * sum(s.resolved.length(b) for b in s.resolved.batch_sizes)
        for s in smoke.studies.values()
    ) < 0.02 * sum(
        s.trials * sum(s.resolved.length(b) for b in s.resolved.batch_sizes)
        for s in comparison.studies.values()
    )
    assert all(math.isfinite(s.resolved.goal.value) for s in smoke.studies.values())


def test_studies_of_any_folders_are_compared_and_what_is_not_of_one_unit_refused(
    finished, tmp_path, capsys
):
    assert main(["compare", str(finished), "--reference", "adam", "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "adam's" in shown and "One batch size, 64, does not say which member" in shown
    assert (tmp_path / "report" / "index.html").is_file()
    other = run_study(tiny_study(batch_sizes=(64,), trials=1, step_budget=20, example_budget=64),
                      tmp_path / "other")  # fmt: skip
    before = sorted(tmp_path.rglob("*"))
    for words, said in (
        ([str(finished), str(other)], "studies must agree in trials to be compared in steps"),
        ([str(other)], "compare needs two studies or more, got 1"),
        ([str(other), str(other)], "two studies are called other"),
        ([str(finished), "--reference", "x"], "--reference must be one of sgd, adam, got 'x'"),
        ([str(finished), "--against", "colour"], "--against must name a number above 0"),
        ([str(finished), "--against", "trials"], "needs studies that differ in it"),
        ([str(finished), "--json", "no/n.json"], "folder no of n.json does not exist"),
        ([str(finished), "--out", "/proc/no"], "the folder /proc/no cannot be written"),
    ):
        assert main(["compare", *words]) == 2
        printed = capsys.readouterr()
        assert said in printed.err and printed.err.count("\n") == 1 and not printed.out
    assert sorted(tmp_path.rglob("*")) == before
    out, numbers = tmp_path / "laws", tmp_path / "laws.json"
    asked = ["compare", str(finished), str(other), "--against", "trials"]
    assert main([*asked, "--out", str(out), "--json", str(numbers)]) == 0
    assert "no exponent" in capsys.readouterr().out
    assert {"power_laws.svg", "power_laws.png"} <= {p.name for p in (out / "report").rglob("*.*")}
    held = json.loads(numbers.read_text())
    assert held["against"] == "trials" and {row["median"] for row in held["exponents"]} == {None}
