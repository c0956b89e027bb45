"""Power laws of critical batch sizes, on the terminal and as a page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import altair as alt
import polars as pl

from experiments.analysis.power_laws import QUANTITIES as _NUMBERS
from experiments.analysis.power_laws import value_of
from experiments.analysis.summary import Summary
from experiments.report.answer import bounded, estimated, size_range
from experiments.report.figure import Figure, extent, log_axis, nothing, tooltips, values
from experiments.report.plain_page import PlainPage
from experiments.report.tables import Table

if TYPE_CHECKING:
    from rich.console import Console


QUANTITIES = tuple(_NUMBERS)


def print_power_laws(
    members: Mapping[str, Summary], table: pl.DataFrame, key: str, console: Console | None = None
) -> None:
    """The critical batch sizes of every study, and their exponents in ``key`` with ranges."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = console or Console(highlight=False)
    rows = Table(box=None, pad_edge=False)
    for name in ("study", key, "goal", "end of perfect scaling", "noise critical batch size"):
        rows.add_column(name, justify="left" if name == "study" else "right")
    for label, summary in members.items():
        rows.add_row(
            label, f"{value_of(summary, key):g}", f"{summary.question.goal.value:g}",
            estimated(summary.critical.limit), estimated(summary.critical.noise),
        )  # fmt: skip
    console.print(rows)
    for row in table.iter_rows(named=True):
        console.print(Text(_sentence(row, key)))
    if words := _goals(members, key):
        console.print(Text(words, style="dim"))


def _goals(members: Mapping[str, Summary], key: str) -> str:
    goals = {(s.question.goal.column, s.question.goal.value) for s in members.values()}
    if len(goals) < 2 or key == "goal":
        return ""
    return "The studies have other goals: their critical batch sizes differ by that too."


def estimates(members: Mapping[str, Summary], key: str) -> pl.DataFrame:
    """One row a study and quantity: ``study, KEY, quantity, batch_size, relation, low, high``."""
    rows = [
        (label, value_of(summary, key), name, found.value, found.relation, found.low, found.high)
        for label, summary in members.items()
        for name, found in ((QUANTITIES[0], summary.critical.limit),
                            (QUANTITIES[1], summary.critical.noise),
                            (QUANTITIES[2], summary.critical.convex))
    ]  # fmt: skip
    floats = dict.fromkeys(("low", "high"), pl.Float64)
    schema = {"study": pl.String, key: pl.Float64, "quantity": pl.String, "batch_size": pl.Float64,
              "relation": pl.String, **floats}  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row")


def power_law_page(members: Mapping[str, Summary], table: pl.DataFrame, key: str) -> PlainPage:
    """The page of the exponents of ``power_laws``, with the figure behind them."""
    facts = [(row["quantity"], _sentence(row, key)) for row in table.iter_rows(named=True)]
    if words := _goals(members, key):
        facts.append(("goals", words))
    held = estimates(members, key)
    cells = [
        (row["study"], f"{row[key]:g}", row["quantity"],
         bounded(row["batch_size"], row["relation"]),
         "" if row["low"] is None else size_range(row["low"], row["high"]))
        for row in held.iter_rows(named=True)
    ]  # fmt: skip
    columns = ("study", key, "", "batch size", "range of searches")
    shown = Table("estimates", "Critical batch sizes", columns, tuple(cells),
                  (False, True, False, True, True))  # fmt: skip
    title = f"Critical batch sizes against {key}"
    return PlainPage(title, facts, shown, table, [_figure(held, key)])


def _figure(held: pl.DataFrame, key: str) -> Figure:
    shown = held.filter((pl.col("relation") == "=") & (pl.col("batch_size") > 0))
    chart: alt.TopLevelMixin = nothing("no study has a critical batch size inside its batch sizes")
    if ends := extent(shown["batch_size"]):
        bars = shown.drop_nulls(["low", "high"])
        bars = bars.with_columns(pl.col("low", "high").clip(ends[0] / 8, 8 * ends[1]))
        drawn = pl.concat([shown["batch_size"], bars["low"], bars["high"]])
        y = log_axis("batch_size:Q", "batch size", drawn)
        x = alt.X(f"{key.replace('.', '_')}:Q", title=key,
                  scale=alt.Scale(type="log", nice=False, padding=20))  # fmt: skip
        colour = alt.Color("quantity:N", title=None, sort=list(QUANTITIES),
                           legend=alt.Legend(orient="top", columns=1, labelLimit=400,
                                             symbolOpacity=1))  # fmt: skip
        named = {key: key.replace(".", "_")}
        base = alt.Chart(values(shown.rename(named))).encode(x=x, y=y, color=colour)
        hover = [alt.Tooltip("study:N"), *tooltips(("batch_size", "low", "high"))]
        chart = alt.layer(
            alt.Chart(values(bars.rename(named))).mark_rule(strokeWidth=3, opacity=0.25).encode(
                x=x, color=colour, y2="high:Q",
                y=alt.Y("low:Q", scale=y["scale"], title=y["title"]),
            ),
            base.mark_line(strokeWidth=1.5, opacity=0.8),
            base.mark_point(filled=True, size=50, opacity=1).encode(tooltip=hover),
        ).properties(width=560, height=340)  # fmt: skip
    return Figure(
        "power_laws",
        f"Critical batch sizes against {key}",
        "The median of the searches of every study, with their exact range (bars; cut at a factor "
        "of eight beyond the points). Both axes are logarithmic: a power law is a straight line. "
        "Bounds alone are left out.",
        chart,
        held,
    )


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
