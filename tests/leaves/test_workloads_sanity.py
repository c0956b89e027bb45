"""What CS231n and the playbook ask of any model, over the table of all families."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.tolerances import FLOAT32_SOLVES, FLOAT32_SUMS
from support.workloads_families import FAMILIES, flat_problem, initialise

ROWS = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


def adam(problem, learning_rate, steps):
    """The loss after Adam's steps, written out; NumPy, so that nothing else is compiled."""
    vector, mean, square = problem.start, 0.0, 0.0
    for step in range(1, steps + 1):
        _, gradient = problem.loss_and_gradient(vector)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.99 * square + 0.01 * gradient**2
        rate = learning_rate * math.sqrt(1 - 0.99**step) / (1 - 0.9**step)
        vector = vector - rate * mean / (np.sqrt(square) + 1e-8)
    return problem.loss_and_gradient(vector)[0]


def check_gradient(problem):
    """Along a random direction of every tensor; CS231n: a relative error below 1e-4 is safe
    for nets with kinks. At a generic point: zero biases sit on ReLU's kink."""
    random = np.random.default_rng(1)
    point = problem.start + 0.05 * random.normal(size=problem.start.shape)
    _, gradient = problem.loss_and_gradient(point)
    assert gradient.dtype == np.float64
    borders = np.cumsum([0, *problem.sizes])
    for begin, end in itertools.pairwise(borders):
        direction = np.zeros_like(point)
        direction[begin:end] = random.normal(size=end - begin)
        direction /= np.linalg.norm(direction)
        ahead, behind = (problem.loss_and_gradient(point + h * direction)[0] for h in (1e-6, -1e-6))
        numeric, exact = (ahead - behind) / 2e-6, float(gradient @ direction)
        assert abs(numeric - exact) <= 1e-4 * max(abs(numeric), abs(exact), 1e-3)


@ROWS
def test_starts_at_chance_has_the_right_gradient_and_memorises_twenty_examples(family):
    with jax.enable_x64(True):
        problem = flat_problem(family, examples=20)
        before = problem.loss_and_gradient(problem.start)[0]
        assert abs(before - math.log(family.classes)) < family.initial_tolerance
        check_gradient(problem)
        assert adam(problem, family.learning_rate, family.steps) < 0.02


@ROWS
def test_evaluation_ignores_the_other_examples_of_the_batch_and_the_dropout_rate(family):
    """Without a key: a mask cannot be drawn."""
    model, batch = family.make(), family.batch(4)
    params, state = initialise(model, batch)

    @jax.jit
    def evaluate(batch):
        settings = {"train": False, "hyperparameters": {"dropout_rate": 0.5}}
        return model.apply(params, state, batch, key=None, **settings)[0]

    changed = {**batch, "inputs": batch["inputs"].copy()}
    changed["inputs"][1:] = changed["inputs"][1:][::-1]
    np.testing.assert_allclose(
        evaluate(batch)[0], evaluate(changed)[0], rtol=FLOAT32_SOLVES, atol=FLOAT32_SUMS
    )


@pytest.mark.parametrize(
    "name", ["transformer_pre", "transformer_post", "transformer_post_branch", "lstm"]
)
def test_language_models_see_no_future_token(name):
    """d logits[t] / d embedding of token s vanishes for s > t and does not for s <= t."""
    model, batch = FAMILIES[name].make(), FAMILIES[name].batch(1)
    batch["inputs"] = np.arange(8, dtype=np.int32)[None]  # every token once: row = place
    params, state = initialise(model, batch)

    def logits(embedding):
        changed = {**params, "embedding": embedding}
        outputs, _ = model.apply(changed, state, batch, key=None, train=False, hyperparameters={})
        return jnp.sum(jnp.sin(outputs[0]), axis=-1)

    influence = jnp.abs(jax.jit(jax.jacrev(logits))(params["embedding"])).sum(axis=-1)[:, :8]
    assert np.all(np.triu(influence, 1) == 0.0)
    assert np.all(influence[np.tril_indices(8)] > 0.0)


def test_regularisation_raises_the_training_loss_of_a_memorised_set():
    with jax.enable_x64(True):
        family = FAMILIES["fully_connected"]
        losses = [
            adam(flat_problem(family, 20, **settings), 3e-3, 80)
            for settings in ({}, {"label_smoothing": 0.1}, {"label_smoothing": 0.3})
        ]
        dropped = adam(flat_problem(family, 20, dropout_rate=0.5), 3e-3, 80)
    assert losses[0] < losses[1] < losses[2]
    assert losses[0] < dropped
