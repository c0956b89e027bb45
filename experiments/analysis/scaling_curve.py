"""One curve of steps against batch size, fitted to all batch sizes, and what is read off it.

Near the border of perfect scaling an error of one point is amplified about sixfold (an overhead of
20 % is crossed where examples grow by 20 % while B grows by a factor of several), and regimes
decided point by point contradict each other. Both come therefore from a curve fitted to all points,
`free_sharpness.FreeSharpness`; two others stand beside it:

- `Hyperbola`: S = S_min (1 + B_noise / B) (McCandlish et al. 2018, eq. 2.11), two parameters,
  the curve of sharpness 1.
  Examples exceed E_min = S_min B_noise by the factor 1 + B / B_noise, so an overhead h is met at
  h B_noise; doubling saves the share (B_noise / 2 B) / (1 + B_noise / B), below a share f from
  B = B_noise (1 - 2 f) / (2 f) on (4 B_noise at 10 %).
- `Convex`: without a model, the least-squares curve in (log B, log S) that is convex, with slopes
  between -1 (perfect scaling) and 0 (no gain). Its regimes are in order by construction.

Neither is anchored at one point: the perfect-scaling line of a fit is that of its own fewest
examples.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np

from experiments.analysis.hyperbola import fit_hyperbola


class ScalingCurve(Protocol):
    """A fitted curve of steps against batch size."""

    def steps(self, batch_sizes: np.ndarray) -> np.ndarray:
        """S(B) for batch sizes [n]."""

    def perfect_end(self, overhead: float) -> float:
        """Largest B that needs at most (1 + overhead) E_min examples; infinite without an end."""

    def flat_start(self, saving: float) -> float:
        """Smallest B from which doubling saves less than this share of the steps."""


@dataclasses.dataclass(frozen=True)
class Hyperbola:
    """S = S_min (1 + B_noise / B).

    Attributes:
      least_steps: S_min, 0 where the points cannot be told from perfect scaling.
      noise_batch_size: B_noise in examples; 0 for a flat curve, infinite for perfect scaling.
      least_examples: E_min = S_min B_noise, finite for perfect scaling; 0 for a flat curve, which
        has none.
      residual: root mean square of log2 S about the fit.
    """

    least_steps: float
    noise_batch_size: float
    least_examples: float
    residual: float

    @classmethod
    def fit(cls, batch_sizes: np.ndarray, steps: np.ndarray) -> Hyperbola:
        """Least squares of log S over the finite ``steps`` [n], which are two or more."""
        found = fit_hyperbola(np.asarray(batch_sizes, float), np.asarray(steps, float)[None])
        columns = (found.least_steps, found.critical, found.least_examples, found.residual)
        return cls(*(float(column[0]) for column in columns))

    def steps(self, batch_sizes: np.ndarray) -> np.ndarray:
        return self.least_steps + self.least_examples / np.asarray(batch_sizes, float)

    def perfect_end(self, overhead: float) -> float:
        return overhead * self.noise_batch_size

    def flat_start(self, saving: float) -> float:
        return self.noise_batch_size * (1 - 2 * saving) / (2 * saving)


@dataclasses.dataclass(frozen=True)
class Convex:
    """A convex, falling piecewise linear curve in (log2 B, log2 S); its last slopes continue.

    Attributes:
      log_batch_sizes: [n] log2 of the batch sizes that were fitted, ascending.
      log_steps: [n] log2 of the fitted steps.
    """

    log_batch_sizes: np.ndarray
    log_steps: np.ndarray

    @classmethod
    def fit(cls, batch_sizes: np.ndarray, steps: np.ndarray) -> Convex:
        """Least squares of log2 S under slopes that rise from at least -1 to at most 0.

        With x_1 < ... < x_n any such curve is c - (x - x_1) + sum_j w_j max(x - x_j, 0), w >= 0
        and sum w <= 1, for j = 1..n-1; the sum is 1 where it would otherwise exceed it.
        """
        from scipy.optimize import nnls

        finite = np.isfinite(steps)
        x = np.log2(np.asarray(batch_sizes, float)[finite])
        y = np.log2(np.asarray(steps, float)[finite])
        order = np.argsort(x)
        x, y = x[order], y[order]
        line = -(x - x[0])
        hinges = np.maximum(x[:, None] - x[None, :-1], 0.0)
        level = np.stack([np.ones_like(x), -np.ones_like(x)], axis=1)  # c may be negative
        design = np.concatenate([level, hinges], axis=1)
        weights = nnls(design, y - line)[0]
        if weights[2:].sum() > 1:
            tight = 1e6 * np.concatenate([np.zeros(2), np.ones(len(x) - 1)])
            weights = nnls(np.vstack([design, tight]), np.append(y - line, 1e6))[0]
        return cls(x, line + design @ weights)

    def steps(self, batch_sizes: np.ndarray) -> np.ndarray:
        at = np.log2(np.asarray(batch_sizes, float))
        x, y = self.log_batch_sizes, self.log_steps
        inside = np.interp(at, x, y)
        if len(x) > 1:
            first, last = (y[1] - y[0]) / (x[1] - x[0]), (y[-1] - y[-2]) / (x[-1] - x[-2])
            inside = inside + np.minimum(at - x[0], 0) * first + np.maximum(at - x[-1], 0) * last
        return 2**inside

    def perfect_end(self, overhead: float) -> float:
        x, examples = self.log_batch_sizes, self.log_steps + self.log_batch_sizes
        limit = examples[0] + np.log2(1 + overhead)  # E rises with B: its least is the first
        if examples[-1] <= limit:
            return np.inf
        after = int(np.argmax(examples > limit))
        share = (limit - examples[after - 1]) / (examples[after] - examples[after - 1])
        return float(2 ** (x[after - 1] + share * (x[after] - x[after - 1])))

    def flat_start(self, saving: float) -> float:
        # The saving of a doubling falls along a convex curve: bisect where it passes the share.
        x = self.log_batch_sizes
        low, high = float(x[0]), float(x[-1])
        if self._saving(low) < saving:
            return float(2**low)
        if self._saving(high) >= saving:
            return np.inf
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if self._saving(middle) >= saving else (low, middle)
        return float(2**high)

    def _saving(self, at: float) -> float:
        now, doubled = self.steps(np.array([2**at, 2 ** (at + 1)]))
        return float(1 - doubled / now)
