"""The hyperbola of steps against batch size, fitted in log space.

McCandlish et al. 2018, eq. 2.11: (S/S_min - 1) = (E/E_min - 1)^-1 with E = B S. Since B is
known exactly this is S = S_min (1 + B_crit / B), and the residual of log S is that of log E.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_DECADES_BEYOND = 3
_GRID = 601


class HyperbolaFit(NamedTuple):
    """Fits of several curves at once.

    ``critical`` [r] is B_crit = E_min / S_min; 0 or infinity where the best fit lies three
    decades below or above the curve's batch sizes, which is to say it cannot be told from a
    flat curve or from perfect scaling. ``least_steps`` [r] is S_min, 0 where ``critical`` is
    infinite; ``least_examples`` [r] is E_min, 0 where ``critical`` is 0. ``residual`` [r] is the
    root mean square of log2 S about the fit.
    """

    critical: np.ndarray
    least_steps: np.ndarray
    least_examples: np.ndarray
    residual: np.ndarray


def fit_hyperbola(batch_sizes: np.ndarray, steps: np.ndarray) -> HyperbolaFit:
    """Least squares of log S over (S_min, B_crit), for every row of ``steps``.

    For a given B_crit the best log S_min is a mean, so one parameter is left; its loss is taken
    on a grid even in log B_crit and a parabola through the least three values refines it.

    Args:
      batch_sizes: [n].
      steps: [r, n]; infinite entries are left out of their row's fit, two or more stay.
    """
    weights = np.isfinite(steps).astype(float)
    y = np.log(np.where(weights > 0, steps, 1.0))
    grid = np.linspace(
        np.log(batch_sizes.min()) - _DECADES_BEYOND * np.log(10),
        np.log(batch_sizes.max()) + _DECADES_BEYOND * np.log(10),
        _GRID,
    )
    loss = _profile(weights, y, _shape(grid, batch_sizes))
    at = loss.argmin(axis=1)
    inner = np.clip(at, 1, _GRID - 2)
    rows = np.arange(len(steps))
    left, middle, right = (loss[rows, inner + k] for k in (-1, 0, 1))
    curvature = left - 2 * middle + right
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = np.where(curvature > 0, 0.5 * (left - right) / curvature, 0.0)
    log_critical = grid[inner] + np.clip(shift, -1, 1) * (grid[1] - grid[0])
    x = _shape(log_critical, batch_sizes)
    log_least = (weights * (y - x)).sum(axis=1) / weights.sum(axis=1)
    squares = weights * (y - x - log_least[:, None]) ** 2
    residual = np.sqrt(squares.sum(axis=1) / weights.sum(axis=1)) / np.log(2)
    flat, perfect = at == 0, at == _GRID - 1
    critical = np.where(flat, 0.0, np.where(perfect, np.inf, np.exp(log_critical)))
    least_steps = np.where(perfect, 0.0, np.exp(log_least))
    least_examples = np.where(flat, 0.0, np.exp(log_least + log_critical))
    return HyperbolaFit(critical, least_steps, least_examples, residual)


def _shape(log_critical: np.ndarray, batch_sizes: np.ndarray) -> np.ndarray:
    """[g, n] log(1 + B_crit / B)."""
    return np.log1p(np.exp(log_critical[:, None]) / batch_sizes)


def _profile(weights: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """[r, g] weighted variance of y - x about its mean, times the total weight.

    Both are centred first: the squares cancel to the residual's, and would lose its digits.
    """
    centre = (weights * y).sum(axis=1, keepdims=True) / weights.sum(axis=1, keepdims=True)
    y = y - centre
    x = x - x.mean(axis=1, keepdims=True)
    squares = (weights * y**2).sum(axis=1)[:, None] + weights @ (x**2).T - 2 * (weights * y) @ x.T
    sums = (weights * y).sum(axis=1)[:, None] - weights @ x.T
    return squares - sums**2 / weights.sum(axis=1)[:, None]
