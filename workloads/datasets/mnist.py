"""MNIST (LeCun, Cortes, Burges): 28x28 grey images of ten handwritten digits.

Splits as Fashion-MNIST's: the first 55,000 training images train (Shallue et al. 2019 train on
55,000), the last 5,000 validate, the 10,000 test images test.
"""

from __future__ import annotations

from workloads.datasets.base import Dataset
from workloads.datasets.idx_images import IdxImages
from workloads.datasets.idx_sources import load_idx_images

MNIST = IdxImages(
    name="mnist",
    # Of the decompressed files, as several independent projects state them.
    sha256={
        "train-images-idx3-ubyte": (
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
        ),
        "train-labels-idx1-ubyte": (
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
        ),
        "t10k-images-idx3-ubyte": (
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
        ),
        "t10k-labels-idx1-ubyte": (
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
        ),
    },
    ways=(
        "give a folder of its IDX files with --data-dir, or prepare it with tensorflow-datasets "
        "(it downloads by itself where there is a network)"
    ),
)


def load(*, data_dir: str | None = None) -> Dataset:
    """MNIST: inputs [n, 28, 28, 1] uint8 in 0..255, targets [n] int32 in 0..9."""
    return load_idx_images(MNIST, data_dir)
