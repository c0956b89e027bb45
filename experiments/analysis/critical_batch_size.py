"""Scaling of steps to result with batch size: the three regimes, and two critical batch sizes.

"Critical batch size" has two meanings that differ five to ten times, so it has two names here:

- `perfect_scaling_limit` (Shallue et al. 2019; Zhang et al. 2019; the Tuning Playbook): the
  largest batch size that needs at most a stated share (20 %) more examples than perfect scaling
  from the smallest batch size that reached the goal.
- `noise_critical_batch_size` (McCandlish et al. 2018, eq. 2.11-2.12): E_min / S_min of the
  hyperbola (S/S_min - 1) = (E/E_min - 1)^-1, where both steps and examples are doubled.

In McCandlish's model S = S_min (1 + B_crit / B), so examples exceed perfect scaling by the
factor 1 + B / B_crit: an overhead of 20 % is met at 0.2 B_crit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

import numpy as np
import polars as pl

from experiments.analysis.hyperbola import fit_hyperbola
from experiments.analysis.uncertainty import Bootstrap, percentile_interval, resampled_minima

PERFECT_OVERHEAD = 0.2
"""Perfect scaling: at most this share more examples than the perfect-scaling line."""
FLAT_SAVING = 0.1
"""Maximal data parallelism: doubling the batch size saves less than this share of the steps."""

PERFECT, DIMINISHING, FLAT = "perfect scaling", "diminishing returns", "maximal data parallelism"
REGIMES = (PERFECT, DIMINISHING, FLAT)

CURVES = Bootstrap(replicates=2_000)
"""Resampled curves: fewer than for one search, since each is fitted."""


def doubling_saving(batch_sizes: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """The share of the steps that doubling saves at each batch size, 1 - S(2B) / S(B).

    S(2B) is read off the curve that is piecewise linear in (log B, log S) through the points,
    its last segment continued. On a grid of doublings that is the next point's value; at the
    largest batch size it is the saving of the doubling that led there. NaN for a single point.

    Args:
      batch_sizes, steps: [n] ascending batch sizes and their finite steps to result.
    """
    if len(batch_sizes) < 2:
        return np.full(len(batch_sizes), np.nan)
    x, y = np.log2(batch_sizes), np.log2(steps)
    slope = (y[-1] - y[-2]) / (x[-1] - x[-2])
    doubled = np.where(x + 1 <= x[-1], np.interp(x + 1, x, y), y[-1] + slope * (x + 1 - x[-1]))
    return 1 - 2 ** (doubled - y)


def scaling(table: pl.DataFrame) -> pl.DataFrame:
    """Adds the perfect-scaling line and the regime to rows of `steps_to_result`, per seed.

    Adds ``perfect_scaling_steps`` = S(B0) B0 / B from B0, the smallest batch size that reached
    the goal (null below B0); ``overhead`` = E(B) / E(B0) - 1, the share of examples above that
    line, E = S(B) B unless the batch grows; ``doubling_saving`` as above; and ``regime``: perfect
    scaling where the overhead is at most 20 %, otherwise maximal data parallelism where doubling
    saves less than 10 % of the steps, otherwise diminishing returns. All null where the goal was
    not reached.
    """
    return pl.concat([_scaling_of(rows) for rows in table.partition_by("seed")]).sort(
        "batch_size", "seed"
    )


def _scaling_of(rows: pl.DataFrame) -> pl.DataFrame:
    rows = rows.sort("batch_size")
    reached = rows.filter(pl.col("steps_to_result").is_not_null())
    none = [pl.lit(None, dtype=pl.Float64).alias(name) for name in _SCALING_COLUMNS]
    if reached.is_empty():
        return rows.with_columns(*none, pl.lit(None, dtype=pl.String).alias("regime"))
    batch_sizes = reached["batch_size"].to_numpy().astype(float)
    steps = reached["steps_to_result"].to_numpy().astype(float)
    constant = reached["steps_to_result"] * reached["batch_size"]
    examples = reached.get_column("examples_to_result", default=constant).to_numpy().astype(float)
    overhead = examples / examples[0] - 1
    saving = doubling_saving(batch_sizes, steps)
    regime = [_regime(*pair) for pair in zip(overhead, saving, strict=True)]
    found = pl.DataFrame(
        {
            "batch_size": reached["batch_size"],
            "overhead": overhead,
            "doubling_saving": pl.Series(saving).fill_nan(None),
            "regime": regime,
        }
    )
    line = steps[0] * batch_sizes[0] / pl.col("batch_size")
    line = pl.when(pl.col("batch_size") >= int(batch_sizes[0])).then(line)
    return rows.join(found, on="batch_size", how="left").select(
        *rows.columns, line.alias("perfect_scaling_steps"), "overhead", "doubling_saving", "regime"
    )


_SCALING_COLUMNS = ("perfect_scaling_steps", "overhead", "doubling_saving")


def _regime(overhead: float, saving: float) -> str:
    if overhead <= PERFECT_OVERHEAD + 1e-12:
        return PERFECT
    return FLAT if saving < FLAT_SAVING - 1e-12 else DIMINISHING


@dataclasses.dataclass(frozen=True)
class CriticalBatchSize:
    """One of the two critical batch sizes, with what is known of it.

    Attributes:
      name: ``"perfect_scaling_limit"`` or ``"noise_critical_batch_size"``.
      value: in examples per step; None where the record cannot tell.
      relation: ``"="`` where measured; ``">="`` or ``"<="`` where it is only bounded, because
        the measured batch sizes end before it shows.
      low, high: bootstrap interval over trials; None without a value, infinite where open.
      note: one sentence, how it was found or why it could not be.
    """

    name: str
    value: float | None
    relation: Literal["=", ">=", "<="]
    low: float | None
    high: float | None
    note: str


def perfect_scaling_end(
    batch_sizes: np.ndarray, steps: np.ndarray, overhead: float = PERFECT_OVERHEAD
) -> tuple[float, bool]:
    """(largest batch size within ``overhead`` of perfect scaling, whether it is only a bound).

    Between the last batch size within the overhead and the next one the examples needed are
    taken as linear in B, which in McCandlish's model they are. A bound where there is no next
    one, or the next never reached the goal.

    Args:
      batch_sizes, steps: [n] ascending; infinite steps where the goal was not reached, at least
        one finite.
    """
    start = int(np.flatnonzero(np.isfinite(steps))[0])
    x = batch_sizes[start:]
    examples = steps[start:] * x
    excess = examples / examples[0] - (1 + overhead)
    last = int(np.flatnonzero(excess <= 1e-12)[-1])
    if last == len(x) - 1 or not np.isfinite(excess[last + 1]):
        return float(batch_sizes[start + last]), True
    share = -excess[last] / (excess[last + 1] - excess[last])
    return float(x[last] + max(share, 0.0) * (x[last + 1] - x[last])), False


def bootstrap_curves(
    steps_per_trial: Mapping[int, np.ndarray], bootstrap: Bootstrap
) -> tuple[np.ndarray, np.ndarray]:
    """(batch sizes [n] ascending, resampled steps to result [replicates, n], inf for never).

    Batch sizes are resampled independently, although quasi-random searches share their points:
    luck common to all batch sizes moves the curve as a whole and neither critical batch size.
    """
    batch_sizes = np.array(sorted(steps_per_trial), float)
    columns = [
        resampled_minima(
            steps_per_trial[int(b)],
            len(steps_per_trial[int(b)]),
            bootstrap.replicates,
            bootstrap.generator(int(b)),
        )
        for b in batch_sizes
    ]
    return batch_sizes, np.stack(columns, axis=1)


def perfect_scaling_limit(
    steps_per_trial: Mapping[int, np.ndarray],
    overhead: float = PERFECT_OVERHEAD,
    bootstrap: Bootstrap = CURVES,
) -> CriticalBatchSize:
    """The end of perfect scaling, with its bootstrap interval.

    Args:
      steps_per_trial: batch size -> [N] first steps past the goal of its counted trials,
        infinity for never.
      overhead: stated share of examples above perfect scaling.
    """
    name = "perfect_scaling_limit"
    batch_sizes, curves = _curves(steps_per_trial, bootstrap)
    steps = _observed(steps_per_trial, batch_sizes)
    if np.isfinite(steps).sum() < 2:
        note = "needs at least two batch sizes that reach the goal"
        return CriticalBatchSize(name, None, "=", None, None, note)
    value, bound = perfect_scaling_end(batch_sizes, steps, overhead)
    ends = [
        perfect_scaling_end(batch_sizes, curve, overhead)
        for curve in curves
        if np.isfinite(curve).any()
    ]
    replicates = np.array([np.inf if open_ else end for end, open_ in ends])
    low, high = percentile_interval(replicates, bootstrap.confidence)
    if bound:
        low = min(low, value)
        note = "it holds to the last batch size that tells, so this is a lower bound"
        return CriticalBatchSize(name, value, ">=", low, np.inf, note)
    after = batch_sizes[batch_sizes > value].min()
    before = batch_sizes[batch_sizes <= value].max()
    note = f"the overhead passes {overhead:.0%} between batch sizes {before:,.0f} and {after:,.0f}"
    return CriticalBatchSize(name, value, "=", low, high, note)


def noise_critical_batch_size(
    steps_per_trial: Mapping[int, np.ndarray],
    bootstrap: Bootstrap = CURVES,
) -> CriticalBatchSize:
    """E_min / S_min of the hyperbola fitted in log space, with its bootstrap interval.

    Args: as for `perfect_scaling_limit`. At least three batch sizes must reach the goal, for the
    hyperbola has two parameters.
    """
    name = "noise_critical_batch_size"
    batch_sizes, curves = _curves(steps_per_trial, bootstrap)
    steps = _observed(steps_per_trial, batch_sizes)
    if np.isfinite(steps).sum() < 3:
        note = "needs at least three batch sizes that reach the goal"
        return CriticalBatchSize(name, None, "=", None, None, note)
    enough = curves[np.isfinite(curves).sum(axis=1) >= 3]
    fit = fit_hyperbola(batch_sizes, np.concatenate([steps[None], enough]))
    value = float(fit.critical[0])
    low, high = percentile_interval(fit.critical[1:], bootstrap.confidence)
    largest, smallest = batch_sizes[np.isfinite(steps)][[-1, 0]]
    error = f"steps off the hyperbola by {2 ** fit.residual[0] - 1:.0%} (root mean square)"
    if np.isinf(value):
        note = "no departure from perfect scaling up to the largest batch size"
        return CriticalBatchSize(name, float(largest), ">=", min(low, largest), np.inf, note)
    if value == 0:
        note = "no gain from the batch size already at the smallest"
        return CriticalBatchSize(name, float(smallest), "<=", 0.0, max(high, smallest), note)
    if not smallest <= value <= largest:
        error += "; outside the measured batch sizes, so extrapolated"
    return CriticalBatchSize(name, value, "=", low, high, error)


def _curves(
    steps_per_trial: Mapping[int, np.ndarray], bootstrap: Bootstrap
) -> tuple[np.ndarray, np.ndarray]:
    kept = {b: steps for b, steps in steps_per_trial.items() if len(steps)}
    if not kept:
        return np.empty(0), np.empty((bootstrap.replicates, 0))
    return bootstrap_curves(kept, bootstrap)


def _observed(steps_per_trial: Mapping[int, np.ndarray], batch_sizes: np.ndarray) -> np.ndarray:
    return np.array([steps_per_trial[int(b)].min() for b in batch_sizes], float)
