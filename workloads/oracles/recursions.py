"""The noisy quadratic model's expected loss, exactly, step by step (Zhang et al. 2019).

The loss is L = 1/2 sum_i h_i theta_i^2 with h_i = 1/i, i = 1..K; theta(0) ~ N(0, I); a gradient
of B examples is h_i theta_i plus noise of variance c_i / B with c_i = h_i. Every dimension's
second moments follow a linear recursion, s' = M s + n 1, which this module writes down and
iterates in float64. It is the oracle for the whole pipeline; NumPy alone.

Symbols: a learning rate, b momentum, g averaging coefficient, p power of the preconditioner
H^p, x = a h^(1-p), n = (a h^-p)^2 c / B.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from workloads.registry import unknown_name

OptimizerName = Literal["sgd", "momentum", "ema"]
OPTIMIZERS: tuple[OptimizerName, ...] = ("sgd", "momentum", "ema")
DIMENSIONS = 10_000
BINS = 100


@dataclasses.dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of the Hessian and how many dimensions share each.

    Attributes:
      eigenvalues: [n] float64, in (0, 1].
      counts: [n] float64.
    """

    eigenvalues: np.ndarray
    counts: np.ndarray

    def loss(self, second_moments: np.ndarray) -> np.ndarray:
        """1/2 sum_i h_i E[theta_i^2] over the last axis."""
        return 0.5 * np.sum(self.eigenvalues * self.counts * second_moments, axis=-1)


def full_spectrum(dimensions: int = DIMENSIONS) -> Spectrum:
    """h_i = 1/i, one dimension each."""
    return Spectrum(1.0 / np.arange(1, dimensions + 1), np.ones(dimensions))


def binned_spectrum(dimensions: int = DIMENSIONS, bins: int = BINS) -> Spectrum:
    """h_i = 1/i rounded down to one of ``bins`` values, geometric from 1 to 1/dimensions.

    The authors' device to make 10,000 dimensions cost 100: the loss at the start is 4.702496
    instead of 4.893803.
    """
    values = np.geomspace(1.0, 1.0 / dimensions, bins)
    # Of h_i = 1/i, floor(1/v) lie at or above v; the small excess undoes rounding at v = 1/i.
    at_or_above = np.floor(1.0 / values * (1 + 1e-12))
    return Spectrum(values, np.diff(at_or_above, prepend=0.0))


class System(NamedTuple):
    """A linear recursion of second moments, s' = transition s + noise, per dimension.

    Attributes:
      transition: [..., d, d].
      noise: [...], added to every one of the d moments.
      start: [..., d] moments before the first step.
      reading: (index, factor): E[theta^2] of the evaluated parameters is factor * s[index].
    """

    transition: np.ndarray
    noise: np.ndarray
    start: np.ndarray
    reading: tuple[int, np.ndarray]


def _stack(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    entries = np.broadcast_arrays(*(entry for row in rows for entry in row))
    return np.stack(entries, axis=-1).reshape(*entries[0].shape, len(rows), len(rows))


def system(
    optimizer: OptimizerName,
    eigenvalues: np.ndarray,
    batch_size: int,
    learning_rate: np.ndarray | float,
    coefficient: np.ndarray | float = 0.0,
    *,
    power: float = 0.0,
) -> System:
    """The recursion of one optimizer; arguments broadcast against ``eigenvalues`` [..., n].

    sgd: s = E[theta^2]; s' = (1-x)^2 s + n.
    momentum (b): s = (E[theta^2], E[v^2], E[theta v]) with v the last displacement, zero at
      the start: v' = b v - a (gradient), theta' = theta + v'.
    ema (g): s = (E[theta^2], E[u^2], E[theta u]) with u = average / (1-g); the average starts
      at theta(0) and is what is evaluated: average' = g average + (1-g) theta'.

    Raises:
      UnknownNameError: an optimizer that is none of these.
    """
    h, coefficient = np.asarray(eigenvalues, float), np.asarray(coefficient, float)
    rate = np.asarray(learning_rate, float) * h**-power
    x, n = rate * h, rate**2 * h / batch_size
    zero, one = np.zeros_like(x + coefficient), np.ones_like(x + coefficient)
    n = n + zero
    if optimizer == "sgd":
        return System(_stack([[(1 - x) ** 2 + zero]]), n, one[..., None], (0, one))
    if optimizer == "momentum":
        b = coefficient
        rows = [
            [(1 - x) ** 2, b**2, 2 * (1 - x) * b],
            [x**2, b**2, -2 * x * b],
            [-(1 - x) * x, b**2, (1 - 2 * x) * b],
        ]
        return System(_stack(rows), n, np.stack([one, zero, zero], -1), (0, one))
    if optimizer == "ema":
        g = coefficient
        rows = [
            [(1 - x) ** 2, zero, zero],
            [(1 - x) ** 2, g**2, 2 * g * (1 - x)],
            [(1 - x) ** 2, zero, g * (1 - x)],
        ]
        scale = one / (1 - g)
        return System(_stack(rows), n, np.stack([one, scale**2, scale], -1), (1, scale**-2))
    raise unknown_name("optimizer of the noisy quadratic model", optimizer, OPTIMIZERS)


def steady_second_moment(
    optimizer: OptimizerName,
    eigenvalues: np.ndarray,
    batch_size: int,
    learning_rate: np.ndarray | float,
    coefficient: np.ndarray | float = 0.0,
    *,
    power: float = 0.0,
) -> np.ndarray:
    """E[theta^2] of the evaluated parameters after infinitely many steps, in closed form.

    sgd n / (x (2-x)); momentum (1+b) n / (x (2 (1+b) - x) (1-b)); ema sgd's times
    (1-g) (1+(1-x) g) / ((1+g) (1-(1-x) g)). Infinite where the recursion diverges.
    """
    h, b = np.asarray(eigenvalues, float), np.asarray(coefficient, float)
    rate = np.asarray(learning_rate, float) * h**-power
    x, n = rate * h, rate**2 * h / batch_size
    limit = 2 * (1 + b) if optimizer == "momentum" else 2 + 0 * b
    with np.errstate(divide="ignore", invalid="ignore"):
        if optimizer == "momentum":
            moment = (1 + b) * n / (x * (2 * (1 + b) - x) * (1 - b))
        else:
            moment = n / (x * (2 - x)) + 0 * b
        if optimizer == "ema":
            moment = moment * (1 - b) * (1 + (1 - x) * b) / ((1 + b) * (1 - (1 - x) * b))
    return np.where(x < limit, moment, np.inf)


def expected_losses(
    optimizer: OptimizerName,
    spectrum: Spectrum,
    batch_size: int,
    learning_rate: float,
    coefficient: float = 0.0,
    *,
    power: float = 0.0,
    steps: int,
) -> np.ndarray:
    """[steps + 1] float64: the expected loss before the first step and after each."""
    recursion = system(
        optimizer, spectrum.eigenvalues, batch_size, learning_rate, coefficient, power=power
    )
    index, factor = recursion.reading
    state = recursion.start
    losses = [spectrum.loss(factor * state[..., index])]
    for _ in range(steps):
        state = np.einsum("...ij,...j->...i", recursion.transition, state)
        state = state + recursion.noise[..., None]
        losses.append(spectrum.loss(factor * state[..., index]))
    return np.array(losses)
