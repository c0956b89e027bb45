"""Figures of training curves, and of what a smaller or larger search would have found."""

from __future__ import annotations

import altair as alt
import numpy as np
import polars as pl

from experiments.analysis.intervals import Answer
from experiments.analysis.longer_search import INDEPENDENT
from experiments.analysis.question import TRIAL
from experiments.analysis.summary import Summary
from experiments.analysis.tuning_curve import tuning_curve
from experiments.analysis.view import COUNTED
from experiments.report.figure import (
    Figure,
    batch_colour,
    extent,
    metric_axis,
    nothing,
    round_ticks,
    searched_names,
    selectable,
    tooltips,
    values,
    with_key,
)
from experiments.report.words import label, metric_title

_CURVE_POINTS = 100
SELECTED_CURVE = "selected_curve"
"""Name of the rows, empty at first, in which the page puts the curve of the selected trial."""


def validation_curves(summary: Summary) -> Figure:
    """The goal's metric of the best trial of each batch size, against steps and examples."""
    question = summary.question
    table = _curves(summary)
    curves = table.partition_by("batch_size")
    shown = with_key(pl.concat([table.clear(), *(_thinned(curve) for curve in curves)]))
    picked = alt.selection_point(fields=["batch_size"], bind="legend")
    panels = [
        _curve_panel(summary, shown, "step", "steps", limit=question.step_budget, picked=picked),
        _curve_panel(
            summary,
            shown,
            "examples",
            "examples seen",
            limit=question.example_budget,
            picked=picked,
        ),
    ]
    panels[0] = panels[0].add_params(picked)
    against, counted = "against steps and against examples", COUNTED in table.columns
    if counted:
        against = "against steps, examples and evaluations of the loss or a derivative of it"
        panels.append(
            _curve_panel(summary, shown, COUNTED, "function evaluations", limit=None, picked=picked)
        )
    return Figure(
        "validation_curves",
        "Training curves of the best trials",
        f"{metric_title(question).capitalize()} of the best trial of each batch size, {against}. "
        "Dashed: the goal; dotted: the budget. Click a batch size in the legend to see it alone. "
        "A selected trial's own curve lies on top.",
        _curve_panels(panels, shown) if len(table) else nothing(),
        table,
    )


def _curve_panels(panels: list[alt.LayerChart], shown: pl.DataFrame) -> alt.TopLevelMixin:
    chart = selectable(alt.concat(*panels, columns=2, spacing=30, data=values(shown)))
    chart.datasets = {SELECTED_CURVE: []}
    return chart


def _curve_panel(
    summary: Summary,
    shown: pl.DataFrame,
    field: str,
    title: str,
    *,
    limit: int | None,
    picked: alt.Parameter,
) -> alt.LayerChart:
    """Curves against ``field``, with points to hover that show only their tooltip."""
    question = summary.question
    goal = pl.Series([question.goal.value], dtype=pl.Float64)
    y = metric_axis("value:Q", question, pl.concat([shown["value"], goal]))
    most = max([10.0, *(extent(shown[field]) or ())])
    ticks = round_ticks(1, most, most=4)
    x = alt.X(
        f"{field}:Q",
        title=title,
        scale=alt.Scale(type="log", nice=False, domain=[1, most]),
        axis=alt.Axis(format="~s", grid=False, values=ticks),
    )
    counted = [COUNTED] if COUNTED in shown.columns else []
    names = ("batch_size", "trial", "step", "examples", *counted, "value")
    hover = tooltips((*names, *searched_names(summary, shown)), value=label(question.goal.metric))
    seen = alt.condition(picked, alt.value(0.95), alt.value(0.06))
    curve = alt.Chart().encode(x=x, y=y, color=batch_colour(question.batch_sizes), opacity=seen)
    points = curve.mark_point(size=22, filled=True)
    chosen = alt.Chart(alt.NamedData(name=SELECTED_CURVE)).mark_line(strokeWidth=3, clip=True)
    target = alt.Chart(alt.Data(values=[{"value": question.goal.value}]))
    budget = alt.Chart(alt.Data(values=[{field: limit}] if limit else []))
    return alt.layer(
        curve.mark_line(strokeWidth=1.5),
        points.encode(opacity=alt.value(0.0), tooltip=hover),
        chosen.encode(x=x, y=y, color=alt.value({"expr": "ink"}), order="step:Q"),
        target.mark_rule(strokeDash=[6, 4]).encode(y=alt.Y("value:Q", scale=y["scale"])),
        budget.mark_rule(strokeDash=[2, 3]).encode(x=f"{field}:Q"),
    ).properties(width=385, height=300)


def _thinned(curve: pl.DataFrame) -> pl.DataFrame:
    """Every n-th measurement and the last, so that a page stays small."""
    every = -(-len(curve) // _CURVE_POINTS)
    return curve.filter(
        (pl.int_range(pl.len()) % every == 0) | (pl.col("step") == pl.col("step").max())
    )


def _curves(summary: Summary) -> pl.DataFrame:
    best = summary.of_seed(summary.best).select(*TRIAL, *searched_names(summary, summary.best))
    counted = [COUNTED] if summary.view.counts_function_evaluations else []
    rows = summary.view.measurements(*counted)
    rows = rows.filter(pl.col("value").is_finite()).join(best.lazy(), on=TRIAL)
    return rows.sort("batch_size", "step").collect()


def best_of_trials(summary: Summary) -> Figure:
    """The median best value of a search of k trials, per batch size."""
    question = summary.question
    table = tuning_curves(summary)
    title = "Would more trials help?"
    if summary.view.prunes:
        told = "a pruner chose the trials that trained to full length: they say nothing of others"
        return Figure("best_of_trials", title, "", nothing(told), table.clear())
    independent = question.drawn == INDEPENDENT
    names = ("median", "low", "high", "simultaneous_low", "simultaneous_high")
    hover = tooltips(("batch_size", "k", *(names if independent else ("median",))), k="trials")
    x = alt.X("k:Q", title="trials in the search", scale=alt.Scale(type="log", nice=False),
              axis=alt.Axis(format="d", grid=False))  # fmt: skip
    drawn = table["median"]
    y = metric_axis("median:Q", question, drawn)
    base = alt.Chart(values(table)).encode(x=x, color=batch_colour(question.batch_sizes))
    line = base.mark_line(point=alt.OverlayMarkDef(size=18, opacity=1), strokeWidth=1.5)
    layers = [line.encode(y=y, tooltip=hover)]
    if independent:
        low, high = y["scale"]["domain"]
        for ends, opacity in ((("simultaneous_low", "simultaneous_high"), 0.07),
                              (("low", "high"), 0.12)):  # fmt: skip
            band = base.mark_area(opacity=opacity, clip=True).transform_calculate(
                band_low=f"isValid(datum.{ends[0]}) ? datum.{ends[0]} : {low}",
                band_high=f"isValid(datum.{ends[1]}) ? datum.{ends[1]} : {high}",
            )
            layers.insert(0, band.encode(y=alt.Y("band_low:Q", scale=y["scale"]), y2="band_high:Q"))
    bands = (
        "Shaded: exact 95% bands, darker at each k on its own, lighter for all k at once; open "
        "where a band reaches the edge."
        if independent
        else "Without bands: they need independent trials (--sampler random)."
    )
    verb = "falls" if question.goal.sign > 0 else "rises"
    return Figure(
        "best_of_trials",
        title,
        f"Median best {metric_title(question)} over training in a search of k of the COMPLETE "
        f"trials of all searches. Where a curve still {verb} at its right end, more trials of "
        f"the same space would likely find better ones. {bands}",
        alt.layer(*layers).properties(width=740, height=320) if len(table) else nothing(),
        table,
    )


def tuning_curves(summary: Summary) -> pl.DataFrame:
    """`analysis.tuning_curve` of the best value, with ``batch_size``, in the metric's direction."""
    sign, tables = summary.question.goal.sign, []
    for (batch_size,), rows in summary.full_values.partition_by("batch_size", as_dict=True).items():
        grid = sorted({round(k) for k in np.geomspace(1, len(rows), 15)})
        answers = [Answer.exactly(sign * value) for value in rows["best_value"]]
        found = tuning_curve(answers, grid, independent=summary.question.drawn == INDEPENDENT)
        if sign < 0:
            turned = {"low": "high", "simultaneous_low": "simultaneous_high"}
            found = (
                found.with_columns(-pl.exclude("k"))
                .rename(turned | {high: low for low, high in turned.items()})
                .select(found.columns)
            )
        tables.append(found.select(pl.lit(batch_size).alias("batch_size"), pl.all()))
    schema = {"batch_size": pl.Int64, "k": pl.Int64} | dict.fromkeys(
        ("median", "low", "high", "simultaneous_low", "simultaneous_high"), pl.Float64
    )
    return pl.concat(tables).sort("batch_size", "k") if tables else pl.DataFrame(schema=schema)
