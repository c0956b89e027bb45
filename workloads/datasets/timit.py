"""TIMIT as frames for a classifier of phone states, as Keskar et al. (2017) had it.

360 features a frame, 1,973 classes, 721,329 frames to train on and 310,621 to test on. The corpus
is the Linguistic Data Consortium's and may not be passed on, and what the features were made by is
not published: the frames are the user's own, as four NumPy files in one folder. The last tenth of
the training frames validates.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from workloads.datasets.base import DataError, Dataset

FEATURES, CLASSES = 360, 1973
FRAMES = {"train": 721_329, "test": 310_621}
"""As the paper has them."""
SIZES = {"train": 649_197, "validation": 72_132, "test": 310_621}
FILES = "train_inputs.npy, train_targets.npy, test_inputs.npy, test_targets.npy"


def load(*, data_dir: str | None = None) -> Dataset:
    """Frames: inputs [n, 360] float32, targets [n] int32 in 0..1972, mapped from the files.

    Raises:
      DataError: no folder given, a file that is missing or no array of this shape and kind.
    """
    if data_dir is None:
        raise DataError(
            f"timit is licensed by the Linguistic Data Consortium: give a folder of your frames "
            f"({FILES}) with --data-dir"
        )
    splits = {}
    for split in ("train", "test"):
        inputs = _array(Path(data_dir), f"{split}_inputs", (FRAMES[split], FEATURES), "f")
        targets = _array(Path(data_dir), f"{split}_targets", (FRAMES[split],), "iu")
        if targets.min() < 0 or targets.max() >= CLASSES:
            raise DataError(
                f"{data_dir}/{split}_targets.npy must hold classes 0 to {CLASSES - 1}, got "
                f"{targets.min()} to {targets.max()}"
            )
        splits[split] = {"inputs": inputs, "targets": targets.astype(np.int32)}
    cut = SIZES["train"]
    train = splits["train"]
    parts = {
        "train": {role: array[:cut] for role, array in train.items()},
        "validation": {role: array[cut:] for role, array in train.items()},
        "test": splits["test"],
    }
    return Dataset("timit", parts, CLASSES, f"frames of {data_dir}")


def _array(folder: Path, name: str, shape: tuple[int, ...], kinds: str) -> np.ndarray:
    path = folder / f"{name}.npy"
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as an array ({error})") from error
    if found.shape != shape or found.dtype.kind not in kinds:
        words = {"f": "floats", "iu": "whole numbers"}[kinds]
        raise DataError(f"{path} must be {words} of shape {shape}, got {found.dtype} {found.shape}")
    return found if kinds == "iu" else found.astype(np.float32, copy=False)
