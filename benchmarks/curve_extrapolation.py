"""Extrapolated learning curves against how real ones ended: coverage, and regret of stopping.

    python -m benchmarks.curve_extrapolation [--runs 96] [--epochs 100] [--scores]

Fully connected nets train on digits, and on the part of Fashion-MNIST that `tabulated_space` has,
at a constant rate, drawn between 1e-4 and 0.3, by SGD with Nesterov momentum 0.9 at batch size 64;
every epoch's validation error is recorded. Each curve, and its first 20 epochs as a curve of their
own (the rate is constant), is cut at 10, 25, 50 and 75 % and extrapolated. Printed and written to
benchmarks/results/curve_extrapolation.json: how often a 90 % band held the end, by the spread of
the bootstrap alone, calibrated on half of the same curves (200 random halves; the other half is
judged), and calibrated on all curves of the other data set; errors beside those of the last value
seen; and what a search over the runs in 200 random orders finds if a run stops where P(end beats
the incumbent) is below 5 %, calibrated on the other data set. The curves lie beside it as Parquet.
With --scores, the scores of all curves are written to
experiments/search/architecture/calibrated.py, which searches stop by.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.machine import RESULTS, write_results
from benchmarks.tabulated_space import SOURCES
from experiments.search.architecture import calibrated
from experiments.search.architecture.calibration import Calibration
from experiments.search.architecture.curves import FEWEST, Extrapolation, extrapolated
from experiments.search.architecture.stopping import replayed

CUTS = (0.1, 0.25, 0.5, 0.75)
SHORT = 20
"""Epochs of a curve's beginning that is taken for a short curve."""
LEVEL = 0.9
QUANTILES = 99
"""Scores of a cut that are kept for searches."""
COLUMN = "validation/classification_error"


def trained(name: str, runs: int, epochs: int) -> pl.DataFrame:
    """Curves: a row a run and epoch; runs that diverged are left out."""
    from experiments.spec.resolved import ResolvedStudy
    from experiments.spec.study import Study
    from experiments.spec.trial import Trial
    from experiments.training.feed import ResidentData
    from experiments.training.layout import Execution
    from experiments.training.population import Population
    from experiments.training.program import Program
    from workloads import get

    study: ResolvedStudy = Study(
        "curves", "How do curves end?", get("digits_fc"), (64,), 1, 1, optimizer="nesterov"
    ).resolved
    splits = {
        split: {"inputs": inputs, "targets": targets}
        for split, (inputs, targets) in SOURCES[name].arrays().items()
    }
    data = ResidentData.put(splits, 256)
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


Cuts = dict[float, list[Extrapolation]]


def known(curves: np.ndarray) -> Cuts:
    """Cut -> the extrapolation of every curve [runs, epochs] to its end, from its first part."""
    epochs, found = curves.shape[1], {}
    for cut in CUTS:
        points = round(cut * epochs)
        if points >= FEWEST:
            x = np.arange(1.0, points + 1)
            found[cut] = [
                extrapolated(x, y[:points], float(epochs), draws=200, seed=i)
                for i, y in enumerate(curves)
            ]
    return found


def held(
    found: list[Extrapolation], ends: np.ndarray, calibration: Calibration
) -> tuple[np.ndarray, np.ndarray]:
    """[runs] whether the calibrated band holds the end, and its width."""
    bands = np.array([calibration.band(one, level=LEVEL) for one in found])
    return (bands[:, 0] <= ends) & (ends <= bands[:, 1]), bands[:, 1] - bands[:, 0]


def judged(
    curves: np.ndarray, found: list[Extrapolation], cut: float, other: Calibration
) -> dict[str, float]:
    """Coverage and errors at a cut."""
    ends, last = curves[:, -1], curves[:, round(cut * curves.shape[1]) - 1]
    value = np.array([one.value for one in found])
    tails = np.array([np.quantile(one.draws, [0.05, 0.95]) for one in found])
    plain = (tails[:, 0] <= ends) & (ends <= tails[:, 1])
    halves = []
    for seed in range(200):
        mixed = np.random.default_rng(seed).permutation(len(ends))
        mine, theirs = mixed[: len(ends) // 2], mixed[len(ends) // 2 :]
        own = Calibration.of([found[i] for i in mine], ends[mine])
        halves.append(held([found[i] for i in theirs], ends[theirs], own)[0].mean())
    whole = Calibration.of(found, ends)
    across, widths = held(found, ends, other)
    error = (across.mean() * (1 - across.mean()) / len(ends)) ** 0.5
    numbers = {
        "spread_held": plain.mean(),
        "median_width_of_spread": np.median(tails[:, 1] - tails[:, 0]),
        "held_calibrated_on_half_of_these": np.mean(halves),
        "median_width_calibrated_on_these": np.median(held(found, ends, whole)[1]),
        "held_calibrated_on_the_other_data": across.mean(),
        "standard_error": error,
        "median_width_calibrated_on_the_other_data": np.median(widths),
        "median_error": np.median(np.abs(value - ends)),
        "median_error_of_last_value": np.median(np.abs(last - ends)),
        "mean_error": np.abs(value - ends).mean(),
        "mean_error_of_last_value": np.abs(last - ends).mean(),
    }
    return {name: round(float(number), 4) for name, number in numbers.items()}


def stopped(
    curves: np.ndarray, found: Cuts, other: dict[float, Calibration], below: float
) -> dict[str, float]:
    """Regret, cost and wrong stops over random orders."""
    orders = [np.random.default_rng(seed).permutation(len(curves)) for seed in range(200)]
    runs = [replayed(curves[:, -1], found, order.tolist(), other, below=below) for order in orders]
    regrets = np.array([run.regret for run in runs])
    return {
        "mean_regret": round(float(regrets.mean()), 5),
        "orders_that_lose_the_best": round(float((regrets > 0).mean()), 3),
        "share_of_training": round(float(np.mean([run.cost for run in runs])), 3),
        "stopped": round(float(np.mean([run.stopped for run in runs])), 1),
        "wrongly_stopped": round(float(np.mean([run.wrongly for run in runs])), 2),
    }


def loaded(name: str, runs: int, epochs: int, again: bool) -> np.ndarray:
    """[runs, epochs] errors, trained where the file is not there."""
    file = RESULTS / f"curves_{name}.parquet"
    if again or not file.exists():
        trained(name, runs, epochs).write_parquet(file)
    table = pl.read_parquet(file)
    return np.array(table.group_by("run", maintain_order=True).agg("error")["error"].to_list())


def scores_text(scores: dict[float, np.ndarray]) -> str:
    """The module that holds the scores, as evenly many quantiles of a cut."""
    rows = []
    for cut, values in sorted(scores.items()):
        places = np.arange(1, QUANTILES + 1) / (QUANTILES + 1)
        kept = np.quantile(np.sort(values), places, method="weibull")
        lines = [
            "        " + " ".join(f"{value:.4g}," for value in kept[i : i + 9])
            for i in range(0, QUANTILES, 9)
        ]
        rows.append(f"    {cut}: (\n" + "\n".join(lines) + "\n    ),")
    body = "\n".join(rows)
    return (
        '"""Scores of finished curves, by the share at which they were cut.\n\n'
        "Written by ``python -m benchmarks.curve_extrapolation --scores``.\n"
        '"""\n\nfrom __future__ import annotations\n\n'
        f"SCORES: dict[float, tuple[float, ...]] = {{\n{body}\n}}  # fmt: skip\n"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--again", action="store_true", help="train, though the curves are there")
    parser.add_argument("--scores", action="store_true", help="write the scores of all curves")
    options = parser.parse_args()
    curves: dict[tuple[str, int], np.ndarray] = {}
    for name in SOURCES:
        whole = loaded(name, options.runs, options.epochs, options.again)
        curves |= {(name, length): whole[:, :length] for length in (whole.shape[1], SHORT)}
    found = {key: known(own) for key, own in curves.items()}
    own = {
        key: {cut: Calibration.of(rows, curves[key][:, -1]) for cut, rows in cuts.items()}
        for key, cuts in found.items()
    }
    results: dict[str, Any] = {}
    for (name, length), cuts in found.items():
        (other,) = (own[n, epochs] for n, epochs in own if n != name and epochs == length)
        mine = curves[name, length]
        rows = {f"{cut:.0%}": judged(mine, one, cut, other[cut]) for cut, one in cuts.items()}
        stops = {f"below {p:g}": stopped(mine, cuts, other, p) for p in (0.01, 0.05, 0.2)}
        results[f"{name}, {length} epochs"] = {
            "runs": len(mine),
            "best_end": round(float(mine[:, -1].min()), 4),
            "cuts": rows,
            "stopping": stops,
        }
        print(name, length, *rows.items(), *stops.items(), sep="\n", flush=True)
    print(f"written: {write_results('curve_extrapolation', results)}")
    if options.scores:
        pooled = {
            cut: np.concatenate([own[key][cut].scores for key in own if cut in own[key]])
            for cut in CUTS
        }
        Path(calibrated.__file__).write_text(scores_text(pooled))


if __name__ == "__main__":
    main()
