"""Whole runs of quickstart with other seeds: how far apart do their headlines lie?

    python -m benchmarks.headline [--records DIR] [--runs 5] [--repeats 10]
    python -m benchmarks.headline --trials 16 --runs 3 [--records DIR]

Five studies of six searches each, seeds 100 to 105, 200 to 205, ...; DIR/q100, ... are read where
they hold a finished study, else trained (one to two minutes each on two cores). For each reading of
the end of perfect scaling: its five values, each the median of six searches, and the factor between
the largest and the least. Readings: the headline (the curve of free sharpness), the hyperbola, the
best convex curve, the one anchored at the smallest batch size. Beside them the tests of both forms
(analysis/lack_of_fit.py), and, of the first study, the floor: the best configurations trained
again, whose every fresh seed gives a curve without tuning. Results go to
benchmarks/results/headline.json, with other than quickstart's 12 trials a search to
headline_N_trials.json, without a floor; trial-steps say what they cost.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import write_results
from experiments import studies
from experiments.analysis.critical_batch_size import fitted_as
from experiments.analysis.free_sharpness import FreeSharpness
from experiments.analysis.regimes import PERFECT_OVERHEAD
from experiments.analysis.scaling_curve import Convex, Hyperbola
from experiments.analysis.summary import Summary, summarise
from experiments.records.store import read
from experiments.runner.repeat import repeat_best
from experiments.runner.study import run_study

READINGS = {"headline": "limit", "hyperbola": "hyperbola", "convex": "convex",
            "anchored": "anchored"}  # fmt: skip


def measured(summary: Summary) -> dict[str, Any]:
    """The readings of one study."""
    row: dict[str, Any] = {"seeds": list(summary.question.seeds)}
    for name, field in READINGS.items():
        estimate = getattr(summary.critical, field)
        row[name] = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    fits = summary.critical.fits.values()
    row["sharpness"] = sorted(round(fit.sharpness, 3) for fit in fits if fit is not None)
    tests = {"curve": summary.critical.fit_test, "hyperbola": summary.critical.hyperbola_test}
    row["lack of fit"] = {
        name: {"F": test.ratio, "p": test.probability, "spread": test.spread,
               "misses": [round(float(m), 3) for m in test.misses]}
        for name, test in tests.items() if test is not None
    }  # fmt: skip
    row["trial_steps"] = int(summary.view.record.trials["steps"].sum())
    row["steps"] = dict(summary.curve.select("batch_size", "median").rows())
    return row


def floor(summary: Summary) -> dict[str, Any] | None:
    """The ends read off each fresh seed's curve of one set of configurations, never tuned again."""
    if summary.repeated is None:
        return None
    curves = summary.repeated.curves
    kinds = {"headline": FreeSharpness, "hyperbola": Hyperbola, "convex": Convex}
    ends = {
        name: [fit.perfect_end(PERFECT_OVERHEAD) for points in curves
               if (fit := fitted_as(kind, points)) is not None]
        for name, kind in kinds.items()
    }  # fmt: skip
    return {
        "fresh seeds": len(curves),
        **{name: _spread(found) for name, found in ends.items()},
        "selection effect": dict(summary.repeated.table.select("batch_size", "selection").rows()),
        "never": dict(summary.repeated.table.select("batch_size", "never").rows()),
    }


def _spread(values: list[float]) -> dict[str, float]:
    finite = sorted(value for value in values if 0 < value < math.inf)
    return {"least": finite[0], "median": float(np.median(finite)), "greatest": finite[-1]}


def main() -> None:
    """Parse, train what is missing, read, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--records", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=10, help="fresh seeds of the first study")
    parser.add_argument("--trials", type=int, default=12, help="of each search")
    options = parser.parse_args()
    usual = options.trials == 12
    with tempfile.TemporaryDirectory() as scratch:
        base = options.records or Path(scratch)
        rows, ground = [], None
        for run in range(1, options.runs + 1):
            folder = base / f"q{100 * run}{'' if usual else f'-{options.trials}'}"
            if not (folder / "study.json").is_file():
                study = studies.get("quickstart")
                seeds = tuple(range(100 * run, 100 * run + 6))
                run_study(dataclasses.replace(study, seeds=seeds, trials=options.trials), folder)
            if run == 1 and usual and options.repeats and read(folder).repeats is None:
                repeat_best(folder, options.repeats)
            summary = summarise(read(folder))
            rows.append(measured(summary))
            ground = ground or floor(summary)
            print(f"seeds {100 * run}: {rows[-1]['headline']['value']:.3g}", flush=True)
    factors = {name: max(r[name]["value"] for r in rows) / min(r[name]["value"] for r in rows)
               for name in READINGS}  # fmt: skip
    results = {"bar": 1.5, "factors": factors, "studies": rows, "floor": ground}
    name = "headline" if usual else f"headline_{options.trials}_trials"
    print(f"factors: {factors}\nwritten: {write_results(name, results)}")


if __name__ == "__main__":
    main()
