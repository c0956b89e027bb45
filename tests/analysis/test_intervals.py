"""Exact intervals cover what they name: against published ranks, and by simulation of the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from opda.nonparametric import EmpiricalDistribution
from support.tolerances import three_errors

from experiments.analysis.intervals import (
    NO_ANSWER,
    Answer,
    largest_k,
    median_best_of,
    median_of_searches,
    order_statistics,
    prediction_rank,
    range_of_searches,
    upper_prediction_limit,
)
from experiments.analysis.tuning_curve import joint_probability, simultaneous_bounds, tuning_curve

ROUNDING = 1e-12
"""Of a sum of a few binomial terms in float64."""
SIMULATED = 2e-3
"""opda finds the level of its band by simulation."""
BISECTED = 1e-6
"""The bounds are found by bisection down to here."""

REPEATS = 4000
MONTE_CARLO = 3 * math.sqrt(0.05 * 0.95 / REPEATS)
"""Three standard errors of a simulated coverage near 95 %."""


def answers(values):
    return [Answer.exactly(float(v)) for v in values]


def test_the_range_of_six_searches_has_the_probability_of_not_all_on_one_side():
    found = range_of_searches(answers([5, 3, 9, 4, 4, 7]))
    assert (found.low, found.high) == (3, 9)
    assert found.coverage == 1 - 2**-5
    assert range_of_searches(answers([5])) is None


def test_a_search_without_an_answer_opens_both_ends_and_one_not_reached_the_upper():
    found = range_of_searches([Answer(3, 4), NO_ANSWER])
    assert (found.low, found.high) == (-math.inf, math.inf)
    found = range_of_searches([Answer(30, 40), Answer(20, math.inf)])
    assert (found.low, found.high) == (20, math.inf)


def test_the_median_of_searches_is_infinite_only_where_the_middle_is():
    assert median_of_searches(answers([1, 2, 9, math.inf, math.inf])) == 9
    assert median_of_searches(answers([1, 2, 4, math.inf])) == 3
    assert median_of_searches(answers([1, 2, math.inf, math.inf])) == math.inf
    assert median_of_searches(answers([1, math.inf])) == math.inf
    assert median_of_searches(answers([math.inf, math.inf])) == math.inf
    with pytest.raises(ValueError, match="at least one answer"):
        median_of_searches([])


@pytest.mark.parametrize(
    ("trials", "k", "ranks"),
    [(24, 1, (7, 18)), (24, 2, (3, 13)), (24, 4, (1, 9)), (100, 1, (40, 61)), (100, 5, (7, 21)),
     (100, 10, (2, 13)), (100, 18, (1, 9)), (120, 20, (1, 9)), (10, 1, (2, 9))],
)  # fmt: skip
def test_order_statistics_are_those_of_the_binomial_tables(trials, k, ranks):
    assert order_statistics(trials, k) == ranks


def test_the_largest_k_is_where_the_lower_end_still_exists():
    assert [largest_k(n) for n in (24, 50, 100)] == [4, 9, 18]
    for n in (6, 24, 53, 54, 100):
        k = largest_k(n)
        assert order_statistics(n, k)[0] >= 1
        assert order_statistics(n, k + 1)[0] == 0


def test_ten_seeds_say_the_second_to_the_ninth():
    found = median_best_of(1, answers(range(10, 0, -1)))
    assert (found.low, found.high) == (2, 9)
    assert found.coverage == pytest.approx(1 - 2 * 11 / 1024, abs=ROUNDING)


def test_prediction_ranks_are_those_of_the_formula():
    assert prediction_rank(2) is None
    assert [prediction_rank(n) for n in (3, 4, 16, 20, 24, 100)] == [3, 4, 5, 5, 5, 5]
    assert prediction_rank(15) == 4


@pytest.mark.parametrize("trials", [6, 24])
def test_a_second_search_is_below_the_limit_as_often_as_it_says(trials):
    generator = np.random.default_rng(0)
    first, second = generator.lognormal(size=(2, REPEATS, trials))
    held = [
        upper_prediction_limit(answers(row)) >= other.min()
        for row, other in zip(first, second, strict=True)
    ]
    assert np.mean(held) >= 0.95 - MONTE_CARLO


def test_unreached_trials_put_the_limit_beyond_the_censoring():
    reached = answers([10, 12]) + [Answer(100, math.inf)] * 22
    assert upper_prediction_limit(reached) == math.inf


@pytest.mark.parametrize(("trials", "k"), [(24, 1), (24, 4), (100, 10)])
def test_the_interval_of_the_median_best_of_k_covers_it_on_a_grid_and_censored(trials, k):
    """Log-normal steps measured on a grid of 5 % and cut at a budget; the truth is exact."""
    from scipy.special import ndtri

    generator = np.random.default_rng(k)
    steps = 100 * generator.lognormal(size=(REPEATS, trials))
    truth = 100 * math.exp(ndtri(1 - 2 ** (-1 / k)))
    index = np.ceil(np.log(steps) / math.log(1.05))
    high = 1.05**index
    budget = 1.05**100  # 131.5: half of the trials and more get there
    low = np.where(high <= budget, 1.05 ** (index - 1), budget)
    high = np.where(high <= budget, high, math.inf)
    held = 0
    for row in zip(low, high, strict=True):
        found = median_best_of(k, [Answer(*pair) for pair in zip(*row, strict=True)])
        held += found.low <= truth <= found.high
    assert held / REPEATS >= 0.95 - MONTE_CARLO


def test_the_joint_probability_is_that_of_simulated_order_statistics():
    lower, upper = simultaneous_bounds(12, 0.95)
    uniform = np.sort(np.random.default_rng(0).random((40_000, 12)), axis=1)
    inside = ((uniform >= lower) & (uniform <= upper)).all(axis=1).mean()
    assert joint_probability(lower, upper) == pytest.approx(0.95, abs=BISECTED)
    assert inside == pytest.approx(0.95, abs=three_errors(0.95, 40_000))


def test_another_program_finds_the_same_band():
    """opda's equal-tailed band of a distribution function, at the order statistics themselves."""
    at = np.arange(16.0)
    below, _, above = EmpiricalDistribution.confidence_bands(
        at, 0.95, method="ld_equal_tailed", generator=np.random.default_rng(0), n_jobs=1
    )
    lower, upper = simultaneous_bounds(16, 0.95)
    np.testing.assert_allclose(below.cdf(at), lower, atol=SIMULATED)
    np.testing.assert_allclose(above.cdf(at - 0.5), upper, atol=SIMULATED)


def test_a_joint_probability_by_hand():
    """Two uniforms, both below 1/2 for the first and no bound else: 1 - (1/2)^2."""
    found = joint_probability(np.array([0.0, 0.0]), np.array([0.5, 1.0]))
    assert found == pytest.approx(0.75, abs=ROUNDING)


def test_the_simultaneous_band_holds_for_all_k_at_once():
    generator = np.random.default_rng(1)
    ks = np.arange(1, 25)
    truth = 1 - 2 ** (-1 / ks)  # of uniform answers
    held = 0
    for row in generator.random((1000, 24)):
        table = tuning_curve(answers(row), ks, independent=True)
        low, high = (table[f"simultaneous_{end}"].to_numpy() for end in ("low", "high"))
        held += bool(((low <= truth) & (truth <= high)).all())
    assert held / 1000 >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / 1000)


def test_a_curve_without_independence_has_no_bands():
    table = tuning_curve(answers([4, 3, 2, 1]), [1, 2, 4], independent=False)
    assert table["median"].to_list() == [2.0, 2.0, 1.0]
    assert table["low"].null_count() == table["simultaneous_high"].null_count() == 3
    with pytest.raises(ValueError, match=r"k must lie in 1\.\.4"):
        tuning_curve(answers([4, 3, 2, 1]), [5], independent=True)
