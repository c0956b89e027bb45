"""Does the refit help: automl's predictor before and after it, tested on thousands of examples.

    python -m benchmarks.automl_refit [--folder DIR] [--seeds 3] [--only NAME ...]

The data on which the refit (experiments/procedures/automl/refit.py) was tried before
benchmarks/automl.py was run with it; its rule was written down first and was not changed since. Of
Satellite, LetterRecognition and DNA (r-cran-mlbench, needs ``Rscript``) and of a generated table a
seed takes 1,500 examples, of which automl trains on 960, validates on 240 and tests on 300; all
further ones test the predictors. One search gives both: without a refit its members alone are
trained again. Beside them scikit-learn's defaults on the same 1,200. Budgets are in trials: neither
the machine nor its load decides. What a run has found stays in its folder, and the script goes on
there. Expected: 10 minutes on two cores.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from unittest import mock

import numpy as np

from benchmarks import automl_folds
from benchmarks.automl import read_mlbench
from experiments.procedures.automl.asked import AutomlRequest
from experiments.procedures.automl.automl import automl
from experiments.procedures.automl.data import Examples
from experiments.procedures.budget import Budget
from experiments.runner.predict import load
from workloads.datasets.splits import fixed_permutation

EXAMPLES = 1500
BUDGET = "49trials"
MLBENCH = {"satellite": ("Satellite", "classes"), "letter": ("LetterRecognition", "lettr"),
           "dna": ("DNA", "Class")}  # fmt: skip
NAMES = ("clusters", *MLBENCH)
ARMS = ("refit", "before", "LogisticRegression", "MLPClassifier")
Scores = dict[str, dict[str, float]]


def table(name: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """All examples of a data set."""
    return read_mlbench(*MLBENCH[name]) if name in MLBENCH else automl_folds.table(name, seed)


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
    asked = AutomlRequest(str(file), Budget.parse(BUDGET), seed=seed)
    scores: Scores = {}
    for arm, refits in (("before", False), ("refit", True)):
        own = folder / f"{name}-{seed}-{arm}"
        if refits:  # the same search, which knows nothing of a refit
            shutil.copytree(
                folder / f"{name}-{seed}-before", own, dirs_exist_ok=True,
                ignore=shutil.ignore_patterns("verdict.json", "model", "report", "spent.json"),
            )  # fmt: skip
        with mock.patch.object(Examples, "refits", refits):
            automl(asked, own)
        predictor = load(own)
        labels = np.searchsorted(predictor.classes, targets[rest])
        scores[arm] = automl_folds.score(predictor.predict_proba(inputs[rest]), labels)
    scores |= automl_folds.defaults(file, seed, inputs[rest], labels)
    held.write_text(json.dumps(scores))
    return scores


def main() -> None:
    """The refit beside the nets before it."""
    about = {"examples": EXAMPLES, "budget": BUDGET}
    automl_folds.compare("automl_refit", __doc__.splitlines()[0], NAMES, ARMS, run, about)


if __name__ == "__main__":
    main()
