"""Every architecture of a small space, trained: a table on which strategies are compared.

    python -m benchmarks.tabulated_space [--data digits] [--seeds 10] [--seconds 500]
    python -m benchmarks.tabulated_space --data fashion_mnist --seeds 5

The space: cells of four nodes over 8 features whose edges are nothing, relu or an affine map
(`SPACE`), in the skeleton `SKELETON`, on scikit-learn's digits or on a part of Fashion-MNIST.
Isomorphic codes are one architecture. All are one compiled program, whose weights say which one a
trial is; trials run side by side in a pack. Results go to a file of benchmarks/results, of digits
tabulated_digits.parquet: a row an architecture and seed, with its validation error after every
epoch, and the same at lower fidelities of one seed. A file that is there is gone on with.
docs/architecture_search.md has the datasheets.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from benchmarks.machine import RESULTS
from experiments.planning.architectures import network_cost
from experiments.runner.search_models import rows
from experiments.search.architecture.cells import every_edge
from experiments.search.architecture.fidelity import Arrays, Fidelity
from experiments.search.architecture.frames import frames_of_space, weights
from experiments.search.architecture.space import Code
from experiments.spec.trial import Precision, Trial, TrialConfig, TrialResult
from experiments.training.feed import ResidentData
from experiments.training.layout import Execution
from experiments.training.population import Population
from experiments.training.program import Program
from workloads import datasets
from workloads.architectures import Skeleton
from workloads.base import Goal, Workload
from workloads.models.architectures import Cells
from workloads.models.users import number_of

SKELETON = Skeleton((8, 8, 1), 10, width=8, stem="affine")
SPACE = every_edge(4, ("none", "relu", "affine"), shape=(8,))
BATCH_SIZE, RATE = 32, 3e-3
FIDELITIES = {
    "full": Fidelity(),
    "a quarter of the data": Fidelity(data=0.25),
    "a quarter of the points": Fidelity(coarser=2),
    "half the width": Fidelity(width=0.5),
}
"""By name; those of fewer epochs are read off the full trainings' curves."""
KEYS = ("architecture", "seed")
SPLITS = ("train", "validation")


def digits() -> Arrays:
    """Scikit-learn's digits as they are: 64 points of an image."""
    splits = datasets.load("digits").splits
    return {name: (splits[name]["inputs"], splits[name]["targets"]) for name in SPLITS}


FASHION = {"train": 5000, "validation": 2000}
"""Images of Fashion-MNIST that are used: the first ones of each split."""


def fashion_mnist() -> Arrays:
    """Images in 0..1 of 8 x 8 points: a border of two zeros, then means over 4 x 4."""
    splits, found = datasets.load("fashion_mnist").splits, {}
    for name, count in FASHION.items():
        images = np.asarray(splits[name]["inputs"][:count], np.float64)[..., 0] / 255
        wide = np.pad(images, ((0, 0), (2, 2), (2, 2)))
        small = wide.reshape(count, 8, 4, 8, 4).mean((2, 4)).astype(np.float32)
        found[name] = small.reshape(count, 64), np.asarray(splits[name]["targets"][:count])
    return found


class TabulatedData(NamedTuple):
    """Data on which the space is tabulated.

    Attributes:
      arrays: makes them.
      epochs: of a full training.
    """

    arrays: Callable[[], Arrays]
    epochs: int


SOURCES = {"digits": TabulatedData(digits, 20), "fashion_mnist": TabulatedData(fashion_mnist, 10)}


def file_of(data: str) -> Path:
    """The table of a data set."""
    return RESULTS / f"tabulated_{data}.parquet"


def program(fidelity: Fidelity, source: TabulatedData) -> tuple[Program, list[Code], int]:
    """(the one program of all architectures, their codes, training examples)."""
    skeleton = fidelity.skeleton(SKELETON)
    frames = frames_of_space(SPACE)
    workload = Workload(
        "tabulated", "digits", "workloads.models.users:numbered",
        "workloads.losses:CLASSIFICATION", Goal("classification_error", 0.0),
        model_options={"number": number_of(Cells(skeleton, tuple(frames.items())))},
    )  # fmt: skip
    data = {
        name: {"inputs": inputs, "targets": targets}
        for name, (inputs, targets) in fidelity.arrays(source.arrays(), SKELETON).items()
    }
    config = TrialConfig(workload, "adam", "cosine", Precision(), "off", goal=workload.goal)
    resident = ResidentData.put(data, 256)
    return Program(config, resident, 1e4), list(SPACE.enumerated()), resident.examples


def trained(
    name: str, source: TabulatedData, wanted: list[tuple[int, int]], slots: int, until: float
) -> pl.DataFrame:
    """Rows of these architectures and seeds at a fidelity, until the time is over."""
    made, codes, examples = program(FIDELITIES[name], source)
    frames = frames_of_space(SPACE)
    grid = [int(np.ceil(e * examples / BATCH_SIZE)) for e in range(1, source.epochs + 1)]
    print(f"{name}: {len(wanted)} trainings of {grid[-1]} steps", flush=True)
    defaults = {n: row.default for n, row in rows("adam", "cosine").items() if row.default}
    defaults = {**dict.fromkeys(rows("adam", "cosine"), 0.0), **defaults}
    began, results = time.perf_counter(), []

    def trials() -> Iterator[Trial]:
        for index, seed in wanted:
            if time.perf_counter() > until:
                return
            chosen = weights(frames, SPACE.architecture(codes[index]))
            numbers = {**defaults, "learning_rate": RATE, **chosen}
            yield Trial(BATCH_SIZE, seed, index, grid[-1], numbers, "tabulated")

    def keep(result: TrialResult) -> None:
        results.append(result)
        if len(results) % 100 == 0:
            print(f"{len(results)} trained, {time.perf_counter() - began:.0f} s", flush=True)

    pending = trials()
    population = Population(made, BATCH_SIZE, Execution("packed", slots), grid=lambda steps: grid)
    population.run(lambda: next(pending, None), keep)
    found = []
    for result in results:
        code = codes[result.trial.index]
        cost = network_cost(SPACE.architecture(code), SKELETON)
        errors = result.evaluations["validation/classification_error"]
        found.append(
            {
                "architecture": result.trial.index,
                "code": "".join(map(str, code)),
                "seed": result.trial.seed,
                "fidelity": name,
                "status": result.status.value,
                "parameters": cost.parameters,
                "flops": cost.flops,
                **{f"error {e}": float(x) for e, x in enumerate(errors, 1)},
            }
        )
    return pl.DataFrame(found)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=SOURCES, default="digits")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--slots", type=int, default=16, help="trials side by side")
    parser.add_argument("--seconds", type=float, default=500, help="begin no training after these")
    parser.add_argument("--file", type=Path, help="default: that of the data")
    options = parser.parse_args()
    until, file = time.perf_counter() + options.seconds, options.file or file_of(options.data)
    whole = pl.read_parquet(file) if file.exists() else pl.DataFrame()
    source = SOURCES[options.data]
    count = SPACE.count()
    for name in FIDELITIES:
        seeds = options.seeds if name == "full" else 1
        done = set(whole.filter(fidelity=name).select(KEYS).iter_rows()) if len(whole) else set()
        every = [(i, s) for s in range(seeds) for i in range(count)]
        wanted = [pair for pair in every if pair not in done]
        if wanted and time.perf_counter() < until:
            more = trained(name, source, wanted, options.slots, until)
            whole = pl.concat([whole, more], how="diagonal")
            whole.sort("fidelity", *KEYS).write_parquet(file)
    print(f"{len(whole)} rows: {file}")


if __name__ == "__main__":
    main()
