"""The report's tables as plain text cells, shared by the page and the terminal."""

from __future__ import annotations

import dataclasses
import math

import polars as pl

from experiments.analysis.best_hyperparameters import CLIPPED, EFFECTIVE, best_known
from experiments.analysis.definitions import OVERHEADS
from experiments.analysis.searches import counted_trials
from experiments.analysis.steps_to_result import COUNTED_TO_RESULT
from experiments.analysis.summary import Summary
from experiments.report.answer import bounded, size_range, step_interval, steps_text, value_interval
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
    """Steps to result of the searches together, regime and how many trials ended how."""
    several = summary.searches > 1
    counted = COUNTED_TO_RESULT in summary.steps.columns
    columns = ["batch size", "steps to result", *(["range", "pooled"] if several else ["limit"]),
               *(["function evaluations"] if counted else []), "examples", "over the line",
               "regime", "trials", "infeasible"]  # fmt: skip
    fewest = {}
    if counted:
        best = summary.steps.group_by("batch_size").agg(pl.col(COUNTED_TO_RESULT).min())
        fewest = {b: f"{made:,}" for b, made in best.drop_nulls().rows()}
    rows = []
    for row in summary.curve.iter_rows(named=True):
        cells = dict.fromkeys(columns, "") | {
            "batch size": f"{row['batch_size']:,}",
            "function evaluations": fewest.get(row["batch_size"], ""),
            "pooled": "" if row["pooled"] is None else f"{row['pooled']:,}",
            "trials": f"{counted_trials(summary.view, row):,}",
            "infeasible": f"{row['infeasible']:,}",
            **_step_cells(row),
        }
        rows.append(tuple(cells[name] for name in columns))
    numeric = tuple(name != "regime" for name in columns)
    return Table("steps", "Steps to result", tuple(columns), tuple(rows), numeric)


def _step_cells(row: dict) -> dict[str, str]:
    ends = dict.fromkeys(("range", "limit"), step_interval(row))
    if row["median"] is None:
        if row["censored_at"] is None:
            return {"steps to result": "-", "regime": "no COMPLETE trial"}
        found = {"steps to result": f"> {row['censored_at']:,}", "regime": "goal not reached"}
        return found | (ends if row["pooled"] is not None else {})
    doubt = "" if row["regime_agreed"] else " (?)"
    over = row["over_line"]
    return {
        "steps to result": steps_text(row["median"]), **ends,
        "examples": f"{row['median_examples']:,.0f}",
        "over the line": "" if over is None else f"{over - 1:+.0%}",
        "regime": "" if row["regime"] is None else row["regime"] + doubt,
    }  # fmt: skip


def searches_table(summary: Summary) -> Table:
    """Every search on its own, with the evaluation before its steps to result."""
    columns = ("batch size", "seed", "steps to result", "not yet at", "trial", "regime",
               "trials", "infeasible")  # fmt: skip
    rows = []
    for row in summary.steps.iter_rows(named=True):
        reached, censored = row["steps_to_result"] is not None, row["censored_at"]
        steps = "-" if censored is None else f"> {censored:,}"
        cells = [steps, "", "", "goal not reached" if censored else "no COMPLETE trial"]
        if reached:
            cells = [f"{row['steps_to_result']:,}", f"{row['evaluated_before']:,}",
                     f"{row['trial']}", row["regime"] or ""]  # fmt: skip
        trials = counted_trials(summary.view, {**row, "searches": 1})
        rows.append((f"{row['batch_size']:,}", f"{row['seed']}", *cells, f"{trials:,}",
                     f"{row['infeasible']:,}"))  # fmt: skip
    numeric = tuple(name != "regime" for name in columns)
    return Table("searches", "Every search", columns, tuple(rows), numeric)


def definitions_table(summary: Summary) -> Table:
    """The end of perfect scaling under each definition, a column an overhead."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in summary.critical.definitions.iter_rows(named=True):
        text = bounded(row["value"], row["relation"])
        if row["low"] is not None and row["value"] is not None:
            text += f" ({size_range(row['low'], row['high'])})"
        found.setdefault((row["curve"], row["points"]), []).append(text)
    columns = ("curve", "batch sizes", *(f"{o:.0%} more examples" for o in OVERHEADS))
    rows = tuple((*names, *cells) for names, cells in found.items())
    return Table(
        "definitions", "Definitions", columns, rows, (False, False, True, True, True, True)
    )


def budget_table(summary: Summary) -> Table:
    """The best value under each budget, side by side, the searches together."""
    several = summary.searches > 1
    across = summary.budgets_across
    found = {(row["budget"], row["batch_size"]): row for row in across.iter_rows(named=True)}
    rows = []
    for batch_size in summary.question.batch_sizes:
        cells = [f"{batch_size:,}"]
        for budget in ("step", "epoch"):
            row = found.get((budget, batch_size))
            if row is None or row["median"] is None:
                cells += ["-", "", *([""] if several else [])]
                continue
            cells += [f"{row['median']:.4g}", value_interval(row)]
            cells += [f"{row['pooled']:.4g}"] if several else []
        rows.append(tuple(cells))
    columns = ["batch size"]
    for budget in ("step", "epoch"):
        columns += [f"{budget} budget: best", *(["range", "pooled"] if several else ["limit"])]
    return Table("budgets", "Best value under each budget", tuple(columns), tuple(rows),
                 (True,) * len(columns))  # fmt: skip


def hyperparameter_table(summary: Summary) -> Table:
    """The best trial of every batch size: of all searches, with the rate's range over them."""
    several = summary.searches > 1
    sign = summary.question.goal.sign
    best = best_known(summary.steps, summary.best, sign)
    names = [n for n in (*summary.question.space, EFFECTIVE, CLIPPED) if n in best.columns]
    rate = next((n for n in (EFFECTIVE, "learning_rate") if n in names), None)
    ranged = rate if several else None
    spread = summary.best_across.filter(
        pl.col("hyperparameter").eq_missing(pl.lit(rate, pl.String))
    )
    ends = {row["batch_size"]: row for row in spread.iter_rows(named=True)}
    columns = ["batch size", "trial", *(label(name) for name in names), "best value", "at step"]
    if ranged is not None:
        columns += [f"median {label(ranged)}", "range"]
    rows = []
    for row in best.sort("batch_size").iter_rows(named=True):
        numbers = [f"{row[name]:.4g}" for name in names]
        trial = f"{row['seed']}/{row['trial']}" if several else f"{row['trial']}"
        cells = [f"{row['batch_size']:,}", trial, *numbers, f"{row['best_value']:.4g}",
                 f"{row['best_step']:,}"]  # fmt: skip
        rows.append((*cells, *(_rate(ends[row["batch_size"]]) if ranged is not None else ())))
    title = "Best hyperparameters, of all searches" if several else "Best hyperparameters"
    return Table("best_hyperparameters", title, tuple(columns), tuple(rows), (True,) * len(columns))


def _rate(row: dict) -> tuple[str, str]:
    if row["median"] is None:
        return "", ""
    if row["low"] is None:  # one search of several has begun
        return f"{row['median']:.3g}", ""
    ends = ("unknown" if math.isinf(row[end]) else f"{row[end]:.2g}" for end in ("low", "high"))
    return f"{row['median']:.3g}", " to ".join(ends)


def csv_table(summary: Summary) -> pl.DataFrame:
    """Steps to result as other tools read them; the columns are a contract."""
    first = [
        "batch_size", "steps_to_result", "trial", "evaluated_before", "complete", "infeasible",
        "incomplete", "censored_at", "seed", "goal", "best_value",
    ]  # fmt: skip
    together = summary.curve.select(
        "batch_size",
        *(
            pl.col(name).alias(f"across_{name}")
            for name in ("searches", "median", "low", "high", "coverage", "limit", "pooled",
                         "line_steps", "over_line", "regime", "regime_agreed")
        ),
    )  # fmt: skip
    steps = summary.steps.join(together, on="batch_size", how="left")
    return steps.select(*first, pl.all().exclude(first))
