"""The noise scale from recorded terms: its interval covers, its windows are those stated."""

from __future__ import annotations

import math
import types

import numpy as np
import polars as pl
import pytest
from scipy.stats import t as student
from support.tolerances import FLOAT64

from experiments.analysis import noise_scale as analysis
from experiments.analysis.noise_scale import noise_at_goal, noise_in_training, noise_scale

REPEATS = 1000
LEAST_COVERAGE = 0.93
"""95 % less three Monte Carlo errors of 1,000 repeats (0.7 % each)."""


def stationary(dimensions, batch_size, scale, evaluations=16, pieces=4):
    """(S, |g|^2 - S/B), [repeats, evaluations] each, of Gaussian gradients with Sigma =
    diag(1, 1/2, 1/3, ...) whose true noise scale is ``scale``."""
    variances = 1 / np.arange(1, dimensions + 1)
    gradient = math.sqrt(variances.sum() / scale / dimensions)
    draws = np.random.default_rng(dimensions).normal(
        size=(REPEATS, evaluations, pieces, dimensions)
    )
    of_pieces = gradient + draws * np.sqrt(variances * pieces / batch_size)
    whole = of_pieces.mean(2)
    big, small = np.sum(whole**2, -1), np.mean(np.sum(of_pieces**2, -1), -1)
    trace = (small - big) / (pieces / batch_size - 1 / batch_size)  # eq. A.2
    return trace, big - trace / batch_size


@pytest.mark.parametrize(
    ("dimensions", "batch_size", "scale", "hidden"),
    [
        (1, 32, 30.0, True),
        (30, 4, 3.0, False),
        (30, 32, 30.0, False),
        (30, 32, 300.0, True),
        (30, 256, 30.0, False),
    ],
)
def test_the_interval_covers_a_stationary_noise_scale(dimensions, batch_size, scale, hidden):
    """Measured: 93 to 96 %, whether or not the gradient is told from its noise."""
    found = [noise_scale(*pair) for pair in zip(*stationary(dimensions, batch_size, scale))]
    covered = np.mean([f.low <= scale <= f.high for f in found])
    assert covered >= LEAST_COVERAGE
    assert (np.mean([f.value is None for f in found]) > 0.5) == hidden


def test_means_are_taken_apart_and_what_is_not_finite_is_left_out():
    trace, squared = np.arange(1.0, 17.0), np.linspace(2.0, 1.0, 16)
    found = noise_scale(np.append(trace, [np.nan, 5.0]), np.append(squared, [1.0, np.inf]))
    assert found == noise_scale(trace, squared)
    assert found.value == pytest.approx(trace.mean() / squared.mean(), rel=FLOAT64)
    assert found.low < found.value < found.high
    assert student(analysis.BLOCKS - 1).ppf(0.975) == pytest.approx(analysis.T_95, rel=FLOAT64)


@pytest.mark.parametrize("seed", range(20))
def test_the_ends_are_where_the_jackknife_of_the_linear_combination_says(seed):
    """r is inside exactly where |N - r M| is within t standard errors of blocks' means."""
    rng = np.random.default_rng(seed)
    trace, squared = rng.gamma(2, 1, 16), rng.normal(0.3 * (seed % 4), 1, 16)
    found = noise_scale(trace, squared)
    for r in np.geomspace(1e-3, 1e3, 200):
        blocks = (trace - r * squared).reshape(analysis.BLOCKS, 2).mean(1)
        error = blocks.std(ddof=1) / math.sqrt(analysis.BLOCKS)
        inside = abs(blocks.mean()) <= analysis.T_95 * error
        assert not inside or found.low <= r <= found.high
        if math.isfinite(found.high):
            assert inside == (found.low <= r <= found.high)


def test_a_gradient_below_its_noise_has_no_value_and_no_upper_end():
    rng = np.random.default_rng(0)
    found = noise_scale(rng.gamma(2, 1, 16), rng.normal(-0.5, 1, 16))
    assert found.value is None and found.high == math.inf and found.reason == analysis.LOST


def test_a_negative_square_beyond_chance_has_no_value_either():
    found = noise_scale(np.linspace(1, 2, 16), np.linspace(-1, -2, 16))
    assert found.value is None and (found.low, found.high) == (0, math.inf)


def test_too_few_evaluations_are_refused():
    found = noise_scale(np.ones(7), np.ones(7))
    assert found.value is None and found.low is None and found.reason == analysis.FEW


D = 1024
NAMES = ("trace", "squared_norm", "pieces", "batch_size")


def view_of_trials(rows):
    """What analysis asks of a view, of (batch size, trial, steps, pieces) trials with S = 8 and
    |g|^2 = 1 + 8 / B + step / 1000."""
    tables = []
    for batch_size, trial, steps, pieces in rows:
        step = np.arange(1, steps + 1)
        cut = pieces > 1
        squared = np.where(cut, 1 + 8 / batch_size + step / 1000, np.nan)
        values = (np.full(steps, 8.0 if cut else np.nan), squared,
                  np.full(steps, float(pieces)), np.full(steps, float(batch_size)))  # fmt: skip
        table = {"batch_size": batch_size, "seed": 0, "trial": trial, "step": step}
        named = zip(NAMES, values, strict=True)
        measured = {f"measured/gradient_noise/{name}": value for name, value in named}
        tables.append(pl.DataFrame({**table, "examples": step * batch_size, **measured}))
    held = pl.concat(tables).cast({name: pl.Int64 for name in ("batch_size", "seed", "trial")})

    def measurements(*columns):
        return held.lazy().select("batch_size", "seed", "trial", "step", "examples", *columns)

    question = types.SimpleNamespace(train_size=D)
    return types.SimpleNamespace(measurements=measurements, question=question, columns=held.columns)


def test_at_the_goal_the_window_ends_there_and_each_refusal_says_why():
    view = view_of_trials([(1, 0, 40, 1), (8, 2, 40, 4), (16, 1, 40, 4), (32, 0, 40, 4)])
    table = pl.DataFrame(
        {"batch_size": [1, 8, 16, 32], "seed": 0, "trial": [0, 2, 1, None],
         "steps_to_result": [30, 30, 5, None]},
    ).cast(pl.Int64)  # fmt: skip
    found = noise_at_goal(view, table)
    assert found["reason"].to_list() == [analysis.UNCUT, "", analysis.FEW, analysis.NEVER]
    (row,) = found.filter(batch_size=8).to_dicts()
    assert (row["first_step"], row["last_step"], row["evaluations"]) == (15, 30, 16)
    population = 1 + np.arange(15, 31).mean() / 1000
    assert row["squared_norm"] == pytest.approx(population + 8 / D)  # + S / D: the training set's
    assert row["noise_scale"] == pytest.approx(8 / (population + 8 / D))
    assert row["population_noise_scale"] == pytest.approx(8 / population)
    assert row["standard_error"] == pytest.approx(1.0)  # sqrt(8 / 8)


def test_windows_end_at_the_last_evaluation_and_every_half_window_before():
    view = view_of_trials([(8, 0, 45, 4), (1, 0, 45, 1)])
    trials = pl.DataFrame({"batch_size": [8, 1], "seed": 0, "trial": 0}).cast(pl.Int64)
    found = noise_in_training(view, trials)
    assert found["step"].to_list() == [21, 29, 37, 45]
    assert found["first_step"].to_list() == [6, 14, 22, 30]
    assert (found["noise_scale"].diff().drop_nulls() < 0).all()
    assert (found["low"] < found["noise_scale"]).all()
