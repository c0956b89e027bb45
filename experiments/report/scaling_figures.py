"""Figures of how training scales with the batch size: steps to result, and the two budgets."""

from __future__ import annotations

import altair as alt
import numpy as np
import polars as pl

from experiments.analysis.best_hyperparameters import with_effective_rate
from experiments.analysis.critical_batch_size import REGIMES
from experiments.analysis.question import SEARCH, TRIAL
from experiments.analysis.steps_to_result import COUNTED_TO_RESULT
from experiments.analysis.summary import Summary
from experiments.report import style
from experiments.report.figure import (
    Figure,
    batch_axis,
    batch_domain,
    extent,
    metric_axis,
    nothing,
    searched_names,
    tooltips,
    values,
)
from experiments.report.words import budget_words, goal_words, metric_title

_REGIME_COLOURS = (style.GREEN, style.ORANGE, style.RED)


def steps_to_result(summary: Summary) -> Figure:
    """Steps to result against batch size, log2-log2, with intervals and regimes."""
    table = _with_hyperparameters(summary, summary.steps)
    own = summary.of_seed(table)
    known = own.filter(pl.coalesce("steps_to_result", "censored_at").is_not_null())
    chart: alt.TopLevelMixin = nothing()
    if not known.is_empty():
        top, bottom = _step_range(own)
        y = alt.Scale(type="log", base=2, domain=[bottom, top], nice=False)
        layers = [
            *_regime_bands(own),
            _perfect_line(own, y),
            *_intervals(own, top, y),
            *_points(summary, table, y),
            *_critical_rules(summary, bottom, top, y),
        ]
        chart = alt.layer(*layers).resolve_scale(color="independent", shape="independent")
        chart = chart.properties(width=800, height=430)
    return Figure(
        "steps_to_result",
        "Steps to result against batch size",
        f"The fewest steps to {goal_words(summary.question)} of any trial. Dashed: perfect "
        "scaling, where doubling the batch halves the steps. Thick bars: the spacing of the "
        "evaluations around each point; thin bars: 95% bootstrap interval over trials, which "
        "never goes below the observed minimum. Arrows: goal not reached by that step.",
        chart,
        summary.steps,
    )


def budgets(summary: Summary) -> Figure:
    """The best value under the step budget and under the epoch budget, side by side."""
    question = summary.question
    table = _with_hyperparameters(summary, summary.budgets)
    own = summary.of_seed(table)
    titles = {
        name: f"{name.capitalize()} budget: {budget_words(question, name)}"
        for name in ("step", "epoch")
    }
    spread = pl.concat([own["best_value"], own["high"], own["low"]])
    y = metric_axis("best_value:Q", question, spread)
    panels = []
    for name, title in titles.items():
        rows = own.filter(pl.col("budget") == name)
        base = alt.Chart(values(rows)).encode(x=batch_axis(question.batch_sizes))
        hover = tooltips(
            ("batch_size", "best_value", "low", "high", "step", "examples", "trial",
             *searched_names(summary, rows)),
            low="bootstrap low", high="bootstrap high",
        )  # fmt: skip
        layers = alt.layer(
            base.mark_rule(color=style.BLUE, opacity=0.55, strokeWidth=2).encode(
                y=alt.Y("low:Q", scale=y["scale"]), y2="high:Q"
            ),
            base.mark_line(color=style.BLUE, opacity=0.6, strokeWidth=1.5).encode(y=y),
            base.mark_point(color=style.BLUE, filled=True, size=55, opacity=1).encode(
                y=y, tooltip=hover
            ),
        )
        panels.append(layers.properties(width=385, height=290, title=title))
    return Figure(
        "budgets",
        "Best result under a step budget and under an epoch budget",
        f"The best {metric_title(question)} of any trial at any evaluation within the budget, "
        "with a 95% bootstrap interval over trials. With equal steps a larger batch has seen "
        "more examples; with equal examples a smaller batch has made more steps.",
        alt.hconcat(*panels, spacing=30).resolve_scale(y="shared") if len(own) else nothing(),
        summary.budgets,
    )


def _with_hyperparameters(summary: Summary, table: pl.DataFrame) -> pl.DataFrame:
    """Rows with the hyperparameters of their ``trial``."""
    trials = with_effective_rate(summary.record.trials)
    columns = trials.select(*TRIAL, *searched_names(summary, trials))
    return table.join(columns, on=TRIAL, how="left").sort(*SEARCH)


def _step_range(own: pl.DataFrame) -> tuple[float, float]:
    """(top, bottom) of the step axis: everything but the far ends of line and intervals."""
    low, high = extent(pl.concat([own["steps_to_result"], own["censored_at"]])) or (1.0, 2.0)
    top = (extent(own["bootstrap_high"]) or (0.0, 0.0))[1]
    return max(high, top) * 2.2, max(low / 2.2, 0.4)


def _regime_bands(own: pl.DataFrame) -> list[alt.Chart]:
    """A band behind each batch size that reached the goal, in its regime's colour."""
    reached = own.filter(pl.col("regime").is_not_null())
    if reached.is_empty():
        return []
    sizes = reached["batch_size"].to_numpy().astype(float)
    low, high = batch_domain(own["batch_size"].to_list())
    every = own["batch_size"].to_numpy().astype(float)
    edges = np.concatenate([[low], np.sqrt(every[1:] * every[:-1]), [high]])
    at = np.searchsorted(every, sizes)
    bands = reached.select("batch_size", "regime").with_columns(
        pl.Series("from", edges[at]), pl.Series("to", edges[at + 1])
    )
    chart = (
        alt.Chart(values(bands))
        .mark_rect(opacity=0.13)
        .encode(
            x=alt.X("from:Q"),
            x2="to:Q",
            color=alt.Color(
                "regime:N",
                title=None,
                scale=alt.Scale(domain=list(REGIMES), range=list(_REGIME_COLOURS)),
                legend=alt.Legend(
                    orient="top",
                    symbolOpacity=0.35,
                    symbolType="square",
                    values=[name for name in REGIMES if name in set(reached["regime"])],
                ),
            ),
        )
    )
    return [chart]


def _perfect_line(own: pl.DataFrame, y: alt.Scale) -> alt.LayerChart:
    """The perfect-scaling line, named at the middle of what is inside the axis."""
    rows = own.filter(pl.col("perfect_scaling_steps").is_not_null())
    rows = rows.select("batch_size", "perfect_scaling_steps")
    at = alt.Y("perfect_scaling_steps:Q", scale=y)
    line = alt.Chart(values(rows)).encode(x="batch_size:Q", y=at)
    inside = rows.filter(pl.col("perfect_scaling_steps") > 1.3 * y["domain"][0])
    middle = inside.slice(len(inside) // 2, 1)
    named = alt.Chart(values(middle)).encode(x="batch_size:Q", y=at)
    return alt.layer(
        line.mark_line(strokeDash=[6, 4], color=style.GREY, strokeWidth=1.5, clip=True),
        named.mark_text(align="right", dx=-12, text="perfect-scaling line"),
    )


def _intervals(own: pl.DataFrame, top: float, y: alt.Scale) -> list[alt.Chart]:
    """The bootstrap interval (thin) and the evaluation grid's (thick)."""
    reached = own.filter(pl.col("steps_to_result").is_not_null()).with_columns(
        pl.col("bootstrap_high").clip(upper_bound=top),
        pl.col("evaluated_before").clip(lower_bound=0.5),
    )
    base = alt.Chart(values(reached)).encode(x="batch_size:Q")
    thin = base.mark_rule(color=style.BLUE, strokeWidth=2, opacity=0.6, clip=True)
    thick = base.mark_rule(color=style.BLUE, strokeWidth=15, opacity=0.3, clip=True)
    return [
        thin.encode(y=alt.Y("bootstrap_low:Q", scale=y), y2="bootstrap_high:Q"),
        thick.encode(y=alt.Y("evaluated_before:Q", scale=y), y2="steps_to_result:Q"),
    ]


def _points(summary: Summary, table: pl.DataFrame, y: alt.Scale) -> list[alt.Chart]:
    own = summary.of_seed(table)
    reached = own.filter(pl.col("steps_to_result").is_not_null())
    others = table.filter(
        (pl.col("seed") != summary.seed) & pl.col("steps_to_result").is_not_null()
    )
    censored = own.filter(pl.col("censored_at").is_not_null())
    axis = alt.Y("steps_to_result:Q", title="steps to result", scale=y, axis=alt.Axis(format=",d"))
    at = alt.Y("censored_at:Q", title="steps to result", scale=y, axis=alt.Axis(format=",d"))
    x = batch_axis(summary.question.batch_sizes)
    counts = ("complete", "infeasible")
    hover = tooltips(
        ("batch_size", "steps_to_result", "evaluated_before", "bootstrap_low", "bootstrap_high",
         *([COUNTED_TO_RESULT] if COUNTED_TO_RESULT in own.columns else []),
         "overhead", "trial", *searched_names(summary, own), *counts),
        evaluated_before="not yet at step", overhead="extra examples (share)",
        function_evaluations_to_result="function evaluations to the goal",
    )  # fmt: skip
    missed = tooltips(
        ("batch_size", "censored_at", "best_value", *counts), censored_at="not reached by step"
    )
    layers = [
        # Broken where the goal was not reached.
        alt.Chart(values(own)).mark_line(color=style.BLUE, strokeWidth=1.5, opacity=0.7)
        .encode(x=x, y=axis),
        alt.Chart(values(reached)).mark_point(filled=True, color=style.BLUE, size=50, opacity=1)
        .encode(x=x, y=axis, tooltip=[*hover, alt.Tooltip("regime:N")]),
        alt.Chart(values(censored))
        .mark_point(filled=True, shape=style.ARROW, color=style.ORANGE, size=90, opacity=1)
        .encode(x=x, y=at, tooltip=missed),
        alt.Chart(values(censored)).mark_text(dy=-18, color=style.ORANGE)
        .encode(x=x, y=at, text=alt.value("not reached" if len(censored) <= 4 else "")),
    ]  # fmt: skip
    if not others.is_empty():
        hollow = alt.Chart(values(others)).mark_point(color=style.BLUE, size=45, opacity=0.8)
        layers.insert(1, hollow.encode(x=x, y=axis, tooltip=["seed:Q", *hover]))
    return layers


def _critical_rules(summary: Summary, bottom: float, top: float, y: alt.Scale) -> list[alt.Chart]:
    """The two critical batch sizes of the study's own seed, where inside the axis."""
    low, high = batch_domain(summary.question.batch_sizes)
    names = ("end of perfect scaling", "noise critical batch size")
    rows = []
    for line, (estimate, words) in enumerate(
        zip(summary.critical[summary.seed], names, strict=True)
    ):
        value = estimate.value
        if value is not None and estimate.relation == "=" and low < value < high:
            height = bottom * (top / bottom) ** (0.97 - 0.06 * line)
            rows.append({"batch_size": value, "text": f"{words} {value:,.3g}", "at": height})
    if len(rows) == 2:  # the smaller's name to its left, the larger's to its right
        rows.sort(key=lambda row: row["batch_size"])
    rule = alt.Chart(alt.Data(values=rows)).mark_rule(strokeDash=[2, 3], opacity=0.9)
    layers = [rule.encode(x="batch_size:Q")]
    for place, row in enumerate(rows):
        share = np.log(row["batch_size"] / low) / np.log(high / low)
        left = share > 0.7 or (share > 0.3 and len(rows) == 2 and place == 0)
        named = alt.Chart(alt.Data(values=[row])).encode(
            x="batch_size:Q", y=alt.Y("at:Q", scale=y), text="text:N"
        )
        layers.append(named.mark_text(align="right" if left else "left", dx=-5 if left else 5))
    return layers
