"""A dataset in words and numbers: what ``batchscale data NAME`` says.

`describe` loads a dataset, which prepares it where it can (decoding, caching) and verifies it,
and returns JSON values; `lines` is the same for a terminal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from workloads.datasets import DATASETS, load
from workloads.datasets.base import Split, Stored, size_of

SHADES = " .:-=+*#%@"
LABELS_SHOWN = 20
LOOKED_AT = 1024
"""Of a split that stays on disk, numbers are of the first so many examples."""


def mean_image(inputs: np.ndarray) -> np.ndarray | None:
    """[H, W, C] float64: the mean of images [n, H, W, C]; None where inputs are no images.

    Flattened square images ([n, side * side] float) count as images of one channel.
    """
    if inputs.ndim == 4:
        # In parts: a float64 copy of 55,000 images would take 345 MB.
        total = sum(
            part.sum(axis=0, dtype=np.float64)
            for part in np.array_split(inputs, max(1, len(inputs) // 1024))
        )
        return np.asarray(total / len(inputs))
    side = round(inputs.shape[-1] ** 0.5)
    if inputs.ndim == 2 and inputs.dtype.kind == "f" and side > 1 and side**2 == inputs.shape[1]:
        return inputs.mean(axis=0, dtype=np.float64).reshape(side, side, 1)
    return None


def draw(image: np.ndarray, width: int = 56) -> list[str]:
    """An image [H, W, C] in characters, the mean over channels, darkest blank.

    Every second row: a character is about twice as high as wide. Larger images are thinned to
    at most ``width`` columns.
    """
    grey = image.mean(axis=-1)
    step = max(1, -(-grey.shape[1] // width))
    grey = grey[:: 2 * step, ::step]
    low, high = float(grey.min()), float(grey.max())
    levels = (grey - low) / (high - low or 1.0) * (len(SHADES) - 1)
    return ["".join(SHADES[level] for level in row).rstrip() for row in levels.round().astype(int)]


def _looked_at(split: Split) -> Mapping[str, np.ndarray]:
    """The examples that numbers are taken of."""
    if isinstance(split, Stored):
        return split.read(np.arange(min(split.size, LOOKED_AT)))
    return split


def _split(split: Split, classes: int | None) -> dict[str, Any]:
    arrays = _looked_at(split)
    inputs, targets = arrays["inputs"], arrays["targets"]
    described: dict[str, Any] = {
        "examples": size_of(split),
        "looked_at": len(inputs),
        "inputs": {
            "shape": list(inputs.shape[1:]),
            "dtype": inputs.dtype.name,
            "low": float(inputs.min()),
            "high": float(inputs.max()),
        },
        "targets": {"shape": list(targets.shape[1:]), "dtype": targets.dtype.name},
    }
    if classes is not None:
        # Negative targets are padding.
        counts = np.bincount(targets[targets >= 0].ravel(), minlength=classes)
        described["label_counts"] = counts.tolist()
    return described


def describe(name: str, data_dir: str | None = None, **options: Any) -> dict[str, Any]:
    """Counts, shapes, ranges, label balance, checksum, licence, source and the mean image.

    Args:
      name: of the registry.
      data_dir: as in `workloads.datasets.load`.
      **options: of the dataset, e.g. ``train_examples``.

    Raises:
      DataError: absent (the line says what to do), truncated, damaged.
      UnknownNameError: no such dataset.
    """
    dataset = load(name, data_dir, **options)
    image = mean_image(_looked_at(dataset.splits["train"])["inputs"])
    return {
        "name": dataset.name,
        "summary": DATASETS[name].summary,
        "licence": DATASETS[name].licence,
        "source": dataset.source,
        "checksum": dataset.checksum,
        "classes": dataset.classes,
        "splits": {name: _split(split, dataset.classes) for name, split in dataset.splits.items()},
        "mean_image": None if image is None else image.tolist(),
    }


def lines(description: Mapping[str, Any]) -> list[str]:
    """A description for a terminal."""
    shown = [
        f"{description['name']}: {description['summary']}",
        *(f"  {key:<9} {description[key]}" for key in ("source", "licence", "checksum")),
    ]
    for split, numbers in description["splits"].items():
        inputs = numbers["inputs"]
        shape = "x".join(map(str, inputs["shape"])) or "scalar"
        shown.append(
            f"  {split:<10} {numbers['examples']:>7,} examples of {shape} {inputs['dtype']} "
            f"in {inputs['low']:g}..{inputs['high']:g}"
        )
        if numbers["looked_at"] < numbers["examples"]:
            shown.append(f"{'':13}range and labels of the first {numbers['looked_at']:,}")
        counts = numbers.get("label_counts")
        if counts and len(counts) <= LABELS_SHOWN:
            shown.append(f"{'':13}per class: {' '.join(map(str, counts))}")
        elif counts:
            used = sum(count > 0 for count in counts)
            shown.append(f"{'':13}{used} of {len(counts)} classes occur")
    if description["mean_image"] is not None:
        shown.append("  mean training image:")
        shown += [f"    {row}" for row in draw(np.asarray(description["mean_image"]))]
    return shown
