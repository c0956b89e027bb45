"""Figures of where scaling changes: regime bands and borders, and the panel of definitions."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import polars as pl

from experiments.analysis.critical_batch_size import CriticalBatchSize
from experiments.analysis.definitions import OVERHEADS
from experiments.analysis.regimes import REGIMES
from experiments.analysis.summary import Summary
from experiments.report import style
from experiments.report.answer import hyperbola_words, sized
from experiments.report.figure import Figure, batch_axis, batch_domain, nothing, tooltips, values

_COLOURS = (style.GREEN, style.ORANGE, style.RED)
_ROW = 26


def _ends(estimate: CriticalBatchSize, low: float, high: float) -> float | None:
    """A border inside [low, high]; one that is only bounded lies at the end it is beyond."""
    if estimate.value is None:
        return None
    found = {"=": estimate.value, ">=": high, "<=": low}[estimate.relation]
    return float(np.clip(found, low, high))


def regime_bands(summary: Summary) -> list[alt.Chart]:
    """A band for each regime between the borders of the fitted curve."""
    low, high = batch_domain(summary.question.batch_sizes)
    first = _ends(summary.critical.limit, low, high)
    second = _ends(summary.critical.flat, low, high)
    if first is None or second is None:
        return []
    edges = (low, first, max(first, second), high)
    rows = [
        {"regime": name, "from": start, "to": end}
        for name, start, end in zip(REGIMES, edges[:-1], edges[1:], strict=True)
        if end > start
    ]
    legend = alt.Legend(orient="top", symbolOpacity=0.35, symbolType="square",
                        values=[row["regime"] for row in rows])  # fmt: skip
    colour = alt.Color("regime:N", title=None, legend=legend,
                       scale=alt.Scale(domain=list(REGIMES), range=list(_COLOURS)))  # fmt: skip
    chart = alt.Chart(alt.Data(values=rows)).mark_rect(opacity=0.13)
    return [chart.encode(x=alt.X("from:Q"), x2="to:Q", color=colour)]


def border_rules(summary: Summary, bottom: float, top: float, y: alt.Scale) -> list[alt.Chart]:
    """Both critical batch sizes with their ranges, where inside the axis."""
    low, high = batch_domain(summary.question.batch_sizes)
    found = ((summary.critical.limit, "end of perfect scaling"),
             (summary.critical.noise, "noise critical batch size"),
             (summary.critical.flat, "doubling saves less than 10% from"))  # fmt: skip
    rows: list[dict[str, Any]] = []
    for line, (estimate, words) in enumerate(found):
        value = estimate.value
        if value is not None and estimate.relation == "=" and low < value < high:
            height = bottom * (top / bottom) ** (0.97 - 0.07 * line)
            row = {"batch_size": value, "text": f"{words} {sized(value)}", "at": height}
            ends = estimate.low, estimate.high
            if ends[0] is not None and ends[1] is not None and ends != (0.0, np.inf):
                row |= {"low": max(ends[0], low), "high": min(ends[1], high)}
            rows.append(row)
    # The smaller's name to its left, the larger ones' to their right where there is room.
    rule = alt.Chart(alt.Data(values=rows)).mark_rule(strokeDash=[2, 3], opacity=0.9)
    layers = [rule.encode(x="batch_size:Q")]
    ranged = [row for row in rows if "low" in row]
    bar = alt.Chart(alt.Data(values=ranged)).mark_rule(strokeWidth=4, opacity=0.45)
    at = alt.Y("at:Q", scale=y)
    layers.append(bar.encode(x="low:Q", x2="high:Q", y=at))
    for place, row in enumerate(rows):
        share = np.log(row["batch_size"] / low) / np.log(high / low)
        left = share > 0.7 or (share > 0.3 and len(rows) > 1 and place == 0)
        beside = row.get("low", row["batch_size"]) if left else row.get("high", row["batch_size"])
        if not low * 3 < beside < high / 3:  # no room beside the range: beside the rule, above it
            beside = row["batch_size"]
        above = -9 if beside == row["batch_size"] and "low" in row else 0
        named = alt.Chart(alt.Data(values=[{**row, "beside": beside}])).encode(
            x="beside:Q", y=at, text="text:N"
        )
        side = {"align": "right", "dx": -6} if left else {"align": "left", "dx": 6}
        layers.append(named.mark_text(dy=above, **side))
    return layers


def definitions(summary: Summary) -> Figure:
    """The end of perfect scaling under each definition, one row a definition."""
    table = summary.critical.definitions if summary.critical.searches else pl.DataFrame()
    chart: alt.TopLevelMixin = nothing("too few batch sizes reached the goal")
    if len(table) and table["value"].null_count() < len(table):
        low, high = batch_domain(summary.question.batch_sizes)
        share = pl.format("{} %", (100 * pl.col("overhead")).round().cast(pl.Int64))
        rows = table.drop_nulls("value").with_columns(
            definition=pl.format("{}, {}", "curve", "points"),
            share=share,
            measured=pl.col("relation") == "=",
            bar_low=pl.col("low").clip(low, high),
            bar_high=pl.col("high").clip(low, high),
        )
        order = (
            table.select(pl.format("{}, {}", "curve", "points"))
            .to_series()
            .unique(maintain_order=True)
        )
        names = [f"{o:.0%}".replace("%", " %") for o in OVERHEADS]
        y = alt.Y("definition:N", title=None, sort=order.to_list(),
                  axis=alt.Axis(labelLimit=300, grid=True))  # fmt: skip
        offset = alt.YOffset("share:N", sort=names)
        scale = alt.Scale(domain=names, range=style.batch_colours(len(names)))
        colour = alt.Color("share:N", title="more examples", sort=names, scale=scale)
        x = batch_axis(summary.question.batch_sizes)
        base = alt.Chart(values(rows)).encode(y=y, yOffset=offset, color=colour)
        hover = [alt.Tooltip("definition:N"), alt.Tooltip("relation:N"),
                 *tooltips(("value", "low", "high"), value="batch size")]  # fmt: skip
        at = alt.X("value:Q", title="batch size", scale=x["scale"], axis=x["axis"])
        point = base.encode(x=at, tooltip=hover)
        chart = alt.layer(
            base.mark_rule(strokeWidth=2, opacity=0.6).encode(
                x=alt.X("bar_low:Q", scale=x["scale"]), x2="bar_high:Q"
            ),
            point.transform_filter("datum.measured").mark_point(filled=True, size=45, opacity=1),
            point.transform_filter("!datum.measured").mark_point(size=45, opacity=1),
        ).properties(width=560, height=_ROW * 2 * len(order))
    return Figure(
        "definitions",
        "How the critical batch sizes move with their definition",
        "The batch size from which a batch needs 10, 20, 50 or 100% more examples than perfect "
        "scaling, by the curve of free sharpness (at 20% with all points: the headline), by the "
        "hyperbola (at 100%, where both steps and examples are doubled: the noise critical batch "
        "size), by any convex curve, and point by point from one batch size; and the same without "
        f"one end.{hyperbola_words(summary)} Rings: only bounded, at the end of what was "
        "measured.",
        chart,
        table,
    )
