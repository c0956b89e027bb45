"""Labels as classes, and a split of labelled examples by class."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from workloads.datasets.base import DataError
from workloads.datasets.splits import fixed_permutation

SHARES = {"test": 0.2, "validation": 0.16}
"""Of every class; what is left trains."""


def classes_of(targets: np.ndarray, least: int) -> np.ndarray:
    """The distinct labels, ascending.

    Args:
      targets: [n] numbers, truth values or texts.
      least: examples that every class must have.

    Raises:
      DataError: continuous targets, one class, or a class that is too small to be split.
    """
    targets = np.asarray(targets)
    if targets.dtype.kind == "f":
        odd = targets[~np.isfinite(targets) | (targets != np.round(targets))]
        if len(odd):
            raise DataError(
                f"the target is continuous: {len(np.unique(targets))} different numbers, such as "
                f"{odd[0]:g}; classes must be whole numbers or texts"
            )
    elif targets.dtype.kind not in "iubUS":
        raise DataError(f"targets must be whole numbers or texts, got {targets.dtype}")
    found, counts = np.unique(targets, return_counts=True)
    if len(found) < 2:
        raise DataError(f"the target must have two classes at least, got {label(found[0])} alone")
    small = int(np.argmin(counts))
    if counts[small] < least:
        raise DataError(
            f"class {label(found[small])} of the target has {counts[small]} of {len(targets)} "
            f"examples; every class needs {least} to be split (a continuous target has no classes)"
        )
    return found


def label(value: object) -> str:
    """A class in words: a float that is a whole number without its point."""
    return f"{value:g}" if isinstance(value, (float, np.floating)) else str(value)


def numbered(targets: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """[n] int32, each label's place among the sorted ``classes``.

    Raises:
      DataError: a label that is none of them.
    """
    places = np.searchsorted(classes, targets).clip(max=len(classes) - 1)
    strange = np.flatnonzero(classes[places] != targets)
    if len(strange):
        raise DataError(f"class {label(targets[strange[0]])} is in the test split alone")
    return places.astype(np.int32)


def split_by_class(
    numbers: np.ndarray, seed: int, shares: Mapping[str, float] = SHARES
) -> dict[str, np.ndarray]:
    """Split -> numbers of its examples, ascending, ``train`` last; a function of the seed.

    Of a class with n examples a split takes round(share n), at least one, and train at least one.

    Args:
      numbers: [n] classes 0, 1, ...
      seed: of the permutation within each class.
      shares: split -> share of every class.
    """
    found: dict[str, list[np.ndarray]] = {split: [] for split in (*shares, "train")}
    for kind in range(int(numbers.max()) + 1):
        own = np.flatnonzero(numbers == kind)
        own = own[fixed_permutation(len(own), (seed << 20) + kind)]
        size, left = len(own), len(shares)
        for split, share in shares.items():
            taken = max(1, min(math.floor(share * size + 0.5), len(own) - left))
            found[split].append(own[:taken])
            own, left = own[taken:], left - 1
        found["train"].append(own)
    return {split: np.sort(np.concatenate(parts)) for split, parts in found.items()}


def folds_by_class(numbers: np.ndarray, seed: int, folds: int) -> np.ndarray:
    """[n] int32, the fold 0, 1, ... of each example; a function of the seed.

    The examples of a class are dealt to the folds in turn, and the next class goes on where it
    ended: folds differ by at most one example, of every class and in all.

    Args:
      numbers: [n] classes 0, 1, ...
      seed: of the permutation within each class.
      folds: how many.
    """
    found = np.empty(len(numbers), np.int32)
    dealt = 0
    for kind in range(int(numbers.max()) + 1):
        own = np.flatnonzero(numbers == kind)
        own = own[fixed_permutation(len(own), (seed << 20) + kind)]
        found[own] = (dealt + np.arange(len(own))) % folds
        dealt += len(own)
    return found
