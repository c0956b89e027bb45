"""An archive of the size and shape of the published one, its curves made up.

Shallue et al. (2019) published 168,160 trials and 71,638,836 measurements of 35 workloads, as
335,000 small files. `generate` writes as many, with the batch sizes of theirs and random curves.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

TRIALS, MEASUREMENTS = 168_160, 71_638_836
HEADER = [
    f"{split}/{metric}"
    for split in ("train", "val", "test")
    for metric in ("cross_entropy_error", "classification_error")
]


def _powers(low: int, high: int, *others: int) -> tuple[int, ...]:
    """Powers of two from ``low`` to ``high``, and ``others``."""
    found = range(low.bit_length() - 1, high.bit_length())
    return tuple(sorted({*(2**k for k in found), *others}))


MNIST = _powers(1, 32768, 55000)
FEW = (1, 2, 8, 32, 128, 512, 2048, 8192, 32768, 55000)
Shape = dict[str, tuple[int, ...]]
SHAPE: Shape = {
    **{f"cifar_10/resnet_8/{rule}": _powers(2, 8192) for rule in ("nesterov_momentum", "sgd")},
    "common_crawl/transformer_base/nesterov_momentum": (32, 64, 256, 1024, 4096, 16384),
    "fashion_mnist/simple_cnn_base/nesterov_momentum": FEW[1:],
    "imagenet/resnet_50/nesterov_momentum": _powers(64, 65536),
    "imagenet/vgg_11/nesterov_momentum": (32, 64, *_powers(256, 65536)),
    **{
        f"imagenet_subsets/imagenet_half_{half}/resnet_50/nesterov_momentum": _powers(64, 32768)
        for half in ("classes", "images")
    },
    "lm1b/lstm/nesterov_momentum": (16, 64, 256, 1024, 4096, 16384, 32768),
    **{
        f"lm1b/transformer_{size}/nesterov_momentum": _powers(16, 32768)
        for size in ("base", "narrow_and_shallow", "shallow", "wide")
    },
    "lm1b/transformer_shallow/momentum": (32, 128, 512, 2048, 8192, 32768),
    "lm1b/transformer_shallow/sgd": (32, 128, 512, 2048, 8192),
    **{
        f"mnist/fc_{size}/sgd": MNIST
        for size in ("1024", "1024_1024", "1024x3", "64x3", "128x3", "256x3", "512x3", "2048x3")
    },
    "mnist/simple_cnn_base/sgd": MNIST,
    "mnist/simple_cnn_base/momentum": MNIST,
    "mnist/simple_cnn_base/nesterov_momentum": FEW,
    "mnist/simple_cnn_narrow/sgd": MNIST,
    "mnist/simple_cnn_wide/sgd": _powers(1, 32768),
    **{
        f"mnist_subsets/mnist_{size}/simple_cnn_base/nesterov_momentum": _powers(
            1, 2 ** (size.bit_length() - 1), size
        )
        for size in (6875, 13750, 27500, 55000)
    },
    "open_images_v4/resnet_50/nesterov_momentum": _powers(64, 32768),
    **{
        f"solution_quality/{dataset}/simple_cnn_base/nesterov_momentum": FEW
        for dataset in ("mnist", "fashion_mnist")
    },
}
"""Workload -> its batch sizes."""
CONFIGS = {
    "learning_rate": {
        "max_value": 10.0, "min_value": 0.0001, "scale": "LOG_SCALE", "type": "DOUBLE",
    },
    "momentum": {
        "max_value": 0.9999, "min_value": 0.9, "scale": "REVERSE_LOG_SCALE", "type": "DOUBLE",
    },
}  # fmt: skip


def _shares(total: int, parts: int) -> Iterator[int]:
    """``total`` in ``parts`` whole numbers that differ by one at most."""
    for i in range(parts):
        yield total * (i + 1) // parts - total * i // parts


def generate(folder: Path, scale: float, shape: Shape) -> dict[str, int]:
    """Write the archive; the numbers of trials, measurements and bytes of CSV written."""
    studies = [(path, size) for path, sizes in shape.items() for size in sizes]
    share = len(studies) / sum(map(len, SHAPE.values()))
    trials = max(len(studies) * 4, round(scale * share * TRIALS))
    lengths = _shares(round(MEASUREMENTS * trials / TRIALS), trials)
    rng, written, held = np.random.default_rng(0), 0, 0
    for (path, size), count in zip(studies, _shares(trials, len(studies)), strict=True):
        here = folder / path / str(size)
        here.mkdir(parents=True)
        *_, dataset, model, optimizer = path.split("/")
        timed = path.startswith("solution_quality")
        about = {
            "batch_size": size, "dataset": dataset, "early_stopping": False, "model": model,
            "optimizer": optimizer, "parameter_configs": CONFIGS,
            "train_steps": 0 if timed else 40_000,
        }  # fmt: skip
        (here / "study.json").write_text(json.dumps(about, indent=2, sort_keys=True))
        rows = np.array([next(lengths) for _ in range(count)])
        written += int(rows.sum())
        held += _write_trials(here, rows, rng)
    return {"trials": trials, "measurements": written, "CSV_bytes": held}


def _write_trials(study: Path, rows: np.ndarray, rng: np.random.Generator) -> int:
    """A trial for each of ``rows``, its errors falling to a floor of its own; bytes of the tables.

    All are formatted in one go and cut at their lines: a table a call would take far longer.
    """
    count = len(rows)
    rates, momenta = 10 ** rng.uniform(-4, 1, count), 1 - 10 ** rng.uniform(-4, -1, count)
    at = np.arange(rows.sum()) - np.repeat(np.cumsum(rows) - rows, rows)
    floor = np.repeat(rng.uniform(0.01, 0.2, count), rows)
    error = floor + (0.9 - floor) * (1 + at) ** -np.repeat(rng.uniform(0.2, 0.8, count), rows)
    table = {"step": at * 100}
    for name in HEADER:
        noisy = np.abs(error + rng.normal(0, 0.004, len(at)))
        table[name] = np.round(noisy if "classification" in name else 2.3 * noisy, 6)
    text = io.BytesIO()
    pl.DataFrame(table).write_csv(text)
    data = text.getbuffer()
    lines = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1  # the header's first
    head, held = bytes(data[: lines[0]]), 0
    ends = lines[np.cumsum(rows)]
    for place, (start, end) in enumerate(zip([lines[0], *ends[:-1]], ends, strict=True)):
        trial = place + 1
        metadata = {
            "_internal_study_name": "made", "_internal_trial_id": trial,
            "parameters": {"learning_rate": float(rates[place]), "momentum": float(momenta[place])},
            "status": ("COMPLETE", "COMPLETE", "INFEASIBLE", "INCOMPLETE")[trial % 4],
            "steps": int(100 * (rows[place] - 1)), "trial_id": trial,
        }  # fmt: skip
        folder = study / str(trial)
        folder.mkdir()
        (folder / "metadata.json").write_text(json.dumps(metadata, indent=2, sort_keys=True))
        with open(folder / "measurements.csv", "wb") as file:
            held += file.write(head) + file.write(data[start:end])
    return held
