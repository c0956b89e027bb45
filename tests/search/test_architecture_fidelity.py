"""Lower fidelity: smaller data that keep their classes, and rank correlations of known values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr
from support.tolerances import FLOAT32, FLOAT64

from experiments.search.architecture.fidelity import Fidelity, rank_correlation
from workloads.architectures import Skeleton

SKELETON = Skeleton((8, 8, 1), 10, 8)


def arrays():
    draws = np.random.default_rng(0)
    inputs = draws.random((200, 64)).astype(np.float32)
    return {
        "train": (inputs, draws.integers(0, 5, 200)),
        "validation": (inputs[:40], np.arange(40)),
    }


def test_less_data_keeps_the_shares_of_classes():
    full = arrays()
    inputs, targets = Fidelity(data=0.25).arrays(full, SKELETON)["train"]
    before = np.bincount(full["train"][1])
    np.testing.assert_array_equal(np.bincount(targets), np.round(before / 4))
    assert Fidelity(data=0.25).arrays(full, SKELETON)["validation"][0].shape == (40, 64)
    places = [int(np.flatnonzero((full["train"][0] == row).all(1))[0]) for row in inputs]
    assert places == sorted(places)


def test_coarser_images_are_means_of_blocks():
    full = arrays()
    fidelity = Fidelity(coarser=2, width=0.5)
    assert fidelity.skeleton(SKELETON) == Skeleton((4, 4, 1), 10, 4)
    small = fidelity.arrays(full, SKELETON)["validation"][0].reshape(40, 4, 4)
    images = full["validation"][0].reshape(40, 8, 8)
    for i in range(4):
        for j in range(4):
            block = images[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
            np.testing.assert_allclose(small[:, i, j], block.mean((1, 2)), rtol=FLOAT32)


def test_rank_correlation_of_known_orders():
    draws = np.random.default_rng(1)
    full = draws.normal(size=400)
    same = rank_correlation(np.exp(full), full)
    assert (same.spearman, same.kendall, same.best) == (1.0, 1.0, 1.0)
    assert rank_correlation(-full, full).spearman == -1.0
    noisy = full + draws.normal(size=400)
    found = rank_correlation(noisy, full)
    assert found.spearman == pytest.approx(spearmanr(noisy, full).statistic, abs=FLOAT64)
    assert found.low < found.spearman < found.high
    assert "rank correlation 0." in str(found)


def test_the_interval_covers_the_truth():
    """Of normal pairs with correlation r, Spearman's is 6 / pi arcsin(r / 2)."""
    r, covered = 0.6, 0
    truth = 6 / np.pi * np.arcsin(r / 2)
    for seed in range(40):
        draws = np.random.default_rng(seed)
        a = draws.normal(size=80)
        b = r * a + (1 - r * r) ** 0.5 * draws.normal(size=80)
        found = rank_correlation(a, b, draws=200)
        covered += found.low <= truth <= found.high
    assert covered >= 34  # of 40; fewer than 1 in 200 runs at 95 %


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Fidelity(data=0), r"data must lie in \(0, 1\], got 0"),
        (lambda: Fidelity(width=1.5), r"width must lie in \(0, 1\], got 1.5"),
        (lambda: Fidelity(coarser=0), "coarser must be a whole number from 1 on"),
        (lambda: Fidelity(coarser=3).skeleton(SKELETON), "coarser 3 needs images whose sides"),
        (lambda: rank_correlation(np.ones(3), np.ones(3)), "at least 10 architectures"),
        (lambda: rank_correlation(np.full(10, np.nan), np.ones(10)), "a value is NaN"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
