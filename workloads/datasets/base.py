"""Datasets: examples with fixed splits, and a checksum that the record carries."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

RESIDENT_BYTES = 2 << 30
"""A training split of at most so many bytes lies on the device; a larger one is streamed."""


class DataError(Exception):
    """A data file that is missing, truncated or not what was expected; one clear line."""


@dataclasses.dataclass(frozen=True)
class Stored:
    """A split that stays on disk; its examples are read when they are asked for.

    Attributes:
      size: number of examples.
      read: example numbers [k] -> role -> [k, ...]; safe to call from several threads; a
        DataError names the file.
      identity: what determines the content, for the checksum.
    """

    size: int
    read: Callable[[np.ndarray], dict[str, np.ndarray]]
    identity: str


Split = Mapping[str, np.ndarray] | Stored
"""``{"inputs": [n, ...], "targets": [n, ...]}``, in memory or mapped from files, or stored."""


def size_of(split: Split) -> int:
    """Number of examples."""
    return split.size if isinstance(split, Stored) else len(split["inputs"])


def read(split: Split, numbers: np.ndarray) -> dict[str, np.ndarray]:
    """The examples of these numbers [k]: role -> [k, ...]."""
    if isinstance(split, Stored):
        return split.read(numbers)
    return {role: array[numbers] for role, array in split.items()}


def bytes_of(split: Split) -> int:
    """Bytes of all examples as arrays."""
    example = read(split, np.arange(min(1, size_of(split))))
    return size_of(split) * sum(array.nbytes for array in example.values())


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Examples by split and role.

    Attributes:
      name: the dataset's name.
      splits: ``"train" | "validation" | "test"`` -> `Split`.
      classes: number of classes (or of tokens), where there is one.
      source: where the bytes came from, in words for the record.
    """

    name: str
    splits: Mapping[str, Split]
    classes: int | None = None
    source: str = ""

    def size(self, split: str) -> int:
        """Number of examples of a split."""
        return size_of(self.splits[split])

    @property
    def checksum(self) -> str:
        """sha256 over splits, roles, dtypes, shapes and bytes, in sorted order; of a stored
        split over its size and identity."""
        digest = hashlib.sha256()
        for name, split in sorted(self.splits.items()):
            if isinstance(split, Stored):
                digest.update(f"{name}:{split.size}:{split.identity}".encode())
                continue
            for role in sorted(split):
                array = np.ascontiguousarray(split[role])
                digest.update(f"{name}/{role}:{array.dtype.str}{array.shape}".encode())
                digest.update(array.data)
        return digest.hexdigest()

    def describe(self) -> dict[str, Any]:
        """Name, sizes, classes, source and checksum, for the record."""
        return {
            "name": self.name,
            "sizes": {split: self.size(split) for split in self.splits},
            "classes": self.classes,
            "source": self.source,
            "checksum": self.checksum,
        }


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
    """A row of the registry: how to load a dataset, and what is known without loading it.

    ``load`` is the ``"module:attribute"`` of ``f(*, data_dir=None, **options) -> Dataset``;
    ``licence`` is what the data's publisher states.
    """

    load: str
    sizes: Mapping[str, int]
    summary: str
    licence: str = ""
