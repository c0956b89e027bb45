"""A dataset of four IDX files from where it is found: a folder, the system, the cache or TFDS."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from workloads.datasets import tfds_images
from workloads.datasets.base import DataError, Dataset
from workloads.datasets.cache import Arrays, cache_folder, cached
from workloads.datasets.idx_images import IdxImages, find_file, find_files, read_files


def _from_given_folder(spec: IdxImages, folder: Path) -> tuple[Arrays, str]:
    """From the folder the user named, and from nowhere else."""
    if files := find_files(spec, folder):
        return read_files(spec, files), f"IDX files in {folder}"
    if tfds_images.is_prepared(spec.name, folder):
        return tfds_images.read(spec, folder), f"TFDS {spec.name} in {folder}"
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder, expected the IDX files of {spec.name}")
    missing = [name for name in spec.roles.values() if find_file(folder, name) is None]
    raise DataError(
        f"{folder}: has no {missing[0]}.gz, expected the four IDX files of {spec.name} "
        f"or {spec.name} prepared by TFDS"
    )


def _system_folders(spec: IdxImages) -> tuple[Path, ...]:
    return tuple(map(Path, spec.folders))


def _from_known_places(spec: IdxImages) -> Arrays:
    """From system folders, the user's cache, TFDS; in this order."""
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
