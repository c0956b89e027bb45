"""Extrapolated learning curves against how real ones ended: coverage, and regret of stopping.

    python -m benchmarks.curve_extrapolation [--runs 96] [--epochs 100]

Fully connected nets train on digits at a constant rate, drawn between 1e-4 and 0.3, by SGD with
Nesterov momentum 0.9 at batch size 64; every epoch's validation error is recorded. Each curve is
cut at 10, 25 and 50 % and extrapolated. Printed and written to
benchmarks/results/curve_extrapolation.json: how often the 90 % band held the end, errors beside
those of the last value seen, and what a search over the runs in 200 random orders finds if a run
stops where P(end beats the incumbent) is below 5 %. The curves lie beside it as Parquet.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import polars as pl

from benchmarks.machine import RESULTS, write_results
from experiments.search.architecture.curves import FEWEST, Extrapolation, extrapolated
from experiments.search.architecture.stopping import replayed

FILE = RESULTS / "curves_digits.parquet"
CUTS = (0.1, 0.25, 0.5)
COLUMN = "validation/classification_error"


def trained(runs: int, epochs: int) -> pl.DataFrame:
    """Curves: a row a run and epoch; runs that diverged are left out."""
    from experiments.spec.resolved import ResolvedStudy
    from experiments.spec.study import Study
    from experiments.spec.trial import Trial
    from experiments.training.feed import ResidentData
    from experiments.training.layout import Execution
    from experiments.training.population import Population
    from experiments.training.program import Program
    from workloads import datasets, get

    study: ResolvedStudy = Study(
        "curves", "How do curves end?", get("digits_fc"), (64,), 1, 1, optimizer="nesterov"
    ).resolved
    data = ResidentData.put(datasets.load("digits").splits, 256)
    program = Program(study.config("off"), data, 1e4)
    grid = [int(np.ceil(e * data.examples / 64)) for e in range(1, epochs + 1)]
    rates = 10 ** np.random.default_rng(0).uniform(-4, np.log10(0.3), runs)
    base = {k: float(v) for k, v in study.hyperparameters.items() if v is not None}
    pending = iter(
        Trial(64, 0, i, grid[-1], {**base, "learning_rate": float(rate), "momentum": 0.9}, "curves")
        for i, rate in enumerate(rates)
    )
    found: list[pl.DataFrame] = []

    def keep(result: Any) -> None:
        errors = result.evaluations[COLUMN]
        if len(errors) == epochs:
            row = {"run": result.trial.index, "rate": rates[result.trial.index]}
            epoch = np.arange(1, epochs + 1)
            found.append(pl.DataFrame({**row, "epoch": epoch, "error": errors}))

    population = Population(program, 64, Execution("packed", 16), grid=lambda steps: grid)
    population.run(lambda: next(pending, None), keep)
    return pl.concat(found).sort("run", "epoch")


def known(curves: np.ndarray, cut: float) -> list[Extrapolation | None]:
    """The extrapolation of every curve [runs, epochs] to its end, from its first ``cut``."""
    epochs = curves.shape[1]
    points = round(cut * epochs)
    if points < FEWEST:
        return [None] * len(curves)
    x = np.arange(1.0, points + 1)
    return [
        extrapolated(x, y[:points], float(epochs), draws=200, seed=i) for i, y in enumerate(curves)
    ]


def judged(curves: np.ndarray, found: list[Extrapolation], cut: float) -> dict[str, float]:
    """Coverage and errors at a cut."""
    ends, points = curves[:, -1], round(cut * curves.shape[1])
    low, high, value = (np.array([getattr(e, k) for e in found]) for k in ("low", "high", "value"))
    held = (low <= ends) & (ends <= high)
    last = curves[:, points - 1]
    return {
        "coverage_of_90": round(float(held.mean()), 3),
        "standard_error": round(float(np.sqrt(held.mean() * (1 - held.mean()) / len(held))), 3),
        "median_width": round(float(np.median(high - low)), 4),
        "median_error": round(float(np.median(np.abs(value - ends))), 4),
        "median_error_of_last_value": round(float(np.median(np.abs(last - ends))), 4),
        "mean_error": round(float(np.abs(value - ends).mean()), 4),
        "mean_error_of_last_value": round(float(np.abs(last - ends).mean()), 4),
    }


def stopped(
    curves: np.ndarray, found: dict[float, list[Extrapolation]], below: float
) -> dict[str, float]:
    """Regret, cost and wrong stops over random orders."""
    orders = [np.random.default_rng(seed).permutation(len(curves)) for seed in range(200)]
    runs = [replayed(curves[:, -1], found, order.tolist(), below=below) for order in orders]
    regrets = np.array([run.regret for run in runs])
    return {
        "mean_regret": round(float(regrets.mean()), 5),
        "orders_that_lose_the_best": round(float((regrets > 0).mean()), 3),
        "share_of_training": round(float(np.mean([run.cost for run in runs])), 3),
        "stopped": round(float(np.mean([run.stopped for run in runs])), 1),
        "wrongly_stopped": round(float(np.mean([run.wrongly for run in runs])), 2),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--again", action="store_true", help="train, though the curves are there")
    options = parser.parse_args()
    if options.again or not FILE.exists():
        trained(options.runs, options.epochs).write_parquet(FILE)
    table = pl.read_parquet(FILE)
    curves = np.array(table.group_by("run", maintain_order=True).agg("error")["error"].to_list())
    found = {cut: known(curves, cut) for cut in CUTS}
    results: dict[str, Any] = {"runs": len(curves), "epochs": curves.shape[1], "cuts": {}}
    results["best_end"] = round(float(curves[:, -1].min()), 4)
    usable = {cut: [e for e in rows if e is not None] for cut, rows in found.items()}
    usable = {cut: rows for cut, rows in usable.items() if rows}
    for cut, rows in usable.items():
        results["cuts"][f"{cut:.0%}"] = judged(curves, rows, cut)
        print(f"cut at {cut:.0%}: {results['cuts'][f'{cut:.0%}']}", flush=True)
    results["stopping"] = {}
    for below in (0.01, 0.05, 0.2):
        results["stopping"][f"below {below:g}"] = stopped(curves, usable, below)
        print(f"stops below {below:g}: {results['stopping'][f'below {below:g}']}", flush=True)
    print(f"written: {write_results('curve_extrapolation', results)}")


if __name__ == "__main__":
    main()
