"""Ensemble selection beside a twin that tries every addition; the exact interval of a share."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from experiments.analysis.shares import exact_share
from experiments.diagnostics.ensemble_selection import cross_entropy, selected


def twin(probabilities, labels, additions):
    """The ensemble as a list of members; the list with the least loss on the way."""
    ensemble, known = [], []
    for _ in range(additions):
        tried = []
        for member in range(len(probabilities)):
            mean = np.mean([probabilities[m] for m in [*ensemble, member]], axis=0)
            own = [mean[i, label] for i, label in enumerate(labels)]
            tried.append(-np.mean(np.log(own)))
        ensemble.append(int(np.argmin(tried)))
        known.append((min(tried), list(ensemble)))
    best = min(known, key=lambda pair: pair[0])[1]
    return np.array([best.count(m) / len(best) for m in range(len(probabilities))])


def test_selection_is_the_paper_s_and_never_worse_than_the_best_member():
    chance = np.random.default_rng(3)
    for _ in range(20):
        logits = chance.normal(size=(5, 12, 3))
        shares = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
        labels = chance.integers(0, 3, 12)
        weights = selected(shares, labels, 9)
        assert np.allclose(weights, twin(shares, labels, 9))
        averaged = np.tensordot(weights, shares, axes=1)
        assert cross_entropy(averaged, labels) <= min(cross_entropy(s, labels) for s in shares)


def test_two_members_that_err_apart_are_taken_together_and_a_useless_one_is_not():
    labels = np.array([0, 0, 1, 1])
    one = np.array([[0.9, 0.1], [0.4, 0.6], [0.1, 0.9], [0.1, 0.9]])
    other = np.array([[0.4, 0.6], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9]])
    useless = np.full((4, 2), 0.5)
    weights = selected(np.stack([useless, one, other]), labels, 4)
    assert weights.tolist() == [0.0, 0.5, 0.5]
    # All are in it from the start where few examples choose; then the useful ones are added.
    started = selected(np.stack([useless, one, other]), labels, 4, start=3)
    assert started[0] == pytest.approx(1 / 7) and started[1] == started[2]
    certain = np.array([[0.0, 1.0]])
    assert np.isfinite(cross_entropy(certain, np.array([0])))
    with pytest.raises(ValueError, match="needs a member and an addition"):
        selected(np.zeros((0, 4, 2)), labels, 3)


def test_the_interval_of_a_share_covers_at_its_level_whatever_the_share():
    n = 25
    intervals = [exact_share(k, n) for k in range(n + 1)]
    for share in np.linspace(0.01, 0.99, 37):
        inside = [k for k, one in enumerate(intervals) if one.low <= share <= one.high]
        assert binom.pmf(inside, n, share).sum() >= 0.95
    # Its ends are where the tail is exactly 2.5 %.
    assert binom.sf(3, n, exact_share(4, n).low) == pytest.approx(0.025)
    assert binom.cdf(4, n, exact_share(4, n).high) == pytest.approx(0.025)
    assert (exact_share(0, n).low, exact_share(n, n).high) == (0.0, 1.0)
    with pytest.raises(ValueError, match=r"counted must lie in 0\.\.3"):
        exact_share(4, 3)
