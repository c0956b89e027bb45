"""Extrapolation of learning curves: planted families are found, calibrated bands hold."""

from __future__ import annotations

import numpy as np
import pytest
from support.tolerances import FLOAT64, FLOAT64_SUMS

from experiments.search.architecture.calibrated import SCORES
from experiments.search.architecture.calibration import Calibration
from experiments.search.architecture.curves import (
    FAMILIES,
    Extrapolation,
    aicc,
    akaike_weights,
    extrapolated,
    fitted,
)

FITTED = 2e-5
"""The search for a shape stops after 40 evaluations, this near the curve it was drawn from."""
EXTRAPOLATED = 2e-3
"""What that leaves at x = 80, of a curve seen up to 30."""

X = np.arange(1.0, 81.0)
PLANTED = {
    "pow3": 0.1 + 0.8 * X**-0.7,
    "pow4": 0.1 + 2.0 * (X + 3.0) ** -1.1,
    "mmf4": 0.1 + 0.8 / (1 + (X / 9.0) ** 1.4),
    "ilog2": 0.02 + 0.6 / np.log(X + 1.0),
}


def noisy(name: str, deviation: float, seed: int) -> np.ndarray:
    drawn = np.random.default_rng([seed, list(PLANTED).index(name)]).standard_normal(len(X))
    return PLANTED[name] + deviation * drawn


@pytest.mark.parametrize("name", PLANTED)
def test_the_fit_of_its_own_family_is_exact_and_tells_the_end(name):
    fit = fitted(name, X[:30], PLANTED[name][:30])
    np.testing.assert_allclose(fit.of(X[:30]), PLANTED[name][:30], atol=FITTED)
    np.testing.assert_allclose(fit.at(80.0), PLANTED[name][-1], atol=EXTRAPOLATED)


@pytest.mark.parametrize("name", ["pow3", "pow4", "mmf4"])
def test_no_shape_nearby_fits_better(name):
    y = noisy(name, 0.01, 0)[:40]
    fit = fitted(name, X[:40], y)
    least = ((fit.of(X[:40]) - y) ** 2).sum()
    for step in 0.02 * np.concatenate([np.eye(len(fit.shape)), -np.eye(len(fit.shape))]):
        other = FAMILIES[name].basis(X[:40], (fit.shape + step)[None])[0]
        design = np.stack([np.ones_like(other), other], 1)
        residual = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
        assert least <= (residual**2).sum() + 1e-9


def test_akaikes_weights_are_those_of_the_definition():
    assert aicc(np.array(2.0), 10, 3) == pytest.approx(10 * np.log(0.2) + 6 + 24 / 6)
    weights = akaike_weights(np.array([[0.0], [2.0], [100.0]]))[:, 0]
    np.testing.assert_allclose(weights, [1 / (1 + np.exp(-1)), 1 / (1 + np.e), 0], atol=FLOAT64)


def test_families_that_miss_the_curve_get_no_weight():
    weights = extrapolated(X[:40], noisy("mmf4", 0.002, 1)[:40], 80.0, draws=20).weights
    assert sum(weights.values()) == pytest.approx(1.0)
    assert weights["ilog2"] < 0.01


@pytest.mark.parametrize("cut", [8, 20, 40])
def test_the_spread_covers_the_end_of_curves_that_the_families_are_right_about(cut):
    """Of 32 planted curves: 24 or fewer happen to a band of 90 % once in 100 times."""
    held = errors = last = 0.0
    for seed in range(8):
        for name, truth in PLANTED.items():
            y = noisy(name, 0.015, seed)
            found = extrapolated(X[:cut], y[:cut], 80.0, draws=60, seed=seed)
            low, high = np.quantile(found.draws, [0.05, 0.95])
            held += low <= y[-1] <= high
            errors += abs(found.value - truth[-1])
            last += abs(y[cut - 1] - truth[-1])
    assert held >= 25
    assert errors < 0.7 * last  # nearer to the end than the last value seen is


def test_a_hopeless_run_stops_and_a_hopeful_one_goes_on():
    found, scores = extrapolated(X[:20], noisy("pow3", 0.005, 2)[:20], 80.0), Calibration.at(0.25)
    assert not scores.worth_going_on(found, 0.0)
    assert scores.worth_going_on(found, 0.0, margin=0.2)
    assert scores.worth_going_on(found, float(PLANTED["pow3"][-1]))
    assert scores.probability_below(found, -1.0) < 0.01
    assert scores.probability_below(found, 1.0) > 0.99


def predicted(values, scales):
    """Extrapolations of these values and scales."""
    return [
        Extrapolation(1.0, float(v), {}, np.full(2, v), float(s))
        for v, s in zip(values, scales, strict=True)
    ]


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_a_calibrated_band_holds_as_often_as_it_says_whatever_the_errors_are(level):
    """39 finished curves, whose ends are biased, skewed and far outside of the scales."""
    draws = np.random.default_rng(0)
    scales = draws.uniform(0.5, 2.0, (400, 40))
    values = draws.normal(size=(400, 40))
    ends = values + scales * (3.0 + 10.0 * draws.exponential(size=(400, 40)))
    held = []
    for v, s, y in zip(values, scales, ends, strict=True):
        curves = predicted(v, s)
        low, high = Calibration.of(curves[:-1], y[:-1]).band(curves[-1], level=level)
        held.append(low <= y[-1] <= high)
    # Exactly the level, as the ranks are whole; 400 draws, three standard errors.
    assert abs(np.mean(held) - level) < 3 * (level * (1 - level) / 400) ** 0.5


def test_ranks_of_the_band_and_the_distribution_are_those_of_the_definition():
    scores = np.arange(1.0, 20.0)  # 19: the least number of which a band of 90 % is finite
    (curve,) = predicted([10.0], [2.0])
    found = Calibration.of(predicted(np.zeros(19), np.ones(19)), scores[::-1])
    assert found.band(curve) == (10 + 2 * 1.0, 10 + 2 * 19.0)
    assert found.band(curve, level=0.8) == (10 + 2 * 2.0, 10 + 2 * 18.0)
    assert found.band(curve, level=0.95) == (-np.inf, np.inf)
    assert found.probability_below(curve, 10 + 2 * 4.5) == pytest.approx((4 + 0.5) / 20)
    with pytest.raises(ValueError, match="level must lie in"):
        found.band(curve, level=1.0)
    with pytest.raises(ValueError, match="as many ends as curves, at least one: 0 of 0"):
        Calibration.of([], np.array([]))


def test_the_scores_that_searches_stop_by_are_sorted_and_wider_than_the_spread_says():
    for share, scores in SCORES.items():
        assert len(scores) == 99 and list(scores) == sorted(scores)
        assert Calibration.at(share * 1.1).scores.tolist() == list(scores)
        assert scores[94] - scores[4] > 2 * 1.6449  # a normal law of the bootstrap's deviation


def test_units_of_steps_and_values_do_not_matter_and_a_seed_repeats():
    y = noisy("pow4", 0.01, 3)[:20]
    a = extrapolated(X[:20], y, 80.0, draws=50)
    b = extrapolated(500 * X[:20], 7 * y, 500 * 80.0, draws=50)
    np.testing.assert_allclose([b.value, b.scale], 7 * np.array([a.value, a.scale]))
    np.testing.assert_array_equal(a.draws, extrapolated(X[:20], y, 80.0, draws=50).draws)


def test_a_flat_curve_stays_where_it_is():
    found = extrapolated(X[:10], np.full(10, 0.5), 80.0, draws=20)
    np.testing.assert_allclose([found.value, *found.draws], 0.5, atol=FLOAT64_SUMS)


@pytest.mark.parametrize(
    ("x", "y", "at", "message"),
    [
        ([1, 2, 3], [1, 1, 1], 9, "at least 6 points to be extrapolated, got 3"),
        (range(6), [1] * 6, 9, "x must be positive and increasing"),
        ([1, 2, 3, 4, 4, 5], [1] * 6, 9, "x must be positive and increasing"),
        (range(1, 7), [1, 1, np.inf, 1, 1, 1], 9, "y must be finite, got inf"),
        (range(1, 7), [1] * 6, 5, r"the last x \(6\), got 5"),
        (range(1, 7), [1] * 5, 9, "got shapes"),
    ],
)
def test_what_is_no_curve_is_refused_in_one_line(x, y, at, message):
    with pytest.raises(ValueError, match=message):
        extrapolated(np.array(list(x), float), np.array(y, float), float(at))
