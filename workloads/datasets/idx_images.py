"""MNIST and its drop-in replacements: four IDX files, found, verified, decoded once, split."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from workloads.datasets.base import DataError, Dataset
from workloads.datasets.cache import Arrays, cache_folder, cached
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


def _file(folder: Path, name: str) -> Path | None:
    return next((p for p in (folder / f"{name}.gz", folder / name) if p.is_file()), None)


def find_files(spec: IdxImages, folder: Path) -> dict[str, Path] | None:
    """Array name -> path of the four files in ``folder``, or None where one is not there."""
    found = {role: _file(folder, name) for role, name in spec.roles.items()}
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


def _from_given_folder(spec: IdxImages, folder: Path) -> tuple[Arrays, str]:
    """From the folder the user named, and from nowhere else."""
    from workloads.datasets import tfds_images

    if files := find_files(spec, folder):
        return read_files(spec, files), f"IDX files in {folder}"
    if tfds_images.is_prepared(spec.name, folder):
        return tfds_images.read(spec, folder), f"TFDS {spec.name} in {folder}"
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder, expected the IDX files of {spec.name}")
    missing = [name for name in spec.roles.values() if _file(folder, name) is None]
    raise DataError(
        f"{folder}: has no {missing[0]}.gz, expected the four IDX files of {spec.name} "
        f"or {spec.name} prepared by TFDS"
    )


def _system_folders(spec: IdxImages) -> tuple[Path, ...]:
    return tuple(map(Path, spec.folders))


def _from_known_places(spec: IdxImages) -> Arrays:
    """From system folders, the user's cache, TFDS; in this order."""
    from workloads.datasets import tfds_images

    for folder in (*_system_folders(spec), cache_folder() / spec.name):
        if files := find_files(spec, folder):
            return read_files(spec, files)
    if tfds_images.is_prepared(spec.name, None):
        return tfds_images.read(spec, None)
    if files := tfds_images.download(spec):
        return read_files(spec, files)
    raise DataError(f"{spec.name} is not on this machine: {spec.ways}")


def load_idx_images(spec: IdxImages, data_dir: str | None = None) -> Dataset:
    """The dataset with fixed splits: inputs [n, height, width, 1] uint8, targets [n] int32.

    Args:
      spec: which dataset.
      data_dir: a folder with the IDX files, or where TFDS prepared the dataset. When it is
        given no other place is looked at.

    Raises:
      DataError: absent, truncated, or not the published files.
    """
    if data_dir is not None:
        arrays, source = _from_given_folder(spec, Path(data_dir).expanduser())
    else:
        arrays = cached(f"{spec.name}/decoded", lambda: _from_known_places(spec))
        source = f"{spec.name}, IDX files"
    images, labels = arrays["train_images"], arrays["train_labels"].astype(np.int32)
    border = len(labels) - spec.validation_examples
    pairs = {
        "train": (images[:border], labels[:border]),
        "validation": (images[border:], labels[border:]),
        "test": (arrays["test_images"], arrays["test_labels"].astype(np.int32)),
    }
    splits = {
        split: {"inputs": images[..., np.newaxis], "targets": labels}
        for split, (images, labels) in pairs.items()
    }
    verified = "content verified" if spec.sha256 else "content not verified"
    return Dataset(spec.name, splits, spec.classes, source=f"{source} ({verified})")
