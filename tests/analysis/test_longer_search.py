"""The tail of a random search: planted ones, the moments by hand, and another program's fit."""

from __future__ import annotations

import dataclasses
import math
import statistics

import numpy as np
import pytest
from opda.parametric import QuadraticDistribution
from support.records_factory import Truth, make_record, make_study

from experiments.analysis.intervals import Answer, largest_k, median_best_of
from experiments.analysis.longer_search import _order_statistics, fit_tail, longer_searches
from experiments.analysis.summary import summarise
from experiments.analysis.view import View
from experiments.report.longer_search import longer_search_table

DRAWN_MEANS, DRAWN_COVARIANCES, DRAWN_DETERMINANT = 0.02, 0.06, 0.1
"""Three standard errors of 100,000 draws, relative; of a logarithm's the error itself."""
LEAST_COVARIANCE = 2e-5
"""Of covariances near 0 a relative error says nothing."""
LEAST_FOUND = 2
"""Of a spread of 50: the end of a tail from the best of 120 scores, the median of 300 searches."""
BOWL = 0.02
"""The same of sixty searches, where the tail is but nearly a power."""
TWO_FITS = 0.003
"""What the medians of two estimates from twelve searches differ by."""

REPEATS = 300
HUNDREDTH = 0.5
"""Of the spread of all scores: the choice of c leaves a bias of less than that."""


def scores(effective, trials, generator, least=100.0, scale=50.0):
    """Scores whose whole distribution is the tail."""
    return least + scale * generator.uniform(size=trials) ** (2 / effective)


@pytest.mark.parametrize("effective", [1, 2, 5])
def test_means_and_covariances_are_those_of_simulated_order_statistics(effective):
    generator = np.random.default_rng(effective)
    drawn = np.sort(generator.uniform(size=(100_000, 12)) ** (2 / effective), axis=1)[:, :8]
    means, root, logarithm = _order_statistics(12, 8, effective)
    np.testing.assert_allclose(means, drawn.mean(axis=0), rtol=DRAWN_MEANS)
    np.testing.assert_allclose(
        root @ root.T, np.cov(drawn.T), rtol=DRAWN_COVARIANCES, atol=LEAST_COVARIANCE
    )
    assert logarithm == pytest.approx(np.linalg.slogdet(np.cov(drawn.T))[1], abs=DRAWN_DETERMINANT)


@pytest.mark.parametrize("effective", [1, 2, 3])
def test_the_planted_tail_is_found(effective):
    """The number of hyperparameters in most searches; what ten times as many trials reach."""
    generator = np.random.default_rng(effective)
    found = [fit_tail(scores(effective, 120, generator)) for _ in range(REPEATS)]
    assert abs(np.median([tail.effective for tail in found]) - effective) <= 0.5
    ten = [tail.median_best_of(1200) for tail in found]
    truth = 100 + 50 * (1 - 2 ** (-1 / 1200)) ** (2 / effective)
    assert np.median(ten) == pytest.approx(truth, abs=HUNDREDTH)
    assert np.median([tail.least for tail in found]) == pytest.approx(100, abs=LEAST_FOUND)


def test_a_bowl_of_two_hyperparameters_among_four_has_two():
    """The others do not matter; the score is quadratic near its best and not so far from it."""
    generator = np.random.default_rng(0)
    found = []
    for _ in range(60):
        points = generator.uniform(-1, 1, (240, 4))
        found.append(fit_tail(100 * np.exp(points[:, 0] ** 2 + 2 * points[:, 1] ** 2), used=40))
    assert np.median([tail.effective for tail in found]) == 2
    assert np.median([tail.least for tail in found]) == pytest.approx(100, rel=BOWL)


def test_another_program_finds_the_same_tail():
    """opda's fit, by maximum spacing: neither is exact, both are near the truth and each other."""
    mine, theirs = [], []
    for seed in range(12):
        drawn = scores(2, 100, np.random.default_rng(seed))
        cut = np.sort(drawn)[len(drawn) // 3]
        other = QuadraticDistribution.fit(
            drawn, limits=(-np.inf, cut), constraints={"convex": True},
            generator=np.random.default_rng(seed),
        )  # fmt: skip
        theirs.append(float(other.quantile_tuning_curve(1000, minimize=True)))
        mine.append(fit_tail(drawn).median_best_of(1000))
    assert np.median(mine) == pytest.approx(np.median(theirs), rel=TWO_FITS)
    assert np.median(mine) == pytest.approx(100 + 50 * (1 - 2**-0.001), rel=TWO_FITS)


def test_trials_that_never_got_there_are_counted_and_too_few_give_none():
    drawn = scores(2, 90, np.random.default_rng(1))
    kept = np.where(drawn > np.sort(drawn)[29], np.inf, drawn)
    assert fit_tail(kept) == fit_tail(drawn)
    assert fit_tail(np.append(drawn[:7], [np.inf] * 40)) is None
    assert fit_tail(np.full(40, 3.0)) is None


def test_only_independent_trials_are_extrapolated_and_the_page_calls_it_so():
    study = make_study((4, 64), trials=24, seeds=(0, 1), sampler="random")
    record = make_record(study, Truth(diverges_above=1e9, noise=0.0))
    table = longer_searches(View(record))
    assert table["trials"].to_list() == [48, 48] and table["k"].to_list() == [9, 9]
    for row in table.iter_rows(named=True):
        assert row["median_low"] < row["median_high"]
        assert row["least"] < row["longer"] < row["search"]
    shown = longer_search_table(summarise(record))
    assert shown.rows[0][0] == "4" and "extrapolated" in " ".join(shown.columns)
    other = dataclasses.replace(record, study=_sampled(record, "halton"))
    assert longer_searches(View(other)).is_empty()


def _sampled(record, sampler):
    return {**record.study, "study": {**record.study["study"], "sampler": sampler}}


def test_the_interval_of_the_median_best_of_k_covers_with_grid_and_censoring():
    """48 independent trials a study, 300 studies, steps on a grid of 5 % and a length."""
    generator = np.random.default_rng(3)
    k, held = largest_k(48), 0
    truth = math.exp(5 + 0.8 * statistics.NormalDist().inv_cdf(1 - 2 ** (-1 / k)))
    for _ in range(REPEATS):
        steps = generator.lognormal(5, 0.8, 48)
        high = np.where(steps > 300, np.inf, np.ceil(steps / 10) * 10)
        low = np.where(steps > 300, 300, np.ceil(steps / 10) * 10 - 10)
        answers = [Answer(*ends) for ends in zip(low, high, strict=True)]
        found = median_best_of(k, answers)
        held += found.low < truth <= found.high
    assert held / REPEATS >= 0.93
