"""Bootstrap intervals of a minimum: exact where exactness is known, and their true coverage."""

import numpy as np
import polars as pl
import pytest

from experiments.analysis.uncertainty import (
    Bootstrap,
    best_of_k,
    bootstrap_steps,
    percentile_interval,
    resampled_minima,
)


def literal_minima(values, draws, replicates, generator):
    """The bootstrap as it is told: draw the resample, take its minimum."""
    picks = generator.integers(len(values), size=(replicates, draws))
    return np.asarray(values)[picks].min(axis=1)


@pytest.mark.parametrize(("n", "draws"), [(1, 1), (5, 5), (20, 20), (20, 6), (7, 40)])
def test_ranks_are_drawn_as_a_literal_resample_would(n, draws):
    values = np.random.default_rng(1).permutation(n).astype(float)
    replicates = 40_000
    fast = resampled_minima(values, draws, replicates, np.random.default_rng(2))
    slow = literal_minima(values, draws, replicates, np.random.default_rng(3))
    exact = ((n - np.arange(n + 1)) / n) ** draws
    for found in (fast, slow):
        share = np.array([(found >= k).mean() for k in range(n + 1)])
        # five standard errors of a share of 40,000 draws
        np.testing.assert_allclose(share, exact, atol=5 * 0.5 / np.sqrt(replicates))


def test_the_interval_starts_at_the_observed_minimum_and_may_be_infinite():
    steps = [30, 40, None, None, None, None]
    table = pl.DataFrame(
        {"batch_size": 8, "seed": 0, "trial": range(6), "step": steps},
        schema={"batch_size": pl.Int64, "seed": pl.Int64, "trial": pl.Int64, "step": pl.Int64},
    )
    row = bootstrap_steps(table).row(0, named=True)
    assert row["bootstrap_low"] == 30 and np.isinf(row["bootstrap_high"])
    assert row["bootstrap_reached"] == pytest.approx(1 - (4 / 6) ** 6, abs=0.02)
    assert row["trials_reached"] == 2


def test_streams_of_searches_do_not_depend_on_one_another():
    generator = np.random.default_rng(0)
    table = pl.DataFrame(
        {
            "batch_size": np.repeat([8, 16], 20), "seed": 0, "trial": np.tile(np.arange(20), 2),
            "step": generator.integers(10, 1000, 40),
        }
    )  # fmt: skip
    both = bootstrap_steps(table, Bootstrap(replicates=500))
    alone = bootstrap_steps(table.filter(pl.col("batch_size") == 16), Bootstrap(replicates=500))
    assert both.filter(pl.col("batch_size") == 16).equals(alone)
    other = bootstrap_steps(table, Bootstrap(replicates=500, seed=1))
    assert not other["bootstrap_reached"].is_nan().any()


@pytest.mark.parametrize("n", [20, 100])
def test_coverage_is_what_the_docstring_says(n):
    """About half for the median minimum; nearly all for its upper end alone."""
    generator = np.random.default_rng(n)
    searches = generator.lognormal(5.0, 1.0, size=(4_000, n))
    true_median = np.median(generator.lognormal(5.0, 1.0, size=(20_000, n)).min(axis=1))
    inside = above = repeated = 0
    for search in searches:
        minima = resampled_minima(search, n, 500, generator)
        low, high = percentile_interval(minima, 0.95)
        inside += low <= true_median <= high
        above += true_median <= high
        repeated += generator.lognormal(5.0, 1.0, n).min() <= high
    # three standard errors of a share near one half of 4,000 searches are 0.024
    assert inside / 4_000 == pytest.approx(0.50, abs=0.03)
    assert above / 4_000 > 0.985
    assert repeated / 4_000 == pytest.approx(0.94, abs=0.015)


def test_best_of_k_follows_the_order_statistics_of_a_known_law():
    values = np.arange(1, 1001) / 1000  # close to uniform, median of the best of k known
    table = best_of_k(values, (1, 6, 20), bootstrap=Bootstrap(replicates=40_000))
    assert table["median"].to_list() == pytest.approx(
        [1 - 0.5 ** (1 / k) for k in (1, 6, 20)], abs=0.006
    )
    upward = best_of_k(1 - values, (20,), -1).row(0, named=True)
    assert upward["median"] == pytest.approx(0.5 ** (1 / 20), abs=0.006)
    assert upward["low"] <= upward["median"] <= upward["high"]


@pytest.mark.parametrize("fields", [{"replicates": 0}, {"confidence": 1.0}])
def test_senseless_settings_are_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        Bootstrap(**fields)
