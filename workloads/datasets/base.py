"""What a dataset is: arrays with fixed splits, and a checksum that the record carries."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np


class DataError(Exception):
    """A data file that is missing, truncated or not what was expected; one clear line."""


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Arrays in memory, by split and role.

    Attributes:
      name: the dataset's name.
      splits: ``{"train" | "validation" | "test": {"inputs": [n, ...], "targets": [n, ...]}}``.
      classes: number of classes (or of tokens), where there is one.
      source: where the bytes came from, in words for the record.
    """

    name: str
    splits: Mapping[str, Mapping[str, np.ndarray]]
    classes: int | None = None
    source: str = ""

    def size(self, split: str) -> int:
        """Number of examples of a split."""
        return len(self.splits[split]["inputs"])

    @property
    def checksum(self) -> str:
        """sha256 over splits, roles, dtypes, shapes and bytes, in sorted order."""
        digest = hashlib.sha256()
        for split in sorted(self.splits):
            for role in sorted(self.splits[split]):
                array = np.ascontiguousarray(self.splits[split][role])
                digest.update(f"{split}/{role}:{array.dtype.str}{array.shape}".encode())
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
