"""Name -> arrays with fixed splits. One dict literal is the registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from workloads.datasets import options
from workloads.datasets.base import DataError, Dataset, DatasetSpec
from workloads.datasets.splits import limited
from workloads.registry import resolve, unknown_name

__all__ = ["DATASETS", "DataError", "Dataset", "DatasetSpec", "load", "options_from_text"]

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
    "imagenet": DatasetSpec(
        "workloads.datasets.imagenet:load",
        {"train": 1_231_167, "validation": 50_000, "test": 50_000},
        "photographs as 256x256 colour images, 1,000 classes, through TFDS",
        "for research and education, not for sale; terms of image-net.org",
    ),
    "lm1b": DatasetSpec(
        "workloads.datasets.lm1b:load",
        {"train": 30_301_028, "validation": 153_344, "test": 153_344},
        "sentences of news as 64 subwords (One Billion Word Benchmark), through TFDS",
        "none stated for the text (news crawled for WMT 2011)",
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
    "timit": DatasetSpec(
        "workloads.datasets.timit:load",
        {"train": 649_197, "validation": 72_132, "test": 310_621},
        "frames of speech, 360 features, 1,973 classes, as NumPy files of your own",
        "LDC93S1, for members and licensees of the Linguistic Data Consortium",
    ),
}


def _loader(name: str) -> Callable[..., Dataset]:
    if name not in DATASETS:
        raise unknown_name("dataset", name, DATASETS)
    return resolve(DATASETS[name].load)


def options_from_text(name: str, texts: Mapping[str, str]) -> dict[str, Any]:
    """Options of the dataset called ``name`` as a command line gives them: `options.parse`."""
    return options.parse(name, _loader(name), texts)


def load(
    name: str,
    data_dir: str | None = None,
    train_examples: int | None = None,
    validation_examples: int | None = None,
    **chosen: Any,
) -> Dataset:
    """The dataset called ``name``; DataError says in one line what is missing and what to do.

    ``train_examples`` and ``validation_examples`` keep only the first so many of a split.
    """
    loader = _loader(name)
    options.check_names(name, loader, chosen)
    dataset = loader(data_dir=data_dir, **chosen)
    for split, examples in (("train", train_examples), ("validation", validation_examples)):
        if examples is not None:
            dataset = limited(dataset, split, examples)
    return dataset
