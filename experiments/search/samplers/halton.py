"""Quasi-random points: a Halton sequence, scrambled and randomly shifted (Bousquet et al. 2017).

Point = f(seed, index): the search is the same whatever the timing, the number of workers or a
resume, and a study that grows keeps its first points. SciPy's generator draws its permutations
from a stream that NumPy does not promise to keep; these come from raw Philox words, which it does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71)


def _raw(role: str, seed: int, dimension: int, count: int) -> np.ndarray:
    """``count`` 64-bit words that belong to this role, seed and dimension alone."""
    digest = hashlib.sha256(f"search/{role}/{seed}/{dimension}".encode()).digest()
    key = [int.from_bytes(digest[i : i + 8], "big") for i in (0, 8)]
    return np.random.Philox(key=key).random_raw(count)


def scramble(seed: int, dimension: int) -> np.ndarray:
    """One random permutation of the digits 0..b-1 for each digit's place (Owen 2017).

    Returns:
      int64 [places, b]; enough places for double precision.
    """
    base = _PRIMES[dimension]
    places = int(np.ceil(53 / np.log2(base)))
    words = _raw("scramble", seed, dimension, places * base).reshape(places, base)
    return np.argsort(words, axis=1, kind="stable")


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
        shift = int(_raw("shift", seed, dimension, 1)[0] >> np.uint64(11)) * 2.0**-53
        points[:, dimension] = (value + shift) % 1.0
    return points


def point(seed: int, index: int, names: Iterable[str]) -> dict[str, float]:
    """Point ``index`` as name -> [0, 1); dimensions are the names in alphabetical order."""
    ordered = sorted(names)
    row = halton(seed, np.array([index]), len(ordered))[0]
    return dict(zip(ordered, row.tolist(), strict=True))
