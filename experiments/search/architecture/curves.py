"""Learning-curve extrapolation: where a validation curve will end, and whether it beats a value.

Four families of a curve y(x), x = steps or epochs in units of the first evaluation:

    pow3    c + a x^-alpha
    pow4    c + a (x + b)^-alpha
    mmf4    c + a / (1 + (x / h)^d)
    ilog2   c + a / log(x + 1)

(mmf4 is Morgan, Mercer and Flodin's, its half-way point h written out.) Each is c + a phi(x) with
at most two shape parameters: these start from the best places of a grid and are polished by least
squares, c and a being exact for each (variable projection; Golub and Pereyra 1973). Families are
weighted by Akaike's criterion for small samples (Burnham and Anderson 2002, section 2.4). Their
spread comes from curves resampled in blocks of residuals, fitted again on the grid, each
extrapolated by a family drawn by its weight, plus a residual. It is no interval: real curves depart
from all four families, and `calibration` makes intervals of it. Viering and Loog 2021 (arXiv
2103.10948) compare the families.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from experiments.search.architecture.streams import Stream

FEWEST = 6
"""Points of a curve below which nothing is said."""
STARTS = 3
"""Places of the grid that are polished."""
FINER = np.linspace(-1.0, 1.0, 13)
"""Places about a fit, cubed, in units of its own size."""
DEPENDENCE = 2.0
"""By which differences of AICc are divided for the spread: neighbouring residuals of a curve depend
on each other, and few points tell families apart too boldly."""


LEAST_SCALE = 1e-3
"""Of the range of a curve's values: a spread of nothing is what no curve has."""


class CurveFamily(NamedTuple):
    """A family c + a phi(x).

    Attributes:
      basis: (x [n], shapes [m, k]) -> phi [m, n].
      grid: last x -> shapes [m, k].
      parameters: c, a and shape.
    """

    basis: Callable[[np.ndarray, np.ndarray], np.ndarray]
    grid: Callable[[float], np.ndarray]
    parameters: int


def _pow(x: np.ndarray, shapes: np.ndarray) -> np.ndarray:
    offset = np.abs(shapes[:, 1:2]) if shapes.shape[1] > 1 else 0.0
    return np.asarray((x[None] + offset) ** -shapes[:, :1])


def _mmf(x: np.ndarray, shapes: np.ndarray) -> np.ndarray:
    exponent = np.clip(shapes[:, :1] * (np.log(x)[None] - shapes[:, 1:2]), -50.0, 50.0)
    return np.asarray(1.0 / (1.0 + np.exp(exponent)))


def _ilog(x: np.ndarray, shapes: np.ndarray) -> np.ndarray:
    return np.repeat(1.0 / np.log(x + 1.0)[None], len(shapes), 0)


def _product(*axes: np.ndarray) -> np.ndarray:
    return np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], -1)


FAMILIES: dict[str, CurveFamily] = {
    "pow3": CurveFamily(_pow, lambda last: _product(np.geomspace(0.05, 4.0, 40)), 3),
    "pow4": CurveFamily(
        _pow,
        lambda last: _product(np.geomspace(0.05, 4.0, 16), np.geomspace(0.2, 2.0 * last, 10)),
        4,
    ),
    "mmf4": CurveFamily(  # shape: d and log h
        _mmf,
        lambda last: _product(np.geomspace(0.3, 6.0, 14), np.linspace(-1.0, np.log(2 * last), 12)),
        4,
    ),
    "ilog2": CurveFamily(_ilog, lambda last: np.zeros((1, 0)), 2),
}


@dataclasses.dataclass(frozen=True)
class Extrapolation:
    """The expected value of a curve at one later x.

    Attributes:
      at: x.
      value: mean of the families by weight.
      weights: family -> Akaike weight; they sum to 1.
      draws: float64, sorted: the bootstrap's values there.
      scale: their standard deviation, at least a thousandth of the range of the curve so far.
    """

    at: float
    value: float
    weights: dict[str, float]
    draws: np.ndarray
    scale: float


def extrapolated(
    x: np.ndarray, y: np.ndarray, at: float, *, draws: int = 400, seed: int = 0
) -> Extrapolation:
    """Predict a curve at ``at`` from its points so far.

    Args:
      x: [n] positive, increasing; the unit does not matter.
      y: [n] finite values.
      at: not before the last x.
      draws: resampled curves.
      seed: of the resampling.

    Raises:
      ValueError: fewer than `FEWEST` points, x not increasing, y not finite, ``at`` in the past.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    _check(x, y, at)
    x, goal = x / x[0], at / x[0]
    names = list(FAMILIES)
    fits = [fitted(name, x, y) for name in names]
    criteria = np.array([[fit.aicc] for fit in fits])
    weights, broad = akaike_weights(criteria)[:, 0], akaike_weights(criteria / DEPENDENCE)[:, 0]
    ends = np.array([fit.at(goal) for fit in fits])
    stream = Stream("curve bootstrap", seed)
    sampled, noise = np.empty((draws, len(x))), np.empty(draws)
    for row in range(draws):
        fit = fits[_drawn(broad, stream)]
        smooth = fit.of(x)
        residuals = (y - smooth) * math.sqrt(len(x) / max(len(x) - fit.parameters, 1))
        sampled[row] = smooth + _blocks(residuals, stream)
        late = residuals[len(residuals) // 2 :]  # noise often shrinks as a curve settles
        noise[row] = late[stream.below(len(late))]
    again = [_refitted(fit, x, sampled, goal) for fit in fits]
    chances = akaike_weights(np.array([found for _, found in again]) / DEPENDENCE)
    drawn = [_drawn(chances[:, row], stream) for row in range(draws)]
    values = np.sort(np.array([again[which][0][row] for row, which in enumerate(drawn)]) + noise)
    named = dict(zip(names, map(float, weights), strict=True))
    scale = max(float(values.std()), LEAST_SCALE * float(np.ptp(y)))
    return Extrapolation(at, float(weights @ ends), named, values, scale)


class Fit(NamedTuple):
    """A family fitted to a curve, c + a phi(x; shape), and its AICc."""

    family: str
    c: float
    a: float
    shape: np.ndarray
    aicc: float

    @property
    def parameters(self) -> int:
        """Of the family."""
        return FAMILIES[self.family].parameters

    def of(self, x: np.ndarray) -> np.ndarray:
        """[n] the curve, x in units of the first evaluation."""
        return np.asarray(self.c + self.a * FAMILIES[self.family].basis(x, self.shape[None])[0])

    def at(self, x: float) -> float:
        """The curve at one x."""
        return float(self.of(np.array([x]))[0])


def fitted(name: str, x: np.ndarray, y: np.ndarray) -> Fit:
    """Least squares from the best places of the grid; x [n] begins at 1."""
    from scipy.optimize import least_squares

    family = FAMILIES[name]
    grid = family.grid(float(x[-1]))
    squares = _regressed(family.basis(x, grid), y[None])[2][:, 0]
    best = (float(squares.min()), grid[squares.argmin()])
    if grid.shape[1]:
        low, high = grid.min(0) - 1e-9, grid.max(0) + 1e-9

        def residuals(shape: np.ndarray) -> np.ndarray:
            phi = family.basis(x, shape[None])
            c, a, _ = _regressed(phi, y[None])
            return np.asarray(c[0, 0] + a[0, 0] * phi[0] - y)

        for place in np.argsort(squares, kind="stable")[:STARTS]:
            found = least_squares(residuals, grid[place], bounds=(low, high), max_nfev=40)
            best = min(best, (float(2 * found.cost), found.x), key=lambda pair: pair[0])
    c, a, _ = _regressed(family.basis(x, best[1][None]), y[None])
    criterion = float(aicc(np.array(best[0]), len(x), family.parameters + 1))
    return Fit(name, float(c[0, 0]), float(a[0, 0]), best[1], criterion)


def aicc(squares: np.ndarray, points: int, parameters: int) -> np.ndarray:
    """n log(RSS / n) + 2 k + 2 k (k + 1) / (n - k - 1), k counting the noise; less is better."""
    correction = 2.0 * parameters * (parameters + 1) / max(points - parameters - 1, 0.5)
    fit = points * np.log(np.maximum(squares / points, 1e-18))
    return np.asarray(fit + 2.0 * parameters + correction)


def akaike_weights(criteria: np.ndarray) -> np.ndarray:
    """[families, curves] exp(-(AIC - least AIC) / 2), normalised over families."""
    raw = np.exp(-(criteria - criteria.min(0)) / 2)
    return np.asarray(raw / raw.sum(0))


def _regressed(phi: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """c, a and the residual squares, [m, s] each, of y [s, n] on phi [m, n]."""
    centred, moved = phi - phi.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    power = np.maximum((centred**2).sum(1), 1e-30)[:, None]
    a = centred @ moved.T / power
    c = y.mean(1)[None] - a * phi.mean(1)[:, None]
    return c, a, np.maximum((moved**2).sum(1)[None] - a**2 * power, 0.0)


def _refitted(fit: Fit, x: np.ndarray, y: np.ndarray, goal: float) -> tuple[np.ndarray, np.ndarray]:
    """[s] value at the goal and [s] AICc of each curve y [s, n] at its best place of the grid.

    The grid is finer about the fit that the curves were made from.
    """
    family = FAMILIES[fit.family]
    steps = 0.3 * np.maximum(np.abs(fit.shape), 0.3)[:, None] * FINER[None] ** 3
    coarse = family.grid(float(x[-1]))
    near = _product(*(fit.shape[:, None] + steps)) if len(fit.shape) else coarse
    grid = np.concatenate([coarse, np.clip(near, coarse.min(0), coarse.max(0))])
    c, a, squares = _regressed(family.basis(x, grid), y)
    best, rows = squares.argmin(0), np.arange(len(y))
    end = family.basis(np.array([goal]), grid)[best, 0]
    values = c[best, rows] + a[best, rows] * end
    return values, aicc(squares[best, rows], len(x), family.parameters + 1)


def _drawn(weights: np.ndarray, stream: Stream) -> int:
    return min(int((np.cumsum(weights) <= stream.uniform()).sum()), len(weights) - 1)


def _blocks(residuals: np.ndarray, stream: Stream) -> np.ndarray:
    """Residuals resampled in runs of neighbours: those of a learning curve are not independent."""
    length = max(1, round(len(residuals) ** (1 / 3)))
    count = -(-len(residuals) // length)
    begins = [stream.below(len(residuals) - length + 1) for _ in range(count)]
    return np.concatenate([residuals[i : i + length] for i in begins])[: len(residuals)]


def _check(x: np.ndarray, y: np.ndarray, at: float) -> None:
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"x and y are [n], got shapes {x.shape} and {y.shape}")
    if len(x) < FEWEST:
        raise ValueError(f"a curve needs at least {FEWEST} points to be extrapolated, got {len(x)}")
    if not (x[0] > 0 and np.all(np.diff(x) > 0)):
        raise ValueError("x must be positive and increasing")
    if not np.all(np.isfinite(y)):
        raise ValueError(f"y must be finite, got {y[~np.isfinite(y)][0]}")
    if not at >= x[-1]:
        raise ValueError(f"at must not lie before the last x ({x[-1]:g}), got {at:g}")
