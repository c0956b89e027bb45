"""Fitted curves give back the truth they were drawn from, and regimes in order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.analysis.scaling_curve import Convex, Hyperbola

CONVERGED = 1e-6
"""The projection onto convex curves leaves points on one where they are, but for its stopping."""

SIZES = 2.0 ** np.arange(0, 11)
EXACT = 1e-3
"""The hyperbola's B_noise is refined on a grid of log B: its last digits are not exact."""


def true_steps(least, noise, sizes=SIZES):
    return least * (1 + noise / sizes)


def test_the_hyperbola_is_found_where_the_points_lie_on_one():
    curve = Hyperbola.fit(SIZES, true_steps(50, 90))
    assert curve.least_steps == pytest.approx(50, rel=EXACT)
    assert curve.noise_batch_size == pytest.approx(90, rel=EXACT)
    assert curve.least_examples == pytest.approx(4500, rel=EXACT)
    assert curve.perfect_end(0.2) == pytest.approx(18, rel=EXACT)
    assert curve.flat_start(0.1) == pytest.approx(360, rel=EXACT)


def test_borders_of_the_hyperbola_are_those_of_the_definitions():
    """At the borders examples exceed E_min by 20 %, and doubling saves 10 %."""
    curve = Hyperbola(50.0, 90.0, 4500.0, 0.0)
    end, flat = curve.perfect_end(0.2), curve.flat_start(0.1)
    assert end * curve.steps(np.array([end]))[0] == pytest.approx(1.2 * curve.least_examples)
    now, doubled = curve.steps(np.array([flat, 2 * flat]))
    assert 1 - doubled / now == pytest.approx(0.1)


def test_points_on_a_convex_curve_are_their_own_fit():
    points = true_steps(50, 90)
    np.testing.assert_allclose(Convex.fit(SIZES, points).steps(SIZES), points, rtol=CONVERGED)


@given(
    noise=st.lists(st.floats(-1, 1), min_size=11, max_size=11),
    missing=st.sets(st.integers(0, 10), max_size=8),
)
def test_the_convex_curve_falls_with_rising_slopes_and_ordered_regimes(noise, missing):
    points = true_steps(50, 90) * 2.0 ** np.array(noise)
    points[sorted(missing)] = np.inf
    curve = Convex.fit(SIZES, points)
    slopes = np.diff(curve.log_steps) / np.diff(curve.log_batch_sizes)
    assert (slopes >= -1 - CONVERGED).all() and (slopes <= CONVERGED).all()
    assert (np.diff(slopes) >= -CONVERGED).all()
    assert curve.perfect_end(0.1) <= curve.perfect_end(0.2) <= curve.perfect_end(0.5)
    assert curve.flat_start(0.2) <= curve.flat_start(0.1)


def test_the_convex_fit_is_the_best_of_its_kind():
    """No admissible curve near it has a smaller sum of squares."""
    generator = np.random.default_rng(0)
    points = true_steps(50, 90) * np.exp2(generator.normal(0, 0.3, len(SIZES)))
    curve, y, x = Convex.fit(SIZES, points), np.log2(points), np.log2(SIZES)
    least = ((curve.log_steps - y) ** 2).sum()
    tried = 0
    for _ in range(2000):
        other = curve.log_steps + generator.normal(0, 0.02, len(x))
        slopes = np.diff(other) / np.diff(x)
        other = other[0] + np.concatenate([[0], np.cumsum(np.sort(np.clip(slopes, -1, 0)))])
        tried += 1
        assert ((other - y) ** 2).sum() >= least - 1e-9
    assert tried == 2000


def test_perfect_scaling_and_a_flat_curve_have_no_end():
    perfect, flat = Convex.fit(SIZES, 4096 / SIZES), Convex.fit(SIZES, np.full(11, 64.0))
    assert perfect.perfect_end(0.2) == np.inf and perfect.flat_start(0.1) == np.inf
    assert flat.flat_start(0.1) == 1.0
    assert flat.perfect_end(0.2) == pytest.approx(1.2)


def test_a_bad_anchor_moves_the_fitted_end_far_less_than_the_anchored_one():
    """Steps at the smallest batch size 20 % too many: the fit's end moves by at most a third."""
    points = true_steps(50, 90)
    points[0] *= 1.2
    for kind in (Hyperbola, Convex):
        end = kind.fit(SIZES, points).perfect_end(0.2)
        assert 18 / 1.5 < end < 18 * 1.5
