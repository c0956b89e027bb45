"""Figures of budgets, time and cost: which batch size is best for what one has to spend."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import polars as pl

from experiments.analysis.budget_levels import LEVELS
from experiments.analysis.budgets import BUDGETS
from experiments.analysis.cost import Least
from experiments.analysis.summary import Summary
from experiments.report import style
from experiments.report.answer import interval_name
from experiments.report.cost_words import cost_unit
from experiments.report.figure import (
    Figure,
    batch_axis,
    batch_colour,
    extent,
    metric_axis,
    nothing,
    padded,
    round_ticks,
    tooltips,
    values,
)
from experiments.report.words import goal_words, metric_title

UNTIMED = "no time of a step is known at a batch size that reached the goal"


def budget_levels(summary: Summary) -> Figure:
    """The best value against batch size at several step budgets and several epoch budgets."""
    question, rows = summary.question, summary.budget_levels
    chart: alt.TopLevelMixin = nothing()
    if len(rows):
        y = metric_axis("median:Q", question, rows["median"])
        panels = [_levels_panel(summary, budget, y) for budget in BUDGETS]
        chart = alt.hconcat(*panels, spacing=30).resolve_scale(y="shared", color="independent")
    shares = ", ".join(f"1/{round(1 / share)}" for share in LEVELS[:-1])
    return Figure(
        "budget_levels",
        "Best result at several step budgets and several epoch budgets",
        f"The best {metric_title(question)} within {shares} and all of each of the study's two "
        "budgets, of trials that trained to full length; the median of the searches. Diamonds: "
        "the best batch size at a budget. With steps to spend it lies at the larger batch sizes, "
        "with examples to spend at the smaller ones.",
        chart,
        rows.join(summary.best_batch_sizes.select("budget", "within", best="batch_size"),
                  on=["budget", "within"], how="left"),
    )  # fmt: skip


def _levels_panel(summary: Summary, budget: str, y: alt.Y) -> alt.LayerChart:
    rows = summary.budget_levels.filter(pl.col("budget") == budget)
    unit = "steps" if budget == "step" else "examples"
    within = sorted(rows["within"].unique())
    colour = alt.Color(
        "within:O",
        title=unit,
        scale=alt.Scale(domain=within, range=style.batch_colours(len(within))),
        legend=alt.Legend(format=",d", orient="bottom", symbolOpacity=1),
    )
    best = rows.join(
        summary.best_batch_sizes.select("budget", "within", "batch_size"),
        on=["budget", "within", "batch_size"],
        how="semi",
    )
    x = batch_axis(summary.question.batch_sizes)
    shown = ("batch_size", "within", "median", "pooled")
    hover = tooltips(shown, median="best value", within=f"within {unit}")
    base = alt.Chart(values(rows)).encode(x=x, y=y, color=colour)
    marks = alt.Chart(values(best)).mark_point(shape="diamond", size=130, filled=True, opacity=1)
    return alt.layer(
        base.mark_line(opacity=0.7, strokeWidth=1.5),
        base.mark_point(filled=True, size=32, opacity=1).encode(tooltip=hover),
        marks.encode(x=x, y=y, color=colour, tooltip=hover),
    ).properties(width=385, height=300, title=f"{budget.capitalize()} budgets")


def cost(summary: Summary) -> Figure:
    """Training time and cost to the goal against batch size."""
    found = summary.cost
    rows = found.table.drop_nulls("time_median")
    chart: alt.TopLevelMixin = nothing(UNTIMED)
    if len(rows):
        titles = {"time": "training time in seconds", "cost": f"cost {cost_unit(found)}"}
        panels = [
            _cost_panel(summary, rows, least, titles[least.quantity]) for least in found.least
        ]
        chart = alt.hconcat(*panels, spacing=30)
    return Figure(
        "cost",
        "Time and cost to the goal against batch size",
        f"Time: seconds of a step (from {found.source}) times steps to "
        f"{goal_words(summary.question)}. Cost: time, times the devices a step takes"
        f"{', times the price' if found.priced else ''}. Bars: the {interval_name(summary)} of "
        "the steps, at these seconds a step. Diamond: the least median.",
        chart,
        found.table,
    )


def _cost_panel(summary: Summary, rows: pl.DataFrame, least: Least, title: str) -> alt.LayerChart:
    name = least.quantity
    rows = rows.with_columns(
        bar_low=pl.coalesce(f"{name}_low", f"{name}_median"),
        bar_high=pl.coalesce(f"{name}_high", f"{name}_limit"),
        best=pl.col("batch_size") == least.batch_size,
    )
    ends = pl.concat([rows[column] for column in ("bar_low", "bar_high", f"{name}_median")])
    ends = ends.filter(ends.is_not_null() & (ends > 0))
    low, high = extent(ends) or (1.0, 2.0)
    domain = padded(low, high, logarithmic=True, share=0.08)
    scale = alt.Scale(type="log", domain=domain, nice=False)
    axis = alt.Axis(format="~g", values=round_ticks(domain[0], domain[1]))
    y = alt.Y(f"{name}_median:Q", title=title, scale=scale, axis=axis)
    rows = rows.with_columns(
        pl.col("bar_low").clip(lower_bound=domain[0]), pl.col("bar_high").clip(upper_bound=high)
    )
    hover = tooltips(
        ("batch_size", "median", "seconds_per_step", "devices", f"{name}_median"),
        median="steps to result",
    )
    base = alt.Chart(values(rows)).encode(x=batch_axis(summary.question.batch_sizes))
    barred = alt.Chart(values(rows.drop_nulls(["bar_low", "bar_high"]))).encode(
        x=batch_axis(summary.question.batch_sizes)
    )
    point = base.mark_point(filled=True, color=style.BLUE, opacity=1)
    return alt.layer(
        barred.mark_rule(color=style.BLUE, opacity=0.55, strokeWidth=2, clip=True).encode(
            y=alt.Y("bar_low:Q", scale=scale, title=title), y2="bar_high:Q"
        ),
        base.mark_line(color=style.BLUE, opacity=0.6, strokeWidth=1.5).encode(y=y),
        point.encode(
            y=y,
            shape=alt.condition("datum.best", alt.value("diamond"), alt.value("circle")),
            size=alt.condition("datum.best", alt.value(140), alt.value(50)),
            tooltip=hover,
        ),
    ).properties(width=385, height=290)


def speed(summary: Summary) -> Figure:
    """Computational speed against convergence speed, with lines of equal time."""
    found = summary.cost
    rows = found.table.drop_nulls("median").with_columns(
        steps_per_second=1 / pl.col("seconds_per_step"), per_step=1 / pl.col("median")
    )
    return Figure(
        "speed",
        "Computational speed against convergence speed",
        "To the right: more steps a second. Upwards: fewer steps to "
        f"{goal_words(summary.question)}. A larger batch goes up and to the left; time to the goal "
        "is equal along a dashed line and less above it. Where the curve runs along a dashed line "
        f"a larger batch costs no time and saves none. Seconds of a step: {found.source}.",
        _speed_chart(summary, rows) if len(rows) else nothing(UNTIMED),
        rows.select("batch_size", "steps_per_second", pl.col("median").alias("steps_to_result"),
                    "examples_per_second", "time_median"),
    )  # fmt: skip


def _speed_chart(summary: Summary, rows: pl.DataFrame) -> alt.LayerChart:
    def scaled(column: str, title: str, channel: type) -> Any:
        low, high = extent(rows[column]) or (1.0, 2.0)
        domain = [low / 1.6, high * 1.6]
        scale = alt.Scale(type="log", domain=domain, nice=False)
        if channel is alt.Y:
            ticks = [1 / tick for tick in round_ticks(1 / domain[1], 1 / domain[0])]
            axis = alt.Axis(values=ticks, labelExpr="format(1 / datum.value, ',.4~r')")
        else:
            axis = alt.Axis(values=round_ticks(domain[0], domain[1]), format="~s")
        return channel(f"{column}:Q", title=title, scale=scale, axis=axis)

    x = scaled("steps_per_second", "steps a second", alt.X)
    y = scaled("per_step", "steps to result (fewer upwards)", alt.Y)
    base = alt.Chart(values(rows)).encode(x=x, y=y)
    hover = tooltips(("batch_size", "median", "examples_per_second", "time_median"),
                     median="steps to result", time_median="seconds to the goal")  # fmt: skip
    ordered = base.encode(order=alt.Order("batch_size:Q"))
    return alt.layer(
        *_equal_times(rows, x, y),
        ordered.mark_line(color=style.GREY, strokeWidth=1.5, opacity=0.7),
        base.mark_point(filled=True, size=80, opacity=1).encode(
            color=batch_colour(summary.question.batch_sizes), tooltip=hover
        ),
        base.mark_text(dy=-12).encode(text=alt.Text("batch_size:Q", format=",d")),
    ).properties(width=620, height=380)


def _equal_times(rows: pl.DataFrame, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    """Lines steps / (steps a second) = seconds, at round seconds."""
    left, right = x["scale"]["domain"]
    bottom, top = y["scale"]["domain"]
    low, high = extent(rows["time_median"]) or (1.0, 1.0)
    times = round_ticks(low / 3, high * 3, most=6)
    at = np.geomspace(left, right, 30)
    drawn = pl.concat(
        pl.DataFrame({"steps_per_second": at, "per_step": 1 / (at * seconds),
                      "seconds": [f"{seconds:g} s"] * len(at)})
        for seconds in times
    ).filter(pl.col("per_step").is_between(bottom, top))  # fmt: skip
    if drawn.is_empty():
        return []
    lines = alt.Chart(values(drawn)).mark_line(
        color=style.GREY, strokeDash=[4, 4], strokeWidth=1, opacity=0.6, clip=True
    )
    ends = drawn.group_by("seconds", maintain_order=True).last()
    named = alt.Chart(values(ends)).mark_text(align="right", dy=-6, fontSize=10, clip=True)
    return [
        lines.encode(x=x, y=y, detail="seconds:N"),
        named.encode(x=x, y=y, text="seconds:N"),
    ]
