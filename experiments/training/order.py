"""Randomness by role and place: every stream is derived once, by name, from the recorded seed.

Nothing here depends on the batch size, the number of devices, packing or a resume.
"""

from __future__ import annotations

import hashlib

import numpy as np


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
    """An endless stream of example numbers: one full permutation an epoch, f(seed, epoch).

    A place in the stream is (epoch, offset), counted in examples consumed; how the stream is cut
    into batches, chunks or devices does not change it. The permutation sorts the raw 64-bit words
    of a Philox generator keyed by (trial, epoch): NumPy fixes that stream for ever, which it does
    not do for ``Generator.permutation``.
    """

    def __init__(self, seed: int, index: int, examples: int, epoch: int = 0, offset: int = 0):
        high, low = _words("order", seed, index)
        self._key = int(high) << 32 | int(low)
        self._examples = examples
        self.move(epoch, offset)

    def move(self, epoch: int, offset: int) -> None:
        """Go to a place in the stream."""
        self.epoch, self.offset = epoch, offset
        self._permutation = self._epoch(epoch)

    def _epoch(self, epoch: int) -> np.ndarray:
        words = np.random.Philox(key=[self._key, epoch]).random_raw(self._examples)
        return np.argsort(words, kind="stable").astype(np.int32)

    def take(self, count: int) -> np.ndarray:
        """The next ``count`` example numbers, int32 [count]."""
        pieces = []
        while count > 0:
            if self.offset == self._examples:
                self.epoch, self.offset = self.epoch + 1, 0
                self._permutation = self._epoch(self.epoch)
            piece = self._permutation[self.offset : self.offset + count]
            self.offset += len(piece)
            count -= len(piece)
            pieces.append(piece)
        return np.concatenate(pieces) if len(pieces) != 1 else pieces[0]
