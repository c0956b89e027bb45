"""automl: from a table to a predictor that a fresh process loads, within a budget, after kills."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from support import automl_child
from support.automl_child import run, write_table
from support.tolerances import FLOAT32_SOLVES

from benchmarks import automl as automl_benchmark
from benchmarks import automl_page
from experiments.cli import main
from experiments.procedures.automl.asked import AutomlRequest, search_of
from experiments.procedures.automl.clock import Spent
from experiments.procedures.automl.data import split_source
from experiments.procedures.automl.limits import TimeLimit, TrialLimit
from experiments.procedures.automl.nets_shown import graph_of, parameters
from experiments.procedures.automl.plan import (
    MEAN_NET,
    AutomlPlan,
    affordable,
    bounded,
    first_bracket,
    round_epochs,
)
from experiments.procedures.budget import Budget
from experiments.records.store import RecordError, read
from experiments.runner import search_driver
from experiments.runner.predict import TrainedNet, initial, load, of_folds
from experiments.runner.search_models import ModelTrainer
from experiments.search.pruning import hyperband
from experiments.spec.families import FAMILIES, PRESETS, largest_values, preset_of, space_of
from experiments.training.checkpoint import CheckpointError
from workloads.datasets.sources import Source, read_source


def command_of(folder, *more):
    """Words of the command that `run` is, too."""
    return ["automl", "--data", str(folder / "trees.csv"), "--target", "tree", "--workers", "1",
            "--budget", "5trials", "--out", str(folder / "automl"), *more]  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Folder of a finished automl, and what the command printed."""
    folder = tmp_path_factory.mktemp("automl")
    write_table(folder / "trees.csv")
    command = [*command_of(folder), "--baselines"]
    done = subprocess.run(
        [sys.executable, "-m", "experiments", *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def values(folder):
    return json.loads((folder / "automl" / "verdict.json").read_text())["values"]


def test_the_command_says_what_it_does_and_what_came_of_it(finished):
    folder, said = finished
    assert "72 in 5 folds, 18 test; 2 columns of numbers standardised; bark one-hot" in said
    assert "Leakage: No example of one fold or of test is an exact copy" in said
    assert "Balance: 3 classes, from 24 training examples" in said
    assert "best so far" in said and "  0:    3 trials: 3 @ 1, 1 @ 3" in said
    verdict = values(folder)
    assert verdict["test_examples"] == 18 and verdict["test_error"] < 0.3  # chance is 0.67
    low, high = verdict["test_error_interval"]
    assert low <= verdict["test_error"] <= high
    assert sum(net["weight"] for net in verdict["nets"]) == pytest.approx(1)
    assert {one["name"] for one in verdict["baselines"]} == {"LogisticRegression", "MLPClassifier"}
    assert len(read(folder / "automl" / "01-search").trials) == 5
    page = (folder / "automl" / "report" / "index.html").read_text()
    for words in ("What predicts", "Layers of trial", "Why this batch size", "Rounds", "Leakage"):
        assert words in page
    assert '<ul class="findings">' not in page  # nothing is doubtful
    figures = {path.stem for path in (folder / "automl" / "report" / "figures").glob("*.png")}
    assert figures == {"architecture", "progress", "curves", "hyperparameters", "confusions"}


def test_few_validation_examples_leave_all_of_the_best_trials_in_the_ensemble(finished):
    nets = values(finished[0])["nets"]
    trials = read(finished[0] / "automl" / "01-search").evaluations
    best = trials.group_by("trial").agg(pl.col("validation/cross_entropy").min())
    ranked = best.sort("validation/cross_entropy")["trial"].to_list()
    assert {net["name"] for net in nets} == {f"trial {i}" for i in ranked[:4]}
    assert min(net["weight"] for net in nets) >= 1 / 16  # once of at most four and twelve


def test_what_decides_is_measured_out_of_fold(finished):
    """By hand: of each example the net that its fold did not train; the record says the same."""
    folder, _ = finished
    examples = split_source(read_source(str(folder / "trees.csv"), "tree"), 0)
    inputs, labels = examples.splits["validation"]
    evaluations = read(folder / "automl" / "01-search").evaluations
    for net in load(folder / "automl").nets:
        shares = of_folds(net, inputs, 3)
        logs = [-np.log(shares[i, examples.folds[i], labels[i]]) for i in range(72)]
        trial = evaluations.filter(trial=int(net.name.split()[1]))
        assert trial["validation/cross_entropy"].min() == pytest.approx(
            np.mean(logs), rel=FLOAT32_SOLVES
        )
        wrong = [shares[i, examples.folds[i]].argmax() != labels[i] for i in range(72)]
        best = trial.sort("validation/cross_entropy")["validation/classification_error"][0]
        assert best == pytest.approx(np.mean(wrong))


@pytest.mark.parametrize("shape", [(7,), (9, 8, 2)])
@pytest.mark.parametrize("folds", [1, 4])
def test_the_picture_has_the_parameters_of_the_net(shape, folds):
    for preset in PRESETS:
        chosen = largest_values(preset, shape)
        tree = initial(chosen, 3, shape, folds, shapes=True)
        net = TrainedNet(chosen, tree["params"], tree["state"], 1.0, "", folds)
        cost = graph_of(net, 3).cost(shape)
        assert cost.shape == (3,) and folds * cost.parameters == parameters(net)


FRESH = """
import sys, json, csv
import numpy as np
from experiments.runner.predict import load
predictor = load(sys.argv[1])
rows = list(csv.DictReader(open(sys.argv[2])))
table = {name: np.array([row[name] for row in rows]) for name in ("height", "width", "bark")}
table = {name: c if name == "bark" else c.astype(float) for name, c in table.items()}
shares = predictor.predict_proba(table)
assert np.array_equal(shares, predictor.predict_proba(sys.argv[2]))
print(json.dumps([shares.tolist(), predictor.predict(table).tolist(), predictor.classes.tolist()]))
"""


def test_a_fresh_process_loads_the_predictor_and_it_predicts_what_was_tested(finished):
    folder, _ = finished
    command = [sys.executable, "-c", FRESH, str(folder / "automl"), str(folder / "trees.csv")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shares, predicted, classes = json.loads(done.stdout)
    assert classes == list(automl_child.CLASSES)
    examples = split_source(read_source(str(folder / "trees.csv"), "tree"), 0)
    here = load(folder / "automl")
    tested = here.predict_proba(examples.raw_test)
    labels = examples.splits["test"][1]
    assert (tested.argmax(axis=1) != labels).mean() == values(folder)["test_error"]
    assert np.allclose(np.array(shares).sum(axis=1), 1)
    rows = {tuple(np.round(row, 6)) for row in shares}
    assert {tuple(np.round(row, 6)) for row in tested} <= rows
    assert predicted == [classes[i] for i in np.argmax(shares, axis=1)]


def test_over_it_is_not_done_again_and_another_question_is_refused(finished, capsys):
    folder, _ = finished
    before = {p: p.stat().st_mtime_ns for p in (folder / "automl").rglob("*") if p.is_file()}
    command = command_of(folder)
    assert main(command) == 0
    assert "this automl is over, and its test split was evaluated" in capsys.readouterr().out
    for changes, field in ((["--seed", "1"], "seed"), (["--budget", "6trials"], "budget")):
        assert main([*command, *changes]) == 2
        assert f"holds a automl that differs in {field}" in capsys.readouterr().err
    other = write_table(folder / "other.csv", 93)
    shutil.copy(folder / "trees.csv", folder / "kept.csv")
    shutil.copy(other, folder / "trees.csv")
    try:
        assert main(command) == 2
        assert "differs in data: choose another folder with --out" in capsys.readouterr().err
    finally:
        shutil.copy(folder / "kept.csv", folder / "trees.csv")
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_killed_in_a_round_the_same_command_goes_on_to_the_same_predictor(finished, tmp_path):
    whole, _ = finished
    write_table(tmp_path / "trees.csv")
    child = [sys.executable, automl_child.__file__, str(tmp_path)]
    ended = subprocess.run(child, env={**os.environ, "KILL": "5"}, capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    known = read(tmp_path / "automl" / "01-search").trials
    assert 0 < len(known) < 5 and not (tmp_path / "automl" / "verdict.json").exists()
    spent = json.loads((tmp_path / "automl" / "spent.json").read_text())["seconds"]
    run(tmp_path)
    assert values(tmp_path)["seconds"] > spent
    equal(whole, tmp_path)


def equal(whole, other):
    """The rounds of two automls, their predictors and what came of them; all but time."""
    records = [read(folder / "automl" / "01-search") for folder in (whole, other)]
    one, two = (record.trials.drop("seconds") for record in records)
    assert one.equals(two, null_equal=True)
    assert records[0].evaluations.equals(records[1].evaluations, null_equal=True)
    for name, value in values(whole).items():
        assert name in {"seconds", "baselines"} or values(other)[name] == value, name


def test_interrupted_it_ends_in_one_line_and_the_same_command_goes_on(
    finished, tmp_path, monkeypatch, capsys
):
    write_table(tmp_path / "trees.csv")
    command = command_of(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(search_driver, "COMMIT_SECONDS", 0.0)
        patch.setattr(ModelTrainer, "train", automl_child.ending(4, signal.SIGINT))
        assert main(command) == 130
    said = capsys.readouterr().err.strip()
    assert said == "interrupted; what finished is recorded. Go on with: " + " ".join(
        ["batchscale", *command]
    )
    folder = tmp_path / "automl"
    files = {path.name for path in folder.iterdir()}
    assert files == {"01-search", "lock", "plan.json", "procedure.json", "spent.json"}
    assert not [path for path in folder.rglob("*") if "tmp" in path.name]
    assert 0 < len(read(folder / "01-search").trials) < 5
    spent = json.loads((folder / "spent.json").read_text())["seconds"]
    assert main(command) == 0
    assert values(tmp_path)["seconds"] > spent > 0
    equal(finished[0], tmp_path)


class Clock:
    """Seconds that pass only where a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_budget_in_time_ends_the_search_in_the_middle_of_a_round(tmp_path, monkeypatch):
    clock, train, begun = Clock(), ModelTrainer.train, []

    def slowly(self, job):
        clock.now += 50.0  # more than is ever kept in reserve, which is measured
        begun.append(job)
        return train(self, job)

    monkeypatch.setattr(ModelTrainer, "train", slowly)
    monkeypatch.setattr("experiments.runner.search_trainers.cores", lambda: 1)  # one after another
    write_table(tmp_path / "trees.csv", 1300)  # too many for folds
    outcome = run(tmp_path, "100s", clock=clock)
    assert len(begun) == 2
    assert outcome.values["seconds"] == 100.0 and outcome.complete
    assert (
        "smallest with half of the best throughput"
        in outcome.said.facts["Why this batch size and length"]
    )
    assert outcome.said.facts["Splits"].startswith("832 train, 207 validation, 261 test; all")
    assert "no net was trained again" in outcome.said.facts["Trained on"]  # its time was over
    assert load(tmp_path / "automl").predict(str(tmp_path / "trees.csv")).shape == (1300,)


def test_a_budget_too_short_for_one_trial_is_refused_and_nothing_is_written(tmp_path):
    clock = Clock()

    def ticking() -> float:
        clock.now += 1.0
        return clock.now

    write_table(tmp_path / "trees.csv")
    with pytest.raises(ValueError, match=r"--budget 3s is too short for one trial: about \d+ s"):
        run(tmp_path, "3s", clock=ticking)
    assert not (tmp_path / "automl").exists()


BAD = [
    (
        ["--target", "kind", "--data", "TABLE,kind\n1,a\nnan,b\n"],
        "TABLE must be finite, got nan",
    ),
    (["--target", "kind", "--data", "TABLE,kind\n1,a\n2,a\n"], "two classes at least, got a alone"),
    (["--target", "kind", "--data", "TABLE,kind\n1,a\n2\n"], "line 3 has 1 cells, expected 2"),
    (["--data", "digit"], "source 'digit' is unknown; did you mean 'digits'"),
    (["--target", "leaf"], "--target must be a column of"),
    (["--target", "height"], "the target is continuous: 9. different numbers"),
    (["--target", "tree", "--budget", "1000steps"], "--budget must be a time or trials"),
    (["--target", "tree", "--budget", "soon"], "budget must be a number above 0"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_input_is_one_line_and_nothing_is_written(tmp_path, capsys, words, message):
    table = write_table(tmp_path / "trees.csv")
    for place, word in enumerate(words):
        if word.startswith("TABLE"):
            (tmp_path / "bad.csv").write_text(word)
            words = [*words[:place], str(tmp_path / "bad.csv"), *words[place + 1 :]]
    assert main(["automl", "--data", str(table), "--out", str(tmp_path / "out"), *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and re.search(message, error)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_another_command_is_refused(tmp_path, capsys):
    write_table(tmp_path / "trees.csv")
    (tmp_path / "automl").mkdir()
    (tmp_path / "automl" / "comparison.json").write_text("{}")
    with pytest.raises(RecordError, match="holds the record of a comparison"):
        run(tmp_path)
    with pytest.raises(CheckpointError, match="there is no predictor in"):
        load(tmp_path / "automl")


def test_copies_between_splits_and_a_large_class_are_said():
    inputs = np.arange(200.0).reshape(100, 2)
    inputs[50:] = inputs[:50]  # every example twice
    targets = np.repeat([0, 1, 0, 1], [40, 10, 40, 10])
    found = split_source(Source("twice", "", inputs, targets), 0)
    assert found.copies > 0 and found.remarks[0].text.startswith("Exact copies, ")
    assert "The largest class alone is 80.0%" in found.remarks[1].text
    assert all(one.doubtful for one in found.remarks)
    alone = split_source(Source("once", "", inputs[:50], targets[:50]), 0)
    assert alone.copies == 0


def test_what_a_source_keeps_for_testing_stays_its_test_split():
    inputs, targets = np.arange(40.0).reshape(20, 2), np.tile([0, 1], 10)
    source = Source("own", "", inputs, targets, (inputs[:4] + 0.5, targets[:4]))
    found = split_source(source, 3)
    assert found.raw_test is source.test[0] and found.size("test") == 4
    assert found.size("train") == 20 and len(found.folds) == 20
    many = Source("own", "", np.arange(2400.0).reshape(1200, 2), np.tile([0, 1], 600), source.test)
    found = split_source(many, 3)
    assert found.folds is None and found.size("test") == 4
    assert found.size("train") + found.size("validation") == 1200


def test_a_round_begins_where_half_of_it_fits_and_all_stops_at_the_end():
    now = [0.0]
    limit = TimeLimit(lambda: now[0], 100.0, 1.0, trials=20, epochs=9)
    assert limit.begins(0, 9, 60) and not limit.over()
    now[0] = 60.0  # a second an epoch, as expected
    assert not limit.begins(1, 5, 90)
    assert limit.begins(1, 5, 80)
    assert not limit.begins(3, 9, 1)  # 17 were begun: nine more are over 20
    now[0] = 99.0
    assert not limit.over()
    now[0] = 100.0
    assert limit.over()


def test_a_budget_in_trials_holds_whole_rounds():
    limit = TrialLimit(5, 3)
    first, second = (bracket[0].trials for bracket in hyperband(3, 3))
    assert (first, second) == (3, 2) and first_bracket(3) == 3
    assert limit.begins(0, 3, 5) and limit.begins(1, 2, 6) and not limit.begins(2, 3, 5)
    assert round_epochs(3) == (3 + 2) + 2 * 3
    assert not limit.over()


def test_time_spent_before_counts(tmp_path):
    clock = Clock()
    first = Spent(tmp_path, clock)
    clock.now = 7.0
    first.keep()
    again = Spent(tmp_path, clock, began=6.0)
    assert again() == 8.0
    (tmp_path / "spent.json").write_text("{")
    assert Spent(tmp_path, clock)() == 0.0


def test_the_larger_the_budget_the_more_is_asked():
    assert [preset_of(s).level for s in (1, 180, 3600)] == ["quick", "usual", "long"]
    assert [bounded(n, 1000) for n in (1, 100, 512)] == [1, 32, 32]
    sizes = []
    for preset in PRESETS:
        vector, image = space_of(preset, (12,)), space_of(preset, (8, 8, 1))
        assert vector["family"].values == ("dense",)
        assert image["family"].values == tuple(FAMILIES)
        sizes.append(largest_values(preset, (12,))["dense_width"])
    assert sizes == sorted(sizes)
    assert space_of(PRESETS[0], (2, 2, 1))["family"].values == ("dense",)  # too small to pool


def test_the_optimizer_is_searched_where_the_budget_holds_more():
    targets = np.repeat([0, 1], 20)
    examples = split_source(Source("s", "", np.arange(80.0).reshape(40, 2), targets), 0)
    asked = AutomlRequest("s", Budget.parse("5trials"))
    searches = [
        search_of(asked, examples, AutomlPlan(preset.level, 2, 1, "")) for preset in PRESETS
    ]
    assert [search.parts("optimizer") for search in searches] == [
        ("adamw",), ("adamw", "nesterov"), ("adamw", "nesterov")
    ]  # fmt: skip
    assert [search.parts("schedule") for search in searches] == [
        ("cosine",), ("cosine",), ("cosine", "linear")
    ]  # fmt: skip
    images = split_source(Source("i", "", np.arange(2560.0).reshape(40, 8, 8, 1), targets), 0)
    assert searches[0].sampler == "rounds"
    assert search_of(asked, images, AutomlPlan("quick", 2, 1, "")).sampler == "halton"
    assert [len(search.checked.ranges) for search in searches] == sorted(
        len(search.checked.ranges) for search in searches
    )
    assert PRESETS[1].parts == "adamw or nesterov, cosine"


def test_a_large_training_split_is_cut_so_that_enough_epochs_fit():
    plan = AutomlPlan("quick", 32, 1, "", step_seconds=0.032 / MEAN_NET)  # a millisecond an example
    whole = round_epochs(27) * 1000 * 1e-3
    found = affordable(plan, 1000, 1.01 * 32 / 31 * whole)
    assert (found.epochs, found.train_examples) == (27, 0)
    cut = affordable(plan, 50_000, round_epochs(9) * 5.0)
    assert (cut.epochs, cut.train_examples) == (9, 5000 // 32 * 32)  # steps are whole
    assert affordable(plan, 50_000, round_epochs(3) * 2.1).train_examples == 2000
    assert affordable(plan, 50_000, 0.1) is None
    targets = np.repeat([0, 1], [300, 100])
    source = Source("s", "", np.arange(800.0).reshape(400, 2), targets)
    examples = split_source(source, 0)
    few = examples.limited(100, 0)
    assert few.counts("train").tolist() == [75, 25] and few.size("test") == examples.size("test")
    assert examples.limited(0, 0) is examples


def test_what_a_cut_leaves_out_does_not_test_either():
    """Baselines train on all of it."""
    inputs = np.arange(3000.0).reshape(1500, 2)
    examples = split_source(Source("s", "", inputs, np.arange(1500) % 3), 0)
    few = examples.limited(300, 0)
    assert few.size("train") == 300 < examples.size("train") == 960
    cut, whole = few.development, examples.development
    for one, other in zip(cut, whole, strict=True):
        assert np.array_equal(np.sort(one, axis=0), np.sort(other, axis=0))


def test_the_benchmark_takes_all_runs_that_are_there_by_seed(tmp_path):
    for name in ("wine-10", "wine-2", "wine-0", "wine-2-other", "breast_cancer-0"):
        (tmp_path / f"{name}.json").write_text(f'["{name}"]')
    found = automl_benchmark.runs_of("wine", tmp_path)
    assert found == [["wine-0"], ["wine-2"], ["wine-10"]]


def test_the_tables_of_the_page_are_those_of_the_results():
    assert automl_page.PAGE.read_text() == automl_page.page(automl_page.PAGE.read_text())


def test_automl_is_better_or_worse_where_no_range_holds_zero():
    ranges = {"a": (-3.0, -1.0), "b": (0.5, 2.0), "c": (-1.0, 1.0), "d": (0.0, 2.0), "e": None}
    data = {
        name: {"against": {o: {"error_points": {"interval": ends}} for o in automl_page.OTHERS}}
        for name, ends in ranges.items()
    }
    said = "better on a; the range holds zero on c, d; too few seeds for a range on e; worse on b."
    assert automl_page.verdicts(data).splitlines() == [
        f"- Against {other}: {said}" for other in automl_page.OTHERS
    ]
