"""Ensembles against loops over examples, and averages of weights against the layers themselves."""

from __future__ import annotations

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax
from support.engine_factory import TINY, tiny_study
from support.tolerances import FLOAT32_SUMS, FLOAT64

from experiments.diagnostics.ensembles import averaged, by_size, calibration, quality
from experiments.diagnostics.weight_averages import mean_parameters, recomputed_statistics
from experiments.training.state import make_task
from workloads.datasets import load

MEMBERS, EXAMPLES, CLASSES = 4, 60, 3


@pytest.fixture(scope="module")
def voted():
    """(logits [members, examples, classes], labels [examples])."""
    random = np.random.default_rng(0)
    labels = random.integers(0, CLASSES, EXAMPLES)
    logits = random.normal(size=(MEMBERS, EXAMPLES, CLASSES)) * 2
    logits[:, np.arange(EXAMPLES), labels] += 1
    return logits, labels


def test_the_metrics_are_those_of_loops_over_examples(voted):
    logits, labels = voted
    found = quality(logits, labels, bins=10)
    right, nll, brier, confident = [], [], [], []
    for i, label in enumerate(labels):
        p = np.mean([softmax(logits[k, i]) for k in range(MEMBERS)], axis=0)
        right.append(p.argmax() == label)
        nll.append(-np.log(p[label]))
        brier.append(sum((p[c] - (c == label)) ** 2 for c in range(CLASSES)))
        confident.append(p.max())
    ece = 0.0
    for b in range(10):
        mine = [i for i in range(EXAMPLES) if b / 10 < confident[i] <= (b + 1) / 10]
        if mine:
            gap = np.mean([right[i] for i in mine]) - np.mean([confident[i] for i in mine])
            ece += len(mine) / EXAMPLES * abs(gap)
    pairs = list(itertools.combinations(logits.argmax(axis=2), 2))
    expected = [np.mean(right), np.mean(nll), np.mean(brier), ece]
    expected.append(np.mean([np.mean(a != b) for a, b in pairs]))
    values = [found.accuracy, found.nll, found.brier, found.calibration.ece, found.disagreement]
    np.testing.assert_allclose(values, expected, rtol=FLOAT64)
    assert found.calibration.counts.sum() == EXAMPLES


def test_probabilities_are_averaged_and_not_logits():
    """Softmaxes (1, 0) and (0.4, 0.6) average to 0.7; their logits' mean would give 1."""
    logits = np.array([[[800.0, 0.0]], [[np.log(0.4), np.log(0.6)]]])
    np.testing.assert_allclose(np.exp(averaged(logits)), [[0.7, 0.3]], rtol=FLOAT64)
    certain = quality(np.array([[[900.0, 0.0]]]), np.array([1]))
    assert certain.nll == pytest.approx(900)  # a probability that underflows has its logarithm
    assert np.isnan(certain.disagreement)


def test_a_calibrated_and_an_overconfident_predictor():
    p = np.tile([0.75, 0.25], (8, 1))
    assert calibration(p, np.array([0] * 6 + [1] * 2)).ece == pytest.approx(0, abs=FLOAT64)
    wrong = calibration(np.tile([1.0, 0.0], (8, 1)), np.array([0] * 4 + [1] * 4), bins=5)
    assert wrong.ece == pytest.approx(0.5)
    assert wrong.counts.tolist() == [0, 0, 0, 0, 8]
    assert np.isnan(wrong.accuracy[:4]).all()


def test_every_subset_of_a_size_counts_once(voted):
    logits, labels = voted
    found = by_size(logits, labels)
    assert found.subsets.tolist() == [4, 6, 4, 1]
    singles = [quality(logits[[k]], labels).nll for k in range(MEMBERS)]
    assert found.mean["nll"][0] == pytest.approx(np.mean(singles))
    assert found.deviation["nll"][0] == pytest.approx(np.std(singles, ddof=1))
    whole = quality(logits, labels)
    assert found.mean["disagreement"][1:] == pytest.approx([whole.disagreement] * 3)
    assert found.mean["brier"][-1] == pytest.approx(whole.brier)
    # A convex loss of the mean prediction is at most the mean loss (Jensen).
    assert (np.diff(found.mean["nll"]) <= 0).all()
    assert (np.diff(found.mean["brier"]) <= 0).all()
    few = [by_size(logits, labels, seed=s, subsets=3) for s in (0, 0, 1)]
    assert few[0].subsets.tolist() == [3, 3, 3, 1]
    assert few[0].mean["nll"].tolist() == few[1].mean["nll"].tolist()
    assert few[0].mean["nll"].tolist() != few[2].mean["nll"].tolist()


def test_bad_predictions_are_refused_in_one_line(voted):
    logits, labels = voted
    spoilt = logits.copy()
    spoilt[2, 5, 1] = np.nan
    for changed, of, message in (
        (spoilt, labels, "logits must be finite, those of member 2 are not"),
        (logits[0], labels, r"logits must be \[members, examples, classes\]"),
        (logits[:, :0], labels[:0], "at least one of each"),
        (logits, labels[1:], r"labels must be \[60\], got the shape \(59,\)"),
        (logits, labels + 1, r"labels must lie in 0\.\.2"),
    ):
        with pytest.raises(ValueError, match=message):
            quality(changed, of)
    with pytest.raises(ValueError, match="bins must be at least 1, got 0"):
        quality(logits, labels, bins=0)
    with pytest.raises(ValueError, match="subsets must be at least 1, got 0"):
        by_size(logits, labels, subsets=0)


def test_the_mean_of_parameters_is_their_mean():
    random = np.random.default_rng(0)
    members = [{"w": jnp.float32(random.normal(size=(3, 2)))} for _ in range(5)]
    found = mean_parameters(iter(members))["w"]
    truth = np.mean([np.asarray(m["w"], np.float64) for m in members], axis=0)
    np.testing.assert_array_equal(found, truth.astype(np.float32))
    assert found.dtype == jnp.float32
    with pytest.raises(ValueError, match="at least one member"):
        mean_parameters([])
    with pytest.raises(ValueError, match="the same arrays, member 2 differs"):
        mean_parameters([{"w": jnp.ones(2)}, {"w": jnp.ones(3)}])


@pytest.mark.parametrize("rows", [120, 50])
def test_recomputed_statistics_are_the_means_over_batches(rows):
    """Of one hidden layer: mean and biased variance of what enters batch norm, batch by batch."""
    options = {"hidden_sizes": [8], "normalization": "batch", "ghost_size": None}
    workload = dataclasses.replace(TINY, model_options=options)
    config = tiny_study(workload=workload).config("off")
    train = load("digits").splits["train"]
    examples = {role: np.asarray(train[role][:120]) for role in ("inputs", "targets")}
    one = {"inputs": jnp.asarray(examples["inputs"][:1]), "weights": jnp.ones(1)}
    one["position"] = jnp.zeros(1, jnp.int32)
    params, state = make_task(config).model.init(jax.random.key(0), one)
    found = recomputed_statistics(config, params, state, {}, examples, rows=rows)
    dense = params["Dense_0"]
    entering = examples["inputs"].reshape(120, -1) @ np.asarray(dense["kernel"], np.float64)
    entering = entering + np.asarray(dense["bias"], np.float64)
    batches = np.split(entering, 3 if rows == 50 else 1)
    (norm,) = jax.tree.leaves(found, is_leaf=lambda x: isinstance(x, dict) and "weight" in x)
    mean = np.mean([b.mean(axis=0) for b in batches], axis=0)
    variance = np.mean([b.var(axis=0) for b in batches], axis=0)
    np.testing.assert_allclose(
        norm["mean"] / norm["weight"], mean, rtol=FLOAT32_SUMS, atol=FLOAT32_SUMS
    )
    np.testing.assert_allclose(norm["variance"] / norm["weight"], variance, rtol=FLOAT32_SUMS)


def test_a_model_without_batch_norm_has_nothing_to_recompute():
    config = tiny_study().config("off")
    assert recomputed_statistics(config, {}, {}, {}, {"inputs": np.ones((2, 3))}, rows=2) == {}
