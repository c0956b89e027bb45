"""Draws the noisy quadratic model's exact steps to a goal against batch size."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from experiments.analysis.best_hyperparameters import EFFECTIVE, scaling_rules
from experiments.report import style
from experiments.report.figure import (
    Figure,
    batch_axis,
    extent,
    nothing,
    round_ticks,
    tooltips,
    values,
)
from experiments.report.words import label
from workloads.oracles.grid import COEFFICIENTS, GridSearch


def title(search: GridSearch) -> str:
    """'Noisy quadratic model: steps to an expected loss below 0.01 with momentum'."""
    by = {"sgd": "plain SGD", "momentum": "momentum", "ema": "averaged SGD"}[search.optimizer]
    preconditioned = f", preconditioned by H^{search.power:g}" if search.power else ""
    return (
        f"Noisy quadratic model: steps to an expected loss below {search.goal:g} "
        f"with {by}{preconditioned}"
    )


def figure(search: GridSearch, table: pl.DataFrame) -> Figure:
    """Steps to the goal against batch size, and below it the best effective learning rate."""
    reached = table.filter(pl.col("steps_to_goal").is_not_null())
    chart: alt.TopLevelMixin = nothing("no batch size reaches the goal")
    if not reached.is_empty():
        rules = scaling_rules(reached).select("batch_size", linear_rule="linear")
        drawn = reached.join(rules, on="batch_size", how="left")
        chart = alt.vconcat(
            _panel(search, drawn, "steps_to_goal", "perfect_scaling_steps", 300),
            _panel(search, drawn, EFFECTIVE, "linear_rule", 170),
            spacing=18,
        )
    caption = (
        "Every batch size with the best configuration of the authors' grid (Zhang et al. 2019). "
        "Dashed: perfect scaling, where doubling the batch halves the steps, and the effective "
        "learning rate, learning rate / (1 - momentum), in proportion to the batch size."
    )
    return Figure("nqm", title(search), caption, chart, table)


def _panel(
    search: GridSearch, drawn: pl.DataFrame, column: str, reference: str, height: int
) -> Any:
    """One column against batch size, both logarithmic, over its dashed reference."""
    steps = column == "steps_to_goal"
    least, most = extent(drawn[column]) or (1.0, 1.0)
    low, high = least / 2, most * 2  # wide enough for a round tick wherever it lies
    scale = alt.Scale(type="log", domain=[low, high], nice=False)
    ticks = round_ticks(low, high, 8 if steps else 5)
    axis = alt.Axis(format=",d" if steps else ".6~g", values=ticks, minExtent=60)
    heading = "steps to the goal" if steps else f"best {label(column)}"
    hover = ["batch_size", "steps_to_goal", "examples", "learning_rate", "overhead"]
    hover += [name for name in COEFFICIENTS.values() if name in drawn.columns]
    base = alt.Chart(values(drawn)).encode(x=batch_axis(search.batch_sizes))
    y = alt.Y(f"{column}:Q", title=heading, scale=scale, axis=axis)
    return alt.layer(
        base.mark_line(color=style.GREY, strokeDash=[6, 4], strokeWidth=1.5, clip=True).encode(
            y=alt.Y(f"{reference}:Q", title=heading, scale=scale)
        ),
        base.mark_line(color=style.BLUE, opacity=0.6, strokeWidth=1.5).encode(y=y),
        base.mark_point(color=style.BLUE, filled=True, size=55, opacity=1).encode(
            y=y, tooltip=tooltips(hover)
        ),
    ).properties(width=800, height=height)
