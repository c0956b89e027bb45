"""Figures of how training scales with the batch size: steps to result, and the two budgets."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import polars as pl

from experiments.analysis.best_hyperparameters import with_effective_rate
from experiments.analysis.question import SEARCH, TRIAL
from experiments.analysis.steps_to_result import COUNTED_TO_RESULT
from experiments.analysis.summary import Summary
from experiments.report import style
from experiments.report.answer import CONDITIONS, certainty, interval_name
from experiments.report.border_figures import border_rules, regime_bands
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


def steps_to_result(summary: Summary) -> Figure:
    """Steps to result against batch size, log2-log2: searches, their median and range, regimes."""
    curve = summary.curve
    known = curve.filter(pl.coalesce("median", "censored_at", "pooled").is_not_null())
    chart: alt.TopLevelMixin = nothing()
    if not known.is_empty():
        top, bottom = _step_range(summary)
        y = alt.Scale(type="log", base=2, domain=[bottom, top], nice=False)
        layers = [
            *regime_bands(summary),
            *_lines(summary, y),
            *_intervals(summary, top, y),
            *_points(summary, y),
            *border_rules(summary, bottom, top, y),
        ]
        chart = alt.layer(*layers).resolve_scale(color="independent", shape="independent")
        chart = chart.properties(width=800, height=430)
    return Figure(
        "steps_to_result",
        "Steps to result against batch size",
        f"The fewest steps to {goal_words(summary.question)} of any trial of a search. "
        f"{_bars(summary)} Dashed: perfect scaling, where doubling the batch halves the steps, by "
        "the curve fitted to all batch sizes (grey, solid); dotted: the same from the smallest "
        "batch size alone. Bands: the regimes of the fitted curve. Arrows: goal not reached by "
        f"that step. {CONDITIONS}",
        chart,
        curve,
    )


def _bars(summary: Summary) -> str:
    """Say what points and bars are."""
    name, said = interval_name(summary), certainty(summary)
    if summary.searches > 1:
        return (
            f"Points: the median of {summary.searches} searches; rings: each of them; crosses: all "
            f"trials pooled, the best known. Bars: the {name}, {said}."
        )
    return (
        "Thick bars: the spacing of the evaluations around each point; thin bars: the "
        f"{name}: {said}."
    )


def budgets(summary: Summary) -> Figure:
    """The best value under the step budget and under the epoch budget, side by side."""
    question, several = summary.question, summary.searches > 1
    across = summary.budgets_across.with_columns(
        bar_low=pl.coalesce("low", "median"), bar_high=pl.coalesce("high", "limit")
    )
    titles = {
        name: f"{name.capitalize()} budget: {budget_words(question, name)}"
        for name in ("step", "epoch")
    }
    spread = pl.concat([across[name] for name in ("median", "bar_low", "bar_high", "pooled")])
    y = metric_axis("median:Q", question, spread)
    panels = []
    for name, title in titles.items():
        rows = across.filter(pl.col("budget") == name)
        base = alt.Chart(values(rows)).encode(x=batch_axis(question.batch_sizes))
        hover = tooltips(
            ("batch_size", "median", *(("low", "high", "pooled") if several else ("limit",))),
            median="best value",
        )
        layers = alt.layer(
            base.mark_rule(color=style.BLUE, opacity=0.55, strokeWidth=2).encode(
                y=alt.Y("bar_low:Q", scale=y["scale"]), y2="bar_high:Q"
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
        f"The best {metric_title(question)} of any trial of a search at any evaluation within the "
        f"budget{'; the median of the searches' if several else ''}. Bars: the "
        f"{interval_name(summary)} ({certainty(summary)}). "
        "With equal steps a larger batch has seen more examples; with equal examples a smaller "
        "batch has made more steps.",
        alt.hconcat(*panels, spacing=30).resolve_scale(y="shared") if len(across) else nothing(),
        summary.budgets_across,
    )


def _step_range(summary: Summary) -> tuple[float, float]:
    """(top, bottom) of the step axis: everything but the far ends of the lines."""
    curve = summary.curve
    columns = [curve[name].cast(pl.Float64) for name in ("median", "censored_at", "high", "limit",
                                                         "pooled")]  # fmt: skip
    low, high = extent(
        pl.concat([*columns, _own(summary)["steps_to_result"].cast(pl.Float64)])
    ) or (
        1.0,
        2.0,
    )
    return high * 2.2, max(low / 2.2, 0.4)


def _own(summary: Summary) -> pl.DataFrame:
    """Every search, with the hyperparameters of its best trial."""
    trials = with_effective_rate(summary.record.trials)
    columns = trials.select(*TRIAL, *searched_names(summary, trials))
    return summary.steps.join(columns, on=TRIAL, how="left").sort(*SEARCH)


def _lines(summary: Summary, y: alt.Scale) -> list[alt.Chart | alt.LayerChart]:
    """Both perfect-scaling lines and the fitted curve of the search in the middle."""
    curve, found = summary.curve, summary.critical
    low, high = batch_domain(curve["batch_size"].to_list())
    at = np.geomspace(low, high, 60)
    layers: list[alt.Chart | alt.LayerChart] = []
    reached = curve.drop_nulls("median_examples").sort("batch_size")
    if len(reached):
        layers.append(_line(at, reached["median_examples"][0] / at, y, strokeDash=[1, 4]))
    least = found.least_examples
    if least is not None:
        layers.append(_line(at, least / at, y, strokeDash=[6, 4]))
        layers.append(_named(least, at, y))
    fits = [fit for fit in found.fits.values() if fit is not None]
    if fits:
        steps = np.median([fit.steps(at) for fit in fits], axis=0)
        layers.append(_line(at, steps, y, opacity=0.75))
    return layers


def _line(at: np.ndarray, steps: np.ndarray, y: alt.Scale, **mark: Any) -> alt.Chart:
    rows = pl.DataFrame({"batch_size": at, "steps": steps})
    encoded = alt.Chart(values(rows)).encode(x="batch_size:Q", y=alt.Y("steps:Q", scale=y))
    return encoded.mark_line(color=style.GREY, strokeWidth=1.5, clip=True, **mark)


def _named(least: float, at: np.ndarray, y: alt.Scale) -> alt.Chart:
    """The name of the fitted line, at its lower end: above it lie points."""
    bottom, top = y["domain"]
    inside = at[(least / at > 1.3 * bottom) & (least / at < top / 1.3)]
    rows = pl.DataFrame({"batch_size": inside[-1:], "steps": least / inside[-1:]})
    named = alt.Chart(values(rows)).encode(x="batch_size:Q", y=alt.Y("steps:Q", scale=y))
    return named.mark_text(align="right", dx=-12, text="perfect-scaling line")


def _intervals(summary: Summary, top: float, y: alt.Scale) -> list[alt.Chart]:
    """The range or the limit (thin), and of one search the evaluation grid's (thick)."""
    rows = summary.curve.with_columns(
        bar_low=pl.coalesce("low", "median"), bar_high=pl.coalesce("high", "limit")
    ).filter(pl.col("bar_low").is_not_null() & pl.col("bar_high").is_not_null())
    rows = rows.with_columns(
        pl.col("bar_low").clip(lower_bound=y["domain"][0]), pl.col("bar_high").clip(upper_bound=top)
    )
    thin = alt.Chart(values(rows)).mark_rule(
        color=style.BLUE, strokeWidth=2, opacity=0.6, clip=True
    )
    layers = [
        thin.encode(x="batch_size:Q", y=alt.Y("bar_low:Q", scale=y), y2="bar_high:Q"),
    ]
    if summary.searches <= 1:
        reached = summary.steps.filter(pl.col("steps_to_result").is_not_null())
        reached = reached.with_columns(pl.col("evaluated_before").clip(lower_bound=0.5))
        thick = alt.Chart(values(reached)).mark_rule(
            color=style.BLUE, strokeWidth=15, opacity=0.3, clip=True
        )
        grid = alt.Y("evaluated_before:Q", scale=y)
        layers.append(thick.encode(x="batch_size:Q", y=grid, y2="steps_to_result:Q"))
    return layers


def _points(summary: Summary, y: alt.Scale) -> list[alt.Chart]:
    curve, several = summary.curve, summary.searches > 1
    x = batch_axis(summary.question.batch_sizes)

    def axis(name: str) -> alt.Y:
        return alt.Y(f"{name}:Q", title="steps to result", scale=y, axis=alt.Axis(format=",d"))

    censored = curve.filter(pl.col("censored_at").is_not_null())
    counts = ("complete", "infeasible")
    shown = ("median", "low", "high", "pooled") if several else ("median", "limit")
    hover = tooltips(("batch_size", *shown, "over_line", *counts), median="steps to result",
                     over_line="examples, over the line")  # fmt: skip
    missed = tooltips(("batch_size", "censored_at", *counts), censored_at="not reached by step")
    own = _own(summary)
    each = tooltips(
        ("batch_size", "seed", "steps_to_result", "evaluated_before",
         *([COUNTED_TO_RESULT] if COUNTED_TO_RESULT in own.columns else []),
         "trial", *searched_names(summary, own), *counts),
        evaluated_before="not yet at step",
        function_evaluations_to_result="function evaluations to the goal",
    )  # fmt: skip
    searches = own.filter(pl.col("steps_to_result").is_not_null())
    reached = curve.filter(pl.col("median").is_not_null())
    layers = [
        # Broken where the goal was not reached.
        alt.Chart(values(curve)).mark_line(color=style.BLUE, strokeWidth=1.5, opacity=0.7)
        .encode(x=x, y=axis("median")),
        alt.Chart(values(reached)).mark_point(filled=True, color=style.BLUE, size=50, opacity=1)
        .encode(x=x, y=axis("median"), tooltip=[*hover, alt.Tooltip("regime:N")]),
        alt.Chart(values(censored))
        .mark_point(filled=True, shape=style.ARROW, color=style.ORANGE, size=90, opacity=1)
        .encode(x=x, y=axis("censored_at"), tooltip=missed),
        alt.Chart(values(censored)).mark_text(dy=-18, color=style.ORANGE)
        .encode(x=x, y=axis("censored_at"),
                text=alt.value("not reached" if len(censored) <= 4 else "")),
    ]  # fmt: skip
    ring = alt.Chart(values(searches)).mark_point(
        color=style.BLUE, size=28 if several else 50, opacity=0.7 if several else 0
    )
    layers.append(ring.encode(x=x, y=axis("steps_to_result"), tooltip=each))
    if several:
        pooled = curve.filter(pl.col("pooled").is_not_null())
        cross = alt.Chart(values(pooled)).mark_point(
            shape=style.CROSS, filled=True, color=style.ORANGE, size=45, opacity=1
        )
        layers.append(cross.encode(x=x, y=axis("pooled"), tooltip=hover))
    return layers
