"""A local critical batch size by branching (Merrill et al. 2025, arXiv 2505.23971).

Training at batch size B is continued from one step with k B examples a step, its rate multiplied by
k (SGD) or sqrt(k) (Adam), for the same window of W examples. The critical factor is the largest k
at which the smoothed loss is within a tolerance of that of k = 1, at it and at every smaller factor
tried:

    smoothed(k) <= smoothed(1) + tolerance * |smoothed(1)|

Losses are those of the batches before each update. They are smoothed by an exponential average with
a half-life in *examples*, the same for every k, an eighth of the window. The paper's window is some
two billion tokens, its tolerance in nats; both are declared here, and the answer at half and twice
the window stands beside it. Imports no jax.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
import polars as pl

from experiments.analysis.critical_batch_size import CriticalBatchSize

HALF_LIVES = 8
"""Half-lives of the smoothing in a window."""
WINDOWS = (0.5, 1.0, 2.0)
"""Of the declared window: the sensitivity of the answer to it."""


@dataclasses.dataclass(frozen=True)
class CriticalFactor:
    """The answer at one window.

    Attributes:
      window: examples.
      losses: factor -> smoothed loss at its end, not finite where the branch diverged.
      factor: the largest k that holds; 1 where 2 or the next factor tried does not.
      bounded: False where every factor tried holds: the answer is then a lower bound.
    """

    window: int
    losses: Mapping[int, float]
    factor: int
    bounded: bool


@dataclasses.dataclass(frozen=True)
class Branched:
    """The branches of a trial.

    Attributes:
      trial, batch_size, step: where they leave.
      rate: "linear" or "sqrt".
      losses: factor -> batch losses [steps].
      answers: at each of `WINDOWS` of the declared window.
      noise_scale: tr(Sigma) / |G|^2 there, over the training examples evaluated.
      limit, noise: the record's end of perfect scaling and noise critical batch size.
      curve: ``batch_size, median, low, high``, steps to the goal of the record's searches; a row
        a batch size that got there.
    """

    trial: str
    batch_size: int
    step: int
    rate: str
    losses: Mapping[int, np.ndarray]
    answers: tuple[CriticalFactor, ...]
    noise_scale: float
    limit: CriticalBatchSize
    noise: CriticalBatchSize
    curve: pl.DataFrame


def smoothed(losses: np.ndarray, batch_size: int, window: int) -> float:
    """The exponential average of batch losses [steps] after ``window`` examples, bias corrected."""
    steps = max(1, window // batch_size)
    if steps > len(losses):
        raise ValueError(f"a window of {window} needs {steps} losses, got {len(losses)}")
    decay = 0.5 ** (batch_size * HALF_LIVES / window)
    weights = decay ** np.arange(steps - 1, -1, -1)
    return float(np.sum(weights * losses[:steps]) / np.sum(weights))


def critical_factor(
    losses: Mapping[int, np.ndarray], batch_size: int, window: int, tolerance: float
) -> CriticalFactor:
    """The largest factor that holds.

    Args:
      losses: factor, 1 among them -> batch losses [steps] of its branch.
      batch_size: B.
      window: W, in examples.
      tolerance: a share of the unbranched smoothed loss.
    """
    found = {
        k: smoothed(np.asarray(losses[k], np.float64), k * batch_size, window)
        for k in sorted(losses)
    }
    limit, best = found[1] + tolerance * abs(found[1]), 1
    for k, loss in found.items():
        if not (math.isfinite(loss) and loss <= limit):
            return CriticalFactor(window, found, best, True)
        best = k
    return CriticalFactor(window, found, best, False)
