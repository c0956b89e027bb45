"""Power laws of critical batch sizes, on the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import polars as pl

from experiments.analysis.power_laws import value_of
from experiments.analysis.summary import Summary
from experiments.report.answer import estimated

if TYPE_CHECKING:
    from rich.console import Console


def print_power_laws(
    members: Mapping[str, Summary], table: pl.DataFrame, key: str, console: Console | None = None
) -> None:
    """The critical batch sizes of every study, and their exponents in ``key`` with ranges."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = console or Console(highlight=False)
    rows = Table(box=None, pad_edge=False)
    for name in ("study", key, "goal", "noise critical batch size", "end by a convex curve"):
        rows.add_column(name, justify="left" if name == "study" else "right")
    for label, summary in members.items():
        rows.add_row(
            label, f"{value_of(summary, key):g}", f"{summary.question.goal.value:g}",
            estimated(summary.critical.noise), estimated(summary.critical.convex),
        )  # fmt: skip
    console.print(rows)
    for row in table.iter_rows(named=True):
        console.print(Text(_sentence(row, key)))
    goals = {(s.question.goal.column, s.question.goal.value) for s in members.values()}
    if len(goals) > 1 and key != "goal":
        console.print(Text("The studies have other goals: their critical batch sizes differ by "
                           "that too.", style="dim"))  # fmt: skip


def _sentence(row: Mapping[str, float | str | None], key: str) -> str:
    name = str(row["quantity"])
    if row["median"] is None:
        return f"{name}: no exponent, because a study of each seed has no such batch size."
    text = f"{name} ~ {key}^{row['median']:.2f}"
    if row["low"] is None:
        return f"{text} (one search of each study, no range)"
    low, high = float(row["low"]), float(row["high"])  # type: ignore[arg-type]
    if math.isinf(low):
        return f"{text} (range open: some seeds have no such batch size)"
    covers = 100 * float(row["coverage"])  # type: ignore[arg-type]
    return f"{text} (range of {row['searches']} seeds {low:.2f} to {high:.2f}, {covers:.3g}%)"
