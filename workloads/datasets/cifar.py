"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): 32x32 colour images, through TFDS.

Splits: of the 50,000 training images, in TFDS's order, the last 5,000 validate.
"""

from __future__ import annotations

from workloads.datasets.base import Dataset
from workloads.datasets.tfds_arrays import load_labelled_images

VALIDATION_EXAMPLES = 5_000


def load_cifar10(*, data_dir: str | None = None) -> Dataset:
    """CIFAR-10: inputs [n, 32, 32, 3] uint8, targets [n] int32 in 0..9."""
    return load_labelled_images("cifar10", 10, VALIDATION_EXAMPLES, data_dir)


def load_cifar100(*, data_dir: str | None = None) -> Dataset:
    """CIFAR-100: inputs [n, 32, 32, 3] uint8, targets [n] int32 in 0..99."""
    return load_labelled_images("cifar100", 100, VALIDATION_EXAMPLES, data_dir)
