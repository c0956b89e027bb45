"""Labelled images that TensorFlow Datasets prepared, as arrays; read without TensorFlow."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from workloads.datasets.base import DataError, Dataset
from workloads.datasets.cache import Arrays, cached
from workloads.datasets.tfds_images import READ_CHUNK
from workloads.datasets.tfds_records import Records, build_command, open_records


def read_labelled_images(
    name: str, data_dir: str | None, shape: tuple[int, ...]
) -> dict[str, np.ndarray]:
    """{train,test}_{images,labels} of a prepared dataset, in the order TFDS stores them.

    Raises:
      DataError: absent, a split is missing, images of another shape, or records that are
        damaged or not in the array_record format.
    """
    splits = open_records(name, data_dir, ("train", "test"), build_command(name), ("image",))
    arrays: dict[str, np.ndarray] = {}
    for split, records in splits.items():
        arrays |= _decode(split, records, shape)
    return arrays


def _decode(split: str, records: Records, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    images = np.empty((len(records), *shape), np.uint8)
    labels = np.empty(len(records), np.int32)
    for start in range(0, len(records), READ_CHUNK):
        places = range(start, min(start + READ_CHUNK, len(records)))
        for place, record in zip(places, records.read(places), strict=True):
            images[place] = decode_image(record, f"{records.place} record {place}", shape)
            labels[place] = record["label"]
    return {f"{split}_images": images, f"{split}_labels": labels}


def decode_image(record: dict[str, Any], name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The pixels of a record's image, which must have this shape (DataError)."""
    from PIL import Image

    try:
        image = np.asarray(Image.open(io.BytesIO(record["image"])))
    except OSError as error:
        raise DataError(f"{name}: the image cannot be decoded ({error})") from error
    if image.shape != shape:
        found, expected = ("x".join(map(str, sizes)) for sizes in (image.shape, shape))
        raise DataError(f"{name}: an image of {found}, expected {expected}")
    return image


def load_labelled_images(
    name: str,
    classes: int,
    validation_examples: int,
    data_dir: str | None = None,
    shape: tuple[int, ...] = (32, 32, 3),
) -> Dataset:
    """inputs [n, *shape] uint8, targets [n] int32; the last training examples validate.

    Args:
      name: TFDS's name.
      classes: labels lie in 0..classes-1.
      validation_examples: taken from the end of the training split.
      data_dir: where TFDS prepared it; its own folder where None.
      shape: of an image.

    Raises:
      DataError: not prepared, a missing split, images of another shape, labels out of range, or
        too few examples.
    """

    def build() -> Arrays:
        return read_labelled_images(name, data_dir, shape)

    arrays = build() if data_dir else cached(f"{name}/decoded", build)
    place = str(Path(data_dir) / name) if data_dir else name
    for role in ("train_labels", "test_labels"):
        if not 0 <= arrays[role].min() <= arrays[role].max() < classes:
            raise DataError(
                f"{place}: {role} in {arrays[role].min()}..{arrays[role].max()}, "
                f"expected 0..{classes - 1}"
            )
    border = len(arrays["train_labels"]) - validation_examples
    if border < 1:
        raise DataError(
            f"{place}: {len(arrays['train_labels'])} training examples, expected more than the "
            f"{validation_examples} that validate"
        )
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
