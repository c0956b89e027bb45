"""Folds or one validation split: automl on two hundred examples, tested on thousands of others.

    python -m benchmarks.automl_folds [--folder DIR] [--seeds 3] [--only NAME ...]

The data on which automl's rules for small tables were developed; benchmarks/automl.py tests them
on others. Of Satellite, DNA and Pima Indians (r-cran-mlbench, needs ``Rscript``) and of two
generated tables a seed takes 200 examples, of which automl sees 160 and tests on 40; all further
ones test the predictors, so that an error is known to about a point. Each seed runs twice: with
folds, and with the one validation split that larger data have, without their refit. Beside them
scikit-learn's defaults on the same 160. Budgets are in trials: neither the machine nor its load
decides. What a run has found stays in its folder, and the script goes on there. Expected: 15
minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import statistics
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.automl import read_mlbench
from benchmarks.machine import write_results
from experiments.procedures.automl import data
from experiments.procedures.automl.asked import AutomlRequest
from experiments.procedures.automl.automl import automl
from experiments.procedures.budget import Budget
from experiments.runner.predict import load
from workloads.datasets.sources import read_source
from workloads.datasets.splits import fixed_permutation

EXAMPLES, GENERATED = 200, 6000
BUDGET = "49trials"
MLBENCH = {"satellite": ("Satellite", "classes"), "dna": ("DNA", "Class"),
           "pima": ("PimaIndiansDiabetes", "diabetes")}  # fmt: skip
NAMES = ("linear", "clusters", *MLBENCH)
ARMS = ("folds", "split", "LogisticRegression", "MLPClassifier")
Scores = dict[str, dict[str, float]]


def table(name: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """All examples: of ``linear`` a linear classifier is best, of ``clusters`` none is good."""
    if name in MLBENCH:
        return read_mlbench(*MLBENCH[name])
    if name == "linear":
        chance = np.random.default_rng(seed)
        means = 0.8 * chance.normal(size=(3, 10))
        targets = chance.integers(0, 3, GENERATED)
        return means[targets] + chance.normal(size=(GENERATED, 10)), targets
    from sklearn.datasets import make_classification

    inputs, targets = make_classification(
        GENERATED, 20, n_informative=6, n_redundant=4, n_classes=3, random_state=seed
    )
    return inputs, targets


def score(shares: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Error in percent and cross-entropy in nats."""
    own = np.maximum(shares[np.arange(len(labels)), labels], 1e-12)
    wrong = shares.argmax(axis=1) != labels
    return {"error": 100 * float(wrong.mean()), "cross_entropy": float(-np.log(own).mean())}


def run(name: str, seed: int, folder: Path) -> Scores:
    """All arms of one seed; read back where they are there."""
    held = folder / f"{name}-{seed}.json"
    if held.exists():
        found: Scores = json.loads(held.read_text())
        return found
    inputs, targets = table(name, seed)
    order = fixed_permutation(len(targets), seed)
    few, rest = order[:EXAMPLES], order[EXAMPLES:]
    file = folder / f"{name}-{seed}.npz"
    np.savez(file, inputs=inputs[few], targets=targets[few])
    scores: Scores = {}
    for arm, below in (("folds", data.FOLDED_BELOW), ("split", 0)):
        asked = AutomlRequest(str(file), Budget.parse(BUDGET), seed=seed)
        with (
            mock.patch.object(data, "FOLDED_BELOW", below),
            mock.patch.object(data.Examples, "refits", False),
        ):
            automl(asked, folder / f"{name}-{seed}-{arm}")
        predictor = load(folder / f"{name}-{seed}-{arm}")
        labels = np.searchsorted(predictor.classes, targets[rest])
        scores[arm] = score(predictor.predict_proba(inputs[rest]), labels)
    scores |= defaults(file, seed, inputs[rest], labels)
    held.write_text(json.dumps(scores))
    return scores


def defaults(file: Path, seed: int, inputs: np.ndarray, labels: np.ndarray) -> Scores:
    """scikit-learn's classifiers on the examples that automl did not test on."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier

    examples = data.split_source(read_source(str(file)), seed)
    prepared = examples.preparation(inputs)
    found = {}
    for model in (LogisticRegression(), MLPClassifier(random_state=seed)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it did not converge in its iterations
            model.fit(*examples.development)
        found[type(model).__name__] = score(model.predict_proba(prepared), labels)
    return found


def compare(
    name: str,
    description: str,
    names: Sequence[str],
    arms: Sequence[str],
    run: Callable[[str, int, Path], Scores],
    about: Mapping[str, Any],
) -> None:
    """A command: run what is missing, write the JSON ``name``.

    Args:
      name: of the results, ``automl_folds`` or another.
      description: of the command.
      names: of the data sets.
      arms: what a run scores: automl with what is tried, automl without it, others.
      run: (data set, seed, folder) -> arm -> scores.
      about: what the JSON says beside the seeds.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--folder", type=Path, default=Path("runs", f"benchmark-{name.replace('_', '-')}")
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    tried, without = arms[:2]
    results: dict[str, Any] = {}
    for data_set in options.only:
        runs = []
        for seed in range(options.seeds):
            runs.append(run(data_set, seed, options.folder))
            errors = {arm: round(runs[-1][arm]["error"], 2) for arm in arms}
            print(data_set, seed, errors, flush=True)
        results[data_set] = {
            "runs": runs,
            "mean_error": {a: statistics.mean(r[a]["error"] for r in runs) for a in arms},
            f"{tried}_minus_{without}": [r[tried]["error"] - r[without]["error"] for r in runs],
        }
    print(write_results(name, {**about, "seeds": options.seeds, "data": results}))


def main() -> None:
    """Folds beside one split."""
    about = {"examples": EXAMPLES, "budget": BUDGET}
    compare("automl_folds", __doc__.splitlines()[0], NAMES, ARMS, run, about)


if __name__ == "__main__":
    main()
