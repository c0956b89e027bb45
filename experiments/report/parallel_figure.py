"""The best trials of every batch size in parallel coordinates (Inselberg 1985)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import altair as alt
import polars as pl

from experiments.analysis.best_hyperparameters import EFFECTIVE
from experiments.analysis.summary import Summary
from experiments.report import style
from experiments.report.figure import (
    IS_SELECTED,
    KEY,
    NOT_SEARCHED,
    Figure,
    batch_colour,
    nothing,
    selectable,
    tooltips,
    values,
)
from experiments.report.trials import trials_table
from experiments.report.words import label, metric_title
from experiments.spec.space import Choice

MOST = 100
"""Trials drawn; more are a carpet."""
_VALUE = "best_value"


def parallel(summary: Summary) -> Figure:
    """A line a trial across its hyperparameters to its best value."""
    table = best_of_each(summary)
    names = [n for n in summary.question.space if n in table.columns and n != EFFECTIVE]
    chart: alt.TopLevelMixin = nothing(NOT_SEARCHED) if names else nothing()
    if names and len(table):
        chart = selectable(_chart(summary, table, [*names, _VALUE]))
    each = math.ceil(MOST / max(1, len(summary.question.batch_sizes)))
    return Figure(
        "parallel",
        "The best trials across their hyperparameters",
        f"A line a trial: the best {each} or so of each batch size by "
        f"{metric_title(summary.question)} at any evaluation, {MOST} at most, each axis "
        "on the scale that was searched. Lines that "
        "come together on an axis say that the best trials agree there; lines that spread, that "
        "it matters less. Click a line to select its trial.",
        chart,
        table,
    )


def best_of_each(summary: Summary) -> pl.DataFrame:
    """The best trials of every batch size by value, `MOST` in all, rows of `trials_table`."""
    sizes = max(1, len(summary.question.batch_sizes))
    rank = summary.question.goal.sign * pl.col(_VALUE)
    found = trials_table(summary).filter(pl.col(_VALUE).is_not_null())
    found = found.sort("batch_size", rank, "seed", "trial")
    place = pl.int_range(pl.len()).over("batch_size")
    return found.filter(place < math.ceil(MOST / sizes)).sort(rank, KEY).head(MOST)


def _chart(summary: Summary, table: pl.DataFrame, names: list[str]) -> alt.LayerChart:
    ends, rows = [], []
    for place, name in enumerate(names):
        axis = _axis(summary, table, name)
        ends.append({"place": place, "name": axis.title, "low": axis.low, "high": axis.high,
                     "bottom": 0, "top": 1})  # fmt: skip
        rows.append(table.select(KEY, "batch_size", "seed", "trial", _VALUE,
                                 pl.lit(place).alias("place"), axis.positions.alias("position"),
                                 *names[:-1]))  # fmt: skip
    long = pl.concat(rows).filter(pl.col("position").is_finite())
    across = alt.X("place:Q", axis=None, scale=alt.Scale(domain=[-0.35, len(names) - 0.65]))
    up, bottom, top = (
        alt.Y(f"{name}:Q", axis=None, scale=alt.Scale(domain=[-0.12, 1.18]))
        for name in ("position", "bottom", "top")
    )
    lines = (
        alt.Chart(values(long))
        .mark_line(interpolate="monotone")
        .encode(
            x=across,
            y=up,
            detail=f"{KEY}:N",
            color=batch_colour(summary.question.batch_sizes),
            strokeOpacity=alt.condition(IS_SELECTED, alt.value(1), alt.value(0.35)),
            strokeWidth=alt.condition(IS_SELECTED, alt.value(4), alt.value(1.2)),
            tooltip=tooltips(("batch_size", "seed", "trial", *names)),
        )
    )
    scales = alt.Chart(alt.Data(values=ends)).encode(x=across)
    written = {"fontSize": 11, "color": style.GREY}
    layers = [
        scales.mark_rule(opacity=0.6).encode(y=bottom, y2="top:Q"),
        lines,
        scales.mark_text(dy=12, **written).encode(y=bottom, text="low:N"),
        scales.mark_text(dy=-8, **written).encode(y=top, text="high:N"),
        scales.mark_text(dy=-24, fontSize=12, fontWeight=500).encode(y=top, text="name:N"),
    ]
    return alt.layer(*layers).properties(width=740, height=330)


@dataclasses.dataclass(frozen=True)
class _Axis:
    """One axis: its title, the values at its ends as text, and where each trial lies, 0 to 1."""

    title: str
    low: str
    high: str
    positions: pl.Series


def _axis(summary: Summary, table: pl.DataFrame, name: str) -> _Axis:
    """Of a hyperparameter on the scale it was searched on, or of the value, the better end up."""
    position: Callable[[Any], float] = float
    low: Any
    high: Any
    low, high = table[name].min(), table[name].max()
    if name == _VALUE:
        title = f"best {metric_title(summary.question)}"
        if summary.question.goal.sign > 0:
            low, high = high, low
    else:
        distribution, title = summary.question.space[name], label(name)
        position = distribution.position
        if isinstance(distribution, Choice):
            low, high = distribution.values[0], distribution.values[-1]
        else:  # the rounds of a search may have left the range it began with
            low, high = min(distribution.low, low), max(distribution.high, high)
    first, last = position(low), position(high)
    places = [(position(value) - first) / ((last - first) or 1.0) for value in table[name]]
    return _Axis(title, _text(low), _text(high), pl.Series(places, dtype=pl.Float64))


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
