"""Places without content for the noisy quadratic model, which draws its own noise."""

from __future__ import annotations

import numpy as np

from workloads.datasets.base import Dataset

SIZES = {"train": 65_536, "validation": 16, "test": 16}


def load(*, data_dir: str | None = None) -> Dataset:
    """inputs [n, 1] float32 and targets [n] int32, all zero.

    The size of the training split only says how long an epoch is: the noise of an example is
    drawn anew at every step, so that the data never run out.
    """
    del data_dir
    splits = {
        split: {"inputs": np.zeros((size, 1), np.float32), "targets": np.zeros(size, np.int32)}
        for split, size in SIZES.items()
    }
    return Dataset("noisy_quadratic", splits, source="noisy quadratic model, sampled")
