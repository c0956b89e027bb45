"""automl beside scikit-learn's defaults: paired errors on the same splits, seed by seed.

    python -m benchmarks.automl [--folder DIR] [--seeds 5] [--only NAME ...] [--trials]

Seven data sets, of every seed another split by class; of Fashion-MNIST every seed takes other
training images and tests on all 10,000 of its test split. ``automl`` is given a budget in time, so
the machine must be quiet: what contends for its cores takes trials from it; ``--trials`` gives it
trials instead, and neither the machine nor its load decides then. scikit-learn's
`LogisticRegression` and `MLPClassifier` are trained with default settings on the same examples, all
but test, prepared alike. What a run has found stays in DIR/seconds or DIR/trials, and the script
goes on there; the results hold a section for each of the two, made of all runs that are there,
however many seeds a data set has. Expected on two quiet cores: 20 minutes for all; the sets of
r-cran-mlbench need ``Rscript``.

Its rules for tables were developed on the data of benchmarks/automl_folds.py and automl_refit.py;
the sampler for images was chosen after a run on Fashion-MNIST had ended in linear nets alone.

Differences of two errors are paired by seed. Splits of one data set overlap, so seeds are no
independent data sets: the exact range of the median difference (`range_of_searches`) says what
another split and another seed of the same examples would give.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import statistics
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import RESULTS, described, write_results
from experiments.analysis.intervals import Answer, range_of_searches
from experiments.procedures.automl.asked import AutomlRequest
from experiments.procedures.automl.automl import automl
from experiments.procedures.budget import Budget
from workloads import datasets
from workloads.datasets.splits import fixed_permutation

FASHION_EXAMPLES = 5000
SEEDS = {"fashion_mnist": 3}
"""At most; of the others as many as asked for."""
KINDS: Mapping[str, Mapping[str, str]] = {
    "trials": {"fashion_mnist": "17trials", "": "49trials"},
    "seconds": {"digits": "60s", "fashion_mnist": "100s", "": "20s"},
}
"""Kind of budget -> data set -> budget, under the empty name that of all others. 17 trials are a
round of Hyperband's brackets up to 9 epochs, 49 one up to 27."""
OTHERS = ("LogisticRegression", "MLPClassifier")
MLBENCH = {"vehicle": ("Vehicle", "Class"), "vowel": ("Vowel", "Class")}
"""Name -> that of r-cran-mlbench, and its target."""
NAMES = ("wine", "breast_cancer", "iris", *MLBENCH, "digits", "fashion_mnist")


def of_sklearn(name: str, seed: int, folder: Path) -> Path:
    """An .npz of a set that scikit-learn brings; the same for every seed."""
    from sklearn import datasets as sources

    del seed
    file = folder / f"{name}.npz"
    if not file.exists():
        bunch = getattr(sources, f"load_{name}")()
        inputs = bunch.images[..., None] if name == "digits" else bunch.data
        np.savez(file, inputs=inputs, targets=bunch.target)
    return file


def read_mlbench(name: str, target: str) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets of a set of r-cran-mlbench whose inputs are numbers."""
    with tempfile.NamedTemporaryFile("r", suffix=".csv") as table:
        code = f"library(mlbench); data({name}); write.csv({name}, '{table.name}', row.names=F)"
        subprocess.run(["Rscript", "-e", code], check=True)
        rows = list(csv.DictReader(Path(table.name).read_text().splitlines()))
    inputs = [[float(cell) for key, cell in row.items() if key != target] for row in rows]
    return np.array(inputs), np.array([row[target] for row in rows])


def of_mlbench(name: str, seed: int, folder: Path) -> Path:
    """An .npz of a set of r-cran-mlbench; the same for every seed."""
    del seed
    file = folder / f"{name}.npz"
    if not file.exists():
        inputs, targets = read_mlbench(*MLBENCH[name])
        np.savez(file, inputs=inputs, targets=targets)
    return file


def of_fashion(name: str, seed: int, folder: Path) -> Path:
    """A folder of IDX files: a seed's training images, and all of the test split."""
    target = folder / f"{name}-{seed}-images"
    if target.exists():
        return target
    splits = datasets.load(name).splits
    train, test = splits["train"], splits["test"]
    few = fixed_permutation(len(train["targets"]), seed)[:FASHION_EXAMPLES]
    parts = {"train": {role: train[role][few] for role in ("inputs", "targets")}, "t10k": test}
    made = target.with_suffix(".part")
    made.mkdir(exist_ok=True)
    for split, part in parts.items():
        images = np.asarray(part["inputs"]).reshape(-1, 28, 28).astype(np.uint8)
        _write_idx(made / f"{split}-images-idx3-ubyte", images)
        _write_idx(made / f"{split}-labels-idx1-ubyte", part["targets"].astype(np.uint8))
    return made.rename(target)


def _write_idx(path: Path, array: np.ndarray) -> None:
    head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(head + array.tobytes())


def source_of(name: str) -> Callable[[str, int, Path], Path]:
    """The function that writes a data set down."""
    if name in MLBENCH:
        return of_mlbench
    return of_fashion if name == "fashion_mnist" else of_sklearn


def run(name: str, seed: int, folder: Path, budgets: Mapping[str, str]) -> dict[str, Any]:
    """One automl and its baselines; read back where it is there."""
    held = folder / f"{name}-{seed}.json"
    if held.exists():
        found: dict[str, Any] = json.loads(held.read_text())
        return found
    source = source_of(name)(name, seed, folder)
    budget = budgets.get(name, budgets[""])
    asked = AutomlRequest(str(source), Budget.parse(budget), seed=seed, baselines=True)
    began = time.perf_counter()
    values = automl(asked, folder / f"{name}-{seed}").values
    count = values["test_examples"]
    found = {
        "automl": {"errors": round(values["test_error"] * count),
                   "cross_entropy": values["test_cross_entropy"], "seconds": values["seconds"]},
        "test_examples": count,
        "budget": budget,
        "nets": values["nets"],
        "wall_seconds": round(time.perf_counter() - began, 1),
        **{one["name"]: one for one in values["baselines"]},
    }  # fmt: skip
    held.write_text(json.dumps(found))
    return found


def compared(runs: list[dict[str, Any]], other: str) -> dict[str, Any]:
    """Errors of automl minus those of another, in percentage points, paired by seed."""
    points = [
        100 * (one["automl"]["errors"] - one[other]["errors"]) / one["test_examples"]
        for one in runs
    ]
    entropies = [one["automl"]["cross_entropy"] - one[other]["cross_entropy"] for one in runs]
    rows = {}
    for key, values in (("error_points", points), ("cross_entropy", entropies)):
        interval = range_of_searches([Answer.exactly(value) for value in values])
        rows[key] = {
            "differences": [round(value, 5) for value in values],
            "median": statistics.median(values),
            "interval": None if interval is None else [interval.low, interval.high],
            "coverage": None if interval is None else interval.coverage,
        }
    return rows


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """What the seeds of one data set say."""

    def medians(value: Callable[[dict[str, Any], str], float]) -> dict[str, float]:
        return {k: statistics.median(value(run, k) for run in runs) for k in ("automl", *OTHERS)}

    return {
        "budget": runs[0]["budget"],
        "seeds": len(runs),
        "test_examples": runs[0]["test_examples"],
        "most_trained_on": [max(n.get("trained_on", 0) for n in run["nets"]) for run in runs],
        "median_error": medians(lambda run, k: run[k]["errors"] / run["test_examples"]),
        "median_cross_entropy": medians(lambda run, k: run[k]["cross_entropy"]),
        "median_seconds": medians(lambda run, k: run[k]["seconds"]),
        "most_seconds": max(run["automl"]["seconds"] for run in runs),
        "against": {other: compared(runs, other) for other in OTHERS},
    }


def runs_of(name: str, folder: Path) -> list[dict[str, Any]]:
    """All runs of a data set that are there, by seed."""
    held = {int(found[1]): path for path in folder.glob(f"{name}-*.json")
            if (found := re.fullmatch(rf"{name}-(\d+)\.json", path.name))}  # fmt: skip
    return [json.loads(held[seed].read_text()) for seed in sorted(held)]


def main() -> None:
    """Run what is missing of what was asked for; write the JSON of all that is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmark-automl"))
    parser.add_argument("--seeds", type=int, default=5, help="0: only sum up what is there")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--trials", action="store_true", help="budgets in trials, not in time")
    options = parser.parse_args()
    kind = "trials" if options.trials else "seconds"
    folder = options.folder / kind
    folder.mkdir(parents=True, exist_ok=True)
    for name in options.only:
        for seed in range(min(options.seeds, SEEDS.get(name, options.seeds))):
            found = run(name, seed, folder, KINDS[kind])
            errors = {k: found[k]["errors"] for k in ("automl", *OTHERS)}
            print(name, seed, errors, f"{found['wall_seconds']} s", flush=True)
    there = {name: summary(runs) for name in NAMES if (runs := runs_of(name, folder))}
    print(json.dumps({k: v["median_error"] for k, v in there.items()}, indent=1))
    before = json.loads((RESULTS / "automl.json").read_text())
    sections = {k: before[k] for k in KINDS if k in before}
    print(write_results("automl", {**sections, kind: {**described(), "data": there}}))


if __name__ == "__main__":
    main()
