"""A law of steps to the goal whose answers are known: simulated searches, grid and censoring."""

from __future__ import annotations

import numpy as np

SEARCHES = 6
TRIALS = 24
LEAST, CRITICAL = 40.0, 64.0
BATCH_SIZES = 2.0 ** np.arange(0, 11, 2)
LENGTH = 12_000
GRID = np.unique(np.concatenate([np.arange(1, 21), np.round(20 * 1.05 ** np.arange(0, 132))]))
"""Steps evaluated: every one at first, then gaps of at most 5 %."""


def bent(sizes, power=1.0):
    """The law's curve S = S_min (1 + (B_noise / B)^p)^(1/p); p = 1 is the hyperbola."""
    return LEAST * (1 + (CRITICAL / sizes) ** power) ** (1 / power)


def trial_steps(shape, generator, power=1.0):
    """[*shape, batch sizes, trials] true steps to the goal of random trials of the law."""
    off = np.exp(generator.uniform(-3, 3, (*shape, len(BATCH_SIZES), TRIALS)))
    noise = np.exp(0.1 * generator.standard_normal(off.shape))
    return bent(BATCH_SIZES, power)[:, None] * (off + 1 / off) / 2 * noise


def on_grid(steps):
    """(last evaluation short of the goal, first past it); infinite beyond the length."""
    place = np.searchsorted(GRID, steps)
    grid = np.append(GRID[GRID <= LENGTH], np.inf)
    before = np.concatenate([[0.0], grid])
    place = np.minimum(place, len(grid) - 1)
    return np.where(np.isinf(grid[place]), LENGTH, before[place]), grid[place]
