"""Percentiles of a stream of norms (not negative) in a state of fixed size, for adaptive clipping.

A percentile p of n numbers x_(0) <= ... <= x_(n-1) is NumPy's linear one: with
r = p/100 (n - 1), it is x_(floor r) plus (r - floor r) of the way to x_(ceil r).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from optimizers.leafwise import Scalar

BINS = 4096
LOWEST, HIGHEST = 1e-12, 1e12
"""The histogram's range; norms outside it are counted in its outermost bins."""
RELATIVE_ERROR = (HIGHEST / LOWEST) ** (0.5 / BINS) - 1
"""Largest relative error of `histogram_percentile` within the range: half a bin, 0.68 %."""
CAPACITY = 1024
"""Longest window."""


class Histogram(NamedTuple):
    """All numbers so far, by size: 4096 bins equally wide in the logarithm, 1e-12 to 1e12.

    Attributes:
      counts: shape (4096,), int32.
      least, most: shape (), float32: the exact extremes; the largest float and 0 while empty
        (a state that is not finite would look like a divergence).
    """

    counts: jax.Array
    least: jax.Array
    most: jax.Array


def empty_histogram() -> Histogram:
    """No numbers yet."""
    largest = jnp.asarray(jnp.finfo(jnp.float32).max, jnp.float32)
    return Histogram(jnp.zeros(BINS, jnp.int32), largest, jnp.zeros([], jnp.float32))


def histogram_add(histogram: Histogram, value: jax.Array) -> Histogram:
    """With one more number; one that is not finite is left out."""
    value = jnp.asarray(value, jnp.float32)
    finite = jnp.isfinite(value)
    width = jnp.log(HIGHEST / LOWEST) / BINS
    place = jnp.floor((jnp.log(jnp.maximum(value, LOWEST)) - jnp.log(LOWEST)) / width)
    index = jnp.clip(jnp.where(finite, place, 0.0), 0, BINS - 1).astype(jnp.int32)
    return Histogram(
        histogram.counts.at[index].add(finite.astype(jnp.int32)),
        jnp.where(finite, jnp.minimum(histogram.least, value), histogram.least),
        jnp.where(finite, jnp.maximum(histogram.most, value), histogram.most),
    )


def histogram_percentile(histogram: Histogram, percentile: Scalar) -> jax.Array:
    """The p-th percentile, within `RELATIVE_ERROR` of the exact one; infinite while empty.

    The smallest and the largest number are exact, so p = 0 and p = 100 are. Every other order
    statistic is its bin's geometric centre, kept between the two; an interpolation of two
    numbers within a relative error stays within it.
    """
    cumulative = jnp.cumsum(histogram.counts)
    total = cumulative[-1]
    rank, fraction = _rank(total, percentile)
    below = _order_statistic(histogram, cumulative, rank)
    above = _order_statistic(histogram, cumulative, jnp.minimum(rank + 1, total - 1))
    return jnp.where(total > 0, _between(below, above, fraction), jnp.inf)


def _order_statistic(histogram: Histogram, cumulative: jax.Array, rank: jax.Array) -> jax.Array:
    index = jnp.searchsorted(cumulative, rank, side="right").astype(jnp.float32)
    width = jnp.log(HIGHEST / LOWEST) / BINS
    centre = jnp.exp(jnp.log(LOWEST) + (index + 0.5) * width).astype(jnp.float32)
    centre = jnp.clip(centre, histogram.least, histogram.most)
    centre = jnp.where(rank <= 0, histogram.least, centre)
    return jnp.where(rank >= cumulative[-1] - 1, histogram.most, centre)


class SlidingWindow(NamedTuple):
    """The last numbers, newest first.

    Attributes:
      values: shape (1024,), float32; 0 where there is none yet.
      held: shape (), int32: how many there are, at most 1024.
    """

    values: jax.Array
    held: jax.Array


def empty_window() -> SlidingWindow:
    """No numbers yet."""
    return SlidingWindow(jnp.zeros(CAPACITY, jnp.float32), jnp.zeros([], jnp.int32))


def window_add(window: SlidingWindow, value: jax.Array) -> SlidingWindow:
    """With one more number; one that is not finite is left out."""
    value = jnp.asarray(value, jnp.float32)
    finite = jnp.isfinite(value)
    moved = jnp.roll(window.values, 1).at[0].set(value)
    count = jnp.minimum(window.held + finite.astype(jnp.int32), CAPACITY)
    return SlidingWindow(jnp.where(finite, moved, window.values), count)


def window_percentile(window: SlidingWindow, percentile: Scalar, length: Scalar) -> jax.Array:
    """The exact p-th percentile of the last ``length`` numbers; infinite while empty."""
    held = jnp.minimum(window.held, jnp.asarray(length).astype(jnp.int32))
    recent = jnp.where(jnp.arange(CAPACITY) < held, window.values, jnp.inf)
    ordered = jnp.sort(recent)
    rank, fraction = _rank(held, percentile)
    above = jnp.minimum(rank + 1, jnp.maximum(held - 1, 0))
    return jnp.where(held > 0, _between(ordered[rank], ordered[above], fraction), jnp.inf)


def _rank(total: jax.Array, percentile: Scalar) -> tuple[jax.Array, jax.Array]:
    """(floor of the rank, int32; its fraction in [0, 1)) of a percentile of ``total`` numbers."""
    last = jnp.maximum(total - 1, 0)
    share = jnp.asarray(percentile, jnp.float32) / 100.0
    position = share * last.astype(jnp.float32)
    floor = jnp.floor(position)
    # Past 2^24 numbers float32 cannot hold the last rank; p = 100 must mean it all the same.
    rank = jnp.where(share >= 1.0, last, jnp.minimum(floor.astype(last.dtype), last))
    return rank, jnp.where(share >= 1.0, 0.0, position - floor)


def _between(below: jax.Array, above: jax.Array, fraction: jax.Array) -> jax.Array:
    """``below`` plus the fraction of the way to ``above``, within both; exact at equal ends."""
    inside = jnp.clip(below + fraction * (above - below), below, above)
    return jnp.where(above > below, inside, below)
