"""A page of facts, one table of numbers and some figures, with their files. Imports no jax."""

from __future__ import annotations

import dataclasses
import functools
import html
import shlex
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from experiments.report.document import document, figure_section, table_html
from experiments.report.figure import Figure
from experiments.report.tables import Table
from experiments.report.write import PAGE, replace_report, write_figure


@dataclasses.dataclass(frozen=True)
class PlainPage:
    """The content of a page.

    Attributes:
      title: its heading.
      facts: (name, value) of what was measured.
      shown: the numbers as text.
      numbers: the same as data, written as CSV.
      figures: in their order.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    shown: Table
    numbers: pl.DataFrame
    figures: Sequence[Figure]


def write_plain(folder: Path, page: PlainPage, command: Sequence[str]) -> Path:
    """Write ``folder/report/``, each file whole, and return its page.

    Raises:
      DiskError: the folder cannot be written; ``command`` makes it again.
    """
    return replace_report(folder, functools.partial(_build, page), shlex.join(command))


def _build(page: PlainPage, target: Path) -> None:
    (target / "data").mkdir()
    page.numbers.write_csv(target / "data" / "numbers.csv")
    for figure in page.figures:
        write_figure(figure, target)
    (target / PAGE).write_text(_html(page), encoding="utf-8")


def _html(page: PlainPage) -> str:
    known = Table("facts", "What was measured", ("", ""), tuple(page.facts), (False, False))
    body = [
        f"<h1>{html.escape(page.title)}</h1>",
        table_html(known),
        '<h2 id="numbers">Numbers</h2>',
        '<p class="files"><a href="data/numbers.csv">CSV</a></p>',
        table_html(page.shown),
        *map(figure_section, page.figures),
    ]
    return document(page.title, "\n".join(body), page.figures)
