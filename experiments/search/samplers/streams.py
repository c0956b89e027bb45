"""Random words that belong to a role, a seed and keys, whatever else has been drawn.

NumPy promises to keep a bit generator's raw stream, not what its distributions make of it: all
numbers here are made from raw Philox words.
"""

from __future__ import annotations

import hashlib

import numpy as np


def words(role: str, *keys: int, count: int) -> np.ndarray:
    """uint64 [count]: the words of ``search/role/key/key...``."""
    name = "/".join(["search", role, *map(str, keys)])
    digest = hashlib.sha256(name.encode()).digest()
    key = [int.from_bytes(digest[i : i + 8], "big") for i in (0, 8)]
    return np.random.Philox(key=key).random_raw(count)


def uniforms(role: str, *keys: int, shape: tuple[int, ...]) -> np.ndarray:
    """float64 [shape] in [0, 1)."""
    count = int(np.prod(shape))
    drawn = (words(role, *keys, count=count) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return drawn.reshape(shape)


def seed_of(role: str, *keys: int) -> int:
    """A 32-bit seed for a library's own generator."""
    return int(words(role, *keys, count=1)[0] >> np.uint64(32))
