"""Hill climbing with inherited weights, without, and random search, at equal steps in all.

    python -m benchmarks.weight_inheritance [--seeds 20] [--trainings 8]

The space: stacks of one to three dense layers of 8, 16 or 32 features on scikit-learn's digits, 39
networks. A full training is 20 epochs; a network that grew out of a trained one begins with its
weights and trains 5. Every search ends at the steps of so many full trainings. Two things count.
"network": the validation error of the best network as the search leaves it, which is what the
search was told, so that it is too good by luck, of one that tried more by more. "architecture": the
mean error of that architecture over five other seeds of full training, above the best mean of the
space. Results go to benchmarks/results/weight_inheritance.json.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import write_results
from experiments.runner.search import run_search
from experiments.runner.search_models import SearchTask
from experiments.search.architecture.inheritance import Inheritance
from experiments.search.architecture.question import Architectures, architecture_search
from experiments.search.architecture.stacks import stacks
from experiments.spec.user_search import UserSearch
from experiments.training.program import Program

SPACE = stacks((64,), 10, (1, 2, 3), ("dense",), (8, 16, 32))
EPOCHS, FURTHER = 20, 5
BASE = "hill climbing"
OTHER_SEEDS = range(1000, 1005)
ARMS: dict[str, dict[str, Any]] = {
    "random": {"strategy": "random"},
    BASE: {"strategy": "local"},
    "hill climbing, inherited, state reset": {
        "strategy": "local", "inherit": Inheritance(FURTHER),
    },
    "hill climbing, inherited, state carried": {
        "strategy": "local", "inherit": Inheritance(FURTHER, "carry"),
    },
}  # fmt: skip


def asked(trials: int, seed: int, **fields: Any) -> UserSearch:
    """A search of the space."""
    return architecture_search(
        SPACE, (64,), trials=trials, budget=EPOCHS, workload="digits_fc", seed=seed,
        batch_size=32, fixed={"learning_rate": 3e-3}, schedule="cosine", **fields,
    )  # fmt: skip


def share_programs() -> None:
    """Make each network's program once: the searches here differ in strategy and seed alone."""
    made: dict[Any, Program] = {}
    own = SearchTask.program

    def shared(task: SearchTask, module: Any, values: Any) -> Program:
        if module not in made:
            made[module] = own(task, module, values)
        return made[module]

    SearchTask.program = shared  # type: ignore[method-assign]


def searched(arm: str, seed: int, trainings: int) -> dict[str, Any]:
    """One search, as far as the steps of so many full trainings go."""
    given = ARMS[arm]
    trials = trainings * (EPOCHS // FURTHER if "inherit" in given else 1)
    search = asked(trials, seed, **given)
    with tempfile.TemporaryDirectory() as folder:
        found = run_search(search, Path(folder) / "record", show=False)
        made = found.searched.record.trials.sort("trial")["steps"].to_numpy()
        table = found.table.sort("trial")
    full = int(made.max())
    within = np.flatnonzero(np.cumsum(made) <= trainings * full)
    values = np.array([np.inf if v is None else v for v in table["value"]])[within]
    best = int(values.argmin())
    heirs = sum(p is not None for p in table["parent"][: len(within)]) if "inherit" in given else 0
    proposer = search.proposer
    assert isinstance(proposer, Architectures)
    (row,) = table.filter(trial=best).rows(named=True)
    return {
        "seed": seed,
        "networks": len(within),
        "heirs": heirs,
        "steps": int(made[within].sum()),
        "network": round(float(values[best]), 5),
        "architecture": str(proposer.architecture(row)),
    }


def means() -> dict[str, float]:
    """Architecture -> mean error over other seeds of full training."""
    found: dict[str, list[float]] = {}
    for seed in OTHER_SEEDS:
        search = asked(SPACE.count(), seed, strategy="grid")
        proposer = search.proposer
        assert isinstance(proposer, Architectures)
        with tempfile.TemporaryDirectory() as folder:
            for row in run_search(search, Path(folder) / "record", show=False).table.rows(
                named=True
            ):
                found.setdefault(str(proposer.architecture(row)), []).append(row["value"])
        print(f"seed {seed} of every network", flush=True)
    return {name: float(np.mean(values)) for name, values in found.items()}


def _summary(values: list[float]) -> dict[str, float]:
    error = float(np.std(values, ddof=1)) / len(values) ** 0.5
    mean = float(np.mean(values))
    return {"mean": round(100 * mean, 3), "standard_error": round(100 * error, 3)}


def paired(runs: dict[str, list[dict[str, Any]]], field: str) -> dict[str, dict[str, float]]:
    """Arm -> its values minus hill climbing's, seed by seed: mean in points, with a t interval."""
    from scipy.stats import t

    found = {}
    base = np.array([run[field] for run in runs[BASE]])
    for arm, own in runs.items():
        if arm == BASE:
            continue
        difference = 100 * (np.array([run[field] for run in own]) - base)
        half = float(t.ppf(0.975, len(base) - 1) * difference.std(ddof=1) / len(base) ** 0.5)
        mean = float(difference.mean())
        found[arm] = {k: round(v, 2) for k, v in
                      {"mean": mean, "low": mean - half, "high": mean + half}.items()}  # fmt: skip
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trainings", type=int, default=8)
    options = parser.parse_args()
    share_programs()
    known = means()
    runs: dict[str, list[dict[str, Any]]] = {arm: [] for arm in ARMS}
    for seed in range(options.seeds):
        for arm in ARMS:
            run = searched(arm, seed, options.trainings)
            run["regret"] = round(known[run["architecture"]] - min(known.values()), 5)
            runs[arm].append(run)
            print(arm, run, flush=True)
    results = {
        "full_training_epochs": EPOCHS,
        "further_epochs": FURTHER,
        "trainings": options.trainings,
        "architectures": len(known),
        "best_mean_error": round(100 * min(known.values()), 3),
        "median_mean_error": round(100 * float(np.median(list(known.values()))), 3),
        "arms": {
            arm: {
                "networks": round(float(np.mean([run["networks"] for run in own])), 1),
                "heirs": round(float(np.mean([run["heirs"] for run in own])), 1),
                "steps": round(float(np.mean([run["steps"] for run in own]))),
                "network_error": _summary([run["network"] for run in own]),
                "architecture_regret": _summary([run["regret"] for run in own]),
            }
            for arm, own in runs.items()
        },
        "network_error_minus_hill_climbing": paired(runs, "network"),
        "architecture_regret_minus_hill_climbing": paired(runs, "regret"),
        "runs": runs,
    }
    print(f"written: {write_results('weight_inheritance', results)}")


if __name__ == "__main__":
    main()
