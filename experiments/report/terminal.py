"""What the command line prints of a study: tables that fit 80 columns.

Rich is imported when something is printed.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from experiments.analysis.critical_batch_size import DIMINISHING, FLAT, PERFECT
from experiments.analysis.question import Record
from experiments.analysis.steps_to_result import COUNTED_TO_RESULT
from experiments.analysis.summary import Summary, summarise, summary_of
from experiments.analysis.view import View
from experiments.report.answer import answer, estimated
from experiments.report.facts import micro_batches
from experiments.report.tables import csv_table, hyperparameter_table
from experiments.report.words import budget_words, goal_words, metric_title
from workloads.base import Goal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_COLOURS = {PERFECT: "green", DIMINISHING: "yellow", FLAT: "red"}
_SHORT = {PERFECT: "perfect", DIMINISHING: "diminishing", FLAT: "maximal"}


def print_summary(record: Record | Summary, console: Console | None = None) -> None:
    """Answer, steps to result, best value under each budget, best hyperparameters, verdict."""
    from rich.text import Text

    summary = summary_of(record)
    console = console or _console()
    console.print()
    console.print(Text(summary.question.question, style="bold"))
    console.print(Text(answer(summary)))
    console.print()
    _print_steps(summary, console)
    console.print()
    console.print(_budget_table(summary))
    limits = (
        f"{name} budget: {budget_words(summary.question, name)}" for name in ("step", "epoch")
    )
    console.print(f"[dim]{'; '.join(limits)}[/]")
    console.print()
    console.print(_hyperparameter_table(summary))
    if words := micro_batches(summary.record.study):
        console.print(f"[dim]micro-batches: {words}[/]")
    _print_verdict(summary, console)


def print_steps_to_result(
    record: Record | View, goal: float | Goal | None = None, console: Console | None = None
) -> None:
    """Steps to result for the recorded goal or another one (ValueError: see `View`)."""
    _print_steps(summarise(record, goal), console or _console())


def write_steps_to_result_csv(
    record: Record | View, goal: float | Goal | None, path: Path | str
) -> None:
    """Steps to result as CSV; empty where censored.

    Columns: batch_size, steps_to_result, trial, evaluated_before, complete, infeasible,
    incomplete, censored_at, seed, goal, best_value, then intervals, overhead and regime.
    """
    csv_table(summarise(record, goal)).write_csv(path)


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False)


def _table(title: str) -> Table:
    from rich import box
    from rich.table import Table

    return Table(
        title=title, box=box.SIMPLE_HEAD, title_justify="left",
        title_style="bold", padding=(0, 1),
        pad_edge=False,
        collapse_padding=True,
    )  # fmt: skip


def _print_steps(summary: Summary, console: Console) -> None:
    question = summary.question
    table = _table(f"Steps to result: {goal_words(question)}")
    # Seeds take the place of "vs line", function evaluations that of "after".
    several, counted = len(question.seeds) > 1, COUNTED_TO_RESULT in summary.steps.columns
    heads = ["batch", "steps", "after", "bootstrap", "vs line", "regime", "complete", "infeas."]
    if several:
        heads = ["batch", "seed", *heads[1:4], *heads[5:]]
    if counted:
        heads[heads.index("after")] = "evals"
    for head in heads:
        table.add_column(head, justify="left" if head == "regime" else "right", no_wrap=True)
    for row in summary.steps.iter_rows(named=True):
        cells = dict(zip(("steps", "after", "bootstrap", "vs line", "regime"), _step_cells(row)))
        cells |= {"batch": f"{row['batch_size']}", "seed": f"{row['seed']}"}
        evaluations = row.get(COUNTED_TO_RESULT)
        cells["evals"] = "" if evaluations is None else f"{evaluations:,}"
        cells["complete"] = f"{row['complete']}"
        cells["complete"] += f" of {question.trials}" if row["missing"] else ""
        cells["infeas."] = f"{row['infeasible']}"
        table.add_row(*(cells[head] for head in heads))
    console.print(table)
    second = "after: the last one short of it;"
    if counted:
        second = "evals: fewest function evaluations to\n"
        second += "it (loss, gradient or Hessian-vector product over the batch), of any trial;"
    console.print(
        f"[dim]steps: first evaluation past the goal; {second}\n"
        "bootstrap: upper end of the 95% interval over trials (its lower end is steps);\n"
        "vs line: examples, over those of perfect scaling; >: not reached by that step.[/]"
    )
    for seed, (limit, noise) in summary.critical.items():
        of = f" (seed {seed})" if several else ""
        console.print(f"End of perfect scaling{of}: [bold]{estimated(limit)}[/]")
        console.print(f"Noise critical batch size{of}: [bold]{estimated(noise)}[/]")


def _step_cells(row: dict) -> list[str]:
    if row["steps_to_result"] is None:
        if row["censored_at"] is None:
            return ["-", "", "", "", "[dim]no trials[/]"]
        return [f"> {row['censored_at']:,}", "", "", "", "[dim]not reached[/]"]
    regime = row["regime"]
    return [
        f"{row['steps_to_result']:,}", f"{row['evaluated_before']:,}", _upper_end(row),
        f"{1 + row['overhead']:.3g}x", f"[{_COLOURS[regime]}]{_SHORT[regime]}[/]",
    ]  # fmt: skip


def _upper_end(row: dict) -> str:
    high = row["bootstrap_high"]
    return "to never" if math.isinf(high) else f"to {high:,.0f}"


def _budget_table(summary: Summary) -> Table:
    question = summary.question
    own = summary.of_seed(summary.budgets)
    table = _table(f"Best {metric_title(question)} under each budget")
    for head in ("batch", "step budget", "bootstrap", "epoch budget", "bootstrap"):
        table.add_column(head, justify="right", no_wrap=True)
    best = own.group_by("budget").agg(question.goal.best(pl.col("best_value")))
    winners = dict(best.rows())
    found = {(row["budget"], row["batch_size"]): row for row in own.iter_rows(named=True)}
    for batch_size in question.batch_sizes:
        cells = [f"{batch_size}"]
        for budget in ("step", "epoch"):
            row = found.get((budget, batch_size))
            if row is None:
                cells += ["-", ""]
                continue
            text = f"{row['best_value']:.4g}"
            top = row["best_value"] == winners[budget]
            cells += [f"[bold green]{text}[/]" if top else text]
            cells += [f"{row['low']:.3g} to {row['high']:.3g}"]
        table.add_row(*cells)
    return table


def _hyperparameter_table(summary: Summary) -> Table:
    cells = hyperparameter_table(summary)
    table = _table("Best hyperparameters")
    heads = [name.replace("effective learning rate", "lr/(1-m)") for name in cells.columns]
    for head in heads:
        table.add_column(head.replace("batch size", "batch"), justify="right")
    for row in cells.rows:
        table.add_row(*row)
    return table


def _print_verdict(summary: Summary, console: Console) -> None:
    from rich.padding import Padding
    from rich.text import Text

    verdict = summary.verdict
    for finding in verdict.findings:
        console.print(
            Text("! ", style="bold yellow").append(finding.sentence, style="not bold default")
        )
    step = verdict.next
    reason = step.reason + (" The report shows the file." if step.file_name else "")
    console.print(Text("\nNext: ").append(step.command, style="bold"))
    console.print(Padding(Text(reason, style="dim"), (0, 0, 1, 6)))
