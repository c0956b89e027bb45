"""Fixed permutations and subsets: the same arrays on every machine and NumPy version."""

from __future__ import annotations

import dataclasses

import numpy as np

from workloads.datasets.base import Dataset


def fixed_permutation(examples: int, seed: int) -> np.ndarray:
    """A permutation of ``range(examples)`` that never changes.

    The stable argsort of the first ``examples`` raw 64-bit words of the Philox bit generator
    with key ``seed``. NumPy keeps a bit generator's raw stream for ever; it does not promise
    that of ``Generator.permutation``.

    Args:
      examples: length of the permutation.
      seed: Philox key.

    Returns:
      [examples] int64.
    """
    words = np.random.Philox(key=seed).random_raw(examples)
    return np.argsort(words, kind="stable")


def with_train_examples(dataset: Dataset, train_examples: int) -> Dataset:
    """``dataset`` with only the first ``train_examples`` of its training split.

    The other splits stay whole, so that results on subsets compare (Shallue et al. 2019, MNIST
    subsets).

    Raises:
      ValueError: ``train_examples`` is no whole number in 1..size of the training split.
    """
    size = dataset.size("train")
    whole = isinstance(train_examples, int) and not isinstance(train_examples, bool)
    if not whole or not 1 <= train_examples <= size:
        raise ValueError(
            f"train_examples must be a whole number in 1..{size} (the training split of "
            f"{dataset.name}), got {train_examples!r}"
        )
    train = {role: array[:train_examples] for role, array in dataset.splits["train"].items()}
    return dataclasses.replace(dataset, splits={**dataset.splits, "train": train})
