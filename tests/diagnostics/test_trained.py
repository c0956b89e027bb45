"""A trained trial as a problem, against the evaluation that training itself makes."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.engine_factory import TINY, tiny_study
from support.tolerances import FLOAT32, FLOAT32_SUMS

from experiments.diagnostics.trained import problem_of
from experiments.spec.trial import Precision
from experiments.training.evaluation import evaluation_data, make_evaluation
from experiments.training.order import trial_keys
from experiments.training.state import gather, init_state, to_evaluate
from experiments.training.step import make_step
from workloads.datasets import load

HYPERPARAMETERS = {
    "learning_rate": 0.05, "momentum": 0.9, "average_decay": 0.5, "label_smoothing": 0.1,
    "dropout_rate": 0.5,
}  # fmt: skip


@pytest.fixture(scope="module")
def trained():
    """(config, state, hyperparameters, 150 examples): batch norm, dropout, smoothing, averages."""
    workload = dataclasses.replace(
        TINY,
        model_options={"hidden_sizes": [8], "classes": 10, "normalization": "batch"},
        hyperparameters={"label_smoothing": 0.1, "dropout_rate": 0.5},
    )
    config = dataclasses.replace(
        tiny_study(workload=workload, optimizer="momentum").config("off"), averaging="ema"
    )
    train = load("digits").splits["train"]
    examples = {role: np.asarray(train[role][:150]) for role in ("inputs", "targets")}
    numbers = {k: jnp.float32(v) for k, v in HYPERPARAMETERS.items()}
    data = jax.tree.map(jnp.asarray, examples)
    keys = jnp.asarray(trial_keys(0, 0))
    state = init_state(config, keys, numbers, jnp.int32(5), gather(data, jnp.arange(1)))
    step = jax.jit(make_step(config))
    for i in range(5):
        state, _ = step(state, numbers, gather(data, jnp.arange(32) + 20 * i))
    return config, state, numbers, examples


def evaluated(trained):
    config, state, numbers, examples = trained
    data = evaluation_data({"validation": examples, "train": examples}, 0)
    return jax.jit(make_evaluation(config))(state, numbers, jax.tree.map(jnp.asarray, data))


@pytest.mark.parametrize("rows", [150, 40])
def test_its_metrics_are_those_of_an_evaluation_in_any_chunks(trained, rows):
    truth = evaluated(trained)
    for metric in ("cross_entropy", "classification_error"):
        problem, params = problem_of(*trained, rows, quantity=metric)
        total, count = truth[f"validation/{metric}"]
        np.testing.assert_allclose(jax.jit(problem.loss)(params), total / count, rtol=FLOAT32_SUMS)


def test_the_objective_is_smoothed_and_the_averages_are_the_parameters(trained):
    config, state, numbers, _ = trained
    problem, params = problem_of(*trained, 150)
    plain, _ = problem_of(*trained, 150, quantity="cross_entropy")
    assert jax.jit(problem.loss)(params) > jax.jit(plain.loss)(params)
    bare = problem_of(config, state, {**numbers, "label_smoothing": 0.0}, trained[3], 150)[0]
    np.testing.assert_allclose(
        jax.jit(bare.loss)(params), jax.jit(plain.loss)(params), rtol=FLOAT32
    )
    averages = to_evaluate(config, state, numbers)[0]
    for one, other, last in zip(
        *map(jax.tree.leaves, (params, averages, state.params)), strict=True
    ):
        np.testing.assert_array_equal(one, other)
        assert not np.array_equal(one, last)


def test_its_gradient_is_that_of_its_loss(trained):
    problem, params = problem_of(*trained, 40)
    value, gradient = jax.jit(problem.value_and_gradient)(params)
    loss, truth = jax.jit(jax.value_and_grad(problem.loss))(params)
    np.testing.assert_allclose(value, loss, rtol=FLOAT32)
    for one, other in zip(*map(jax.tree.leaves, (gradient, truth)), strict=True):
        np.testing.assert_allclose(one, other, atol=FLOAT32)


def test_examples_are_arguments_and_no_constants_of_a_program(trained):
    problem, params = problem_of(*trained, 150)
    text = jax.jit(type(problem).loss).lower(problem, params).as_text()
    constants = max(map(len, text.splitlines()))
    assert constants < problem.chunks["inputs"].size


def test_bad_input_is_refused_in_one_line(trained):
    config, state, numbers, examples = trained
    with pytest.raises(ValueError, match="quantity must be one of objective, cross_entropy"):
        problem_of(*trained, 40, quantity="accuracy")
    with pytest.raises(ValueError, match="at least one example"):
        none = {role: array[:0] for role, array in examples.items()}
        problem_of(config, state, numbers, none, 40)
    coarse = dataclasses.replace(config, precision=Precision(compute="bfloat16"))
    with pytest.raises(ValueError, match="activations must be float32 or float64"):
        problem_of(coarse, state, numbers, examples, 40)
