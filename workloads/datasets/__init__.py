"""Name -> arrays with fixed splits. One dict literal is the registry."""

from __future__ import annotations

from typing import Any

from workloads.base import resolve, unknown_name
from workloads.datasets.base import DataError, Dataset, DatasetSpec
from workloads.datasets.splits import with_train_examples

__all__ = ["DATASETS", "DataError", "Dataset", "DatasetSpec", "load"]

DATASETS: dict[str, DatasetSpec] = {
    "cifar10": DatasetSpec(
        "workloads.datasets.cifar:load_cifar10",
        {"train": 45_000, "validation": 5_000, "test": 10_000},
        "32x32 colour images, 10 classes, through TFDS",
        "none stated by its authors (University of Toronto)",
    ),
    "cifar100": DatasetSpec(
        "workloads.datasets.cifar:load_cifar100",
        {"train": 45_000, "validation": 5_000, "test": 10_000},
        "32x32 colour images, 100 classes, through TFDS",
        "none stated by its authors (University of Toronto)",
    ),
    "digits": DatasetSpec(
        "workloads.datasets.digits:load",
        {"train": 1024, "validation": 384, "test": 389},
        "8x8 handwritten digits (scikit-learn)",
        "CC BY 4.0 (UCI repository); shipped with scikit-learn",
    ),
    "fashion_mnist": DatasetSpec(
        "workloads.datasets.fashion_mnist:load",
        {"train": 55_000, "validation": 5_000, "test": 10_000},
        "28x28 clothing, 10 classes (Zalando)",
        "MIT, Copyright 2017 Zalando SE",
    ),
    "mnist": DatasetSpec(
        "workloads.datasets.mnist:load",
        {"train": 55_000, "validation": 5_000, "test": 10_000},
        "28x28 handwritten digits, 10 classes",
        "none stated by its authors; NIST's originals are public domain",
    ),
    "noisy_quadratic": DatasetSpec(
        "workloads.datasets.noisy_quadratic:load",
        {"train": 65_536, "validation": 16, "test": 16},
        "places without content: the noisy quadratic model draws its own noise",
        "no data",
    ),
    "synthetic_images": DatasetSpec(
        "workloads.datasets.synthetic:load_images",
        {"train": 2048, "validation": 256, "test": 256},
        "random patterns under noise, images of any shape",
        "no data",
    ),
    "synthetic_tokens": DatasetSpec(
        "workloads.datasets.synthetic:load_tokens",
        {"train": 2048, "validation": 256, "test": 256},
        "sequences of a random Markov chain",
        "no data",
    ),
    # Sizes of the default text and window; another text or window gives train_examples.
    "text": DatasetSpec(
        "workloads.datasets.text:load",
        {"train": 61_936, "validation": 3_441, "test": 3_441},
        "windows of 64 characters or bytes of a text (default: the King James Bible)",
        "of the text given; the King James Bible is in the public domain",
    ),
}


def load(
    name: str, data_dir: str | None = None, train_examples: int | None = None, **options: Any
) -> Dataset:
    """The dataset called ``name``; DataError says in one line what is missing and what to do.

    ``train_examples`` keeps only the first so many of the training split.
    """
    if name not in DATASETS:
        raise unknown_name("dataset", name, DATASETS)
    dataset = resolve(DATASETS[name].load)(data_dir=data_dir, **options)
    return dataset if train_examples is None else with_train_examples(dataset, train_examples)
