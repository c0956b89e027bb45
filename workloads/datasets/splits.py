"""Fixed permutations and subsets: the same arrays on every machine and NumPy version."""

from __future__ import annotations

import dataclasses

import numpy as np

from workloads.datasets.base import Dataset, Split, Stored


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


def limited(dataset: Dataset, split: str, examples: int) -> Dataset:
    """``dataset`` with only the first ``examples`` of one split.

    The other splits stay whole, so that results on subsets of the training set compare (Shallue
    et al. 2019, MNIST subsets).

    Raises:
      ValueError: ``examples`` is no whole number in 1..size of the split.
    """
    size = dataset.size(split)
    whole = isinstance(examples, int) and not isinstance(examples, bool)
    if not whole or not 1 <= examples <= size:
        raise ValueError(
            f"{split}_examples must be a whole number in 1..{size} (the {_WORDS[split]} split of "
            f"{dataset.name}), got {examples!r}"
        )
    return dataclasses.replace(
        dataset, splits={**dataset.splits, split: part(dataset.splits[split], 0, examples)}
    )


_WORDS = {"train": "training", "validation": "validation"}


def part(split: Split, first: int, last: int) -> Split:
    """Examples ``first`` .. ``last`` - 1."""
    if not isinstance(split, Stored):
        return {role: array[first:last] for role, array in split.items()}
    return Stored(
        last - first,
        lambda numbers: split.read(np.asarray(numbers) + first),
        split.identity if first == 0 else f"{split.identity} from {first}",
    )
