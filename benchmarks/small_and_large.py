"""Small against large batches: three protocols and the curvature, read from one record.

    batchscale run small_and_large_digits
    python -m benchmarks.small_and_large runs/small_and_large_digits

The numbers go to results/small_and_large_NAME.json and, as tables, to standard output;
docs/small_and_large.md shows them. Points are the same at every batch size (the study's sampler is
halton), so the trial of one index has one rate and momentum everywhere.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.machine import write_results
from experiments.analysis.curvature import curvature_at_best
from experiments.analysis.question import TRIAL
from experiments.analysis.view import View
from experiments.records.store import read

DRAWS = 2000
TRAINED = 0.2
"""Trials whose error never falls below this found no minimum to speak of: left out of the
correlation."""


def protocols(view: View) -> list[dict[str, Any]]:
    """The best value of each batch size, retuned and not, at equal epochs and at equal steps."""
    question = view.question
    complete = view.record.trials.filter(status="COMPLETE").select(TRIAL).lazy()
    limits = {
        "equal epochs": pl.col("examples") <= question.example_budget,
        "equal steps": pl.col("step") <= question.step_budget,
    }
    found = []
    for protocol, limit in limits.items():
        held = view.measurements().filter(limit).join(complete, on=TRIAL, how="semi")
        best = held.group_by(TRIAL).agg(pl.col("value").min()).sort("value", *TRIAL).collect()
        first = best.filter(batch_size=min(question.batch_sizes)).row(0, named=True)["trial"]
        for batch_size in question.batch_sizes:
            mine = best.filter(batch_size=batch_size)
            same = mine.filter(trial=first)["value"].to_list()
            found.append(
                {
                    "protocol": protocol,
                    "batch_size": batch_size,
                    "retuned": mine["value"][0],
                    "not_retuned": same[0] if same else None,
                }
            )
    return found


def minima(view: View) -> list[dict[str, Any]]:
    """The curvature of each batch size's best trial, at its best measured evaluation."""
    table = curvature_at_best(view, view.record.trials.filter(status="COMPLETE"))
    own = table.sort("value", *TRIAL).group_by("batch_size", maintain_order=True).first()
    kept = ("batch_size", "trial", "step", "value", "largest", "ratio", "most")
    return own.sort("batch_size").select(kept).to_dicts()


def correlation(view: View) -> dict[str, Any]:
    """Spearman's rho of top eigenvalue and error over trials, with a bootstrap interval."""
    from scipy.stats import spearmanr

    table = curvature_at_best(view, view.record.trials.filter(status="COMPLETE"))
    held = table.filter(pl.col("value") < TRAINED)
    x, y = held["largest"].to_numpy(), held["value"].to_numpy()
    random = np.random.default_rng(0)
    drawn = (random.integers(0, len(x), len(x)) for _ in range(DRAWS))
    rhos = [float(spearmanr(x[rows], y[rows]).statistic) for rows in drawn]
    low, high = np.quantile(rhos, (0.025, 0.975))
    found = {"trials": len(x), "rho": float(spearmanr(x, y).statistic)}
    return {**found, "low": float(low), "high": float(high)}


def main() -> None:
    """Read a record, write its numbers, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    view = View(read(parser.parse_args().folder))
    results = {
        "study": view.question.name,
        "protocols": protocols(view),
        "minima": minima(view),
        "correlation": correlation(view),
    }
    print("| protocol | batch size | retuned | not retuned |\n|---|---|---|---|")
    for row in results["protocols"]:
        other = "-" if row["not_retuned"] is None else f"{row['not_retuned']:.1%}"
        print(f"| {row['protocol']} | {row['batch_size']} | {row['retuned']:.1%} | {other} |")
    print("\n| batch size | step | error | top eigenvalue | over its bound | most in training |")
    print("|---|---|---|---|---|---|")
    for row in results["minima"]:
        print(
            f"| {row['batch_size']} | {row['step']} | {row['value']:.1%} | {row['largest']:.3g} | "
            f"{row['ratio']:.2g} | {row['most']:.2g} |"
        )
    held = results["correlation"]
    print(
        f"\nSpearman's rho of eigenvalue and error over {held['trials']} trials: {held['rho']:.2f} "
        f"({held['low']:.2f} to {held['high']:.2f})"
    )
    print(f"written: {write_results('small_and_large', results)}")


if __name__ == "__main__":
    main()
