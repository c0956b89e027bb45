"""The joint page of a comparison: who is best at every batch size, and how sure that is."""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from experiments.analysis.compare import (
    Compared,
    Winner,
    best_value,
    fewest_steps,
    read_compared,
)
from experiments.analysis.inclusion import paired_ratios
from experiments.analysis.steps_to_result import COUNTED_TO_RESULT
from experiments.report.answer import CONDITIONS, certainty, interval_name, steps_text
from experiments.report.comparing import (
    comparing_figures,
    ratio_table,
    score_cells,
    told_words,
)
from experiments.report.comparison_figures import comparison_figures
from experiments.report.document import document, figure_section, table_html
from experiments.report.figure import Figure
from experiments.report.rates_compared import rate_figures, rate_table
from experiments.report.tables import Table
from experiments.report.words import budget_words, goal_words, label, metric_title
from experiments.report.write import replace_report, write_figure
from experiments.spec import space as spaces

if TYPE_CHECKING:
    from rich.console import Console

_SHORT = {
    "batch size": "batch", "steps to result": "steps", "function evaluations": "evaluations",
    "best value": "best", "infeasible": "infeas.",
}  # fmt: skip
"""Heads of columns on the terminal."""


def write_comparison_report(folder: Path | str, compared: Compared | None = None) -> Path:
    """Writes ``folder/report/`` from the records alone; returns the path of its index.html.

    ``compared``: what `read_compared` found in ``folder``, where it is at hand.
    """
    compared = compared or read_compared(folder)
    figures = [*comparison_figures(compared), *rate_figures(compared)]
    figures += comparing_figures(compared)

    def build(target: Path) -> None:
        for figure in figures:
            write_figure(figure, target)
        (target / "index.html").write_text(comparison_page(compared, figures), encoding="utf-8")

    return replace_report(folder, build)


def answers(compared: Compared) -> list[str]:
    """A sentence a batch size: who is ahead, and who cannot be told apart from it."""
    sentences = []
    for batch_size in compared.shared.batch_sizes:
        steps, best = fewest_steps(compared, batch_size), best_value(compared, batch_size)
        parts = [f"At batch size {batch_size:,}"]
        if steps is None:
            parts.append(f"nobody reached {goal_words(compared.shared)}")
        else:
            parts.append(
                f"{steps.label} needs the fewest steps to {goal_words(compared.shared)}, "
                f"{steps_text(steps.value)}{_near(steps)}"
            )
        if best is not None:
            parts.append(
                f"the best {metric_title(compared.shared)} is {best.label}'s, "
                f"{best.value:.4g}{_near(best)}"
            )
        sentences.append(parts[0] + " " + "; ".join(parts[1:]) + ".")
    return sentences


def _near(winner: Winner) -> str:
    if winner.high is None:
        return ""
    within = f" (another search within {winner.high:,.4g}"
    if np.isinf(winner.high):
        within = " (another search may not get there"
    return (
        f"{within}; so {', '.join(winner.near)} cannot be told apart)"
        if winner.near
        else f"{within})"
    )


def _workloads(compared: Compared) -> str:
    """'digits_fc on digits', or the names where they differ."""
    names = dict.fromkeys(m.question.workload.name for m in compared.members.values())
    return f"{', '.join(names)} on {compared.shared.workload.dataset}"


def comparison_page(compared: Compared, figures: list[Figure]) -> str:
    """The whole document."""
    shared = compared.shared
    lines = "".join(f'<p class="answer">{html.escape(text)}</p>' for text in answers(compared))
    expected = (
        f'<p class="note">Expected: {html.escape(compared.expected)}</p>'
        if compared.expected
        else ""
    )
    member = next(iter(compared.members.values()))
    certain = f"{interval_name(member)} ('to' in the table): {certainty(member)}"
    budget = (
        f"{compared.counted} of each at every batch size, every one in its own search space; "
        f"{budget_words(shared, 'step')}, {budget_words(shared, 'epoch')}; "
        f"{_workloads(compared)}. {certain[0].upper()}{certain[1:]}. "
        f"{CONDITIONS}"
    )
    notes = [(name, "not run yet") for name in compared.missing] + compared.findings()
    items = "".join(
        f"<li><b>{html.escape(name)}</b>: {html.escape(text)}</li>" for name, text in notes
    )
    told = "".join(f"<p>{html.escape(text)}</p>" for text in told_words(compared))
    weak = f'<ul class="findings">{items}</ul>' if items else "<p>No check speaks against it.</p>"
    sections = [figure_section(figures[0], table_html(joint_table(compared)))]
    sections += [figure_section(figure, *_after(compared, figure)) for figure in figures[1:]]
    body = (
        f'<p class="name">{html.escape(compared.name)}</p>\n'
        f"<h1>{html.escape(compared.question)}</h1>\n{lines}{expected}"
        f'<p class="caption">{html.escape(budget)}</p>'
        f"<h2>What to make of it</h2>{told}{weak}{''.join(sections)}"
        f"{_inclusion_section(compared)}"
        f"<h2>Search spaces</h2>{table_html(space_table(compared))}"
    )
    return document(f"{compared.name}: a comparison", body, figures)


def _after(compared: Compared, figure: Figure) -> list[str]:
    """The tables that follow a figure."""
    tables = {"ratios": ratio_table, "profiles": score_cells, "value_against_rate": rate_table}
    table = tables[figure.name](compared) if figure.name in tables else None
    return [] if table is None else [table_html(table)]


def joint_table(compared: Compared) -> Table:
    """Steps to result and best value, a row a member and batch size."""
    rows = []
    counted = COUNTED_TO_RESULT in compared.table.columns
    for row in compared.table.sort("batch_size", maintain_order=True).iter_rows(named=True):
        steps, upper, best, worse = _cells(row)
        made = row[COUNTED_TO_RESULT] if counted else None
        evaluations = [f"{made:,}" if made is not None else ""] if counted else []
        rows.append((f"{row['batch_size']:,}", row["label"], steps, upper, *evaluations, best,
                     worse, f"{row['complete']:,}", f"{row['infeasible']:,}"))  # fmt: skip
    columns = ("batch size", "", "steps to result", "to",
               *(["function evaluations"] if counted else []), "best value", "to", "trials",
               "infeasible")  # fmt: skip
    numeric = tuple(number != 1 for number in range(len(columns)))
    return Table("comparison", "Comparison", columns, tuple(rows), numeric)


def _cells(row: dict) -> tuple[str, str, str, str]:
    """Steps, the unlucky end of their interval, best value, the unlucky end of its interval."""
    if row["steps_to_result"] is None:
        steps = "-" if row["censored_at"] is None else f"> {row['censored_at']:,}"
        upper = ""
    else:
        steps = steps_text(row["steps_to_result"])
        high = row["steps_high"]
        upper = "" if high is None else "never" if np.isinf(high) else steps_text(high)
    if row["best_value"] is None:
        return steps, upper, "-", ""
    worst = row["best_worst"]
    far = "" if worst is None else "unknown" if np.isinf(worst) else f"{worst:.4g}"
    return steps, upper, f"{row['best_value']:.4g}", far


def inclusion_table(compared: Compared) -> Table:
    """Steps of general rules over those of their special cases; no rows where no pair is there."""
    rows = []
    for row in paired_ratios(compared.members).iter_rows(named=True):
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.3g}"
        ends = "" if row["low"] is None else f"{row['low']:.3g} to {_ratio(row['high'])}"
        rows.append(
            (row["general"], row["special"], f"{row['batch_size']:,}", ratio, ends,
             f"{row['searches']}")
        )  # fmt: skip
    columns = ("general", "special case", "batch size", "ratio of steps", "range", "searches")
    numeric = (False, False, True, True, True, True)
    return Table("inclusion", "The cost of a larger search", columns, tuple(rows), numeric)


def _ratio(value: float) -> str:
    return "never" if np.isinf(value) else f"{value:.3g}"


def _inclusion_section(compared: Compared) -> str:
    """The table with what it says, or nothing."""
    table = inclusion_table(compared)
    if not table.rows:
        return ""
    note = (
        "The space of a general rule holds its special case, so that with endless trials no ratio "
        "is above 1; what is above it is the cost of searching more dimensions with equal trials. "
        "Ratios are paired by search; the range covers their median as those of the steps do."
    )
    return f"<h2>{table.title}</h2><p>{note}</p>{table_html(table)}"


def space_table(compared: Compared) -> Table:
    """The searched ranges of each member."""
    rows = []
    for name, summary in compared.members.items():
        ranges = "; ".join(f"{label(n)} {_range(d)}" for n, d in summary.question.space.items())
        rows.append((name, f"{len(summary.question.space)}", ranges))
    columns = ("", "hyperparameters searched", "ranges")
    return Table("spaces", "Search spaces", columns, tuple(rows), (False, True, False))


def _range(distribution: spaces.Distribution) -> str:
    if isinstance(distribution, spaces.Choice):
        return "one of " + ", ".join(map(str, distribution.values))
    scale = distribution.scale.replace("_", " ")
    zero = "0 or " if isinstance(distribution, spaces.ZeroOrLog) else ""
    return f"{zero}{distribution.low:g} to {distribution.high:g} ({scale})"


def print_comparison(compared: Compared, console: Console | None = None) -> None:
    """Answers, the joint table and what weakens them, in 80 columns."""
    from rich.console import Console
    from rich.text import Text

    console = console or Console(highlight=False)
    console.print(Text(compared.question, style="bold"))
    for sentence in answers(compared):
        console.print(Text(sentence))
    _print_table(joint_table(compared), console)
    if len(compared.members) > 1:
        for cells in (ratio_table(compared), score_cells(compared)):
            _print_table(cells, console)
        for sentence in told_words(compared):
            console.print(Text(sentence, style="dim"))
    inclusion = inclusion_table(compared)
    if inclusion.rows:
        _print_table(inclusion, console)
    for name, sentence in compared.findings():
        warning = Text("! ", style="bold yellow")
        console.print(warning.append(f"{name}: {sentence}", style="not bold default"))


def _print_table(cells: Table, console: Console) -> None:
    from rich.table import Table as RichTable

    table = RichTable(box=None, pad_edge=False, title=cells.title, title_justify="left")
    for name, numeric in zip(cells.columns, cells.numeric, strict=True):
        table.add_column(_SHORT.get(name, name), justify="right" if numeric else "left")
    for row in cells.rows:
        table.add_row(*row)
    console.print()
    console.print(table)
