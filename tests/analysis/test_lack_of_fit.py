"""The test of the hyperbola rejects what it should, and seldom what it should not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from support.laws import BATCH_SIZES, on_grid, trial_steps

from experiments.analysis.lack_of_fit import REJECTED
from experiments.analysis.lack_of_fit import lack_of_fit as lack_of
from experiments.analysis.scaling_curve import Hyperbola

REFINED = 1e-4
"""Of a residual: the fit's B_noise is refined on a grid of log B."""
TAIL = 1e-3
"""Of the tail of F at such a ratio: some ten times as much."""

REPEATS = 500
SIZES = 2.0 ** np.arange(11)


def lack_of_fit(points):
    """Of the hyperbola; that of the headline's curve is tested in test_headline.py."""
    return lack_of(points, Hyperbola)


def searches(curve, spread, generator, count=6):
    steps = curve * np.exp(spread * generator.standard_normal((count, len(curve))))
    return [(SIZES, row) for row in steps]


def elbow(power):
    """S = S_min (1 + (B_noise / B)^p)^(1/p): a hyperbola at p = 1, two straight lines far above."""
    return 50 * (1 + (64 / SIZES) ** power) ** (1 / power)


def test_the_ratio_is_that_of_the_textbook():
    """By hand in float64, the curve fitted by least squares in another way."""
    from scipy.optimize import least_squares

    found = lack_of_fit(searches(elbow(2.0), 0.2, np.random.default_rng(0)))
    y = np.log([row for _, row in searches(elbow(2.0), 0.2, np.random.default_rng(0))])
    means = y.mean(axis=0)
    fit = least_squares(lambda q: means - q[0] - np.log1p(np.exp(q[1]) / SIZES), [3.0, 3.0])
    lack, own = 6 * (fit.fun**2).sum() / 9, ((y - means) ** 2).sum() / 55
    assert found.ratio == pytest.approx(lack / own, rel=REFINED)
    assert found.probability == pytest.approx(stats.f.sf(lack / own, 9, 55), rel=TAIL)


def test_points_on_a_hyperbola_are_rejected_as_often_as_it_says():
    generator = np.random.default_rng(1)
    found = [lack_of_fit(searches(elbow(1.0), 0.3, generator)).probability for _ in range(REPEATS)]
    for level in (REJECTED, 0.1, 0.5):
        allowed = 3 * np.sqrt(level * (1 - level) / REPEATS)
        assert np.mean(np.array(found) < level) == pytest.approx(level, abs=allowed)


def test_so_are_whole_studies_whose_answers_are_minima_on_a_grid():
    best = trial_steps((REPEATS, 6), np.random.default_rng(2)).min(axis=-1)
    _, high = on_grid(best)
    found = [lack_of_fit([(BATCH_SIZES, row) for row in study]) for study in high]
    assert np.mean([f.rejected for f in found]) <= REJECTED + 3 * np.sqrt(REJECTED / REPEATS)


def test_a_sharper_elbow_is_found():
    """As on the digits: the power about 3 to 6, searches that differ by a quarter."""
    generator = np.random.default_rng(3)
    for power, least in ((3.0, 0.6), (6.0, 0.7)):
        curve = elbow(power)
        found = [lack_of_fit(searches(curve, 0.25, generator)).rejected for _ in range(100)]
        assert np.mean(found) > least


def test_nothing_is_said_of_one_search_of_two_sizes_or_of_searches_that_agree():
    one = searches(elbow(1.0), 0.2, np.random.default_rng(4))
    assert lack_of_fit(one[:1]) is None
    assert lack_of_fit([(sizes[:2], steps[:2]) for sizes, steps in one]) is None
    assert lack_of_fit([one[0], one[0]]) is None
    never = [(sizes, np.where(sizes > 2, np.inf, steps)) for sizes, steps in one]
    assert lack_of_fit([never[0], *one[1:]]) is None
