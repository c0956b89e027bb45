"""The tuning curve: the median best of k trials against k, with exact bands.

For *independent* trials (``--sampler random``) the best of k trials has distribution function
1 - (1 - F)^k, so its median is the quantile of F at p_k = 1 - 2^(-1/k): a band for F is a band
for the whole curve. Points of a quasi-random search are not independent, and those of an
adaptive one even less: for them the curve is drawn without bands.

Two bands are given. Pointwise, each k has the exact interval of two order statistics
(`intervals.median_best_of`). Simultaneous, the band holds for all k at once: the i-th smallest of
N uniform numbers has a Beta(i, N - i + 1) distribution, every order statistic is bounded at one
and the same local level, and that level is chosen so that all N bounds hold together with the
stated probability, computed exactly. (Equal local levels: Berk & Jones 1979, Moscovich et al.
2016; as a band of tuning curves: Lourie, Cho & He, "Show Your Work with Confidence", 2024.)
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl

from experiments.analysis.intervals import (
    CONFIDENCE,
    Answer,
    median_best_of,
    probability_of_median_best,
)


def tuning_curve(
    answers: Sequence[Answer],
    budgets: Iterable[int],
    *,
    independent: bool,
    confidence: float = CONFIDENCE,
) -> pl.DataFrame:
    """The median best of k trials for each k of ``budgets``; smaller answers are better.

    Args:
      answers: one for each of the N trials.
      budgets: k, at least 1 and at most N.
      independent: whether the trials are independent draws; without it no band is given.

    Columns: ``k, median`` (the upper end of the quantile p_k of the trials, infinite for never),
    ``low, high`` (pointwise), ``simultaneous_low, simultaneous_high``; bands null where the
    trials are not independent, infinite where open.
    """
    n = len(answers)
    highs = np.sort([a.high for a in answers])
    lows = np.sort([a.low for a in answers])
    rows = []
    for k in budgets:
        if not 1 <= k <= n:
            raise ValueError(f"k must lie in 1..{n} (the trials there are), got {k!r}")
        p = float(probability_of_median_best(k))
        median = float(highs[math.ceil(n * p - 1e-12) - 1])
        bands: tuple[float | None, ...] = (None,) * 4
        if independent:
            point = median_best_of(k, answers, confidence)
            bands = (point.low, point.high, *_simultaneous(p, lows, highs, confidence))
        rows.append((k, median, *bands))
    names = ("median", "low", "high", "simultaneous_low", "simultaneous_high")
    schema = {"k": pl.Int64, **dict.fromkeys(names, pl.Float64)}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _simultaneous(
    p: float, lows: np.ndarray, highs: np.ndarray, confidence: float
) -> tuple[float, float]:
    """The band's ends at the quantile p: the order statistics whose bounds of F exclude it."""
    lower, upper = simultaneous_bounds(len(lows), confidence)
    # F(X_(i)) lies in [lower_i, upper_i]: where upper_i < p, the quantile is above X_(i); where
    # lower_i > p, it is at or below X_(i).
    above = int(np.searchsorted(upper, p, side="left"))
    below = int(np.searchsorted(lower, p, side="left"))
    low = float(lows[above - 1]) if above else -math.inf
    high = float(highs[below]) if below < len(highs) else math.inf
    return low, high


@functools.lru_cache(maxsize=64)
def simultaneous_bounds(trials: int, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Bounds [N] below and above every uniform order statistic, jointly of this probability.

    lower_i and upper_i are the level/2 and 1 - level/2 quantiles of Beta(i, N - i + 1); the
    level is found by bisection on the exact probability that all N bounds hold.
    """
    from scipy.special import betaincinv

    i = np.arange(1, trials + 1)

    def bounds(level: float) -> tuple[np.ndarray, np.ndarray]:
        lower = betaincinv(i, trials - i + 1.0, level / 2)
        return lower, 1 - lower[::-1]

    strict, loose = 0.0, 1 - confidence  # the joint probability falls as the level rises
    if trials == 1:
        return bounds(loose)
    for _ in range(40):
        middle = (strict + loose) / 2
        if joint_probability(*bounds(middle)) >= confidence:
            strict = middle
        else:
            loose = middle
    return bounds(strict)


def joint_probability(lower: np.ndarray, upper: np.ndarray) -> float:
    """P(lower_i <= U_(i) <= upper_i for all i) of N uniform order statistics, exactly.

    The number of uniforms below t is followed from bound to bound: U_(i) <= upper_i says that at
    least i lie below upper_i, and U_(i) >= lower_i that fewer than i lie below lower_i. Between
    two bounds the count of a Poisson process grows by independent Poisson numbers; N of them in
    [0, 1] are N uniforms (Moscovich & Nadler 2017), so the result is divided by P(Poisson(N) = N).

    Args:
      lower, upper: [N] ascending.
    """
    n = len(lower)
    times = np.concatenate([lower, upper, [1.0]])
    order = np.argsort(times, kind="stable")
    counts = np.zeros(n + 1)
    counts[0] = 1.0
    before = 0.0
    for at in order:
        counts = _advanced(counts, n * (times[at] - before))
        before = times[at]
        if at < n:  # fewer than at + 1 below lower_(at + 1)
            counts[at + 1 :] = 0.0
        elif at < 2 * n:  # at least at - n + 1 below upper_(at - n + 1)
            counts[: at - n + 1] = 0.0
    log_poisson = n * math.log(n) - n - math.lgamma(n + 1)
    return float(counts[n] / math.exp(log_poisson))


def _advanced(counts: np.ndarray, rate: float) -> np.ndarray:
    """The distribution of a count after a Poisson number of mean ``rate`` was added."""
    if rate <= 0:
        return counts
    from scipy.special import gammaln

    j = np.arange(len(counts))

    added = np.exp(j * math.log(rate) - rate - gammaln(j + 1))
    return np.convolve(counts, added)[: len(counts)]
