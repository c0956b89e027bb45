"""Losses and metrics per example, against their definitions in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.tolerances import FLOAT32, FLOAT32_SUMS

from workloads.losses import CLASSIFICATION, FOLDED, softmax_cross_entropy

LOGITS = np.random.default_rng(0).normal(size=(7, 5)) * 3
LABELS = np.array([0, 1, 2, 3, 4, 0, 2])
BATCH = {"targets": LABELS}


def by_definition(smoothing):
    probabilities = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
    q = (1 - smoothing) * np.eye(5)[LABELS] + smoothing / 5
    return -(q * np.log(probabilities)).sum(axis=1)


@pytest.mark.parametrize("smoothing", [None, 0.0, 0.1, 1.0])
def test_objective_is_smoothed_cross_entropy(smoothing):
    hyperparameters = {} if smoothing is None else {"label_smoothing": smoothing}
    total, count = CLASSIFICATION.objective(jnp.array(LOGITS), BATCH, hyperparameters)
    np.testing.assert_allclose(total, by_definition(smoothing or 0.0), rtol=FLOAT32_SUMS)
    assert count.tolist() == [1.0] * 7 and total.dtype == count.dtype == jnp.float32


def test_metrics_are_never_smoothed():
    metrics = CLASSIFICATION.metrics(jnp.array(LOGITS), BATCH)
    np.testing.assert_allclose(metrics["cross_entropy"][0], by_definition(0.0), rtol=FLOAT32_SUMS)
    wrong = (LOGITS.argmax(axis=1) != LABELS).astype(float)
    assert metrics["classification_error"][0].tolist() == wrong.tolist()


def test_gradient_is_probabilities_minus_targets():
    gradient = jax.grad(lambda x: softmax_cross_entropy(x, LABELS, 0.2).sum())(jnp.array(LOGITS))
    q = 0.8 * np.eye(5)[LABELS] + 0.2 / 5
    np.testing.assert_allclose(gradient, jax.nn.softmax(LOGITS) - q, atol=FLOAT32)


def test_large_logits_stay_finite_and_bfloat16_is_summed_in_float32():
    total, _ = CLASSIFICATION.objective(jnp.array([[1e30, -1e30]]), {"targets": jnp.array([0])}, {})
    assert float(total[0]) == 0.0
    low, _ = CLASSIFICATION.objective(jnp.array(LOGITS, jnp.bfloat16), BATCH, {})
    assert low.dtype == jnp.float32


def test_folded_examples_count_for_the_nets_that_they_belong_to():
    """Loop by loop: N / |M| times the sum over an example's nets M; metrics (sum over M, |M|)."""
    chance = np.random.default_rng(1)
    logits, mine = chance.normal(size=(6, 3, 4)) * 2, chance.random((6, 3)) < 0.5
    mine[:, 0] |= ~mine.any(axis=1)
    labels = chance.integers(0, 4, 6)
    batch = {"targets": jnp.array(np.column_stack([labels, mine]))}
    total, count = FOLDED.objective(jnp.array(logits), batch, {})
    metrics = FOLDED.metrics(jnp.array(logits), batch)
    for i in range(6):
        nets = [n for n in range(3) if mine[i, n]]
        own = [-np.log(np.exp(x[labels[i]]) / np.exp(x).sum()) for x in logits[i, nets]]
        wrong = [x.argmax() != labels[i] for x in logits[i, nets]]
        np.testing.assert_allclose(total[i], 3 / len(nets) * sum(own), rtol=FLOAT32_SUMS)
        assert count[i] == 1
        for name, values in (("cross_entropy", own), ("classification_error", wrong)):
            np.testing.assert_allclose(metrics[name][0][i], sum(values), rtol=FLOAT32_SUMS)
            assert metrics[name][1][i] == len(nets)
