"""Figures of a comparison: its members side by side at every batch size."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from experiments.analysis.compare import Compared
from experiments.analysis.steps_to_result import COUNTED_TO_RESULT
from experiments.report import style
from experiments.report.curve_figures import tuning_curves
from experiments.report.figure import (
    Figure,
    extent,
    nothing,
    padded,
    round_ticks,
    tooltips,
    values,
)
from experiments.report.words import goal_words, metric_title

COLUMNS = 3


def comparison_figures(compared: Compared) -> list[Figure]:
    """All of them, in the order of the page."""
    counted = COUNTED_TO_RESULT in compared.table.columns
    draw = [steps_figure, *([evaluations_figure] if counted else []), value_figure, trials_figure]
    return [figure(compared) for figure in draw]


def steps_figure(compared: Compared) -> Figure:
    """Steps to result of every member, a panel a batch size."""
    reached, high = pl.col("steps_to_result").is_not_null(), pl.col("steps_high")
    table = compared.table.join(_lengths(compared), on=["label", "batch_size"]).with_columns(
        shown=pl.coalesce("steps_to_result", "censored_at"),
        reached=reached,
        high=pl.when(reached).then(pl.min_horizontal(high, "length")),
    )
    hover = tooltips(
        ("steps_to_result", "steps_high", "censored_at", "complete", "infeasible"),
        steps_high="another search within",
    )
    return Figure(
        "steps_to_result",
        "Steps to result",
        f"The fewest steps to {goal_words(compared.shared)} of any of "
        f"{compared.counted} (the median of several searches); bars: "
        "to where another search gets (a bar to the trials' length has no end); "
        "triangles: not reached by that step.",
        _panels(compared, table, "steps", hover),
        compared.table,
    )


def _lengths(compared: Compared) -> pl.DataFrame:
    """``label, batch_size, length``: steps of a trial, which members may differ in."""
    rows = [
        {"label": label, "batch_size": batch_size, "length": float(length)}
        for label, summary in compared.members.items()
        for batch_size, length in summary.question.train_steps.items()
    ]
    return pl.DataFrame(rows)


def evaluations_figure(compared: Compared) -> Figure:
    """Function evaluations to the goal of every member, a panel a batch size."""
    table = compared.table.with_columns(
        shown=pl.col(COUNTED_TO_RESULT), high=pl.lit(None, pl.Float64), reached=pl.lit(True)
    )
    hover = tooltips((COUNTED_TO_RESULT, "steps_to_result", "complete", "infeasible"))
    return Figure(
        COUNTED_TO_RESULT,
        "Function evaluations to the goal",
        f"The fewest evaluations over the batch (of the loss, its gradient or a Hessian-vector "
        f"product) to {goal_words(compared.shared)} of any of {compared.counted}; a first-order "
        "rule makes one a step.",
        _panels(compared, table, "function evaluations", hover),
        compared.table.select("label", "batch_size", COUNTED_TO_RESULT, "steps_to_result"),
    )


def value_figure(compared: Compared) -> Figure:
    """The best value of every member, a panel a batch size."""
    table = compared.table.with_columns(
        shown=pl.col("best_value"),
        high=pl.when(pl.col("best_worst").is_finite()).then("best_worst"),
        reached=pl.lit(True),
    )
    hover = tooltips(
        ("best_value", "best_worst", "complete", "infeasible"), best_worst="another search within"
    )
    return Figure(
        "best_value",
        f"Best {metric_title(compared.shared)}",
        f"The best at any evaluation of any of {compared.counted} (best of N; the "
        "median of several searches); bars: to what another search gets.",
        _panels(compared, table, metric_title(compared.shared), hover),
        compared.table.select("label", "batch_size", "best_value", "best_worst"),
    )


def _panels(
    compared: Compared, table: pl.DataFrame, title: str, hover: list[alt.Tooltip]
) -> alt.TopLevelMixin:
    """Members down, the measure across, a panel a batch size; bars from ``shown`` to ``high``."""
    x, x2 = "shown", "high"
    panels = []
    for number, batch_size in enumerate(compared.shared.batch_sizes):
        rows = table.filter((pl.col("batch_size") == batch_size) & pl.col(x).is_not_null())
        first = number % COLUMNS == 0
        y = alt.Y(
            "label:N", title=None, sort=list(compared.members),
            scale=alt.Scale(domain=list(compared.members)),
            axis=alt.Axis(grid=True, labelFontSize=12, labelLimit=200, **({} if first else {
                "labels": False, "ticks": False})),
        )  # fmt: skip
        across = _axis(alt.X, x, title, pl.concat([rows[end].cast(pl.Float64) for end in (x, x2)]))
        base = alt.Chart(values(rows)).encode(y=y)
        layers = alt.layer(
            base.transform_filter(f"isValid(datum.{x2})")
            .mark_rule(color=style.BLUE, opacity=0.5, strokeWidth=3)
            .encode(x=across, x2=f"{x2}:Q"),
            base.transform_filter("datum.reached")
            .mark_point(color=style.BLUE, filled=True, size=70, opacity=1)
            .encode(x=across, tooltip=hover),
            base.transform_filter("!datum.reached")
            .mark_point(color=style.GREY, shape="triangle-right", filled=True, size=70, opacity=1)
            .encode(x=across, tooltip=hover),
        )
        height = 24 * len(compared.members)
        panels.append(layers.properties(width=250, height=height, title=f"B = {batch_size:,}"))
    if table[x].is_null().all():
        return nothing()
    return alt.concat(*panels, columns=COLUMNS, spacing=16)


def _axis(channel: type, column: str, title: str, drawn: pl.Series) -> Any:
    """Logarithmic where all that is drawn is above zero."""
    low, high = extent(drawn) or (1.0, 1.0)
    first, last = domain = padded(low, high, low > 0)
    kind = {"type": "log"} if low > 0 else {"type": "linear", "zero": False}
    ticks: dict[str, Any] = {"tickCount": 5}
    if low > 0 and len(round_ticks(first, last, 5)) > 1:
        ticks = {"values": round_ticks(first, last, 5)}
    return channel(
        f"{column}:Q",
        title=title,
        scale=alt.Scale(nice=False, domain=domain, **kind),
        axis=alt.Axis(format=",.4~g", **ticks),
    )


def trials_figure(compared: Compared) -> Figure:
    """The median best value of a search of k trials: does the order depend on the budget?"""
    found = [
        tuning_curves(summary).select(pl.lit(name).alias("label"), "batch_size", "k", "median")
        for name, summary in compared.members.items()
        if len(summary.full_values)
    ]
    if not found:
        return Figure("best_of_trials", "Best of k trials", "", nothing(), pl.DataFrame())
    table = pl.concat(found)
    panels = []
    for batch_size in compared.shared.batch_sizes:
        rows = table.filter(pl.col("batch_size") == batch_size)
        chart = (
            alt.Chart(values(rows))
            .mark_line(point=alt.OverlayMarkDef(size=14), strokeWidth=1.5)
            .encode(
                x=alt.X("k:Q", title="trials in the search",
                        scale=alt.Scale(type="log", nice=False), axis=alt.Axis(format="d")),
                y=_axis(alt.Y, "median", metric_title(compared.shared), rows["median"]),
                color=alt.Color("label:N", title=None, sort=list(compared.members),
                                scale=alt.Scale(scheme="tableau20" if len(compared.members) > 10
                                                else "tableau10")),
                tooltip=[alt.Tooltip("label:N"), *tooltips(("k", "median"), k="trials")],
            )
        )  # fmt: skip
        panels.append(chart.properties(width=240, height=230, title=f"B = {batch_size:,}"))
    return Figure(
        "best_of_trials",
        "Does the order depend on the tuning budget?",
        f"Median best {metric_title(compared.shared)} in a search of k of the COMPLETE trials. "
        "Where curves cross, the order depends on how much was tuned.",
        alt.concat(*panels, columns=COLUMNS, spacing=16),
        table,
    )
