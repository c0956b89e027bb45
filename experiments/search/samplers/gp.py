"""A Gaussian process over hyperparameters and batch size, expected improvement, in batches.

Inputs: the coordinates in which the optimum moves least, and log2 B over 8. Output: the excess of
a trial (log2 steps over the best of its batch size), capped; what was censored or diverged is as
bad as `excesses` says. Kernel: a constant times Matern 5/2 with one length a dimension, plus
noise. Within a round's batch the process takes its own prediction for the value of each point it
has chosen (kriging believer; Ginsbourger et al. 2010) with its hyperparameters held: the mean
stays, the variance falls. Whole numbers and choices enter as the middle of their share, so that
equal values are equal inputs. The first round is that of the sampler `rounds`.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from experiments.search.samplers.base import Ask, Proposal, excesses
from experiments.search.samplers.boxes import widened
from experiments.search.samplers.coordinates import coordinates
from experiments.search.samplers.distinct import Picker, proposal, snapped
from experiments.search.samplers.rounds import first_points
from experiments.search.samplers.streams import seed_of, uniforms

UNIFORM, LOCAL = 1000, 400
"""Candidates over the whole box, and about the best trials."""
CAP = 3.0
MOST = 600
"""Trials the process is fitted to: the best ones, where there are more."""


def propose(ask: Ask) -> Proposal:
    """The next round's points at every batch size."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # matrices of some hundred rows: threads cost more than they bring
        return _proposed(ask)


def _proposed(ask: Ask) -> Proposal:
    boxes = {batch_size: widened(ask, batch_size) for batch_size in ask.counts}
    trials = ask.in_order
    known = any(trial.outcome == "reached" for trial in trials)
    linear = coordinates(ask.space, ask.coordinates)
    if known:
        excess = np.minimum(excesses(ask, trials), CAP)
        points = linear.of(snapped(ask, np.array([trial.point for trial in trials])))
        sizes = np.array([trial.batch_size for trial in trials])
        kept = np.sort(np.argsort(excess, kind="stable")[:MOST])
        process = _fitted(ask, _inputs(points[kept], sizes[kept]), excess[kept])
    pickers = []
    for batch_size in ask.counts:
        picker = Picker(ask, batch_size)
        if not known or not ask.of(batch_size):
            first_points(ask, picker)
        else:
            own = points[sizes == batch_size]
            best = own[np.argsort(excess[sizes == batch_size], kind="stable")[:3]]
            low, high = np.array(boxes[batch_size]).T
            keys = (ask.seed, ask.round, batch_size)
            everywhere = low + uniforms("gp", *keys, shape=(UNIFORM, len(low))) * (high - low)
            near = uniforms("gp near", *keys, shape=(LOCAL, len(low))) - 0.5
            local = linear.positions(best[np.arange(LOCAL) % len(best)] + 0.2 * near)
            positions = np.concatenate([everywhere, np.clip(local, low, high)])
            positions = np.unique(snapped(ask, positions), axis=0)
            inputs = _inputs(linear.of(positions), np.full(len(positions), batch_size))
            _choose(picker, process, positions, inputs)
        pickers.append(picker)
    return proposal(ask, pickers, boxes)


def _inputs(points: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    return np.concatenate([points, np.log2(sizes)[:, None] / 8], axis=-1)


def _fitted(ask: Ask, inputs: np.ndarray, excess: np.ndarray) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    kernel = ConstantKernel(1.0, (0.05, 50.0)) * Matern(
        np.full(inputs.shape[1], 0.3), (0.02, 10.0), nu=2.5
    ) + WhiteKernel(1e-2, (1e-4, 1.0))
    with warnings.catch_warnings():  # a length at its bound is no news
        warnings.simplefilter("ignore", ConvergenceWarning)
        return GaussianProcessRegressor(
            kernel, normalize_y=True, random_state=seed_of("gp", ask.seed, ask.round)
        ).fit(inputs, excess)


def _choose(picker: Picker, process: Any, positions: np.ndarray, inputs: np.ndarray) -> None:
    """Take the points of the greatest expected improvement, one after the other."""
    from scipy.special import ndtr

    believer = Believer(process, inputs)
    left = np.ones(len(positions), bool)
    while left.any() and not picker.full:
        gain = 0.0 - believer.mean  # 0 is the best of this batch size
        deviation = np.sqrt(np.maximum(believer.variance, 1e-18))
        z = gain / deviation
        density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
        improvement = gain * ndtr(z) + deviation * density
        chosen = int(np.argmax(np.where(left, improvement, -np.inf)))
        left[chosen] = False
        if picker.offer(positions[chosen], "model"):
            believer.observe(chosen)


class Believer:
    """A fitted process at k inputs, which takes its own mean for what it is said to observe.

    An observation equal to the mean leaves the mean; the variance falls by the squared covariance
    over the variance at the observed input (Rasmussen & Williams 2006, equation 2.24), a row of a
    Cholesky factor at a time.

    Args:
      process: scikit-learn's, fitted, whose kernel holds the noise.
      inputs: [k, d].

    Attributes:
      mean, variance: [k] of an observation, in the units of what it was fitted to.
    """

    def __init__(self, process: Any, inputs: np.ndarray):
        from scipy.linalg import solve_triangular

        self._kernel, self._inputs = process.kernel_, inputs
        self._scale = float(process._y_train_std)
        cross = self._kernel(inputs, process.X_train_)
        self._known = solve_triangular(process.L_, cross.T, lower=True, check_finite=False)
        self._observed: list[np.ndarray] = []
        self.mean = cross @ process.alpha_ * self._scale + process._y_train_mean
        self.variance = self._scale**2 * (self._kernel.diag(inputs) - (self._known**2).sum(0))

    def observe(self, row: int) -> None:
        """Take the mean at input ``row`` for an observation there."""
        prior = self._kernel(self._inputs, self._inputs[[row]])[:, 0]
        covariance = self._scale**2 * (prior - self._known.T @ self._known[:, row])
        for earlier in self._observed:
            covariance = covariance - earlier * earlier[row]
        self._observed.append(covariance / np.sqrt(self.variance[row]))
        self.variance = self.variance - self._observed[-1] ** 2
