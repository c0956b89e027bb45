"""The curve of steps against batch size whose elbow is as sharp as the points say.

    S = S_min (1 + (B_noise / B)^p)^(1/p)

has the two lines of every such curve, S = S_min B_noise / B far below B_noise and S = S_min far
above, and a free sharpness p between them: p = 1 is the hyperbola of McCandlish et al. 2018, eq.
2.11, a large p two straight lines that meet at B_noise. An overhead h of examples over
E_min = S_min B_noise is met at B_noise ((1 + h)^p - 1)^(1/p): at h = 20 % that is 0.2 B_noise with
p = 1 and 0.9 B_noise with p = 3, so the sharpness decides more than all the rest of the fit.
Doubling saves the share f at B_noise ((q - 2^-p) / (1 - q))^(1/p), q = (1 - f)^p. (Ours.)
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import numpy as np

FEWEST_FOR_SHARPNESS = 5
"""Batch sizes that must reach the goal to tell three parameters; with fewer p is 1."""

SHARPNESS = (0.5, 16.0)
"""Range of p: the far end is two straight lines to within 4 % at their corner."""

_DECADES_BEYOND = 3
_COARSE = (9, 41)
"""Places of log p and of log B_noise at first; then the best and its neighbours, ever finer."""
_FINE, _NARROWER, _TIMES = 7, 0.45, 12
_ROWS_AT_ONCE = 256


class FreeFit(NamedTuple):
    """Fits of several curves at once, columns [r]; 0 and infinity as in `hyperbola.HyperbolaFit`.

    ``noise`` is B_noise, ``power`` p, ``least_steps`` S_min, ``least_examples`` E_min.
    """

    noise: np.ndarray
    power: np.ndarray
    least_steps: np.ndarray
    least_examples: np.ndarray
    residual: np.ndarray


@dataclasses.dataclass(frozen=True)
class FreeSharpness:
    """S = S_min (1 + (B_noise / B)^p)^(1/p).

    Attributes:
      least_steps: S_min, 0 where the points cannot be told from perfect scaling.
      noise_batch_size: B_noise in examples, where the two lines meet; 0 for a flat curve, infinite
        for perfect scaling.
      sharpness: p.
      least_examples: E_min = S_min B_noise, finite for perfect scaling; 0 for a flat curve.
      residual: root mean square of log2 S about the fit.
    """

    least_steps: float
    noise_batch_size: float
    sharpness: float
    least_examples: float
    residual: float

    @classmethod
    def fit(cls, batch_sizes: np.ndarray, steps: np.ndarray) -> FreeSharpness:
        """Least squares of log S over ``steps`` [n]; p = 1 for fewer than five finite ones."""
        points = np.asarray(batch_sizes, float), np.asarray(steps, float)
        noise, power, least, examples, residual = _fitted_once(*(p.tobytes() for p in points))
        return cls(least, noise, power, examples, residual)

    def steps(self, batch_sizes: np.ndarray) -> np.ndarray:
        """S(B) for batch sizes [n], the p-norm of its two lines."""
        line = self.least_examples / np.asarray(batch_sizes, float)
        larger = np.maximum(line, self.least_steps)
        ratio = np.minimum(line, self.least_steps) / larger
        return np.asarray(larger * (1 + ratio**self.sharpness) ** (1 / self.sharpness))

    def perfect_end(self, overhead: float) -> float:
        """B at which examples exceed E_min by ``overhead``."""
        p = self.sharpness
        return float(self.noise_batch_size * ((1 + overhead) ** p - 1) ** (1 / p))

    def flat_start(self, saving: float) -> float:
        """B from which doubling saves less than ``saving`` of the steps, 0 < saving < 1/2."""
        p = self.sharpness
        kept = (1 - saving) ** p
        return float(self.noise_batch_size * ((kept - 2**-p) / (1 - kept)) ** (1 / p))


def fit_free_sharpness(batch_sizes: np.ndarray, steps: np.ndarray) -> FreeFit:
    """Least squares of log S over (S_min, B_noise, p), for every row of ``steps``.

    For given (B_noise, p) the best log S_min is a mean. The two others are sought on a grid of
    their logarithms, then on ever smaller grids about the best place so far.

    Args:
      batch_sizes: [n].
      steps: [r, n]; infinite entries are left out of their row's fit, two or more stay. Rows with
        fewer than `FEWEST_FOR_SHARPNESS` finite entries have p = 1.
    """
    parts = [
        _fitted(np.log(batch_sizes), steps[at : at + _ROWS_AT_ONCE])
        for at in range(0, len(steps), _ROWS_AT_ONCE)
    ]
    return FreeFit(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


@functools.lru_cache(maxsize=4096)
def _fitted_once(batch_sizes: bytes, steps: bytes) -> tuple[float, ...]:
    """`fit_free_sharpness` of one search; several estimates are read off the same curve."""
    found = fit_free_sharpness(np.frombuffer(batch_sizes), np.frombuffer(steps)[None])
    return tuple(float(column[0]) for column in found)


class _Rows(NamedTuple):
    """Points to fit: log B [n], log S [r, n], each point's share [r, n] in the mean of its row."""

    x: np.ndarray
    y: np.ndarray
    share: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, steps: np.ndarray) -> _Rows:
        weights = np.isfinite(steps).astype(float)
        y = np.log(np.where(weights > 0, steps, 1.0))
        return cls(x, y, weights / weights.sum(axis=1, keepdims=True))

    @property
    def few(self) -> np.ndarray:
        """[r] rows whose points cannot tell the sharpness."""
        return np.asarray((self.share > 0).sum(axis=1) < FEWEST_FOR_SHARPNESS)

    def misses(self, log_power: np.ndarray, log_noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(log S_min [r, a, b, 1], log S over the curve [r, a, b, n]) for p [r, a], B_noise [r, b].

        The best log S_min is the mean of what is left.
        """
        power = np.exp(log_power)[:, :, None, None]
        left = self.y[:, None, None] - (
            np.logaddexp(0, power * (log_noise[:, None, :, None] - self.x)) / power
        )
        least = (self.share[:, None, None] * left).sum(axis=3, keepdims=True)
        return least, left - least

    def squares(self, misses: np.ndarray) -> np.ndarray:
        """[r, a, b] mean squares of `misses`."""
        return np.asarray((self.share[:, None, None] * misses**2).sum(axis=3))

    def best_of(self, powers: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """([r] log p, [r] log B_noise) of the least squares among [r, a] and [r, b]."""
        tried = np.where(self.few[:, None], 0.0, powers)
        squares = self.squares(self.misses(tried, places)[1])
        at, rows = squares.reshape(len(squares), -1).argmin(axis=1), np.arange(len(squares))
        return tried[rows, at // places.shape[1]], places[rows, at % places.shape[1]]


def _fitted(x: np.ndarray, steps: np.ndarray) -> FreeFit:
    rows = _Rows.of(x, steps)
    far = _DECADES_BEYOND * np.log(10)
    powers = np.linspace(np.log(SHARPNESS[0]), np.log(SHARPNESS[1]), _COARSE[0])
    places = np.linspace(x.min() - far, x.max() + far, _COARSE[1])
    count = len(steps)
    log_power, log_noise = rows.best_of(np.tile(powers, (count, 1)), np.tile(places, (count, 1)))
    flat, perfect = log_noise <= places[0], log_noise >= places[-1]
    reach = 2 * np.array([powers[1] - powers[0], places[1] - places[0]])
    offsets = np.linspace(-1, 1, _FINE)
    for _ in range(_TIMES):
        log_power, log_noise = rows.best_of(
            np.clip(log_power[:, None] + reach[0] * offsets, *np.log(SHARPNESS)),
            log_noise[:, None] + reach[1] * offsets,
        )
        reach = _NARROWER * reach
    least, misses = rows.misses(log_power[:, None], log_noise[:, None])
    log_least = least[:, 0, 0, 0]
    return FreeFit(
        noise=np.where(flat, 0.0, np.where(perfect, np.inf, np.exp(log_noise))),
        power=np.exp(log_power),
        least_steps=np.where(perfect, 0.0, np.exp(log_least)),
        least_examples=np.where(flat, 0.0, np.exp(log_least + log_noise)),
        residual=np.sqrt(rows.squares(misses)[:, 0, 0]) / np.log(2),
    )
