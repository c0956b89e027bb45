"""Fashion-MNIST (Xiao, Rasul, Vollgraf 2017, MIT licence): 28x28 grey images of ten garments.

Splits: of the 60,000 training images the first 55,000 train and the last 5,000 validate (the
files' own order, which is already mixed); the 10,000 test images test.
"""

from __future__ import annotations

from workloads.datasets.base import Dataset
from workloads.datasets.idx_images import IdxImages
from workloads.datasets.idx_sources import load_idx_images

FASHION_MNIST = IdxImages(
    name="fashion_mnist",
    # Of the published .gz files' content; the sha256 of those files themselves, as TFDS
    # registers them, follow from Debian's by restoring two gzip header fields (a test does).
    sha256={
        "train-images-idx3-ubyte": (
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"
        ),
        "train-labels-idx1-ubyte": (
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"
        ),
        "t10k-images-idx3-ubyte": (
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"
        ),
        "t10k-labels-idx1-ubyte": (
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"
        ),
    },
    folders=("/usr/share/datasets/fashion-mnist",),
    ways=(
        "install Debian's package dataset-fashion-mnist, or run `make data`, or give a folder "
        "of its IDX files with --data-dir, or prepare it with tensorflow-datasets"
    ),
)


def load(*, data_dir: str | None = None) -> Dataset:
    """Fashion-MNIST: inputs [n, 28, 28, 1] uint8 in 0..255, targets [n] int32 in 0..9."""
    return load_idx_images(FASHION_MNIST, data_dir)
