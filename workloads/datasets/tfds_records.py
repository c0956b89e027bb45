"""Records that TensorFlow Datasets prepared, by number and on any thread; without TensorFlow."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from workloads.datasets.base import DataError
from workloads.datasets.tfds_images import is_prepared, tfds_folder

IDENTITY_RECORDS = 64
"""So many records, evenly spread over a split, stand for its content."""


@dataclasses.dataclass(frozen=True)
class Records:
    """One split of a prepared dataset, in the order TFDS stores it.

    Attributes:
      place: the split in words, for errors: folder, name and split.
      source: TFDS's data source.
      described: its version and sizes, as TFDS states them.
    """

    place: str
    source: Any
    described: str
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)

    def __len__(self) -> int:
        return len(self.source)

    def read(self, numbers: Sequence[int] | np.ndarray) -> list[dict[str, Any]]:
        """The records of these numbers.

        Raises:
          DataError: the files are damaged, or gone.
        """
        wanted = [int(number) for number in numbers]
        try:
            with self.lock:  # the readers below are not made for several threads
                return list(self.source.__getitems__(wanted))
        except Exception as error:  # (TFDS and its readers raise many kinds)
            found = (str(error).splitlines() or [type(error).__name__])[0]
            raise DataError(
                f"{self.place}: records {min(wanted)}..{max(wanted)} cannot be read ({found})"
            ) from error

    def identity(self) -> str:
        """sha256 of what TFDS states and of `IDENTITY_RECORDS` records: whole files of this size
        would take minutes to hash at every start."""
        digest = hashlib.sha256(self.described.encode())
        chosen = np.linspace(0, len(self) - 1, min(len(self), IDENTITY_RECORDS)).astype(int)
        for record in self.read(chosen):
            for key in sorted(record):
                value = record[key]
                digest.update(value if isinstance(value, bytes) else str(value).encode())
        return digest.hexdigest()


def open_records(
    name: str, data_dir: str | None, splits: Sequence[str], how: str, undecoded: Sequence[str] = ()
) -> dict[str, Records]:
    """The splits of a dataset that TFDS prepared.

    Args:
      name: TFDS's name.
      data_dir: where it was prepared; TFDS's own folder where None.
      splits: which.
      how: what to do where it is absent, for the message.
      undecoded: features left as the bytes that are stored.

    Raises:
      DataError: not prepared, a missing split, or a format that only TensorFlow reads.
    """
    folder = tfds_folder(Path(data_dir).expanduser() if data_dir else None)
    if not is_prepared(name, folder):
        raise DataError(
            f"{name} is not prepared in {folder}: {how}, and give its folder with --data-dir or "
            "TFDS_DATA_DIR"
        )
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=folder)
    decoders = {feature: tfds.decode.SkipDecoding() for feature in undecoded}
    return {split: _open(builder, folder / name, split, decoders) for split in splits}


def _open(builder: Any, path: Path, split: str, decoders: Mapping[str, Any]) -> Records:
    if split not in builder.info.splits:
        found = ", ".join(sorted(builder.info.splits)) or "none"
        raise DataError(f"{path}: has no split {split}, only {found}")
    try:
        source = builder.as_data_source(split=split, decoders=decoders or None)
    except (NotImplementedError, ImportError) as error:
        raise DataError(
            f"{path}: cannot be read without TensorFlow, expected the array_record format"
        ) from error
    info = builder.info.splits[split]
    described = f"{builder.info.full_name} {split} {info.num_examples} {info.num_bytes}"
    return Records(f"{path} ({split})", source, described)


def build_command(name: str) -> str:
    """Command that prepares a dataset that TFDS downloads by itself."""
    return (
        f"run `tfds build {name} --file_format=array_record` on a machine with TensorFlow and a "
        "network"
    )
