"""Labelled images that TensorFlow Datasets prepared, as arrays; read without TensorFlow."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from workloads.datasets.base import DataError, Dataset
from workloads.datasets.cache import Arrays, cached
from workloads.datasets.tfds_images import READ_CHUNK, is_prepared, tfds_folder


def read_labelled_images(name: str, folder: Path) -> dict[str, np.ndarray]:
    """{train,test}_{images,labels} of a prepared dataset, in the order TFDS stores them.

    Raises:
      DataError: a split is missing, or the records are not in the array_record format.
    """
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=folder)
    arrays: dict[str, np.ndarray] = {}
    for split in ("train", "test"):
        if split not in builder.info.splits:
            raise DataError(f"{folder / name}: has no split {split}, expected train and test")
        try:
            records = builder.as_data_source(
                split=split, decoders={"image": tfds.decode.SkipDecoding()}
            )
        except (NotImplementedError, ImportError) as error:
            raise DataError(
                f"{folder / name}: cannot be read without TensorFlow, expected the "
                "array_record format"
            ) from error
        arrays |= _decode(split, records)
    return arrays


def _decode(split: str, records: Any) -> dict[str, np.ndarray]:
    from PIL import Image

    images, labels = [], []
    for start in range(0, len(records), READ_CHUNK):
        places = range(start, min(start + READ_CHUNK, len(records)))
        for record in records.__getitems__(places):
            images.append(np.asarray(Image.open(io.BytesIO(record["image"]))))
            labels.append(record["label"])
    return {f"{split}_images": np.stack(images), f"{split}_labels": np.array(labels, np.int32)}


def load_labelled_images(
    name: str, classes: int, validation_examples: int, data_dir: str | None = None
) -> Dataset:
    """inputs [n, H, W, 3] uint8, targets [n] int32; the last training examples validate.

    Args:
      name: TFDS's name.
      classes: labels lie in 0..classes-1.
      validation_examples: taken from the end of the training split.
      data_dir: where TFDS prepared it; its own folder where None.

    Raises:
      DataError: not prepared, a missing split, or labels out of range.
    """
    folder = tfds_folder(Path(data_dir).expanduser() if data_dir else None)

    def build() -> Arrays:
        if not is_prepared(name, folder):
            raise DataError(
                f"{name} is not prepared in {folder}: run `tfds build {name} "
                "--file_format=array_record` on a machine with TensorFlow and a network, and "
                "give its folder with --data-dir or TFDS_DATA_DIR"
            )
        return read_labelled_images(name, folder)

    arrays = build() if data_dir else cached(f"{name}/decoded", build)
    for role in ("train_labels", "test_labels"):
        if not 0 <= arrays[role].min() <= arrays[role].max() < classes:
            raise DataError(
                f"{folder / name}: {role} in {arrays[role].min()}..{arrays[role].max()}, "
                f"expected 0..{classes - 1}"
            )
    border = len(arrays["train_labels"]) - validation_examples
    rows = {
        "train": ("train", slice(None, border)),
        "validation": ("train", slice(border, None)),
        "test": ("test", slice(None)),
    }
    splits = {
        split: {
            "inputs": arrays[f"{source}_images"][part],
            "targets": arrays[f"{source}_labels"][part],
        }
        for split, (source, part) in rows.items()
    }
    return Dataset(name, splits, classes, source=f"TFDS {name}")
