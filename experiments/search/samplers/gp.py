"""A Gaussian process over hyperparameters and batch size, expected improvement, in batches.

Inputs: the coordinates in which the optimum moves least, and log2 B over 8. Output: the excess of
a trial (log2 steps over the best of its batch size), capped; what was censored or diverged is as
bad as `excesses` says. Kernel: a constant times Matern 5/2 with one length a dimension, plus
noise. Within a round's batch the process takes its own prediction for the value of each point it
has chosen (kriging believer; Ginsbourger et al. 2010) with its hyperparameters held. The first
round is that of the sampler `rounds`.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from experiments.search.samplers.base import Ask, Proposal, excesses
from experiments.search.samplers.boxes import widened
from experiments.search.samplers.coordinates import coordinates
from experiments.search.samplers.distinct import Picker, proposal
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
    linear = coordinates(ask.space)
    if known:
        excess = np.minimum(excesses(ask, trials), CAP)
        points = linear.of(np.array([trial.point for trial in trials]))
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
            inputs = _inputs(linear.of(positions), np.full(len(positions), batch_size))
            _choose(picker, process, positions, inputs)
        pickers.append(picker)
    return proposal(ask, pickers, boxes)


def _inputs(points: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    return np.concatenate([points, np.log2(sizes)[:, None] / 8], axis=-1)


def _process(kernel: Any, optimizer: str | None, seed: int) -> Any:
    from sklearn.gaussian_process import GaussianProcessRegressor

    return GaussianProcessRegressor(
        kernel, optimizer=optimizer, normalize_y=True, random_state=seed
    )


def _fitted(ask: Ask, inputs: np.ndarray, excess: np.ndarray) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    kernel = ConstantKernel(1.0, (0.05, 50.0)) * Matern(
        np.full(inputs.shape[1], 0.3), (0.02, 10.0), nu=2.5
    ) + WhiteKernel(1e-2, (1e-4, 1.0))
    with warnings.catch_warnings():  # a length at its bound is no news
        warnings.simplefilter("ignore", ConvergenceWarning)
        return _process(kernel, "fmin_l_bfgs_b", seed_of("gp", ask.seed, ask.round)).fit(
            inputs, excess
        )


def _choose(picker: Picker, process: Any, positions: np.ndarray, inputs: np.ndarray) -> None:
    from scipy.special import ndtr

    known_x, known_y = process.X_train_, process.y_train_ * process._y_train_std
    known_y = known_y + process._y_train_mean
    believer = process
    for _ in range(4 * picker.wanted):
        if picker.full:
            break
        mean, deviation = believer.predict(inputs, return_std=True)
        gain = 0.0 - mean  # 0 is the best of this batch size
        z = gain / np.maximum(deviation, 1e-9)
        density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
        chosen = int(np.argmax(gain * ndtr(z) + deviation * density))
        picker.offer(positions[chosen], "model")
        known_x = np.vstack([known_x, inputs[chosen]])
        known_y = np.append(known_y, mean[chosen])
        believer = _process(process.kernel_, None, 0).fit(known_x, known_y)
