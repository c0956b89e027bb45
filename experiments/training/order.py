"""Randomness by role and place: every stream is derived once, by name, from the recorded seed.

Nothing here depends on the batch size, the number of devices, packing or a resume.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np

ROUNDS = 12
"""Of the Feistel network; from 12 on its permutations of 2 to 12 examples pass for uniform ones."""
BLOCK = 1 << 15
"""Places computed together: the arrays of a round stay in the cache."""
LARGEST = (1 << 31) - 1
"""The most examples: their numbers are int32."""
GOLDEN_RATIO = 0x9E3779B97F4A7C15


def _words(role: str, seed: int, index: int) -> np.ndarray:
    """Two 32-bit words that belong to this role of this trial alone: threefry key data."""
    digest = hashlib.sha256(f"{role}/{seed}/{index}".encode()).digest()
    return np.frombuffer(digest[:8], ">u4").astype(np.uint32)


def trial_keys(seed: int, index: int) -> np.ndarray:
    """Raw key data [2, 2] uint32 of a trial: initialisation, then dropout (and augmentation).

    Trial ``index`` starts from the same parameters at every batch size, so that batch sizes are
    compared on equal starts.
    """
    return np.stack([_words(role, seed, index) for role in ("initialisation", "dropout")])


class ExampleOrder:
    """An endless stream of example numbers: one full permutation an epoch, f(seed, index, epoch).

    A place in the stream is (epoch, offset), counted in examples consumed; how the stream is cut
    into batches, chunks or devices does not change it. Every number is computed from its place
    alone (`permuted`): no permutation is stored, and every place costs the same.

    Args:
      seed, index: of the trial.
      examples: size of the training set, 1 to 2^31 - 1.
      epoch, offset: where the stream begins.

    Attributes:
      epoch, offset: the place of the next number; at an epoch's end ``offset`` is ``examples``.
    """

    def __init__(self, seed: int, index: int, examples: int, epoch: int = 0, offset: int = 0):
        if not 1 <= examples <= LARGEST:
            raise ValueError(f"examples must lie in [1, {LARGEST}], got {examples}")
        high, low = _words("order", seed, index)
        self._key = int(high) << 32 | int(low)
        self._examples = examples
        self.move(epoch, offset)

    def move(self, epoch: int, offset: int) -> None:
        """Go to a place in the stream."""
        self.epoch, self.offset = epoch, offset

    def take(self, count: int) -> np.ndarray:
        """The next ``count`` example numbers, int32 [count]."""
        taken, done = np.empty(count, np.int32), 0
        while done < count:
            if self.offset == self._examples:
                self.epoch, self.offset = self.epoch + 1, 0
            most = min(count - done, BLOCK)
            # Of a small training set several whole epochs at once.
            epochs = max(1, most // self._examples) if self.offset == 0 else 1
            places = np.arange(self.offset, min(self.offset + most, self._examples))
            numbers = permuted(
                self._key, np.arange(self.epoch, self.epoch + epochs), places, self._examples
            )
            taken[done : done + numbers.size] = numbers.ravel()
            done += numbers.size
            self.move(self.epoch + epochs - 1, self.offset + len(places))
        return taken


def permuted(key: int, epochs: np.ndarray, places: np.ndarray, size: int) -> np.ndarray:
    """The image of every place in every epoch's permutation of 0 .. size - 1.

    A Feistel network permutes 0 .. a b - 1, where a = ceil(sqrt(size)) and b = ceil(size / a). A
    place whose image is ``size`` or more goes through the network again until its image is below
    (cycle walking), which leaves a permutation of the numbers below ``size``. Fewer than a
    images are not, so few places walk.

    Args:
      key: 64 bits.
      epochs: int [E], not negative.
      places: int [k], in [0, size).
      size: 1 to 2^31 - 1.

    Returns:
      uint32 [E, k].

    Reference: Black and Rogaway 2002, Ciphers with Arbitrary Finite Domains, sections 4 and 5.
    """
    a = math.isqrt(size - 1) + 1
    b = -(-size // a)
    keys = _round_keys(key, epochs)
    shape = len(epochs), len(places)
    images = _feistel(np.broadcast_to(places.astype(np.uint32), shape), keys[..., None], a, b)
    flat = images.ravel()
    while len(walking := np.flatnonzero(flat >= size)):
        flat[walking] = _feistel(flat[walking], keys[:, walking // len(places)], a, b)
    return images


def _round_keys(key: int, epochs: np.ndarray) -> np.ndarray:
    """Keys of the rounds, uint32 [ROUNDS, E]: the stream of SplitMix64 from ``key``, ROUNDS words
    an epoch, each one's upper half (Steele, Lea and Flood 2014, figure 11)."""
    count = np.arange(1, ROUNDS + 1, dtype=np.uint64)[:, None]
    count = count + epochs.astype(np.uint64) * np.uint64(ROUNDS)
    z = np.uint64(key) + count * np.uint64(GOLDEN_RATIO)
    z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return (z >> np.uint64(32)).astype(np.uint32)


def _feistel(x: np.ndarray, keys: np.ndarray, a: int, b: int) -> np.ndarray:
    """A keyed permutation of 0 .. a b - 1, applied to an uint32 array; the key of every round
    has its shape, up to broadcasting.

        x = l b + r;  l <- (l + h(r, key) a) mod a,  then  r <- (r + h(l, key) b) mod b, in turn

    h in [0, 1) is a mixing of 32 bits (multiply, xor with the shifted word, multiply), of which
    the upper 16 bits are used: neither a nor b is larger than 2^16.
    """
    left = x // np.uint32(b)
    right = x - left * np.uint32(b)
    sides = (left, np.uint32(a), right), (right, np.uint32(b), left)
    word, shifted = np.empty_like(left), np.empty_like(left)
    half, fifteen = np.uint32(16), np.uint32(15)
    for i in range(ROUNDS):
        changed, size, other = sides[i % 2]
        np.bitwise_xor(other, keys[i], out=word)
        word *= np.uint32(0x85EBCA6B)
        np.right_shift(word, fifteen, out=shifted)
        word ^= shifted
        word *= np.uint32(0xC2B2AE35)
        word >>= half
        word *= size
        word >>= half
        changed += word
        # Modulo ``size``: below it the difference wraps round to a large number.
        np.subtract(changed, size, out=word)
        np.minimum(changed, word, out=changed)
    left *= np.uint32(b)
    left += right
    return left
