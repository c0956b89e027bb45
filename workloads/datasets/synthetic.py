"""Made-up data with the shapes of real ones, for tests and for measuring throughput."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workloads.datasets.base import Dataset

SIZES = {"train": 2048, "validation": 256, "test": 256}


def _generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


def load_images(
    *, data_dir: str | None = None, shape: Sequence[int] = (32, 32, 3), classes: int = 10
) -> Dataset:
    """Images of ``classes`` fixed random patterns under noise: easy to learn, not trivial.

    Args:
      data_dir: not used.
      shape: of an image, e.g. (32, 32, 3) or (224, 224, 3).
      classes: number of patterns.

    Returns:
      inputs [n, *shape] uint8; targets [n] int32.
    """
    del data_dir
    random = _generator(7)
    patterns = random.integers(0, 256, (classes, *shape), np.uint8)
    splits = {}
    for split, size in SIZES.items():
        targets = random.integers(0, classes, size, np.int32)
        # A pattern shows through on a random quarter of the pixels; the rest is noise.
        inputs = random.integers(0, 256, (size, *shape), np.uint8)
        shown = random.integers(0, 4, (size, *shape), np.uint8) == 0
        np.copyto(inputs, patterns[targets], where=shown)
        splits[split] = {"inputs": inputs, "targets": targets}
    return Dataset("synthetic_images", splits, classes, "synthetic")


def load_tokens(
    *, data_dir: str | None = None, sequence_length: int = 32, vocabulary: int = 64
) -> Dataset:
    """Sequences of a fixed random Markov chain: each token has four equally likely successors,
    so that the best cross entropy is ln 4.

    Args:
      data_dir: not used.
      sequence_length: T.
      vocabulary: number of tokens, at most 65,536.

    Returns:
      inputs and targets [n, T] uint16, the targets one token on.
    """
    del data_dir
    random = _generator(8)
    successors = random.integers(0, vocabulary, (vocabulary, 4))
    splits = {}
    for split, size in SIZES.items():
        chain = np.empty((size, sequence_length + 1), np.uint16)
        chain[:, 0] = random.integers(0, vocabulary, size)
        choices = random.integers(0, 4, (size, sequence_length))
        for place in range(sequence_length):
            chain[:, place + 1] = successors[chain[:, place], choices[:, place]]
        splits[split] = {"inputs": chain[:, :-1].copy(), "targets": chain[:, 1:].copy()}
    return Dataset("synthetic_tokens", splits, vocabulary, "synthetic")
