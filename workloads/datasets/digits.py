"""Handwritten digits, 8x8 pixels, ten classes: 1,797 real examples that need no network.

They come inside scikit-learn (Alpaydin and Kaynak 1998, UCI "Optical Recognition of
Handwritten Digits", its test part).
"""

from __future__ import annotations

import functools
import gzip
import importlib.util
from pathlib import Path

import numpy as np

from workloads.datasets.base import Dataset
from workloads.datasets.splits import fixed_permutation

SPLIT_SIZES = {"train": 1024, "validation": 384, "test": 389}
SPLIT_SEED = 20191907
"""Philox key of the split; changing it makes another dataset (another checksum)."""


def load(*, data_dir: str | None = None) -> Dataset:
    """The digits, split by a fixed permutation.

    Args:
      data_dir: not used; the data are part of scikit-learn.

    Returns:
      inputs [n, 64] float32 in [0, 1] (a pixel is a count 0..16 divided by 16, exact in
      float32); targets [n] int32.
    """
    del data_dir
    rows = _rows()
    inputs = (rows[:, :-1] / 16).astype(np.float32)
    targets = rows[:, -1].astype(np.int32)
    order = fixed_permutation(len(targets), SPLIT_SEED)
    borders = np.cumsum(list(SPLIT_SIZES.values()))[:-1]
    splits = {
        split: {"inputs": inputs[places], "targets": targets[places]}
        for split, places in zip(SPLIT_SIZES, np.split(order, borders), strict=True)
    }
    return Dataset("digits", splits, classes=10, source="scikit-learn load_digits")


@functools.cache
def _rows() -> np.ndarray:
    """The table [1797, 64 pixels and the class] of scikit-learn.

    Its file is read where it lies: importing scikit-learn takes longer than importing jax.
    """
    package = importlib.util.find_spec("sklearn")
    for folder in (package.submodule_search_locations or ()) if package else ():
        file = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if file.is_file():
            with gzip.open(file, "rt") as lines:
                return np.loadtxt(lines, delimiter=",")
    from sklearn.datasets import load_digits  # where another version keeps it

    digits = load_digits()
    return np.column_stack([digits.data, digits.target])
