"""The report's tables as plain text cells, shared by the page and the terminal."""

from __future__ import annotations

import dataclasses

import polars as pl

from experiments.analysis.best_hyperparameters import CLIPPED, EFFECTIVE
from experiments.analysis.steps_to_result import COUNTED_TO_RESULT
from experiments.analysis.summary import Summary
from experiments.report.answer import step_interval
from experiments.report.words import label


@dataclasses.dataclass(frozen=True)
class Table:
    """Cells as text; ``numeric`` columns are aligned right."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]


def steps_table(summary: Summary) -> Table:
    """Steps to result with their intervals, regime and how many trials ended how."""
    several = len(summary.question.seeds) > 1
    counted = COUNTED_TO_RESULT in summary.steps.columns
    columns = ["batch size", *(["seed"] if several else []), "steps to result", "not yet at",
               "bootstrap", *(["function evaluations"] if counted else []), "examples",
               "extra examples", "regime", "trials", "infeasible"]  # fmt: skip
    rows = []
    for row in summary.steps.iter_rows(named=True):
        steps = row["steps_to_result"]
        cells = [f"{row['batch_size']:,}", *([str(row["seed"])] if several else [])]
        if steps is None:
            unknown = row["censored_at"] is None
            cells += ["-" if unknown else f"> {row['censored_at']:,}", *[""] * (5 + counted)]
            cells[-1] = "no COMPLETE trial" if unknown else "goal not reached"
        else:
            over = row["overhead"]
            cells += [
                f"{steps:,}", f"{row['evaluated_before']:,}", step_interval(row),
                *([f"{row[COUNTED_TO_RESULT]:,}"] if counted else []),
                f"{row['examples_to_result']:,}", f"{over:+.0%}", row["regime"],
            ]  # fmt: skip
        rows.append((*cells, f"{row['complete']:,}", f"{row['infeasible']:,}"))
    words = {"regime"}
    return Table(
        "steps", "Steps to result", tuple(columns), tuple(rows),
        tuple(name not in words for name in columns),
    )  # fmt: skip


def budget_table(summary: Summary) -> Table:
    """The best value under each budget, side by side, with its bootstrap interval."""
    own = summary.of_seed(summary.budgets)
    found = {(row["budget"], row["batch_size"]): row for row in own.iter_rows(named=True)}
    rows = []
    for batch_size in summary.question.batch_sizes:
        cells = [f"{batch_size:,}"]
        for budget in ("step", "epoch"):
            row = found.get((budget, batch_size))
            if row is None:
                cells += ["-", "", ""]
                continue
            ends = f"{row['low']:.3g} to {row['high']:.3g}"
            cells += [f"{row['best_value']:.4g}", ends, f"{row['step']:,}"]
        rows.append(tuple(cells))
    columns = ["batch size"]
    for budget in ("step", "epoch"):
        columns += [f"{budget} budget: best", "bootstrap", "at step"]
    return Table(
        "budgets", "Best value under each budget", tuple(columns), tuple(rows), (True,) * 7
    )


def hyperparameter_table(summary: Summary) -> Table:
    """The best trial of every batch size."""
    best = summary.of_seed(summary.best)
    names = [n for n in (*summary.question.space, EFFECTIVE, CLIPPED) if n in best.columns]
    columns = ["batch size", "trial", *(label(name) for name in names), "best value", "at step"]
    rows = []
    for row in best.sort("batch_size").iter_rows(named=True):
        numbers = [f"{row[name]:.4g}" for name in names]
        rows.append(
            (
                f"{row['batch_size']:,}", f"{row['trial']}", *numbers,
                f"{row['best_value']:.4g}", f"{row['best_step']:,}",
            )
        )  # fmt: skip
    return Table(
        "best_hyperparameters", "Best hyperparameters", tuple(columns), tuple(rows),
        (True,) * len(columns),
    )  # fmt: skip


def csv_table(summary: Summary) -> pl.DataFrame:
    """Steps to result as other tools read them; the columns are a contract."""
    first = [
        "batch_size", "steps_to_result", "trial", "evaluated_before", "complete", "infeasible",
        "incomplete", "censored_at", "seed", "goal", "best_value",
    ]  # fmt: skip
    return summary.steps.select(*first, pl.all().exclude(first))
