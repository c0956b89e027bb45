"""Whole studies of the noisy quadratic model against its exact answer, search by search.

The recursion gives the exact expected loss of every rate at every batch size, so the steps of a
trial are known, and with rates drawn from a finite list so is the law of the fewest steps of a
search: P(M <= t) = 1 - (1 - F(t))^N. Nothing is estimated but the coverage itself, in 500 studies.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from support.records_factory import MemoryRecord, describe, make_study, measurements

from experiments.analysis.critical_batch_size import (
    convex_limit,
    noise_critical_batch_size,
    perfect_scaling_limit,
)
from experiments.analysis.intervals import Answer
from experiments.analysis.searches import Across
from experiments.analysis.summary import summarise
from experiments.spec.trial import evaluation_steps
from workloads.oracles.recursions import expected_losses, full_spectrum

REPEATS, SEARCHES, TRIALS = 500, 6, 6
DEMANDED = 0.95
"""Of a nominal 96.9 %, two Monte Carlo standard errors of 500 below."""
SIZES = np.array([1, 2, 4, 8, 16, 32, 64])
RATES = np.geomspace(0.02, 1.9, 24)
LENGTH, GOAL, DIMENSIONS = 1024, 0.12, 20
GRID = np.array(evaluation_steps(LENGTH))


@pytest.fixture(scope="module")
def losses():
    """[batch sizes, rates, LENGTH + 1] exact expected losses."""
    spectrum = full_spectrum(DIMENSIONS)
    return np.array([
        [expected_losses("sgd", spectrum, int(b), float(rate), steps=LENGTH) for rate in RATES]
        for b in SIZES
    ])  # fmt: skip


@pytest.fixture(scope="module")
def steps(losses):
    """[batch sizes, rates] the first evaluation at which the loss is below the goal."""
    below = losses[:, :, GRID] < GOAL
    return np.where(below.any(axis=2), GRID[below.argmax(axis=2)].astype(float), np.inf)


def exact_median(steps):
    """The median of the fewest steps of TRIALS rates, drawn independently from the list."""
    values = np.unique(steps)
    reached = np.array([1 - (1 - np.mean(steps <= value)) ** TRIALS for value in values])
    return float(values[np.argmax(reached >= 0.5)])


def searched(steps, searches, generator):
    """[searches, batch sizes] fewest steps of searches that draw their own rates everywhere."""
    drawn = generator.integers(len(RATES), size=(searches, len(SIZES), TRIALS))
    return np.take_along_axis(steps[None], drawn, axis=2).min(axis=2)


def before(steps):
    """The evaluation before, 0 at the first; the length where never."""
    place = np.searchsorted(GRID, np.where(np.isinf(steps), LENGTH, steps))
    earlier = np.where(place > 0, GRID[np.maximum(place - 1, 0)], 0)
    return np.where(np.isinf(steps), LENGTH, earlier)


def test_the_range_of_six_searches_covers_the_exact_median_answer(steps):
    generator = np.random.default_rng(0)
    held = np.zeros(len(SIZES))
    truth = [exact_median(row) for row in steps]
    for _ in range(REPEATS):
        high = searched(steps, SEARCHES, generator)
        low = before(high)
        for at in range(len(SIZES)):
            found = Across.of([Answer(*ends) for ends in zip(low[:, at], high[:, at], strict=True)])
            assert found.coverage == 1 - 2**-5
            held[at] += found.low <= truth[at] <= found.high
    assert (held / REPEATS >= DEMANDED).all()


def test_ranges_of_the_critical_batch_sizes_cover_those_of_a_typical_search(steps):
    generator = np.random.default_rng(1)
    sizes, single = SIZES.astype(float), searched(steps, 800, generator)
    for read in (noise_critical_batch_size, perfect_scaling_limit, convex_limit):
        each = [read([(sizes, row)]) for row in single]
        ends = np.array([
            {"=": one.value, ">=": np.inf, "<=": 0.0}[one.relation] if one.value else np.inf
            for one in each
        ])  # fmt: skip
        truth = float(np.median(ends))
        held = 0
        for _ in range(REPEATS):
            found = read([(sizes, row) for row in searched(steps, SEARCHES, generator)])
            low, high = (found.low, found.high) if found.low is not None else (0.0, np.inf)
            held += low <= truth <= high
        assert held / REPEATS >= DEMANDED, read.__name__


def test_a_whole_record_of_exact_curves_gives_the_exact_steps(losses, steps):
    """Search, record and summary: every number of the table is the recursion's."""
    study = make_study(tuple(map(int, SIZES)), trials=TRIALS, seeds=range(SEARCHES), goal=GOAL,
                       sampler="random",
                       step_budget=LENGTH, epochs=1, optimizer="sgd",
                       space={"learning_rate": {"low": 0.02, "high": 1.9, "scale": "log"}},
                       )  # fmt: skip
    generator = np.random.default_rng(2)
    drawn = generator.integers(len(RATES), size=(SEARCHES, len(SIZES), TRIALS))
    trials, curves = [], []
    for seed in range(SEARCHES):
        for at, batch_size in enumerate(map(int, SIZES)):
            for index, rate in enumerate(drawn[seed, at]):
                trials.append({"batch_size": batch_size, "seed": seed, "trial": index,
                               "identity": "", "status": "COMPLETE", "train_steps": LENGTH,
                               "steps": LENGTH, "seconds": 0.1, "plan": 0, "message": "",
                               "learning_rate": float(RATES[rate])})  # fmt: skip
                curve = losses[at, rate, GRID]
                curves.append(measurements(batch_size, seed, index, list(GRID), list(curve)))
    record = MemoryRecord(describe(study), pl.DataFrame(trials), pl.concat(curves))
    summary = summarise(record)
    exact = np.take_along_axis(steps[None], drawn, axis=2).min(axis=2)
    for at, row in enumerate(summary.curve.sort("batch_size").iter_rows(named=True)):
        assert row["median"] == np.median(exact[:, at])
        assert row["pooled"] == exact[:, at].min() and row["searches"] == SEARCHES
        assert row["high"] == exact[:, at].max()
        assert row["low"] == before(exact[:, at]).min()
