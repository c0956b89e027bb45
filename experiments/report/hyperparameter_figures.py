"""Figure of the best hyperparameters against batch size, with the linear and square-root rules."""

from __future__ import annotations

import math

import altair as alt
import polars as pl

from experiments.analysis.best_hyperparameters import (
    EFFECTIVE,
    scaling_rules,
)
from experiments.analysis.regret import WITHIN, near_best
from experiments.analysis.summary import Summary
from experiments.report import style
from experiments.report.figure import (
    NOT_SEARCHED,
    Figure,
    HyperparameterAxis,
    batch_axis,
    nothing,
    padded,
    searched_names,
    tooltips,
    values,
)
from experiments.report.words import label
from experiments.spec.space import Choice


def best_hyperparameters(summary: Summary) -> Figure:
    """The best trial's hyperparameters against batch size, with the two rules."""
    best = summary.of_seed(summary.best)
    names = [n for n, d in summary.question.space.items() if not isinstance(d, Choice)]
    if EFFECTIVE in best.columns and "momentum" in best.columns:
        names.append(EFFECTIVE)
    panels = [_best_panel(summary, best, name) for name in names if name in best.columns]
    chart: alt.TopLevelMixin = nothing(NOT_SEARCHED) if len(best) else nothing()
    if len(best) and panels:
        chart = alt.concat(*panels, columns=3, spacing=24)
    return Figure(
        "best_hyperparameters",
        "Best hyperparameters against batch size",
        "Of the trial that gives each batch size its steps to result (hollow where the goal was "
        "not reached: its best trial). Shaded: the range searched. Wide pale bars: all trials, of "
        f"any search, that needed at most {WITHIN:.0%} more steps than the best one. Dashed: the "
        "linear and the square-root rule from the smallest batch size, for comparison; every batch "
        f"size was tuned on its own.{_searches(summary)}",
        chart,
        _with_rules(best),
    )


def _searches(summary: Summary) -> str:
    """Say which search is drawn, and what the bars are."""
    if summary.searches <= 1:
        return ""
    return (
        f" Points: the search of seed {summary.seed}; bars: the range of {summary.searches} "
        "searches, which covers the median of such a search."
    )


def _best_panel(summary: Summary, best: pl.DataFrame, name: str) -> alt.LayerChart:
    question = summary.question
    distribution = question.space.get(name)
    near = near_best(summary.rules).filter(pl.col("hyperparameter") == name)
    axis = HyperparameterAxis.of(name, distribution)
    if name == EFFECTIVE:
        axis = HyperparameterAxis(name, "log")
    rows = axis.prepare(best)
    drawn = rows[axis.field].drop_nulls().to_list()
    layers = []
    if distribution is not None and not isinstance(distribution, Choice):
        ends = sorted(axis.position(end) for end in (distribution.low, distribution.high))
        drawn += ends
        band = alt.Chart(alt.Data(values=[{"low": ends[0], "high": ends[1]}]))
        layers.append(
            band.mark_rect(opacity=0.10, color=style.BLUE).encode(
                y=alt.Y("low:Q", title=None), y2="high:Q"
            )
        )
    if len(near):
        layers.append(_near_bars(near, axis))
    spans = summary.best_across.filter(pl.col("hyperparameter") == name).select("low", "high")
    drawn += [end for row in spans.rows() for end in row if end is not None and math.isfinite(end)
              and axis.scale != "reverse_log"]  # fmt: skip
    domain = padded(min(drawn, default=1.0), max(drawn, default=1.0), axis.scale != "linear", 0.06)
    y = axis.encode(alt.Y, domain).title(None)
    x = batch_axis(question.batch_sizes)
    if name in ("learning_rate", EFFECTIVE) and not best.is_empty():
        layers += _rule_lines(best, name, y, x)
    hover = tooltips(("batch_size", "trial", *searched_names(summary, best), "best_value"))
    base = alt.Chart(values(rows)).encode(x=x, y=y)
    spread = summary.best_across.filter(
        (pl.col("hyperparameter") == name) & pl.col("low").is_finite() & pl.col("high").is_finite()
    )
    if axis.scale != "reverse_log" and len(spread):
        bar = alt.Chart(values(spread)).mark_rule(color=style.BLUE, strokeWidth=2, opacity=0.5)
        layers.append(bar.encode(x=x, y=alt.Y("low:Q", scale=y["scale"], title=None), y2="high:Q"))
    layers += [
        base.mark_line(color=style.BLUE, strokeWidth=1.2, opacity=0.45),
        base.mark_point(color=style.BLUE, size=60, opacity=1).encode(
            fill=alt.condition("datum.reached", alt.value(style.BLUE), alt.value("transparent")),
            tooltip=hover,
        ),
    ]
    return alt.layer(*layers).properties(width=262, height=240, title=label(name))


def _near_bars(near: pl.DataFrame, axis: HyperparameterAxis) -> alt.Chart:
    """The range of the trials that needed hardly more steps than the best, a wide pale bar."""
    ends = [near[end].map_elements(axis.position, pl.Float64) for end in ("near_low", "near_high")]
    rows = near.with_columns(near_low=ends[0], near_high=ends[1])
    bars = alt.Chart(values(rows)).mark_rule(color=style.BLUE, strokeWidth=11, opacity=0.22)
    return bars.encode(
        x="batch_size:Q", y=alt.Y("near_low:Q", title=None), y2="near_high:Q",
        tooltip=tooltips(("batch_size", "near_trials"), near_trials="trials within 10% of it"),
    )  # fmt: skip


def _rule_lines(best: pl.DataFrame, name: str, y: alt.Y, x: alt.X) -> list[alt.Chart]:
    rules = scaling_rules(best, name).unpivot(
        index="batch_size", variable_name="rule", value_name="value"
    )
    rules = rules.with_columns(pl.col("rule").replace({"sqrt": "square root"}) + " rule")
    colour = alt.Color(
        "rule:N",
        title=None,
        scale=alt.Scale(
            domain=["linear rule", "square root rule"], range=[style.ORANGE, style.GREEN]
        ),
        legend=alt.Legend(orient="bottom", symbolType="stroke"),
    )
    chart = alt.Chart(values(rules)).mark_line(strokeDash=[5, 4], clip=True, strokeWidth=1.5)
    return [
        chart.encode(
            x=x, y=alt.Y("value:Q", scale=y["scale"], axis=y["axis"], title=None), color=colour
        )
    ]


def _with_rules(best: pl.DataFrame) -> pl.DataFrame:
    for name, prefix in (("learning_rate", ""), (EFFECTIVE, "effective_")):
        if name in best.columns:
            rules = scaling_rules(best, name).rename(
                {"linear": f"{prefix}linear_rule", "sqrt": f"{prefix}sqrt_rule"}
            )
            best = best.join(rules, on="batch_size", how="left")
    return best
