"""The Gaussian process of the sampler gp: its believer against a process fitted anew."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from experiments.search.samplers.base import Ask, Seen
from experiments.search.samplers.distinct import snapped
from experiments.search.samplers.gp import Believer, propose
from experiments.spec.space import Choice, Integer, Real

TOLERANCE = 1e-8
"""Of a Cholesky factorisation of some twenty rows and the same a row at a time, in float64."""
LEVELS = {"a": Integer(0, 9), "b": Integer(0, 9), "c": Choice((1, 2, 3))}


def test_the_believer_is_a_process_fitted_to_its_own_predictions_too():
    generator = np.random.default_rng(0)
    known, inputs = generator.uniform(size=(12, 3)), generator.uniform(size=(30, 3))
    values = generator.normal(3, 2, 12)
    kernel = ConstantKernel(2.0) * Matern((0.3, 0.5, 0.9), nu=2.5) + WhiteKernel(0.05)
    process = GaussianProcessRegressor(kernel, optimizer=None, normalize_y=True).fit(known, values)
    believer = Believer(process, inputs)
    mean, deviation = process.predict(inputs, return_std=True)
    for chosen in (4, 17, 4):
        np.testing.assert_allclose(believer.mean, mean, rtol=TOLERANCE)
        np.testing.assert_allclose(np.sqrt(believer.variance), deviation, rtol=TOLERANCE)
        known = np.vstack([known, inputs[chosen]])
        values = np.append(values, mean[chosen])
        believer.observe(chosen)
        # With the scale of the first fit: it is not to move with what is believed.
        plain = GaussianProcessRegressor(process.kernel_, optimizer=None)
        scaled = (values - process._y_train_mean) / process._y_train_std
        mean, deviation = plain.fit(known, scaled).predict(inputs, return_std=True)
        mean = mean * process._y_train_std + process._y_train_mean
        deviation = deviation * process._y_train_std


def test_positions_of_equal_values_are_one():
    space = {**LEVELS, "d": Integer(1, 50, scale="log"), "e": Integer(16, 64, step=16)}
    space["f"] = Real(1e-3, 1.0, "log")
    ask = Ask(0, 0, 1, space, {4: 1})
    points = np.random.default_rng(1).uniform(size=(200, 6))
    found = snapped(ask, points)
    for column, name in enumerate(ask.names):
        before = [space[name].value(u) for u in points[:, column]]
        after = [space[name].value(u) for u in found[:, column]]
        assert before == pytest.approx(after)
        assert len(set(found[:, column])) == len(set(before))


def test_in_a_finite_space_too_every_later_point_is_the_models():
    """Even where the best points are known already, so that most candidates are."""
    best = (0.95, 0.05, 0.5)
    points = np.random.default_rng(2).uniform(size=(40, 3))
    points[:20] = best + 0.2 * (points[:20] - 0.5)
    seen = [
        Seen(4, i, tuple(np.clip(p, 0, 1)), "reached", float(np.abs(p - best).sum()))
        for i, p in enumerate(points)
    ]
    found = propose(Ask(0, 1, 48, LEVELS, {4: 8}, tuple(seen), log_values=False))
    assert found.sources[4] == ("model",) * 8
    assert len(set(found.points[4])) == 8
