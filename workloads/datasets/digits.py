"""Handwritten digits, 8x8 pixels, ten classes: 1,797 real examples that need no network.

They come inside scikit-learn (Alpaydin and Kaynak 1998, UCI "Optical Recognition of
Handwritten Digits", its test part).
"""

from __future__ import annotations

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
    from sklearn.datasets import load_digits  # heavy: imported where it is used

    bunch = load_digits()
    inputs = (bunch.data / 16).astype(np.float32)
    targets = bunch.target.astype(np.int32)
    order = fixed_permutation(len(targets), SPLIT_SEED)
    borders = np.cumsum(list(SPLIT_SIZES.values()))[:-1]
    splits = {
        split: {"inputs": inputs[rows], "targets": targets[rows]}
        for split, rows in zip(SPLIT_SIZES, np.split(order, borders), strict=True)
    }
    return Dataset("digits", splits, classes=10, source="scikit-learn load_digits")
