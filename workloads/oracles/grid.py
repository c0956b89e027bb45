"""Steps to a goal of the noisy quadratic model against batch size, each batch size retuned.

    rows = list(GridSearch("momentum", batch_sizes=(16, 256, 4096)).rows())

Zhang et al. (2019): the exact expected loss (recursions.py), at every batch size by the best
configuration of the authors' grid.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from workloads.oracles.recursions import (
    OPTIMIZERS,
    OptimizerName,
    Spectrum,
    System,
    binned_spectrum,
    steady_second_moment,
    system,
)
from workloads.registry import unknown_name

BATCH_SIZES = tuple(2**exponent for exponent in range(2, 22))
GOAL = 0.01
COEFFICIENTS = {"momentum": "momentum", "ema": "averaging_coefficient"}
"""The second number of a configuration, by optimizer; plain SGD has none."""
CHUNK = 400
"""Configurations iterated at once; bounds the memory at about 100 MB."""


@dataclasses.dataclass(frozen=True)
class BestConfiguration:
    """The best configuration of a batch size.

    Attributes:
      batch_size: examples per step.
      steps: fewest steps after which the expected loss is below the goal; None where no
        configuration of the grid gets there within the cap.
      learning_rate, coefficient: the configuration (momentum or averaging coefficient, 0 for
        plain SGD).
      perfect_scaling: a lower bound of the steps at small batch sizes, K / (2 C B).
    """

    batch_size: int
    steps: int | None
    learning_rate: float | None
    coefficient: float | None
    perfect_scaling: float


def grid(optimizer: OptimizerName) -> tuple[np.ndarray, np.ndarray]:
    """([m] learning rates, [m] coefficients) searched at every batch size (the authors' own)."""
    if optimizer not in OPTIMIZERS:
        raise unknown_name("optimizer of the noisy quadratic model", optimizer, OPTIMIZERS)
    if optimizer == "sgd":
        rates = np.logspace(-5, 0.5, 100)
        return rates, np.zeros_like(rates)
    rates, coefficients = np.meshgrid(
        np.logspace(-8, 1, 100), 1 - np.logspace(-5, 0, 20), indexing="ij"
    )
    return rates.ravel(), coefficients.ravel()


def step_cap(optimizer: OptimizerName) -> int:
    """Last step of the search for a step: 10^9 for SGD, 10^7 otherwise."""
    return 10**9 if optimizer == "sgd" else 10**7


def _affine(recursion: System) -> tuple[np.ndarray, np.ndarray]:
    """The recursion as one matrix [..., d+1, d+1] on (s, 1), and (start, 1)."""
    matrix, start = recursion.transition, recursion.start
    top = np.concatenate(
        [matrix, np.broadcast_to(recursion.noise[..., None, None], (*start.shape, 1))], axis=-1
    )
    bottom = np.zeros((*start.shape[:-1], 1, start.shape[-1] + 1))
    bottom[..., -1] = 1.0
    return (
        np.concatenate([top, bottom], axis=-2),
        np.concatenate([start, np.ones((*start.shape[:-1], 1))], axis=-1),
    )


def first_step_below(recursion: System, spectrum: Spectrum, goal: float, cap: int) -> np.ndarray:
    """[m] the first step whose expected loss is strictly below ``goal``; 0 where none is.

    By bisection, which takes the loss to cross the goal once: the powers M^1, M^2, M^4, ... by
    squaring, then the largest step still at or above the goal, bit by bit, plus one. With
    momentum the loss oscillates a little on its way; where it crosses more than once, one of
    the crossings is returned (within 3 % of the first at all the settings tried).

    Args:
      recursion: of m configurations, leading shape [m, n].
      spectrum: with n eigenvalues.
      goal: expected loss to pass.
      cap: last step looked at.
    """
    matrix, start = _affine(recursion)
    index, factor = recursion.reading
    powers = [matrix]
    state = start
    steps = np.zeros(start.shape[0], np.int64)
    with np.errstate(over="ignore", invalid="ignore"):  # a diverging loss is never below
        while 2 ** len(powers) <= cap:
            powers.append(powers[-1] @ powers[-1])
        for exponent in reversed(range(len(powers))):
            ahead = np.matmul(powers[exponent], state[..., None])[..., 0]
            loss = spectrum.loss(factor * ahead[..., index])
            above = ~(loss < goal) & (steps + 2**exponent <= cap)
            state = np.where(above[:, None, None], ahead, state)
            steps = steps + np.where(above, 2**exponent, 0)
    return np.where(steps >= cap, 0, steps + 1)


def steps_to_goal(
    optimizer: OptimizerName,
    batch_size: int,
    learning_rates: np.ndarray,
    coefficients: np.ndarray,
    *,
    goal: float = GOAL,
    power: float = 0.0,
    spectrum: Spectrum | None = None,
) -> np.ndarray:
    """[m] int64 first step below the goal of each configuration, 0 where it never is.

    Configurations whose steady loss is not below the goal (a diverging one's is infinite) are
    known without iterating.
    """
    spectrum = spectrum or binned_spectrum()
    rates, coefficients = learning_rates[:, None], coefficients[:, None]
    moments = steady_second_moment(
        optimizer, spectrum.eigenvalues, batch_size, rates, coefficients, power=power
    )
    with np.errstate(invalid="ignore"):  # an empty bin times an infinite moment
        steady = spectrum.loss(moments)
    feasible = np.flatnonzero(steady < goal)
    steps = np.zeros(len(learning_rates), np.int64)
    for begin in range(0, len(feasible), CHUNK):
        rows = feasible[begin : begin + CHUNK]
        found = rates[rows], coefficients[rows]
        recursion = system(optimizer, spectrum.eigenvalues, batch_size, *found, power=power)
        steps[rows] = first_step_below(recursion, spectrum, goal, step_cap(optimizer))
    return steps


def steps_table(
    optimizer: OptimizerName = "sgd",
    *,
    power: float = 0.0,
    goal: float = GOAL,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    spectrum: Spectrum | None = None,
) -> list[BestConfiguration]:
    """Steps to the goal at every batch size, with the best configuration of the grid.

    Raises:
      UnknownNameError: an optimizer that is not sgd, momentum or ema.
      ValueError: a power outside [0, 1], a goal or a batch size that is not positive.
    """
    _check(power, goal, batch_sizes)
    spectrum = spectrum or binned_spectrum()
    rates, coefficients = grid(optimizer)
    rows = []
    for batch_size in batch_sizes:
        steps = steps_to_goal(
            optimizer, batch_size, rates, coefficients, goal=goal, power=power, spectrum=spectrum
        )
        bound = float(spectrum.counts.sum()) / (2 * goal * batch_size)
        reached = np.flatnonzero(steps)
        if not len(reached):
            rows.append(BestConfiguration(batch_size, None, None, None, bound))
            continue
        best = reached[np.argmin(steps[reached])]
        rows.append(
            BestConfiguration(
                batch_size, int(steps[best]), float(rates[best]), float(coefficients[best]), bound
            )
        )
    return rows


@dataclasses.dataclass(frozen=True)
class GridSearch:
    """The question of `steps_table`, answered a batch size at a time.

    Attributes:
      optimizer: "sgd", "momentum" or "ema".
      power: p of the preconditioner H^p, in [0, 1].
      goal: expected loss to pass.
      batch_sizes: examples per step; ascending once constructed.

    Raises:
      UnknownNameError: an optimizer that is not sgd, momentum or ema.
      ValueError: a power outside [0, 1], a goal or a batch size that is not positive.
    """

    optimizer: OptimizerName = "sgd"
    power: float = 0.0
    goal: float = GOAL
    batch_sizes: Sequence[int] = BATCH_SIZES

    def __post_init__(self) -> None:
        object.__setattr__(self, "batch_sizes", tuple(sorted(set(self.batch_sizes))))
        grid(self.optimizer)  # refuses an unknown optimizer
        _check(self.power, self.goal, self.batch_sizes)

    def rows(self) -> Iterator[BestConfiguration]:
        """The row of each batch size, as soon as it is known (under a second each)."""
        for batch_size in self.batch_sizes:
            yield from steps_table(
                self.optimizer, power=self.power, goal=self.goal, batch_sizes=(batch_size,)
            )


def _check(power: float, goal: float, batch_sizes: Sequence[int]) -> None:
    if not 0 <= power <= 1:
        raise ValueError(f"power must lie in [0, 1], got {power!r}")
    if not 0 < goal < np.inf:
        raise ValueError(f"goal must be a positive number, got {goal!r}")
    for batch_size in batch_sizes:
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_sizes must be positive whole numbers, got {batch_size!r}")
