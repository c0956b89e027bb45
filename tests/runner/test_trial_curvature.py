"""`batchscale curvature`: numbers of a record's trial, its page, its cost said, bad input."""

from __future__ import annotations

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest
from support.engine_factory import TINY, tiny_study
from support.tolerances import FLOAT32, FLOAT32_SOLVES, FLOAT32_SUMS

from experiments.cli import main
from experiments.diagnostics.problem import flat, in_chunks
from experiments.diagnostics.trained import problem_of_iterate
from experiments.report.trial_curvature import numbers_table
from experiments.runner import curvature
from experiments.runner.curvature import CurvatureRequest, measure
from experiments.runner.curvature_alignment import successive_gradients
from experiments.runner.curvature_sharpness import SharpnessSearch
from experiments.runner.study import run_study
from experiments.runner.trained import reopen, trained_to, trial_row, with_data
from experiments.spec.trial import Precision
from experiments.training.order import ExampleOrder

LANCZOS = 1e-3
"""Twenty Lanczos steps in float32 on a matrix of 310 rows, relative to its largest eigenvalue."""

SMALL = dataclasses.replace(
    TINY, name="digits_smaller", model_options={"hidden_sizes": [4], "classes": 10}
)
QUICK = CurvatureRequest(examples=40, order=20, draws=1, probes=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    study = tiny_study(
        workload=SMALL, batch_sizes=(16,), trials=2, step_budget=30, example_budget=480,
        optimizer="adam",
    )  # fmt: skip
    return run_study(study, tmp_path_factory.mktemp("curved") / "study", execution="scan")


@pytest.fixture(scope="module")
def found(folder):
    said = []
    result = measure(folder, (16, 0), QUICK, against=(16, 1), say=said.append)
    return result, said


def number(result, quantity):
    return result.numbers.filter(quantity=quantity).row(0, named=True)


def test_the_numbers_are_those_of_the_dense_hessian(folder, found, monkeypatch):
    subjects = []
    monkeypatch.setattr(curvature, "_measured", lambda subject, asked: subjects.append(subject))
    measure(folder, (16, 0), QUICK)
    (subject,) = subjects
    theta, unflat = flat(subject.params)
    loss = jax.jit(jax.hessian(lambda v: subject.problem.loss(unflat(v))))
    dense = np.asarray(loss(theta), np.float64)
    values = np.linalg.eigvalsh(dense)
    result, _ = found
    top = number(result, "largest eigenvalue of the Hessian")
    assert top["value"] == pytest.approx(values[-1], rel=LANCZOS)
    trace = number(result, "trace of the Hessian")
    assert abs(trace["value"] - np.trace(dense)) < 5 * trace["error"] + 1e-3
    nothing = number(result, "smallest eigenvalue of the Gauss-Newton matrix")
    assert nothing["value"] == pytest.approx(0, abs=LANCZOS * values[-1])


def test_every_part_has_its_numbers_and_its_curve(found):
    result, said = found
    names = set(result.numbers["quantity"])
    assert {
        "preconditioned sharpness", "stability bound", "noise scale, sign norm",
        "relative sharpness, epsilon 0.01, 10 iterations",
        "filter-normalised sharpness, epsilon 0.01, to convergence",
        "noise scale, spectral norm", "norm test, theta 0.5", "inner-product test, theta 1",
        "Keskar's sharpness, 100 random dimensions, epsilon 0.001, 10 iterations",
        "Keskar's sharpness, full space, epsilon 0.0005, to convergence",
        "alignment of successive gradients of batches", 
        "barrier of the line, train/cross_entropy", "barrier of the curve, train/cross_entropy",
    } <= names  # fmt: skip
    assert set(result.curves) == {"density", "errors", "alignment", "plane", "lines"}
    assert (result.numbers["value"].is_finite()).all()
    lines = result.curves["lines"]
    assert set(lines["path"]) == {"line", "arc", "curve", "line, units matched"}
    ends = lines.filter(pl.col("path").is_in(["line", "line, units matched"]), alpha=1.0)
    apart = ends.group_by("quantity").agg(pl.col("value").max() - pl.col("value").min())
    assert (
        len(apart) == 4 and (apart["value"] < FLOAT32_SUMS).all()
    )  # matched units are the same net
    again, again_of, cost = said
    assert again.startswith("trial 16/0 of seed 0 has no checkpoint at its best step")
    assert "is trained again from its start" in again_of
    assert "products with the Hessian" in cost and "MB of vectors" in cost


def test_the_second_solution_has_a_spectrum_and_a_sharpness_beside(found):
    result, _ = found
    both = result.numbers.filter(pl.col("quantity") == "trace of the Hessian")
    assert both["trial"].to_list() == [result.trial, result.against]
    assert both["value"][0] != both["value"][1]
    table = numbers_table(result.numbers)
    assert table.columns == ("quantity", result.trial, "±", result.against, "±", "how")
    (own,) = (row for row in table.rows if row[0] == "norm test, theta 1")
    assert own[3] == own[4] == ""  # gradients are the first one's


def test_more_iterations_and_restarts_find_no_smaller_maximum(found, folder):
    """The search goes uphill: to convergence it is no lower than after ten iterations."""
    result, _ = found
    name = "Keskar's sharpness, full space, epsilon 0.001"
    few = number(result, f"{name}, 10 iterations")
    many = number(result, f"{name}, to convergence")
    assert 0 < few["value"] <= many["value"] + 100 * FLOAT32  # percent of a float32 loss
    assert many["how"].endswith("1 of 1 converged")
    random = number(
        result, "Keskar's sharpness, 100 random dimensions, epsilon 0.001, 10 iterations"
    )
    assert "A [n, 100] of independent N(0, 1) entries, seed 0" in random["how"]
    search = SharpnessSearch((2,), restarts=2, distribution="orthonormal")
    asked = dataclasses.replace(QUICK, parts=("sharpness",), search=search)
    again = measure(folder, (16, 0), asked).numbers
    assert "from 2 random points" in again["how"][1] and "orthonormal columns" in again["how"][1]
    assert again["quantity"].str.ends_with("2 iterations").all()


def test_successive_gradients_are_those_of_the_trials_own_next_steps(folder):
    """Against an engine of Python: the trial trained on step by step, its gradients kept."""
    record, study = reopen(folder)
    opened = with_data(folder, record, study)
    row = trial_row(record, study, 16, None, 0)
    early = trained_to(opened, row, 10)
    subject = curvature._subject(opened, (early,), QUICK)
    of_batches, of_examples = successive_gradients(subject, 3)
    for k in range(4):
        there = trained_to(opened, row, 10 + k)
        own = curvature._subject(opened, (there,), QUICK)
        exact = flat(own.problem.gradient(there.state.params))[0]
        np.testing.assert_allclose(of_examples[k], exact, atol=FLOAT32_SOLVES)
    places = np.arange(10 * 16, 11 * 16)
    order = ExampleOrder(early.trial.seed, early.trial.index, opened.data.examples)
    rows = order.take(places[-1] + 1)[places]
    batch = {name: value[rows] for name, value in opened.dataset.splits["train"].items()}
    problem = problem_of_iterate(
        early.config, early.state, early.hyperparameters,
        jax.tree.map(jnp.asarray, in_chunks(batch, 16)),
    )  # fmt: skip
    exact = flat(problem.gradient(early.state.params))[0]
    np.testing.assert_allclose(of_batches[0], exact, atol=FLOAT32_SOLVES)


def test_a_grown_batch_goes_on_at_its_size_and_its_rate(tmp_path):
    """From 8 to 32 after 80 examples: the step that follows has 32, and its bound its rate."""
    study = tiny_study(
        workload=SMALL, batch_sizes=(8,), trials=1, step_budget=1, example_budget=480,
        optimizer="sgd", batch_size_schedule="smith", batch_size_cuts=(80,),
        batch_size_factor=8.0, max_batch_size=32,
    )  # fmt: skip
    folder = run_study(study, tmp_path / "grown", execution="scan")
    asked = dataclasses.replace(QUICK, parts=("spectrum", "gradients"), steps=2, order=5)
    result = measure(folder, (8, 0), asked)
    batches = number(result, "alignment of successive gradients of batches")
    assert "batches of 32" in batches["how"] and -1 <= batches["value"] <= 1
    rate = reopen(folder)[0].trials["learning_rate"][0]
    bound = number(result, "stability bound")
    assert bound["value"] == pytest.approx(2 / (rate / 2), rel=FLOAT32)  # four of eight in B


def test_a_block_is_the_curvature_of_its_parameters(folder):
    asked = dataclasses.replace(QUICK, parts=("spectrum",), block="Dense_1/bias")
    result = measure(folder, (16, 0), asked)
    assert dict(result.facts)["Parameters"] == "10 of 310"
    top = number(result, "largest eigenvalue of the Gauss-Newton matrix")
    same = number(result, "largest eigenvalue of the Hessian")
    # The output's bias enters the scores linearly: both matrices agree.
    assert top["value"] == pytest.approx(same["value"], rel=FLOAT32_SOLVES)


def test_the_command_writes_a_page_and_prints_the_numbers(folder, capsys, tmp_path):
    words = ["curvature", str(folder), "--trial", "16/0", "--examples", "30", "--measure",
             "gradients", "--out", str(tmp_path / "out")]  # fmt: skip
    assert main([*words, "--json"]) == 0
    read = capsys.readouterr()
    rows = json.loads(read.out)
    assert {row["quantity"] for row in rows} >= {"noise scale, euclidean norm"}
    assert "products with the Hessian" in read.err
    page = (tmp_path / "out" / "report" / "index.html").read_text()
    assert "Standard error of the gradient" in page and "Curvature of trial 16/0" in page
    assert (tmp_path / "out" / "report" / "data" / "numbers.csv").exists()
    assert (tmp_path / "out" / "report" / "figures" / "gradient_error.png").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--trial", "16/9"], "there is no trial 16/9 of seed 0 (trials 0 to 1)"),
        (["--trial", "16/0", "--against", "16/9"], "there is no trial 16/9 of seed 0"),
        (
            ["--trial", "16/0", "--block", "Conv"],
            "block must be found in a parameter's path (",
        ),
        (["--trial", "16/0", "--block", "["], "block must be a regular expression, got '['"),
        (["--trial", "16/0", "--order", "0"], "argument --order: must be a whole number of at"),
        (["--trial", "16/0", "--measure", "x"], "argument --measure: invalid choice: 'x'"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(folder, capsys, words, message):
    try:
        code = main(["curvature", str(folder), *words])
    except SystemExit as end:
        code = end.code
    said = capsys.readouterr().err
    assert code == 2 and said.count("\n") == 1
    assert said.startswith(f"batchscale: error: {message}")
    assert not (folder / "curvature").exists()


def test_more_probes_than_memory_are_refused_before_anything_is_computed(folder, monkeypatch):
    monkeypatch.setattr(curvature, "device_bytes", lambda: (10_000, "the host"))
    with pytest.raises(ValueError, match="spectrum with order 20 of 310 parameters needs"):
        measure(folder, (16, 0), dataclasses.replace(QUICK, parts=("spectrum",)))


def test_a_loss_without_curvature_and_coarse_numbers_are_refused(tmp_path):
    """Steps of a loss: its derivative is zero wherever it has one."""
    flat_losses = dataclasses.replace(SMALL, name="counts", losses="support.objectives:COUNTING")
    study = tiny_study(workload=flat_losses, batch_sizes=(16,), trials=1, step_budget=3,
                       example_budget=48)  # fmt: skip
    folder = run_study(study, tmp_path / "flat", execution="scan")
    with pytest.raises(ValueError, match="has gradient 0 at the best step of the trial: it is not"):
        measure(folder, (16, 0), QUICK)
    coarse = tiny_study(workload=SMALL, batch_sizes=(16,), trials=1, step_budget=3,
                        example_budget=48, precision=Precision(compute="bfloat16"))  # fmt: skip
    folder = run_study(coarse, tmp_path / "coarse", execution="scan")
    with pytest.raises(ValueError, match="the curvature needs parameters and activations in float"):
        measure(folder, (16, 0), QUICK)
