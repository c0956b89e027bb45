"""batchscale data and batchscale nqm: what is said is true, every format, errors in one line."""

from __future__ import annotations

import csv
import math

import numpy as np
import polars as pl
import pytest
from support.tolerances import FLOAT64

from experiments.analysis.noisy_quadratic import scaling_table
from experiments.cli import main
from experiments.report.nqm import figure
from workloads import datasets
from workloads.oracles.grid import GridSearch

STEPS = {256: 25_881, 1024: 10_610, 2_097_152: 7_268}
"""First steps below 0.01 of plain SGD (all: tests/leaves/test_workloads_noisy_quadratic.py)."""


def test_data_says_counts_balance_checksum_and_licence(capsys):
    assert main(["data", "digits"]) == 0
    said = capsys.readouterr().out
    digits = datasets.load("digits")
    assert digits.checksum in said
    for split in ("train", "validation", "test"):
        counts = np.bincount(digits.splits[split]["targets"])
        assert f"{split:<10} {counts.sum():>7,} examples of 64" in said
        assert " ".join(map(str, counts)) in said
    assert "CC BY 4.0" in said and "mean training image" in said


def test_data_describes_a_text_of_the_users_own(tmp_path, capsys):
    path = tmp_path / "mine.txt"
    path.write_text("to be or not to be " * 400)
    assert main(["data", "text", "--data-dir", str(path)]) == 0
    said = capsys.readouterr().out
    assert str(path) in said
    assert "7 of 97 classes occur" in said


def test_data_takes_the_options_of_the_dataset(tmp_path, capsys):
    path = tmp_path / "mine.txt"
    path.write_text("to be or not to be " * 400)
    command = ["data", "text", "--data-dir", str(path), "--set", "tokens=bytes"]
    assert main([*command, "sequence_length=16", "train_examples=10"]) == 0
    said = capsys.readouterr().out
    assert "10 examples of 16 uint8" in said and "of 256 classes occur" in said
    assert main(["data", "synthetic_images", "--set", "shape=4,6,3", "classes=5"]) == 0
    assert "2,048 examples of 4x6x3 uint8" in capsys.readouterr().out
    assert main(["data", "digits", "--set", "validation_examples=100"]) == 0
    said, digits = capsys.readouterr().out, datasets.load("digits", validation_examples=100)
    assert digits.checksum in said and "100 examples" in said
    assert digits.checksum != datasets.load("digits").checksum


def test_nqm_prints_writes_and_draws_the_published_models_table(tmp_path, capsys):
    table, drawing = tmp_path / "steps.csv", tmp_path / "steps.png"
    command = ["nqm", "--batch-sizes", *map(str, STEPS), "--csv", str(table)]
    assert main([*command, "--out", str(drawing)]) == 0
    said = capsys.readouterr().out
    found = list(csv.DictReader(table.read_text().splitlines()))
    assert {int(row["batch_size"]): int(row["steps_to_goal"]) for row in found} == STEPS
    for batch_size, steps in STEPS.items():
        assert f"{batch_size:>10,} {steps:>12,} {steps * batch_size:>16,}" in said
    assert "perfect scaling up to B = 256" in said
    assert drawing.read_bytes().startswith(b"\x89PNG")
    assert f"written: {table}\nwritten: {drawing}\n" in said


@pytest.mark.parametrize(("optimizer", "column"), [("momentum", "momentum"), ("ema", None)])
def test_a_second_hyperparameter_has_a_column_of_its_own(optimizer, column):
    search = GridSearch(optimizer, power=0.5, batch_sizes=(65536, 4096, 4096))
    table = scaling_table(search, list(search.rows()))
    assert table["batch_size"].to_list() == [4096, 65536]
    coefficient = table[column or "averaging_coefficient"]
    assert ((coefficient >= 0) & (coefficient < 1)).all()
    effective = table["learning_rate"] / (1 - coefficient if column else 1)
    np.testing.assert_allclose(table["effective_learning_rate"], effective, rtol=FLOAT64)


def test_the_figure_holds_every_point_and_its_perfect_scaling_line():
    search = GridSearch(batch_sizes=(1024, 4096, 16384))
    table = scaling_table(search, list(search.rows()))
    steps = table["steps_to_goal"].to_list()
    np.testing.assert_allclose(table["perfect_scaling_steps"], [steps[0] / 4**k for k in range(3)])
    upper = figure(search, table).specification()["vconcat"][0]
    assert {row["steps_to_goal"] for row in upper["data"]["values"]} == set(steps)
    marks = {layer["mark"]["type"]: layer["encoding"]["y"]["field"] for layer in upper["layer"]}
    assert marks == {"line": "steps_to_goal", "point": "steps_to_goal"}
    assert upper["layer"][0]["encoding"]["y"]["field"] == "perfect_scaling_steps"
    for panel in figure(search, table).specification()["vconcat"]:
        assert panel["layer"][1]["encoding"]["y"]["axis"]["values"], "no tick is drawn"


def test_a_goal_out_of_reach_is_said_and_drawn_as_nothing(tmp_path, capsys):
    page = tmp_path / "page.html"
    assert main(["nqm", "--goal", "1e-9", "--batch-sizes", "4", "--out", str(page)]) == 0
    assert capsys.readouterr().out.count("goal") >= 2
    assert "no batch size reaches the goal" in page.read_text()


def test_a_row_without_steps_is_null_and_the_line_starts_at_the_first_that_has():
    search = GridSearch(goal=0.01, batch_sizes=(4096, 8192))
    known = list(search.rows())
    missing = type(known[0])(2048, None, None, None, math.inf)
    table = scaling_table(search, [missing, *known])
    assert table["steps_to_goal"].null_count() == 1
    assert table["perfect_scaling_steps"][0] is None
    assert table["perfect_scaling_steps"][1] == known[0].steps
    assert table.schema["steps_to_goal"] == pl.Int64


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("data", "the following arguments are required: NAME"),
        ("data digitz", "dataset 'digitz' is unknown; did you mean 'digits'?"),
        ("data text --data-dir nowhere.txt", "nowhere.txt: cannot be read"),
        ("data text --data-dir latin.txt", "latin.txt: not UTF-8 at byte 1"),
        ("data text --data-dir short.txt", "short.txt: 9 bytes of text, expected at least"),
        ("data cifar10 --data-dir .", "tfds build cifar10"),
        ("data cifar100 --data-dir .", "tfds build cifar100"),
        ("data imagenet --data-dir .", "ILSVRC2012_img_train.tar"),
        ("data lm1b --data-dir .", "tfds build lm1b"),
        ("data mnist --data-dir .", "expected the four IDX files of mnist"),
        ("data digits --set size=3", "option of dataset digits 'size' is unknown (known: train_"),
        ("data text --set sequence_lenght=3", "did you mean 'sequence_length'?"),
        ("data text --set sequence_length=x", "sequence_length must be a whole number, got 'x'"),
        ("data text --set sequence_length", "--set takes KEY=VALUE, got 'sequence_length'"),
        ("data text --set tokens=words", "tokens 'words' is unknown"),
        ("data synthetic_images --set shape=4x4", "shape must be whole numbers with commas"),
        ("data digits --set train_examples=0", "train_examples must be a whole number in 1..1024"),
        ("data digits --set validation_examples=385", "in 1..384 (the validation split of digits)"),
        ("run absent.py --data-dir .", "tfds build cifar100 --file_format=array_record"),
        ("data fashion_mnist --data-dir .", "fashion"),
        ("nqm --optimizer momentun", "'momentun' is unknown; did you mean 'momentum'?"),
        ("nqm --power 1.5", "power must lie in [0, 1], got 1.5"),
        ("nqm --power half", "argument --power: invalid float value: 'half'"),
        ("nqm --goal 0", "goal must be a positive number, got 0.0"),
        ("nqm --goal nan", "goal must be a positive number, got nan"),
        ("nqm --batch-sizes 0", "must be a whole number of at least 1, got '0'"),
        ("nqm --out table.gif", "out must end in .png, .svg, .pdf, .html, got 'table.gif'"),
        ("nqm --batch-sizes 4096 --csv no/table.csv", "folder no of table.csv does not exist"),
    ],
)
def test_bad_input_is_one_line_exit_2(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latin.txt").write_bytes("né à".encode("latin-1") * 1000)
    (tmp_path / "short.txt").write_text("too short")
    (tmp_path / "absent.py").write_text(
        "import workloads\nfrom experiments.spec.study import Study\n"
        "STUDY = Study(name='a', question='?', batch_sizes=(8,), step_budget=1, example_budget=8,"
        " workload=workloads.get('cifar100_wide_resnet'))\n"
    )
    before = sorted(tmp_path.iterdir())
    try:
        code = main(arguments.split())
    except SystemExit as exit_:
        code = exit_.code
    error = capsys.readouterr().err
    assert code == 2
    assert error.startswith("batchscale: error: ") and error.count("\n") == 1
    assert said in error
    assert sorted(tmp_path.iterdir()) == before


def test_the_study_states_the_recursions_steps():
    """experiments/studies/noisy_quadratic.py names what its curve must come close to."""
    from experiments.studies.noisy_quadratic import EXACT, STUDY
    from workloads.oracles.grid import steps_table
    from workloads.oracles.recursions import full_spectrum

    spectrum = full_spectrum(STUDY.workload.model_options["dimensions"])
    goal = STUDY.workload.goal.value
    found = steps_table("sgd", goal=goal, spectrum=spectrum, batch_sizes=tuple(EXACT))
    assert {row.batch_size: row.steps for row in found} == EXACT
    assert all(f"{steps} at B = {b}" in STUDY.expected for b, steps in EXACT.items())
