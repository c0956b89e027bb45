"""The figure of the best configurations trained again; nothing where none was."""

from __future__ import annotations

import altair as alt
import polars as pl

from experiments.analysis.repeats import Repeated
from experiments.analysis.summary import Summary
from experiments.report import style
from experiments.report.answer import interval_name
from experiments.report.figure import (
    Figure,
    batch_axis,
    extent,
    nothing,
    padded,
    round_ticks,
    tooltips,
    values,
)
from experiments.report.repeats import repeat_words
from experiments.report.words import goal_words

SEARCHES, AGAIN, SELECTED = "searches", "best configuration again", "the trial that selected it"
_COLOURS = {SEARCHES: style.BLUE, AGAIN: style.ORANGE, SELECTED: style.GREY}


def repeat_figures(summary: Summary) -> list[Figure]:
    """Both curves, and how much of the distance between them is selection."""
    return [] if summary.repeated is None else [_figure(summary, summary.repeated)]


def _figure(summary: Summary, found: Repeated) -> Figure:
    rows = pl.concat(
        [
            summary.curve.select(
                pl.lit(SEARCHES).alias("curve"), "batch_size", pl.col("median").alias("steps"),
                "low", "high",
            ),
            found.table.select(
                pl.lit(AGAIN).alias("curve"), "batch_size", pl.col("median").alias("steps"),
                "low", "high",
            ),
            found.table.select(
                pl.lit(SELECTED).alias("curve"), "batch_size",
                pl.col("selected").cast(pl.Float64).alias("steps"), low=None, high=None,
            ),
        ],
        how="vertical_relaxed",
    )  # fmt: skip
    return Figure(
        "repeats",
        "The best configuration, trained again",
        f"Two quantities, not one. Blue: steps to {goal_words(summary.question)} that a search "
        f"needs, the least of its trials (median of the searches; bars: their "
        f"{interval_name(summary)}). Orange: steps that one configuration needs, the best of all "
        "trials, with fresh seeds (median; bars: its exact interval). Grey: the trial that "
        f"selected it. {repeat_words(summary)}",
        _chart(summary, rows, found.table),
        found.table,
    )


def _chart(summary: Summary, rows: pl.DataFrame, table: pl.DataFrame) -> alt.TopLevelMixin:
    ends = extent(pl.concat([rows[name] for name in ("steps", "low", "high")]))
    if ends is None:
        return nothing("no repeat has reached the goal")
    domain = padded(max(ends[0], 0.5), ends[1], True)
    y = alt.Scale(type="log", base=2, domain=domain, nice=False)
    x = batch_axis(summary.question.batch_sizes)
    colour = alt.Color(
        "curve:N", title=None, legend=alt.Legend(orient="top"),
        scale=alt.Scale(domain=list(_COLOURS), range=list(_COLOURS.values())),
    )  # fmt: skip
    bars = rows.drop_nulls(["low", "high"]).with_columns(pl.col("low", "high").clip(*domain))
    steps = alt.Y("steps:Q", title="steps to result", scale=y, axis=alt.Axis(format=",d"))
    hover = [alt.Tooltip("curve:N"), *tooltips(("batch_size", "steps", "low", "high"))]
    base = alt.Chart(values(rows.drop_nulls("steps"))).encode(x=x, color=colour)
    curves = alt.layer(
        alt.Chart(values(bars)).mark_rule(strokeWidth=3, opacity=0.35, clip=True).encode(
            x=x, color=colour, y=alt.Y("low:Q", scale=y, title=None), y2="high:Q"
        ),
        base.mark_line(strokeWidth=1.3, opacity=0.7).encode(y=steps),
        base.mark_point(filled=True, size=45, opacity=1).encode(y=steps, tooltip=hover),
    ).properties(width=470, height=330)  # fmt: skip
    known = table.drop_nulls("selection")
    if known.is_empty():
        return curves
    low, high = extent(known["selection"]) or (1.0, 1.0)
    factor = padded(min(low, 1.0), max(high, 1.1), True)
    ticks = round_ticks(factor[0], factor[1]) or [1.0]
    up = alt.Y(
        "selection:Q",
        title="typical repeat over the trial that selected it",
        scale=alt.Scale(type="log", domain=factor, nice=False),
        axis=alt.Axis(values=ticks, format=".2~f"),
    )
    effect = alt.Chart(values(known)).encode(x=x)
    one = alt.Chart(alt.Data(values=[{"selection": 1}])).mark_rule(strokeDash=[5, 4])
    shown = alt.layer(
        one.encode(y=up),
        effect.mark_line(color=style.ORANGE, strokeWidth=1.3, opacity=0.7).encode(y=up),
        effect.mark_point(filled=True, color=style.ORANGE, size=45, opacity=1).encode(
            y=up, tooltip=tooltips(("batch_size", "selected", "median", "selection"))
        ),
    ).properties(width=270, height=330, title="Selection effect")
    return alt.hconcat(curves, shown, spacing=30)
