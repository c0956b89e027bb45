"""Strategies compared on tables of our own: every architecture of a small space, trained.

    python -m benchmarks.tabulated_search [--data digits] [--repeats 100]

Reads benchmarks/results/tabulated_DATA.parquet (`benchmarks.tabulated_space` makes it). A search
is told the mean validation error over an architecture's seeds, or that of one seed drawn anew;
what counts is the regret of its best by the mean over seeds. Also printed: the noise of seeds, and
how well lower fidelities and fewer epochs order the architectures. Results go to
benchmarks/results/tabulated_search.json, of Fashion-MNIST to tabulated_search_fashion_mnist.json.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import polars as pl

from benchmarks.machine import write_results
from benchmarks.tabulated_space import FIDELITIES, SOURCES, SPACE, file_of
from experiments.search.architecture.fidelity import rank_correlation
from experiments.search.architecture.space import Code
from experiments.search.architecture.strategies.base import ScoredCode, begin
from experiments.search.architecture.strategies.table import STRATEGIES, strategy
from experiments.search.architecture.streams import Stream

AT = (10, 20, 40)


def table(data: str) -> tuple[dict[Code, tuple[float, ...]], pl.DataFrame]:
    """(code -> errors over seeds at the end, all rows)."""
    rows = pl.read_parquet(file_of(data))
    full = rows.filter(fidelity="full").sort("architecture", "seed")
    known: dict[Code, list[float]] = {}
    for code, error in full.select("code", f"error {SOURCES[data].epochs}").iter_rows():
        known.setdefault(tuple(map(int, code)), []).append(error)
    return {code: tuple(errors) for code, errors in known.items()}, rows


def regrets(
    name: str, known: dict[Code, tuple[float, ...]], seed: int, *, one: bool
) -> list[float]:
    """Regret of the best told, by its mean, after each of `AT` evaluations."""
    means = {code: float(np.mean(errors)) for code, errors in known.items()}
    by_key = {SPACE.key(code): code for code in known}
    least = min(means.values())
    search = begin(strategy(name), SPACE, seed)
    found = []
    for number in range(max(AT)):
        codes = search.ask()
        if not codes:
            break
        code = by_key[SPACE.key(codes[0])]
        shown = known[code]
        value = (
            shown[Stream("training seed", seed, number).below(len(shown))] if one else means[code]
        )
        search = search.tell([ScoredCode(codes[0], value)])
        best = search.history.best
        assert best is not None
        if number + 1 in AT:
            found.append(means[by_key[SPACE.key(best.code)]] - least)
    return found


def summary(values: np.ndarray) -> dict[str, float]:
    """Mean, standard error and the 95 % interval of the mean, in percentage points."""
    mean, error = 100 * values.mean(), 100 * values.std(ddof=1) / len(values) ** 0.5
    return {
        "mean": round(float(mean), 3),
        "standard_error": round(float(error), 3),
        "low": round(float(mean - 1.96 * error), 3),
        "high": round(float(mean + 1.96 * error), 3),
    }


def fidelities(rows: pl.DataFrame, epochs: int) -> dict[str, Any]:
    """Rank correlation of each lower fidelity with the mean over seeds of full training.

    One seed's value of the full training against the mean of the others is the most that a
    fidelity of one seed could reach; fewer epochs are read off seed 0's curves against the others.
    """
    full, last = rows.filter(fidelity="full"), f"error {epochs}"
    target = full.filter(pl.col("seed") > 0).group_by("architecture").agg(pl.col(last).mean())
    found = {}
    cheap = {name: (rows.filter(fidelity=name, seed=0), last) for name in FIDELITIES}
    for few in (1, epochs // 4, epochs // 2):
        cheap[f"{few} of {epochs} epochs"] = (full.filter(seed=0), f"error {few}")
    for name, (own, column) in cheap.items():
        both = own.select("architecture", pl.col(column).alias("cheap")).join(
            target, on="architecture"
        )
        if len(both) >= 10:
            answer = rank_correlation(both["cheap"].to_numpy(), both[last].to_numpy())
            found[name] = {key: round(value, 3) for key, value in answer._asdict().items()}
            print(f"{name}: {answer}", flush=True)
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=SOURCES, default="digits")
    parser.add_argument("--repeats", type=int, default=100)
    options = parser.parse_args()
    known, rows = table(options.data)
    means = np.array([np.mean(errors) for errors in known.values()])
    noise = np.array([np.std(errors, ddof=1) for errors in known.values()])
    results: dict[str, Any] = {
        "architectures": len(known),
        "repeats": options.repeats,
        "best_mean_error": round(100 * float(means.min()), 3),
        "median_mean_error": round(100 * float(np.median(means)), 3),
        "median_sd_over_seeds": round(100 * float(np.median(noise)), 3),
        "fidelities": fidelities(rows, SOURCES[options.data].epochs),
        "regret": {},
    }
    for told in ("the mean over seeds", "one seed"):
        for name in STRATEGIES:
            runs = np.array(
                [regrets(name, known, s, one=told == "one seed") for s in range(options.repeats)]
            )
            rows_of = {f"after {n}": summary(runs[:, i]) for i, n in enumerate(AT)}
            results["regret"].setdefault(told, {})[name] = rows_of
            print(f"told {told}: {name} {rows_of['after 40']}", flush=True)
    name = "tabulated_search" + ("" if options.data == "digits" else f"_{options.data}")
    print(f"written: {write_results(name, results)}")


if __name__ == "__main__":
    main()
