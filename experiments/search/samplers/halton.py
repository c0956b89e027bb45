"""Quasi-random points: a Halton sequence, scrambled and randomly shifted (Bousquet et al. 2017).

Point = f(seed, index): the search is the same whatever the timing, the number of workers or a
resume, and a study that grows keeps its first points. SciPy's generator draws its permutations
from a stream that NumPy does not promise to keep; these come from raw Philox words, which it does.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

import numpy as np

from experiments.search.samplers.base import Ask, Proposal
from experiments.search.samplers.distinct import Picker, proposal
from experiments.search.samplers.streams import uniforms, words
from experiments.spec.space import Real

_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71)
BLOCK = 1024
"""Points that are computed at a time."""


@functools.lru_cache(maxsize=len(_PRIMES))
def scramble(seed: int, dimension: int) -> np.ndarray:
    """One random permutation of the digits 0..b-1 for each digit's place (Owen 2017).

    Returns:
      int64 [places, b]; enough places for double precision.
    """
    base = _PRIMES[dimension]
    places = int(np.ceil(53 / np.log2(base)))
    drawn = words("scramble", seed, dimension, count=places * base).reshape(places, base)
    found = np.argsort(drawn, axis=1, kind="stable")
    found.flags.writeable = False  # kept for the next point
    return found


def halton(seed: int, indices: np.ndarray, dimensions: int) -> np.ndarray:
    """Points ``indices`` [n] of the sequence that belongs to ``seed``.

    x_i = (sum_k pi_k(d_k(i)) b^-(k+1) + shift) mod 1 in each dimension, where d_k(i) are the
    digits of i in the dimension's own prime base b, pi_k its permutations, and shift is uniform.

    Returns:
      float64 [n, dimensions] in [0, 1).

    Raises:
      ValueError: more dimensions than primes are tabled.
    """
    if dimensions > len(_PRIMES):
        raise ValueError(f"dimensions must be at most {len(_PRIMES)}, got {dimensions}")
    points = np.empty((len(indices), dimensions))
    for dimension in range(dimensions):
        base, rest = _PRIMES[dimension], np.asarray(indices, np.int64)
        value, weight = np.zeros(len(rest)), 1.0
        for permutation in scramble(seed, dimension):
            rest, digit = np.divmod(rest, base)
            weight /= base
            value += permutation[digit] * weight
        shift = uniforms("shift", seed, dimension, shape=(1,))[0]
        points[:, dimension] = (value + shift) % 1.0
    return points


def point(seed: int, index: int, names: Iterable[str]) -> dict[str, float]:
    """Point ``index`` as name -> [0, 1); dimensions are the names in alphabetical order."""
    ordered = sorted(names)
    row = halton(seed, np.array([index]), len(ordered))[0]
    return dict(zip(ordered, row.tolist(), strict=True))


def propose(ask: Ask) -> Proposal:
    """The next points of the sequence at every batch size, points of known values left out.

    In a space with a real range that is point i for trial i, the same at every batch size.
    """
    pickers = []
    for batch_size in ask.counts:
        picker = Picker(ask, batch_size)
        # A finite space repeats itself: go from the start, past what was proposed.
        finite = any(not isinstance(distribution, Real) for distribution in ask.space.values())
        begin = 0 if finite else len(ask.of(batch_size))
        end = begin + 8 * ask.total
        while begin < end and not picker.full:  # an open-ended search has a million trials
            block = np.arange(begin, min(begin + BLOCK, end))
            for row in halton(ask.seed, block, len(ask.space)):
                picker.offer(row, "quasi-random")
            begin += BLOCK
        pickers.append(picker)
    return proposal(ask, pickers)
