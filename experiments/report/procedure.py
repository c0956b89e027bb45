"""The words of a procedure: its page, and the lines on the terminal."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.analysis.next_step import NextStep
from experiments.report.figure import Figure
from experiments.report.tables import Table


@dataclasses.dataclass(frozen=True)
class Noted:
    """One thing a procedure found.

    Attributes:
      text: a sentence.
      command: what answers it, "" where nothing does.
    """

    text: str
    command: str = ""


@dataclasses.dataclass(frozen=True)
class Said:
    """All that is shown of a procedure.

    Attributes:
      title: its name and subject.
      answer: one or two sentences.
      noted: findings and proposals, in order.
      next: the next command.
      facts: name -> text.
      tables, figures: shown in this order.
    """

    title: str
    answer: str
    noted: Sequence[Noted]
    next: NextStep
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()


def write_procedure_report(folder: Path | str, said: Said) -> Path:
    """Write ``folder/report/``: the page, every figure as PNG and PDF, its numbers as CSV."""
    from experiments.report.write import replace_report

    return replace_report(folder, lambda target: _build(said, target))


def _build(said: Said, target: Path) -> None:
    from experiments.report.write import write_figure

    for figure in said.figures:
        write_figure(figure, target)
    (target / "index.html").write_text(_page(said), encoding="utf-8")


def _page(said: Said) -> str:
    from experiments.report.document import document, figure_section, table_html

    items = "".join(
        f"<li>{html.escape(noted.text)}"
        + (f"<br><code>{html.escape(noted.command)}</code>" if noted.command else "")
        + "</li>"
        for noted in said.noted
    )
    facts = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd></div>"
        for name, text in said.facts.items()
    )
    command = f"<p>Next: <code>{html.escape(said.next.command)}</code></p>"
    text = said.next.file_text
    body = [
        f"<h1>{html.escape(said.title)}</h1>",
        f'<p class="answer">{html.escape(said.answer)}</p>',
        f'<ul class="findings">{items}</ul>' if items else "",
        f'<div class="next">{command if said.next.command else ""}'
        f'<p class="note">{html.escape(said.next.reason)}</p>'
        + (f"<pre>{html.escape(text)}</pre>" if text else "")
        + "</div>",
        *(figure_section(figure) for figure in said.figures),
        *(f"<h2>{html.escape(t.title)}</h2>{table_html(t)}" for t in said.tables),
        f'<h2>How it was done</h2><dl class="facts">{facts}</dl>',
    ]
    return document(said.title, "\n".join(body), said.figures)


def lines(said: Said) -> list[str]:
    """The lines that the terminal shows."""
    found = ["", said.title, said.answer, ""]
    for table in said.tables:
        found += [table.title, *aligned([table.columns, *table.rows], table.numeric), ""]
    for noted in said.noted:
        found.append(f"! {noted.text}")
        if noted.command:
            found.append(f"    {noted.command}")
    if said.next.command:
        found += ["", f"Next: {said.next.command}"]
    found.append(f"      {said.next.reason}")
    return found


def aligned(rows: Sequence[Sequence[str]], numeric: Sequence[bool]) -> list[str]:
    """Columns of one width each, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in rows
    ]
