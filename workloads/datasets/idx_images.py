"""MNIST and its drop-in replacements: four IDX files in a folder, found, verified, decoded."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from workloads.datasets.base import DataError
from workloads.datasets.idx import read_idx

VALIDATION_EXAMPLES = 5_000
"""The last 5,000 of the 60,000 training images validate; the first 55,000 train."""


@dataclasses.dataclass(frozen=True)
class IdxImages:
    """A dataset of MNIST's layout.

    Attributes:
      name: the dataset's name, also TFDS's name for it.
      sha256: file name (without .gz) -> sha256 of its decompressed content.
      folders: where a system package puts the files.
      ways: how to obtain it, for the message when it is absent.
      validation_examples: taken from the end of the training images.
      classes: labels lie in 0..classes-1.
    """

    name: str
    sha256: Mapping[str, str]
    folders: tuple[str, ...] = ()
    ways: str = ""
    validation_examples: int = VALIDATION_EXAMPLES
    classes: int = 10

    @property
    def roles(self) -> dict[str, str]:
        """Array name -> file name, e.g. ``train_images`` -> ``train-images-idx3-ubyte``."""
        return {
            f"{split}_{role}": f"{prefix}-{role}-idx{dimensions}-ubyte"
            for split, prefix in (("train", "train"), ("test", "t10k"))
            for role, dimensions in (("images", 3), ("labels", 1))
        }


def find_file(folder: Path, name: str) -> Path | None:
    """``name``.gz or ``name`` in ``folder``, or None where neither is there."""
    return next((p for p in (folder / f"{name}.gz", folder / name) if p.is_file()), None)


def find_files(spec: IdxImages, folder: Path) -> dict[str, Path] | None:
    """Array name -> path of the four files in ``folder``, or None where one is not there."""
    found = {role: find_file(folder, name) for role, name in spec.roles.items()}
    files = {role: path for role, path in found.items() if path is not None}
    return files if len(files) == len(found) else None


def read_files(spec: IdxImages, files: Mapping[str, Path]) -> dict[str, np.ndarray]:
    """The four arrays, every one verified.

    Raises:
      DataError: a file is truncated, damaged, of another content, or labels do not match.
    """
    arrays = {
        role: read_idx(path, spec.sha256.get(spec.roles[role])) for role, path in files.items()
    }
    for split in ("train", "test"):
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        path = files[f"{split}_labels"]
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            raise DataError(
                f"{path}: shape {labels.shape}, expected one label for each of the images "
                f"{images.shape}"
            )
        if labels.size and labels.max() >= spec.classes:
            raise DataError(f"{path}: label {labels.max()}, expected 0..{spec.classes - 1}")
    sizes = {split: arrays[f"{split}_images"].shape[1:] for split in ("train", "test")}
    if sizes["train"] != sizes["test"]:
        (height, width), (expected_height, expected_width) = sizes["test"], sizes["train"]
        raise DataError(
            f"{files['test_images']}: images of {height}x{width} pixels, expected "
            f"{expected_height}x{expected_width} as in training"
        )
    return arrays
