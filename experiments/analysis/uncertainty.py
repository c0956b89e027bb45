"""Bootstrap over trials: how far the best of a search depends on which trials it happened to draw.

The statistic of a search is a minimum (steps to result, best error) over its N COMPLETE trials.
Resample N of them with replacement, take the minimum, repeat; the percentile interval of those
minima is the bootstrap interval (Efron 1979). A trial that never reached the goal enters as
infinity, so an upper end may be infinite: the search could well have missed the goal.

What it says and what it cannot say. A resample holds no value that was not observed, so the
interval never goes below the observed minimum, and about 63 % of the resamples return that
minimum exactly: the lower end is always the estimate itself, and the upper end is close to the
fourth best trial. The interval therefore answers "how much later might this search have got
there, had it missed its luckiest trials"; it cannot say how much better a longer search could
do. As an interval for the *median minimum of N trials* of the same search space it is not a 95 %
interval: simulated with log-normal steps (4,000 searches each) it covers that median in 51 % of
searches at N = 20 and 49 % at N = 100, since half of all searches are less lucky than the median
one. One-sided it is dependable: its upper end lies above that median in 99 % of searches, and a
second, independent search of N trials is at or below it in 94 %.
(tests/test_analysis_uncertainty.py repeats the simulation.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np
import polars as pl

from experiments.analysis.question import SEARCH


@dataclasses.dataclass(frozen=True)
class Bootstrap:
    """How intervals are drawn; shown with the results.

    Attributes:
      replicates: resamples drawn.
      confidence: share of the resampled statistics inside the interval.
      seed: of the draws; streams of different searches are independent.
    """

    replicates: int = 10_000
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.replicates < 1:
            raise ValueError(f"replicates must be at least 1, got {self.replicates!r}")
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence must lie in (0, 1), got {self.confidence!r}")

    def generator(self, *stream: int) -> np.random.Generator:
        """The generator of one stream, e.g. one (batch size, seed)."""
        return np.random.default_rng([self.seed, *stream])


STANDARD = Bootstrap()
"""What the report uses for every search."""


def resampled_minima(
    values: np.ndarray, draws: int, replicates: int, generator: np.random.Generator
) -> np.ndarray:
    """Minima of ``replicates`` resamples, each of ``draws`` of ``values`` with replacement.

    A resample's minimum has rank >= k (0 is the smallest of n values) with probability
    ((n - k) / n)^draws, so one uniform number u gives a rank, floor(n (1 - u^(1 / draws))),
    and nothing is gained by drawing the resample itself.

    Args:
      values: [n], n >= 1; infinity stands for "never".

    Returns:
      [replicates] of the values' dtype.
    """
    n = len(values)
    uniform = 1.0 - generator.random(replicates)  # in (0, 1]
    rank = np.floor(n * -np.expm1(np.log(uniform) / draws)).astype(np.int64)
    return np.sort(values)[np.clip(rank, 0, n - 1)]


def percentile_interval(replicates: np.ndarray, confidence: float) -> tuple[float, float]:
    """The central ``confidence`` interval, at observed values (so infinity is allowed)."""
    tail = (1 - confidence) / 2
    low = np.quantile(replicates, tail, method="lower")
    high = np.quantile(replicates, 1 - tail, method="higher")
    return float(low), float(high)


def steps_of(crossings: pl.DataFrame) -> dict[tuple[int, int], np.ndarray]:
    """(batch size, seed) -> [N] first steps past the goal, infinity for never."""
    groups = crossings.partition_by(SEARCH, as_dict=True)
    return {
        (int(batch_size), int(seed)): rows["step"].cast(pl.Float64).fill_null(np.inf).to_numpy()
        for (batch_size, seed), rows in groups.items()
    }


def bootstrap_steps(crossings: pl.DataFrame, bootstrap: Bootstrap = STANDARD) -> pl.DataFrame:
    """The bootstrap interval of steps to result, per search.

    Args:
      crossings: as `steps_to_result.crossings` returns.

    Columns: ``batch_size, seed, bootstrap_low, bootstrap_high`` (float; infinite where the
    resampled searches miss the goal), ``bootstrap_reached``, the share of resamples that reach
    the goal, and ``trials_reached``, the number of counted trials that do.
    """
    rows = []
    for (batch_size, seed), steps in sorted(steps_of(crossings).items()):
        generator = bootstrap.generator(batch_size, seed)
        minima = resampled_minima(steps, len(steps), bootstrap.replicates, generator)
        low, high = percentile_interval(minima, bootstrap.confidence)
        reached = float(np.isfinite(minima).mean())
        rows.append((batch_size, seed, low, high, reached, int(np.isfinite(steps).sum())))
    return pl.DataFrame(
        rows,
        schema={
            "batch_size": pl.Int64, "seed": pl.Int64,
            "bootstrap_low": pl.Float64, "bootstrap_high": pl.Float64,
            "bootstrap_reached": pl.Float64, "trials_reached": pl.Int64,
        },
        orient="row",
    )  # fmt: skip


def bootstrap_best(
    values: np.ndarray, sign: float, bootstrap: Bootstrap, *stream: int
) -> tuple[float, float]:
    """The bootstrap interval of the best of ``values`` [N], which are finite.

    ``sign`` is the goal's: 1 where smaller is better, -1 where larger is.
    """
    generator = bootstrap.generator(*stream)
    minima = resampled_minima(sign * values, len(values), bootstrap.replicates, generator)
    low, high = percentile_interval(minima, bootstrap.confidence)
    return (low, high) if sign > 0 else (-high, -low)


def best_of_k(
    values: np.ndarray,
    budgets: Iterable[int],
    sign: float = 1,
    bootstrap: Bootstrap = STANDARD,
) -> pl.DataFrame:
    """The best of k trials drawn with replacement, for each k of ``budgets``.

    The Tuning Playbook's "have we sampled enough": where the curve is flat at the study's own N,
    more trials of the same space would change little. For k well below N this estimates what a
    search of k trials finds; as k approaches N it inherits the limits named above. ``sign`` is
    the goal's: 1 where smaller is better, -1 where larger is.

    Columns: ``k, median, low, high``.
    """
    rows = []
    for k in budgets:
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k!r}")
        minima = resampled_minima(
            sign * np.asarray(values, float), k, bootstrap.replicates, bootstrap.generator(k)
        )
        low, high = percentile_interval(minima, bootstrap.confidence)
        ends = sorted((sign * low, sign * high))
        middle = float(np.quantile(minima, 0.5, method="lower"))
        rows.append((k, sign * middle, *ends))
    schema = {"k": pl.Int64, "median": pl.Float64, "low": pl.Float64, "high": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")
