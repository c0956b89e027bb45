"""automl beside scikit-learn's defaults: paired errors on the same splits, seed by seed.

    python -m benchmarks.automl [--folder DIR] [--seeds 5] [--only NAME ...]

Five data sets, of every seed another split by class. ``automl`` is asked with a budget in trials:
neither the machine nor its load decides what it finds; its seconds are recorded. scikit-learn's
`LogisticRegression` and `MLPClassifier` are trained with default settings on training and
validation examples together, prepared alike. What a run has found stays in its folder: started
again, the script goes on. Expected on two cores: half a minute a seed, Fashion-MNIST two.

Differences of two errors are paired by seed. Splits of one data set overlap, so seeds are no
independent data sets: the exact range of the median difference (`range_of_searches`) says what
another split and another seed of the same examples would give.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import write_results
from experiments.analysis.intervals import Answer, range_of_searches
from experiments.procedures.automl.automl import Asked, automl
from experiments.procedures.budget import Budget
from workloads import datasets
from workloads.datasets.splits import fixed_permutation

FASHION_EXAMPLES = 3000
BUDGETS = {"fashion_mnist": "17trials"}
BUDGET = "49trials"
"""One round of Hyperband's brackets up to 27 epochs; 17 is one up to 9."""
OTHERS = ("LogisticRegression", "MLPClassifier")


def examples(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets."""
    if name == "fashion_mnist":
        train = datasets.load(name).splits["train"]
        few = fixed_permutation(len(train["targets"]), 0)[:FASHION_EXAMPLES]
        return train["inputs"][few], train["targets"][few]
    from sklearn import datasets as sources

    if name == "digits":
        bunch = sources.load_digits()
        return bunch.images[..., None], bunch.target
    bunch = getattr(sources, f"load_{name}")()
    return bunch.data, bunch.target


NAMES = ("digits", "fashion_mnist", "wine", "breast_cancer", "iris")


def run(name: str, seed: int, folder: Path) -> dict[str, Any]:
    """One automl and its baselines; read back where it is there."""
    held = folder / f"{name}-{seed}.json"
    if held.exists():
        return json.loads(held.read_text())
    file = folder / f"{name}.npz"
    if not file.exists():
        inputs, targets = examples(name)
        np.savez(file, inputs=inputs, targets=targets)
    asked = Asked(str(file), Budget.parse(BUDGETS.get(name, BUDGET)), seed=seed, baselines=True)
    began = time.perf_counter()
    values = automl(asked, folder / f"{name}-{seed}").values
    count = values["test_examples"]
    found = {
        "automl": {"errors": round(values["test_error"] * count),
                   "cross_entropy": values["test_cross_entropy"], "seconds": values["seconds"]},
        "test_examples": count,
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


def main() -> None:
    """Run what is missing; write the JSON of the data sets asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmark-automl"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {}
    for name in options.only:
        runs = []
        for seed in range(options.seeds):
            runs.append(run(name, seed, options.folder))
            errors = {k: runs[-1][k]["errors"] for k in ("automl", *OTHERS)}
            print(name, seed, errors, f"{runs[-1]['wall_seconds']} s", flush=True)
        results[name] = {
            "budget": BUDGETS.get(name, BUDGET),
            "test_examples": runs[0]["test_examples"],
            "median_error": {
                k: statistics.median(r[k]["errors"] / r["test_examples"] for r in runs)
                for k in ("automl", *OTHERS)
            },
            "median_seconds": {
                k: statistics.median(r[k]["seconds"] for r in runs) for k in ("automl", *OTHERS)
            },
            "against": {other: compared(runs, other) for other in OTHERS},
        }
    print(write_results("automl", {"seeds": options.seeds, "data": results}))
    print(json.dumps({k: v["median_error"] for k, v in results.items()}, indent=1))


if __name__ == "__main__":
    main()
