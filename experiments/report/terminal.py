"""Tables that the command line prints of a study, at most 80 columns wide.

Rich is imported when something is printed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from experiments.analysis.checks import checks_of
from experiments.analysis.question import StudyRecord
from experiments.analysis.regimes import DIMINISHING, FLAT, PERFECT
from experiments.analysis.searches import counted_trials
from experiments.analysis.steps_to_result import COUNTED_TO_RESULT
from experiments.analysis.summary import Summary, summarise, summary_of
from experiments.analysis.view import View
from experiments.report.answer import (
    CONDITIONS,
    answer,
    certainty,
    estimated,
    hyperbola_words,
    interval_name,
    step_interval,
    steps_text,
    value_interval,
)
from experiments.report.cost_words import least_words
from experiments.report.facts import micro_batches, stopping
from experiments.report.repeats import repeat_table, repeat_words
from experiments.report.tables import csv_table, hyperparameter_table
from experiments.report.words import budget_words, goal_words, metric_title
from experiments.report.write import write_csv
from workloads.base import Goal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_COLOURS = {PERFECT: "green", DIMINISHING: "yellow", FLAT: "red"}
_SHORT = {PERFECT: "perfect", DIMINISHING: "diminishing", FLAT: "maximal"}


def print_summary(record: StudyRecord | Summary, console: Console | None = None) -> None:
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
    for line in least_words(summary):
        console.print(Text(line))
    console.print()
    console.print(_hyperparameter_table(summary))
    print_repeats(summary, console)
    if words := stopping(summary):
        console.print(f"[dim]stopping: {words}[/]")
    if words := micro_batches(summary.record.study):
        console.print(f"[dim]micro-batches: {words}[/]")
    _print_verdict(summary, console)


def print_steps_to_result(
    record: StudyRecord | View, goal: float | Goal | None = None, console: Console | None = None
) -> None:
    """Steps to result for the recorded goal or another one (ValueError: see `View`)."""
    _print_steps(summarise(record, goal), console or _console())


def write_steps_to_result_csv(
    record: StudyRecord | View, goal: float | Goal | None, path: Path | str
) -> None:
    """Steps to result as CSV; empty where censored.

    Columns: batch_size, steps_to_result, trial, evaluated_before, complete, infeasible,
    incomplete, censored_at, seed, goal, best_value, then lines, overheads and the regime of the
    search, then what the searches of the batch size say together (``across_*``).
    """
    write_csv(csv_table(summarise(record, goal)), path)


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
    from rich.text import Text

    question, several = summary.question, summary.searches > 1
    counted = COUNTED_TO_RESULT in summary.steps.columns
    table = _table(f"Steps to result: {goal_words(question)}")
    heads = ["batch", "steps", "range" if several else "limit"]
    heads += ["pooled"] if several and not counted else []
    counts = "counted" if summary.view.stops else "complete"  # a divergence may count as well
    counts = "started" if summary.view.prunes else counts
    heads += [*(["evals"] if counted else []), "vs line", "regime", counts, "infeas."]
    if several and counted:
        heads.remove("vs line")  # all of them do not fit
    for head in heads:
        table.add_column(head, justify="left" if head == "regime" else "right", no_wrap=True)
    evaluations = _evaluations(summary) if counted else {}
    for row in summary.curve.iter_rows(named=True):
        cells = {"batch": f"{row['batch_size']}", "infeas.": f"{row['infeasible']}"}
        cells |= {"evals": evaluations.get(row["batch_size"], ""), **_step_cells(row)}
        planned = summary.view.wanted * max(row["searches"], 1)
        cells[counts] = f"{counted_trials(summary.view, row)}"
        cells[counts] += f" of {planned}" if row["missing"] else ""
        table.add_row(*(cells.get(head, "") for head in heads))
    console.print(table)
    for line in _legend(summary, counted):
        console.print(Text(line, style="dim"))
    found = summary.critical
    console.print(f"End of perfect scaling: [bold]{estimated(found.limit)}[/]")
    console.print(f"  were the curve a hyperbola: {estimated(found.hyperbola)}")
    console.print(f"  by any convex curve: {estimated(found.convex)}")
    console.print(f"  anchored at the smallest batch size: {estimated(found.anchored)}")
    console.print(f"Noise critical batch size: [bold]{estimated(found.noise)}[/]")
    if words := hyperbola_words(summary):
        console.print(Text(f" {words}", style="dim"))
    console.print(f"Fewest examples at batch size: {estimated(found.cheapest)}")


def _legend(summary: Summary, counted: bool) -> list[str]:
    several = summary.searches > 1
    steps = "steps: first evaluation past the goal, of any trial"
    lines = [f"{steps}; median of the searches" if several else steps]
    lines.append(f"{interval_name(summary)}: {certainty(summary)}")
    if several and not counted:
        lines.append("pooled: the fewest steps of all trials, the best known, without an interval")
    if counted:
        lines.append(
            "evals: fewest function evaluations to it (loss, gradient or Hessian-vector product)"
        )
    line = "the curve fitted to all batch sizes"
    if summary.critical.least_examples is None:
        line = "the smallest batch size that got there"
    if not (several and counted):
        lines.append(f"vs line: examples, over those of perfect scaling by {line}")
    if several:
        lines.append("regime?: not all searches put the batch size there")
    if summary.curve["censored_at"].null_count() < len(summary.curve):
        lines.append(">: not reached by that step")
    return [*lines, CONDITIONS]


def _evaluations(summary: Summary) -> dict[int, str]:
    fewest = summary.steps.group_by("batch_size").agg(pl.col(COUNTED_TO_RESULT).min())
    return {b: "" if made is None else f"{made:,}" for b, made in fewest.rows()}


def _step_cells(row: dict) -> dict[str, str]:
    pooled = {"pooled": "" if row["pooled"] is None else f"{row['pooled']:,}"}
    if row["median"] is None:
        if row["censored_at"] is None:
            return {"steps": "-", "regime": "[dim]no trials[/]"}
        ends = {"range": step_interval(row) if row["pooled"] is not None else ""}
        return {"steps": f"> {row['censored_at']:,}", "regime": "[dim]not reached[/]",
                **ends, **pooled}  # fmt: skip
    regime, cells = row["regime"], {"steps": steps_text(row["median"]), **pooled}
    cells |= dict.fromkeys(("range", "limit"), step_interval(row))
    if row["over_line"] is not None:
        cells["vs line"] = f"{row['over_line']:.3g}x"
    if regime is not None:
        doubt = "" if row["regime_agreed"] else "?"
        cells["regime"] = f"[{_COLOURS[regime]}]{_SHORT[regime]}{doubt}[/]"
    return cells


def _budget_table(summary: Summary) -> Table:
    question, ends = summary.question, "range" if summary.searches > 1 else "limit"
    across = summary.budgets_across
    table = _table(f"Best {metric_title(question)} under each budget")
    for head in ("batch", "step budget", ends, "epoch budget", ends):
        table.add_column(head, justify="right", no_wrap=True)
    best = across.group_by("budget").agg(question.goal.best(pl.col("median")))
    winners = dict(best.rows())
    found = {(row["budget"], row["batch_size"]): row for row in across.iter_rows(named=True)}
    for batch_size in question.batch_sizes:
        cells = [f"{batch_size}"]
        for budget in ("step", "epoch"):
            row = found.get((budget, batch_size))
            if row is None or row["median"] is None:
                cells += ["-", ""]
                continue
            text = f"{row['median']:.4g}"
            top = row["median"] == winners[budget]
            cells += [f"[bold green]{text}[/]" if top else text, value_interval(row)]
        table.add_row(*cells)
    return table


def print_repeats(summary: Summary, console: Console | None = None) -> None:
    """The steps of the best configurations trained again; nothing where none was."""
    from rich.text import Text

    if summary.repeated is None:
        return
    console = console or _console()
    cells = repeat_table(summary)
    table = _table(cells.title)
    for head in cells.columns:
        table.add_column(head.replace("batch size", "batch"), justify="right")
    for row in cells.rows:
        table.add_row(*row)
    console.print()
    console.print(table)
    console.print(Text(f"two quantities, not one: {repeat_words(summary)}", style="dim"))


def _hyperparameter_table(summary: Summary) -> Table:
    cells = hyperparameter_table(summary)
    table = _table(cells.title)
    heads = [name.replace("effective learning rate", "lr/(1-m)") for name in cells.columns]
    kept = [at for at, head in enumerate(heads) if summary.searches <= 1 or head not in _WIDE]
    for at in kept:
        table.add_column(heads[at].replace("batch size", "batch"), justify="right")
    for row in cells.rows:
        table.add_row(*(row[at] for at in kept))
    return table


_WIDE = ("at step", "lr/(1-m)")
"""Columns of the best trial that make way for the range of the searches."""


def _print_verdict(summary: Summary, console: Console) -> None:
    from rich.padding import Padding
    from rich.text import Text

    for check in checks_of(summary.question, summary.verdict):
        weight = Text(f"! {check.severity}: ", style="bold yellow")
        console.print(weight.append(check.sentence, style="not bold default"))
    step = summary.verdict.next
    reason = step.reason + (" The report shows the file." if step.file_name else "")
    if step.command:
        console.print(Text("\nNext: ").append(step.command, style="bold"))
    console.print(Padding(Text(reason, style="dim"), (0, 0, 1, 6)))
