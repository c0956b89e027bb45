"""The curvature recorded in training: against dense Hessians, on every execution, in a record."""

from __future__ import annotations

import contextlib
import dataclasses
import io

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest
from support import engine_twin
from support.engine_factory import TINY, resident_digits, tiny_study, tiny_trial, train
from support.tolerances import FLOAT32_SOLVES, FLOAT32_SUMS

from experiments.analysis.curvature import PRECONDITIONED, curvature_at_best
from experiments.analysis.summary import summarise
from experiments.analysis.view import view_of
from experiments.cli import build_parser
from experiments.commands.chosen import chosen_study
from experiments.commands.progress import shown_progress
from experiments.diagnostics.curvature_in_training import _training_examples, curvature_of
from experiments.diagnostics.preconditioners import divisor
from experiments.diagnostics.problem import flat
from experiments.diagnostics.stability import stability_threshold
from experiments.diagnostics.trained import problem_of_iterate
from experiments.planning.curvature import curvature_cost, measurements_of
from experiments.records.store import read
from experiments.report.curvature_figures import curvature_table
from experiments.report.figures import drawn
from experiments.runner.progress import StudyProgress
from experiments.runner.study import run_study
from experiments.spec.trial import Precision
from experiments.training.computation import Measurement
from experiments.training.evaluation import evaluation_data
from experiments.training.layout import SCAN, Execution, Layout
from experiments.training.population import Population
from experiments.training.program import Program
from optimizers import OPTIMIZERS
from workloads.datasets import load

DIVIDED = 1e-3
"""Ten Lanczos steps in float32 on that Hessian, divided by roots of a hundredfold range."""

EXAMPLES = 64
RITZ = 1e-4
"""Ten Lanczos steps in float32 on the tiny net's Hessian, relative."""


def measuring(**changes):
    study = tiny_study(
        record_curvature=4, train_evaluation_examples=EXAMPLES, batch_sizes=(8,), **changes
    )
    data, config = resident_digits(EXAMPLES), study.config("off")
    found = curvature_of(study, data)
    return study, Program(config, data, study.divergence_factor, measurements=found)


@pytest.fixture(scope="module")
def measured():
    return measuring()


def columns(result):
    names = ("largest", "error", "threshold")
    return {name: result.evaluations[f"measured/curvature/{name}"] for name in names}


def twin(theta):
    """lambda_1 of the dense Hessian of the mean cross entropy of the tiny net, in float64."""
    split = load("digits").splits["train"]
    x, y = split["inputs"][:EXAMPLES].astype(float), split["targets"][:EXAMPLES]
    shapes = [w.shape for w in theta]

    def loss(vector):
        parts, first = [], 0
        for shape in shapes:
            size = int(np.prod(shape))
            parts.append(vector[first : first + size].reshape(shape))
            first += size
        hidden = jnp.maximum(x @ parts[0] + parts[1][None, :], 0)
        logits = hidden @ parts[2] + parts[3][None, :]
        return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(len(y)), y])

    with jax.enable_x64(True):
        dense = jax.jit(jax.hessian(loss))(jnp.concatenate([w.ravel() for w in theta]))
        return float(np.linalg.eigvalsh(np.asarray(dense))[-1])


@pytest.fixture(scope="module")
def truth(measured):
    """(trial, steps that are due, lambda_1 after each of them)."""
    study, program = measured
    trial = tiny_trial(0, 8, 6)
    path = engine_twin.iterates(trial, program)
    longest = study.grid(study.length(8))
    due = [step for step in longest[::4] if step < 6] + [6]
    assert due == [1, 5, 6]
    return trial, due, [twin(path[step - 1]) for step in due]


@pytest.mark.parametrize(
    "execution",
    [
        SCAN,
        Execution("loop"),
        Execution("packed", 2, layout=Layout("vmap", data=2)),
    ],
    ids=str,
)
def test_it_is_the_top_eigenvalue_of_the_dense_hessian_where_it_is_due(measured, truth, execution):
    trial, due, values = truth
    other = tiny_trial(1, 8, 8, learning_rate=0.01)
    results = train([trial, other], program=measured[1], execution=execution)
    found = columns(results[0])
    at = np.isin(results[0].evaluations["step"], due)
    assert at.sum() == len(due)
    np.testing.assert_allclose(found["largest"][at], values, rtol=RITZ)
    for column in found.values():
        assert np.isnan(column[~at]).all()
    eta, mu = 0.05, 0.9
    bound = 2 * (1 + mu) / ((1 + 2 * mu) * eta)
    np.testing.assert_allclose(found["threshold"][at], bound, rtol=FLOAT32_SUMS)
    assert (found["error"][at] < 0.05 * found["largest"][at]).all()
    neighbour = columns(results[1])
    assert np.isfinite(
        neighbour["largest"][np.isin(results[1].evaluations["step"], [1, 5, 8])]
    ).all()


def test_nothing_is_computed_where_no_trial_of_the_pack_is_due():
    """A measurement counts its calls on the host: at the due evaluations of either trial alone."""
    calls = []

    def counted(state, hyperparameters, data, *, axis_name=None):
        jax.debug.callback(lambda step: calls.append(int(np.max(step))), state.step)
        return {"step": state.step.astype(jnp.float32)}

    study = tiny_study()
    own = Measurement("own", counted, "evaluation", lambda state: state.step % 5 == 0)
    config, data = study.config("off"), resident_digits(EXAMPLES)
    program = Program(config, data, study.divergence_factor, measurements=(own,))
    result = train([tiny_trial(0, 8, 10)], program=program)[0]
    jax.effects_barrier()
    assert calls == [5, 10]
    found, step = result.evaluations["measured/own/step"], result.evaluations["step"]
    assert (found[step % 5 == 0] == [5, 10]).all() and np.isnan(found[step % 5 != 0]).all()


NUMBERS = {
    "learning_rate": 0.02, "momentum": 0.0, "beta1": 0.9, "beta2": 0.95, "decay": 0.9,
    "epsilon": 1e-3, "weight_decay": 0.0,
}  # fmt: skip


@pytest.mark.parametrize("name", PRECONDITIONED)
def test_the_preconditioner_is_what_the_rule_divided_its_step_by(name):
    """With beta1 = 0 a step is -eta g / D, D made of the state after it; at beta1 = 0.9 the first
    step is -eta (1 - beta1) g / D (NAdam's, which looks ahead, weighs g by 1 - beta1^2)."""
    weights = {"a": jnp.array([1.0, -2.0, 3.0]), "b": jnp.array([[0.5, -0.1]])}
    gradients = jax.tree.map(lambda w: 0.3 * w + 0.1, weights)
    assert stability_threshold(name, NUMBERS).matrix == "preconditioned"
    for beta1, steps in ((0.0, 3), (0.9, 1)):
        values = {**NUMBERS, "beta1": beta1}
        rule = OPTIMIZERS[name].transformation(values)
        state = rule.init(weights)
        for k in range(steps):
            update, state = rule.update(
                jax.tree.map(lambda g, k=k: g * (k + 1), gradients), state, weights
            )
        parts = divisor(name, state, jnp.int32(steps), values)
        moved = flat(update)[0] * jnp.concatenate([part.ravel() for part in parts])
        with_beta = beta1 and any(row.name == "beta1" for row in OPTIMIZERS[name].hyperparameters)
        expected = -NUMBERS["learning_rate"] * steps * flat(gradients)[0]
        if with_beta and name in ("nadam", "nadamw", "optax_nadam"):
            # Optax's looks one step further ahead in the first term of two.
            share = {"nadam": 1 - 0.9**2, "nadamw": None, "optax_nadam": None}[name]
            share = 0.1 * (0.9 * 0.1 / (1 - 0.9**2) + 1) if share is None else share
            expected = expected * share
        elif with_beta:
            expected = expected * (1 - beta1)
        np.testing.assert_allclose(moved, expected, rtol=FLOAT32_SOLVES)


def test_adams_is_the_eigenvalue_of_the_divided_hessian():
    options = {"hidden_sizes": [4], "classes": 10}
    workload = dataclasses.replace(TINY, model_options=options)
    study, program = measuring(optimizer="adam", workload=workload)
    values = {"learning_rate": 0.01, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-4}
    trial = dataclasses.replace(tiny_trial(0, 8, 9), hyperparameters=values)
    result = train([trial], program=program)[0]
    population = Population(program, 8, SCAN)
    state, _ = population.train_to(trial, 9)
    numbers = program.numbers(trial.hyperparameters)
    split = load("digits").splits["train"]
    chunk = {k: jnp.asarray(split[k][:EXAMPLES])[None] for k in ("inputs", "targets")}
    chunk["weights"] = jnp.ones((1, EXAMPLES))
    problem = problem_of_iterate(study.config("off"), state, numbers, chunk)
    vector, unflat = flat(state.params)
    dense = np.asarray(jax.jit(jax.hessian(lambda v: problem.loss(unflat(v))))(vector), np.float64)
    nu = [np.asarray(slots["v"], np.float64).ravel() for slots in state.opt_state.slots]
    root = np.sqrt(np.concatenate(nu)) + 1e-4
    divided = root * (1 - 0.9**9) / np.sqrt(1 - 0.99**9)
    exact = np.linalg.eigvalsh(dense / np.sqrt(np.outer(divided, divided)))[-1]
    found = columns(result)
    np.testing.assert_allclose(found["largest"][-1], exact, rtol=DIVIDED)
    np.testing.assert_allclose(found["threshold"][-1], 38 / 0.01, rtol=FLOAT32_SUMS)


@pytest.mark.parametrize(("batch", "shares"), [(1000, 1), (50, 1), (50, 2)])
def test_the_examples_are_the_training_ones_of_the_evaluation(batch, shares):
    splits = load("digits").splits
    data = evaluation_data(splits, EXAMPLES, batch)
    weight, inputs = [], []
    for part in range(shares):
        mine = {k: jnp.asarray(v[:, part::shares]) for k, v in data.items()}
        chunks = _training_examples(mine, EXAMPLES)
        assert chunks["weights"].shape[1] <= mine["weights"].shape[1]
        weight.append(np.asarray(chunks["weights"]).ravel())
        inputs.append(np.asarray(chunks["inputs"]).reshape(len(weight[-1]), -1))
    kept = np.concatenate(inputs)[np.concatenate(weight) > 0]
    truth = splits["train"]["inputs"][:EXAMPLES]
    np.testing.assert_array_equal(np.sort(kept, 0), np.sort(truth, 0))
    assert sum(w.sum() for w in weight) == EXAMPLES


def test_a_study_that_asks_for_it_says_the_cost_records_it_and_shows_it(tmp_path):
    study = tiny_study(
        record_curvature=6, batch_sizes=(8,), trials=2, train_evaluation_examples=EXAMPLES
    )
    folder = run_study(study, tmp_path / "study", execution="packed")
    view = view_of(read(folder), None)
    at_best = curvature_at_best(view, view.record.trials)
    assert len(at_best) == 2 and (at_best["largest"] > 0).all()
    assert (at_best["ratio"] == at_best["largest"] / at_best["threshold"]).all()
    per_trial = view.record.evaluations.group_by("trial").agg(
        pl.col("measured/curvature/largest").is_finite().sum().alias("n")
    )
    assert set(per_trial["n"]) == {measurements_of(study, 8)}
    assert curvature_table(summarise(view)).rows[0][0] == "8"
    assert "curvature_in_training" in [figure.name for figure in drawn(summarise(view))]


def test_the_cost_is_said_before_anything_is_trained():
    study = tiny_study(record_curvature=2, batch_sizes=(8, 64), train_evaluation_examples=128)
    text = curvature_cost(study)
    assert "10 Lanczos steps on 128 training examples at every 2nd evaluation" in text
    assert "2,560 gradients of one example each time" in text
    trained = 8 * study.length(8)
    share = 2560 * measurements_of(study, 8) / trained
    assert f"{share:,.0f} times at batch size 8" in text
    assert curvature_cost(tiny_study()) == ""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), shown_progress(study) as observe:
        observe(StudyProgress("x", checked=True))
    assert "10 Lanczos steps" in " ".join(out.getvalue().split())


def test_it_is_asked_for_on_the_command_line_and_refused_in_one_line():
    asked = build_parser().parse_args(["run", "quickstart", "--record-curvature", "5"])
    assert chosen_study(asked).record_curvature == 5
    with pytest.raises(ValueError, match="record_curvature needs parameters and activations in"):
        tiny_study(record_curvature=1, precision=Precision(compute="bfloat16"))
    with pytest.raises(ValueError, match="record_curvature must be a whole number"):
        tiny_study(record_curvature=1.5)


def test_a_model_with_batch_norm_is_measured_with_its_running_statistics():
    options = {"hidden_sizes": [8], "classes": 10, "normalization": "batch"}
    workload = dataclasses.replace(TINY, model_options=options)
    _, program = measuring(workload=workload)
    found = columns(train([tiny_trial(0, 8, 5)], program=program)[0])
    assert np.isfinite(found["largest"][[0, -1]]).all()
