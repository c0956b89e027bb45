"""`batchscale evaluate`: the best parameters of a trial, from a checkpoint or trained again."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import polars as pl
import pytest
from support.engine_factory import resident_digits, tiny_study
from support.records_files import rewrite
from support.tolerances import FLOAT32

from experiments import studies
from experiments.cli import main
from experiments.records.store import read
from experiments.runner.evaluate import evaluate_trial
from experiments.runner.study import run_study
from experiments.spec.errors import StudyError
from experiments.spec.resolved import ResolvedStudy
from experiments.spec.study import Study
from experiments.training.population import Population
from experiments.training.program import Program
from workloads.datasets import load

ROOT = Path(__file__).parents[2]
ERROR = "validation/classification_error"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A record whose trials count as long: their best checkpoints are kept."""
    study = tiny_study(batch_sizes=(16,), trials=2, step_budget=40, seeds=(3,))
    where = tmp_path_factory.mktemp("evaluated") / "study"
    return run_study(study, where, execution="packed", checkpoint_minutes=1e-9, workers=1)


def test_the_best_is_the_same_from_a_checkpoint_and_trained_again(folder, tmp_path, monkeypatch):
    begun, start = [], Population._start

    def watched(self, slot, *arguments):
        found = start(self, slot, *arguments)
        begun.append(found.step)
        return found

    monkeypatch.setattr(Population, "_start", watched)
    (kept,) = (folder / "checkpoints" / "16" / "3-1").iterdir()
    first = evaluate_trial(folder, 16, 1, split="test")
    again = tmp_path / "again"
    shutil.copytree(folder, again, ignore=shutil.ignore_patterns("checkpoints"))
    assert evaluate_trial(again, 16, 1, split="test") == first
    assert begun == [int(kept.name), 0] and 0 < begun[0] <= first.step
    curve = read(folder).evaluations.filter(trial=1)
    best = curve.filter(pl.col(ERROR) == pl.col(ERROR).min())["step"].min()
    assert (first.step, first.recorded[ERROR]) == (best, curve[ERROR].min())
    same = evaluate_trial(folder, 16, 1, split="validation")
    assert same.metrics["classification_error"] == first.recorded[ERROR]
    # A float32 sum of other batches.
    cross_entropy = first.recorded["validation/cross_entropy"]
    np.testing.assert_allclose(same.metrics["cross_entropy"], cross_entropy, rtol=FLOAT32)


def test_the_mean_is_over_every_example_of_the_split(folder):
    """By hand, in float64, from the parameters that a population of one slot gets to."""
    found = evaluate_trial(folder, 16, 0, split="test")
    record = read(folder)
    study = ResolvedStudy.from_description(record.study["study"])
    program = Program(study.config("off"), resident_digits(), study.divergence_factor)
    trial = study.trial(16, 3, 0, _point(study), "")
    state, _ = Population(program, 16).train_to(trial, found.step)
    test = load("digits").splits["test"]
    x = np.asarray(test["inputs"], np.float64).reshape(len(test["inputs"]), -1)
    leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(state.params)]
    (b1, w1, b2, w2) = leaves
    classes = np.argmax(np.maximum(x @ w1 + b1, 0) @ w2 + b2, axis=1)
    assert found.metrics["classification_error"] == np.mean(classes != test["targets"])
    assert found.examples == len(x) == 389


def _point(study):
    from experiments.search.samplers.halton import point

    return point(3, 0, study.space)


def test_another_value_than_the_records_is_refused(folder, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    rewrite(other, "evaluations", lambda table: table.with_columns(pl.col(ERROR) - 1e-6))
    with pytest.raises(StudyError, match=r"trial 16/0 is not reproduced: validation/class"):
        evaluate_trial(other, 16, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trial", "16/7"], "there is no trial 16/7 of seed 3 (trials 0 to 1)"),
        (["--trial", "17/0"], "there is no trial 17/0 of seed 3 (batch sizes 16, seeds 3)"),
        (["--trial", "16/0", "--seed", "0"], "there is no trial 16/0 of seed 0 (batch sizes 16"),
        (["--trial", "16"], "argument --trial: must be B/INDEX, such as 64/3, got '16'"),
        (["--trial", "16/0", "--split", "all"], "argument --split: invalid choice: 'all'"),
    ],
)
def test_bad_input_is_one_line(folder, capsys, arguments, message):
    try:
        code = main(["evaluate", str(folder), *arguments])
    except SystemExit as end:  # argparse
        code = end.code
    said = capsys.readouterr().err
    assert code == 2
    assert said.startswith(f"batchscale: error: {message}") and said.count("\n") == 1


def test_the_table_and_json(folder, capsys):
    assert main(["evaluate", str(folder), "--trial", "16/0", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert main(["evaluate", str(folder), "--trial", "16/0"]) == 0
    title, heading, error, _ = capsys.readouterr().out.splitlines()
    assert title == f"trial 16/0 of seed 3, best at step {found['step']}"
    assert heading.split() == ["metric", "validation", "(384)", "validation,", "recorded"]
    assert error.split()[1:] == [f"{found['metrics']['classification_error']:.6g}"] * 2


@pytest.mark.parametrize("name", sorted(studies.STUDIES))
def test_a_study_can_be_rebuilt_from_its_description(name):
    found = studies.get(name)
    for study in found.studies.values() if hasattr(found, "studies") else [found]:
        if isinstance(study, Study):
            complete = study.resolved
            again = ResolvedStudy.from_description(complete.describe())
            assert again.describe() == complete.describe()
            assert again.config("off") == complete.config("off")


def test_nothing_else_reads_the_test_split():
    """An archive's columns and a chart's condition have the word too; automl tests once, last, and
    `check` looks through whatever splits there are for copies."""
    files = [*(ROOT / "experiments").rglob("*.py"), *(ROOT / "workloads").glob("*.py")]
    files = [p for p in files if p.parent.name not in ("exchange", "automl")]
    naming = {
        str(p.relative_to(ROOT))
        for p in files
        if re.search(r"""["']test["'](?!: IS_SELECTED)""", p.read_text())
    }
    assert naming == {"experiments/commands/evaluate.py", "experiments/runner/evaluate.py"}
