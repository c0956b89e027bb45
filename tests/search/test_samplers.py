"""Halton points: their twin, their evenness, and that they never change."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import qmc
from support.tolerances import FLOAT64

from experiments.search.samplers import halton as sampler
from experiments.search.samplers.base import Ask
from experiments.search.samplers.halton import halton, point, scramble
from experiments.spec.space import Choice, Real

LAST_DIGITS = 1e-15
"""A few units in the last place of a float64 below 1."""


def radical_inverse(i, base, permutations):
    """sum_k pi_k(d_k) b^-(k+1), digit by digit."""
    value = 0.0
    for k, permutation in enumerate(permutations):
        digit = (i // base**k) % base
        value += permutation[digit] / base ** (k + 1)
    return value


def test_points_equal_the_definition_up_to_one_shift_per_dimension():
    points = halton(7, np.arange(200), 3)
    for dimension, base in enumerate((2, 3, 5)):
        plain = [radical_inverse(i, base, scramble(7, dimension)) for i in range(200)]
        shift = (points[:, dimension] - plain) % 1.0
        np.testing.assert_allclose(shift, shift[0], atol=FLOAT64)


@pytest.mark.parametrize("seed", range(5))
def test_every_base_adic_interval_gets_its_share(seed):
    """b^k consecutive points of a scrambled sequence fill the b^k intervals, one each; the shift
    moves the intervals but not their number."""
    points = halton(seed, np.arange(1024), 2)
    assert len(np.unique(np.floor((points[:512, 0] - points[0, 0]) % 1.0 * 512 + 1e-9))) == 512
    counts = np.histogram(points[:, 1], 27, (0, 1))[0]
    assert counts.min() >= 1024 // 27 - 3
    assert counts.max() <= 1024 // 27 + 4


@pytest.mark.parametrize("space", [{"a": Real(0, 1)}, {"a": Choice(tuple(range(3000)))}])
def test_an_open_ended_search_takes_the_same_points_as_a_short_one(space, monkeypatch):
    """It computes no more of them than a few blocks, of a million trials."""
    computed = []

    def counted(seed, indices, dimensions):
        computed.append(len(indices))
        return halton(seed, indices, dimensions)

    monkeypatch.setattr(sampler, "halton", counted)
    short, long = (sampler.propose(Ask(3, 0, total, space, {4: 1500})) for total in (3000, 10**6))
    assert short.points == long.points and len(long.points[4]) == 1500
    assert sum(computed) <= 2 * 8 * 3000


def test_points_are_more_even_than_random_ones():
    discrepancies = [qmc.discrepancy(halton(s, np.arange(64), 2), method="CD") for s in range(10)]
    rng = np.random.default_rng(0)
    random = [qmc.discrepancy(rng.random((64, 2)), method="CD") for _ in range(10)]
    assert max(discrepancies) < min(random)


def test_a_point_is_a_function_of_seed_and_index():
    names = ["momentum", "learning_rate"]
    points = [point(0, i, names) for i in range(20)]
    assert points[13] == point(0, 13, reversed(names))
    assert point(1, 13, names) != points[13]
    # Frozen: a change here changes every recorded study.
    assert points[3] == pytest.approx(FROZEN_POINT, abs=LAST_DIGITS)


FROZEN_POINT = {"learning_rate": 0.5207236272252618, "momentum": 0.5096349853706381}


def test_too_many_dimensions_are_refused():
    with pytest.raises(ValueError, match="dimensions must be at most 20, got 21"):
        halton(0, np.arange(2), 21)
