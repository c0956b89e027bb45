"""Small against large batches: what the studies of docs/small_and_large.md found.

    batchscale run small_and_large_digits
    python -m benchmarks.small_and_large collect runs/small_and_large_digits
    python -m benchmarks.small_and_large page

``collect`` reads finished records and measures the sharpness of what they found; the numbers go to
results/small_and_large.json, one entry a study. ``page`` writes docs/small_and_large.md from them.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.machine import RESULTS, write_json
from benchmarks.small_and_large_page import PAGE, page
from experiments.analysis.curvature import curvature_at_best, records_curvature
from experiments.analysis.question import TRIAL
from experiments.analysis.view import View
from experiments.records.comparisons import is_comparison
from experiments.records.store import read

FILE = RESULTS / "small_and_large.json"
DRAWS = 2000
TRAINED = 0.3
"""Trials whose error never falls below this found no minimum to speak of: they are left out of
the correlations."""
OTHERS = 8
"""Trials whose sharpness is measured for the correlations beside the best ones, evenly over those
of the record."""
EXAMPLES = 256
"""Training examples that the curvature of a minimum is measured on, as in training."""
EPSILON = 1e-3
"""Of Keskar's box, the larger of his two."""
LANCZOS, PROBES = 20, 10
MEASURES = (
    "top eigenvalue", "trace", "sharpness, full space", "sharpness, random space",
    "relative sharpness",
)  # fmt: skip
CONVERGED = "sharpness, full space, converged"


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median of the searches with the least and the greatest of them."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def protocols(view: View) -> list[dict[str, Any]]:
    """The best value of each batch size, retuned and not, at equal epochs and at equal steps; each
    over the searches. *Not retuned* is the smallest batch size's best trial at the others, of the
    trials that were started at all of them: their points are the same."""
    question = view.question
    sizes = pl.col("batch_size").n_unique() == len(question.batch_sizes)
    everywhere = view.record.trials.group_by("seed", "trial").agg(sizes.alias("all"))
    shared = everywhere.filter("all").select("seed", "trial")
    complete = view.record.trials.filter(status="COMPLETE").select(TRIAL).lazy()
    limits = {
        "equal epochs": pl.col("examples") <= question.example_budget,
        "equal steps": pl.col("step") <= question.step_budget,
    }
    found = []
    for protocol, limit in limits.items():
        held = view.measurements().filter(limit).join(complete, on=TRIAL, how="semi")
        best = held.group_by(TRIAL).agg(pl.col("value").min()).sort("value", *TRIAL).collect()
        for batch_size in question.batch_sizes:
            retuned, same = [], []
            for seed in question.seeds:
                own = best.filter(seed=seed)
                small = own.filter(batch_size=min(question.batch_sizes))
                first = small.join(shared, on=["seed", "trial"], maintain_order="left")["trial"][0]
                mine = own.filter(batch_size=batch_size)
                retuned.append(mine["value"][0])
                same += mine.filter(trial=first)["value"].to_list()
            row = {"protocol": protocol, "batch_size": batch_size, "retuned": spread(retuned)}
            # Where the small batch's best trial diverged there is no number for that search.
            whole = len(same) == len(question.seeds)
            found.append({**row, "not_retuned": spread(same) if whole else None})
    return found


class Minima:
    """Curvature and sharpness of a record's trials at their best steps, each measured once."""

    def __init__(self, folder: Path) -> None:
        from experiments.runner.trained import reopen, with_data

        record, study = reopen(folder)
        self.opened = with_data(folder, record, study)
        self._known: dict[tuple[int, int, int], dict[str, float]] = {}

    def of(self, row: Mapping[str, Any], converged: bool = False) -> dict[str, float]:
        """`MEASURES` of a trial, with `CONVERGED` where it is asked for."""
        key = (row["batch_size"], row["seed"], row["trial"])
        if key not in self._known or (converged and CONVERGED not in self._known[key]):
            self._known[key] = self._measured(*key, converged)
        return self._known[key]

    def _measured(self, size: int, seed: int, index: int, converged: bool) -> dict[str, float]:
        import jax

        from experiments.diagnostics.curvature.lanczos import xtrace
        from experiments.diagnostics.curvature.operators import hessian
        from experiments.diagnostics.curvature.spectrum import ends
        from experiments.diagnostics.problem import flat
        from experiments.diagnostics.scaled_sharpness import relative_sharpness
        from experiments.diagnostics.sharpness import DIMENSIONS, keskar_sharpness
        from experiments.runner.curvature_parts import problem_on
        from experiments.runner.trained import trained_to_best, trial_row

        row = trial_row(self.opened.record, self.opened.study, size, seed, index)
        one = trained_to_best(self.opened, row)
        problem, params = problem_on(self.opened, one, "train", "objective", EXAMPLES)
        like, key = flat(params)[0], jax.random.key(0)

        @jax.jit
        def spectrum(problem: Any, params: Any) -> Any:
            operator = hessian(problem, params)
            return ends(operator, like, key, LANCZOS).largest, xtrace(operator, like, key, PROBES)

        top, trace = spectrum(problem, params)
        keskar = functools.partial(keskar_sharpness, problem, params, 0, epsilon=EPSILON)
        found = {
            "top eigenvalue": float(top),
            "trace": float(trace.value),
            "sharpness, full space": keskar().value,
            "sharpness, random space": keskar(dimensions=DIMENSIONS).value,
            "relative sharpness": relative_sharpness(problem, params, 0).value,
        }
        return found | ({CONVERGED: keskar(iterations=None).value} if converged else {})


def minima(view: View, measured: Minima) -> list[dict[str, Any]]:
    """What each batch size's best trial found: its curvature over the searches, and the recorded
    one against the rule's bound."""
    best = _best(curvature_at_best(view, view.record.trials.filter(status="COMPLETE")))
    found = []
    for (batch_size,), own in best.sort(*TRIAL).group_by("batch_size", maintain_order=True):
        rows = [measured.of(row, converged=True) for row in own.iter_rows(named=True)]
        numbers = {name: spread([row[name] for row in rows]) for name in (*MEASURES, CONVERGED)}
        recorded = {name: spread(own[name].to_list()) for name in ("value", "ratio", "most")}
        found.append({"batch_size": batch_size, **recorded, **numbers})
    return found


def _best(table: pl.DataFrame) -> pl.DataFrame:
    """The best trial of each batch size and search."""
    ranked = table.sort("value", *TRIAL)
    return ranked.group_by("batch_size", "seed", maintain_order=True).first().select(table.columns)


def correlations(view: View, measured: Minima) -> dict[str, Any]:
    """Spearman's rho of each measure with the error and with the gap, over trials.

    The gap is the loss on validation minus that on training examples, where the error was best.
    """
    table = curvature_at_best(view, view.record.trials.filter(status="COMPLETE"))
    held = table.filter(pl.col("value") < TRAINED).sort(*TRIAL)
    evenly = np.unique(np.linspace(0, len(held) - 1, OTHERS).round().astype(int)).tolist()
    chosen = pl.concat([_best(held), held[evenly]]).unique(TRIAL).sort(*TRIAL)
    rows = [measured.of(row) for row in chosen.iter_rows(named=True)]
    losses = view.measurements("train/cross_entropy", "validation/cross_entropy").collect()
    there = chosen.join(losses, on=[*TRIAL, "step"], how="left", maintain_order="left")
    gap = there["validation/cross_entropy"] - there["train/cross_entropy"]
    against = {"error": chosen["value"].to_numpy(), "gap": gap.to_numpy()}
    return {
        "trials": len(chosen),
        "of": {
            name: {what: rank_correlation([row[name] for row in rows], y)
                   for what, y in against.items()}
            for name in MEASURES
        },
    }  # fmt: skip


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> dict[str, float]:
    """Spearman's rho and its 95 % bootstrap interval over trials."""
    from scipy.stats import rankdata

    first, second, random = np.asarray(x), np.asarray(y), np.random.default_rng(0)

    def rho(rows: np.ndarray) -> float:
        return float(np.corrcoef(rankdata(first[rows]), rankdata(second[rows]))[0, 1])

    every = np.arange(len(first))
    drawn = [rho(random.integers(0, len(first), len(first))) for _ in range(DRAWS)]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return {"rho": rho(every), "low": float(low), "high": float(high)}


def _members(folder: Path) -> dict[str, View]:
    labels = json.loads((folder / "comparison.json").read_text())["studies"]
    return {label: View(read(folder / label)) for label in labels}


def best_errors(view: View) -> dict[int, list[float]]:
    """Batch size -> the best value within the example budget, one a search."""
    held = view.measurements().filter(pl.col("examples") <= view.question.example_budget)
    best = held.group_by("batch_size", "seed").agg(pl.col("value").min()).collect().sort("seed")
    return {b: best.filter(batch_size=b)["value"].to_list() for b in view.question.batch_sizes}


def ghost(folder: Path) -> dict[str, Any]:
    """Best errors of every member, and the difference from norm over the whole batch, in pairs."""
    found = {label: best_errors(view) for label, view in _members(folder).items()}
    rows = []
    for batch_size in next(iter(found.values())):
        own = {label: errors[batch_size] for label, errors in found.items()}
        whole = own["whole"]
        apart = {label: spread([a - b for a, b in zip(errors, whole, strict=True)])
                 for label, errors in own.items() if label != "whole"}  # fmt: skip
        errors = {label: spread(values) for label, values in own.items()}
        rows.append({"batch_size": batch_size, "errors": errors, "minus_whole": apart})
    return {"rows": rows}


def equal_noise(folder: Path) -> dict[str, Any]:
    """Final errors at equal noise scale: each (B, m) minus the smallest batch without momentum, by
    pairs of one search and one noise scale; and how much the noise scale itself moves the error."""
    members = _members(folder)
    finals = {label: _finals(view) for label, view in members.items()}
    first = next(iter(members))
    smallest = min(members[first].question.batch_sizes)
    base = finals[first].filter(batch_size=smallest).select("seed", "trial", base="value")
    rows = []
    for label, table in finals.items():
        for (batch_size,), own in table.group_by("batch_size", maintain_order=True):
            pairs = own.join(base, on=["seed", "trial"])
            apart = (pairs["value"] - pairs["base"]).to_numpy()
            rows.append({"member": label, "batch_size": batch_size, "pairs": len(apart),
                         **_mean(apart)})  # fmt: skip
    levels = base.group_by("trial").agg(pl.col("base").median()).sort("base")["base"]
    size = members[first].record.study["dataset"]["sizes"]["train"]
    return {"rows": rows, "least": levels[0], "most": levels[-1], "train_size": size}


def _finals(view: View) -> pl.DataFrame:
    """The value of the last evaluation of every COMPLETE trial."""
    complete = view.record.trials.filter(status="COMPLETE").select(TRIAL).lazy()
    held = view.measurements().join(complete, on=TRIAL, how="semi").sort(*TRIAL, "step")
    return held.group_by(TRIAL, maintain_order=True).last().collect()


def _mean(apart: np.ndarray) -> dict[str, float]:
    """Mean and its 95 % bootstrap interval over pairs."""
    random = np.random.default_rng(0)
    drawn = apart[random.integers(0, len(apart), (DRAWS, len(apart)))].mean(axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return {"mean": float(apart.mean()), "low": float(low), "high": float(high)}


def warm_start(folder: Path) -> dict[str, Any]:
    """Last error and last eigenvalue of every member, over its runs."""
    column = "measured/curvature/largest"
    rows = []
    for label, view in _members(folder).items():
        held = view.measurements(column).sort("seed", "step").collect()
        last = held.group_by("seed", maintain_order=True).last()
        best = held.group_by("seed").agg(pl.col("value").min())
        rows.append({"member": label, "runs": len(last), "error": spread(last["value"].to_list()),
                     "best": spread(best["value"].to_list()),
                     "eigenvalue": spread(last[column].to_list())})  # fmt: skip
    return {"rows": rows}


COMPARISONS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "ghost_batch_norm_digits": ghost,
    "equal_noise_digits": equal_noise,
    "warm_start_digits": warm_start,
}


def of_folder(folder: Path) -> tuple[str, dict[str, Any]]:
    """(the study's name, its entry)."""
    if is_comparison(folder):
        name = json.loads((folder / "comparison.json").read_text())["name"]
        return name, COMPARISONS[name](folder)
    view = View(read(folder))
    found: dict[str, Any] = {
        "searches": len(view.question.seeds),
        "trials": view.question.trials,
        "example_budget": view.question.example_budget,
        "step_budget": view.question.step_budget,
        "train_size": view.record.study["dataset"]["sizes"]["train"],
        "validation_size": view.record.study["dataset"]["sizes"]["validation"],
        "protocols": protocols(view),
    }
    if records_curvature(view):
        measured = Minima(folder)
        found["minima"] = minima(view, measured)
        found["correlations"] = correlations(view, measured)
    return view.question.name, found


def _held() -> dict[str, Any]:
    return json.loads(FILE.read_text())["studies"] if FILE.exists() else {}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="what", required=True)
    collecting = commands.add_parser("collect", help="records into results/small_and_large.json")
    collecting.add_argument("folders", nargs="+", type=Path)
    commands.add_parser("page", help="write docs/small_and_large.md")
    options = parser.parse_args()
    if options.what == "page":
        PAGE.write_text(page(_held()), encoding="utf-8")
        return
    for folder in options.folders:
        name, entry = of_folder(folder)
        held = {**_held(), name: entry}
        print(f"written: {write_json(FILE, {'studies': dict(sorted(held.items()))})}")


if __name__ == "__main__":
    main()
