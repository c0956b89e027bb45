"""ImageNet, ILSVRC 2012 (Russakovsky et al. 2015): 1,000 classes of photographs, through TFDS.

Splits (ours): of TFDS's 1,281,167 training images, in its order, the last 50,000 test and the
others train; the official 50,000 validation images validate. The images stay on disk as they
were published; a reading thread scales the shorter side to 256 pixels and keeps the central
256x256 (measured: 460 photographs of 500x375 a second and core). Cropping to 224x224
and mirroring follow on the device (workloads/preprocessing.py).
"""

from __future__ import annotations

import io

import numpy as np

from workloads.datasets.base import DataError, Dataset, Stored
from workloads.datasets.splits import part
from workloads.datasets.tfds_records import Records, open_records

NAME = "imagenet2012"
"""TFDS's name."""
SIDE = 256
CLASSES = 1000
TEST_EXAMPLES = 50_000
HOW = (
    "put ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar (from image-net.org, which asks for "
    "a registration) into its downloads/manual, run `tfds build imagenet2012 "
    "--file_format=array_record` there on a machine with TensorFlow"
)


def stored_images(records: Records, side: int = SIDE, classes: int = CLASSES) -> Stored:
    """inputs [k, side, side, 3] uint8 and targets [k] int32 of these records.

    Raises (when read):
      DataError: naming the file and the record: no image, or a label out of range.
    """
    from PIL import Image, ImageOps

    def read(numbers: np.ndarray) -> dict[str, np.ndarray]:
        images = np.empty((len(numbers), side, side, 3), np.uint8)
        labels = np.empty(len(numbers), np.int32)
        for i, record in enumerate(records.read(numbers)):
            try:
                image = Image.open(io.BytesIO(record["image"])).convert("RGB")
            except OSError as error:
                raise DataError(
                    f"{records.place} record {numbers[i]}: the image cannot be decoded ({error})"
                ) from error
            labels[i] = label = int(record["label"])
            if not 0 <= label < classes:
                raise DataError(
                    f"{records.place} record {numbers[i]}: label {label}, expected 0..{classes - 1}"
                )
            images[i] = np.asarray(ImageOps.fit(image, (side, side), Image.Resampling.BILINEAR))
        return {"inputs": images, "targets": labels}

    return Stored(len(records), read, f"{records.identity()} at {side} pixels")


def load(*, data_dir: str | None = None) -> Dataset:
    """ImageNet: inputs [n, 256, 256, 3] uint8, targets [n] int32 in 0..999, read when asked for.

    Raises:
      DataError: not prepared (the line says how to), or a missing split.
    """
    return with_splits(data_dir, TEST_EXAMPLES)


def with_splits(data_dir: str | None, test_examples: int) -> Dataset:
    """`load` with another number of training images set apart for testing."""
    records = open_records(NAME, data_dir, ("train", "validation"), HOW, ("image",))
    train = stored_images(records["train"])
    border = train.size - test_examples
    if border < 1:
        raise DataError(
            f"{records['train'].place}: {train.size} images, expected more than the "
            f"{test_examples} that test"
        )
    splits = {
        "train": part(train, 0, border),
        "validation": stored_images(records["validation"]),
        "test": part(train, border, train.size),
    }
    return Dataset("imagenet", splits, CLASSES, source=f"TFDS {NAME}")
