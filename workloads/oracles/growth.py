"""Batches that grow on the noisy quadratic model: the expected loss after every part, exactly.

A part is so many steps at one batch size and one rate. Plain SGD, with x = a h and n = a^2 c / B:

    s' = (1 - x)^2 s + n        after k steps: s_* + (1 - x)^(2k) (s - s_*),  s_* = n / (x (2 - x))

Normalised SGD moves by a over the root of the expected squared norm of the gradient,
E|g|^2 = sum_i h_i^2 s_i + sum_i c_i / B, which is what a normalised update such as Adam's does to
the length of a step (Meterez et al. 2025). Momentum follows `recursions.system`. All start at
theta(0) ~ N(0, I), with c_i = h_i; NumPy alone, float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from workloads.oracles.recursions import Spectrum, system


class GrowthPart(NamedTuple):
    """So many steps at one batch size (examples) and one learning rate."""

    batch_size: int
    learning_rate: float
    steps: int


def sgd_losses(spectrum: Spectrum, parts: Sequence[GrowthPart]) -> np.ndarray:
    """[parts] expected loss after each part of plain SGD, in closed form whatever its length."""
    h = spectrum.eigenvalues
    moments, found = np.ones_like(h), []
    for part in parts:
        x = part.learning_rate * h
        kept = (1 - x) ** (2 * part.steps)
        edge = x == 2  # every step adds n and contracts nothing
        still = part.learning_rate / (part.batch_size * np.where(edge, 1.0, 2 - x))
        drifted = moments + part.steps * part.learning_rate**2 * h / part.batch_size
        moments = np.where(edge, drifted, still + kept * (moments - still))
        found.append(spectrum.loss(moments))
    return np.array(found)


def momentum_losses(spectrum: Spectrum, parts: Sequence[GrowthPart], momentum: float) -> np.ndarray:
    """[parts] expected loss after each part of SGD with momentum, its velocity kept."""
    state, found = None, []
    for part in parts:
        made = system(
            "momentum", spectrum.eigenvalues, part.batch_size, part.learning_rate, momentum
        )
        state = made.start if state is None else state
        for _ in range(part.steps):
            state = np.einsum("nij,nj->ni", made.transition, state) + made.noise[:, None]
        found.append(spectrum.loss(state[:, 0]))
    return np.array(found)


def normalised_losses(spectrum: Spectrum, parts: Sequence[GrowthPart]) -> np.ndarray:
    """[parts] expected loss after each part of normalised SGD."""
    h, counts = spectrum.eigenvalues, spectrum.counts
    noise = float(np.sum(counts * h))
    moments, found = np.ones_like(h), []
    for part in parts:
        for _ in range(part.steps):
            signal = float(np.sum(counts * h**2 * moments))
            rate = part.learning_rate / np.sqrt(signal + noise / part.batch_size)
            moments = (1 - rate * h) ** 2 * moments + rate**2 * h / part.batch_size
        found.append(spectrum.loss(moments))
    return np.array(found)
