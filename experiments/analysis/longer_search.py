"""Longer random searches, extrapolated: what they would reach, and how many hyperparameters count.

Near its best a score is quadratic in the hyperparameters that matter. Of points drawn independently
(``--sampler random``) the best scores then follow, in the lower tail,

    F(y) = ((y - a) / (b - a))^(c / 2),

a being the best there is and c the effective number of hyperparameters (Lourie, He & Cho, "Hyper-
parameter loss surfaces are simple near their optima", 2025, arXiv 2510.02721). The quantile at p is
a + (b - a) p^(2/c), and the median best of k draws lies at p = 1 - 2^(-1/k).

For a given c the r smallest of N scores are a + (b - a) Z_(1..r), where Z_(i) are the order
statistics of U^(2/c), whose means and covariances are ratios of gamma functions. So a and b - a are
estimated without bias and with the least variance of all linear estimators (Lloyd 1952, "Least-
squares estimation of location and scale parameters using order statistics", Biometrika 39). c is
the whole number under which the scores are likeliest to this order. Scores that were never reached
are only counted. Nothing below the best trial was seen, so what is said of it rests on the form of
the tail alone: it is no interval, and noise of a trial's seed bends it.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np
import polars as pl

from experiments.analysis.intervals import (
    Answer,
    largest_k,
    median_best_of,
    probability_of_median_best,
)
from experiments.analysis.searches import trial_answers
from experiments.analysis.steps_to_result import crossings
from experiments.analysis.view import View

INDEPENDENT = "random"
"""The sampler whose trials are independent draws."""
MOST_EFFECTIVE = 6
FEWEST = 8
"""Scores below which no tail is fitted."""
LONGER = 10
"""Times as many trials as were made, for which is extrapolated."""


@dataclasses.dataclass(frozen=True)
class Tail:
    """The lower tail of the score of a random trial.

    Attributes:
      least: a, the best there is.
      scale: b - a.
      effective: c, the effective number of hyperparameters.
      used: the r smallest scores that were fitted.
    """

    least: float
    scale: float
    effective: int
    used: int

    def quantile(self, p: float | np.ndarray) -> float | np.ndarray:
        """The score below which a share p of the trials lies."""
        return self.least + self.scale * np.asarray(p) ** (2 / self.effective)

    def median_best_of(self, trials: int) -> float:
        """The median best of so many trials."""
        return float(self.quantile(probability_of_median_best(trials)))


def fit_tail(scores: np.ndarray, used: int | None = None) -> Tail | None:
    """The tail of N independent scores, smaller being better, infinite where never reached.

    Args:
      scores: [N].
      used: how many of the smallest are fitted; default: a third of N, at least `FEWEST`.

    Returns:
      None where fewer than `FEWEST` scores are finite, or all of them are equal.
    """
    ordered = np.sort(np.asarray(scores, float))
    used = max(FEWEST, len(ordered) // 3) if used is None else used
    used = min(used, int(np.isfinite(ordered).sum()))
    if used < FEWEST or ordered[used - 1] == ordered[0]:
        return None
    fits = [_fit(ordered[:used], len(ordered), c) for c in range(1, MOST_EFFECTIVE + 1)]
    likeliest = max(range(len(fits)), key=lambda at: fits[at][2])
    least, scale, _ = fits[likeliest]
    return Tail(least, scale, likeliest + 1, used)


def _fit(smallest: np.ndarray, trials: int, effective: int) -> tuple[float, float, float]:
    """(a, b - a, log likelihood up to a constant) by generalised least squares."""
    means, root, logarithm = _order_statistics(trials, len(smallest), effective)
    design = np.stack([np.ones_like(means), means], axis=1)
    white = np.linalg.solve(root, np.column_stack([design, smallest]))
    solution, *_ = np.linalg.lstsq(white[:, :2], white[:, 2], rcond=None)
    residual = white[:, 2] - white[:, :2] @ solution
    least, scale = (float(x) for x in solution)
    if scale <= 0:
        return least, scale, -math.inf
    # The covariance of the scores is scale^2 times that of Z.
    quadratic = float(residual @ residual) / scale**2
    return least, scale, -len(smallest) * math.log(scale) - logarithm / 2 - quadratic / 2


@functools.lru_cache(maxsize=64)
def _order_statistics(
    trials: int, used: int, effective: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """(means [r], root of the covariance [r, r], its log determinant) of the r smallest U^s.

    With s = 2/c: E Z_(i) = G(i + s) N! / (G(i) G(N + 1 + s)), and for i <= j
    E Z_(i) Z_(j) = G(i + s) G(j + 2 s) N! / (G(i) G(j + s) G(N + 1 + 2 s)).
    """
    from scipy.special import gammaln

    s, i = 2 / effective, np.arange(1, used + 1)
    own, once = gammaln(i + s) - gammaln(i), gammaln(trials + 1) - gammaln(trials + 1 + s)
    twice = gammaln(trials + 1) - gammaln(trials + 1 + 2 * s)
    later = gammaln(i + 2 * s) - gammaln(i + s)
    means = np.exp(own + once)
    first, last = np.minimum.outer(i, i) - 1, np.maximum.outer(i, i) - 1
    # E Z Z' - E Z E Z' = E Z E Z' (ratio - 1): without the loss of digits of a difference.
    ratio = later[last] + twice - own[last] - 2 * once
    covariance = means[first] * means[last] * np.expm1(ratio)
    root = np.linalg.cholesky(covariance)
    return means, root, 2 * float(np.log(np.diag(root)).sum())


def longer_searches(view: View) -> pl.DataFrame:
    """One row a batch size of a study of independent trials: intervals and the extrapolation.

    Columns: ``batch_size``; ``trials``, independent ones of all searches, N; ``k``, the most trials
    whose median best N enclose, N / 5.32; ``median_low, median_high``, the exact interval of the
    median best of k in steps, grid and censoring included (null where k is none); ``effective``,
    the effective number of hyperparameters; ``search`` and ``longer``, the median best of the
    study's trials and of ten times as many by the fitted tail; ``least``, the best there is by it;
    the last four null where no tail was fitted. Empty for other samplers.
    """
    rows = []
    if view.question.sampler == INDEPENDENT:
        pooled: dict[int, list[Answer]] = {}
        for (batch_size, _), answers in sorted(trial_answers(view, crossings(view)).items()):
            pooled.setdefault(batch_size, []).extend(answers)
        trials = view.question.trials
        rows = [_row(b, answers, trials) for b, answers in pooled.items() if answers]
    whole = ("batch_size", "trials", "k", "effective")
    names = ("batch_size", "trials", "k", "median_low", "median_high", "effective", "search",
             "longer", "least")  # fmt: skip
    schema = {name: pl.Int64 if name in whole else pl.Float64 for name in names}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _row(batch_size: int, answers: Sequence[Answer], trials: int) -> tuple[float | int | None, ...]:
    k = largest_k(len(answers))
    ends = median_best_of(k, answers) if k else None
    tail = fit_tail(np.array([answer.high for answer in answers]))
    fitted: tuple[float | int | None, ...] = (None,) * 4
    if tail is not None:
        search, longer = tail.median_best_of(trials), tail.median_best_of(LONGER * trials)
        fitted = (tail.effective, search, longer, tail.least)
    low, high = (ends.low, ends.high) if ends is not None else (None, None)
    return (batch_size, len(answers), k or None, low, high, *fitted)
