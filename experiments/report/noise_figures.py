"""Figures and table of the gradient noise scale; of studies that recorded it."""

from __future__ import annotations

import math

import altair as alt
import polars as pl

from experiments.analysis.noise_scale import (
    WINDOW,
    layer_noise_at_goal,
    noise_at_goal,
    noise_in_training,
    noisy_layers,
    records_noise,
)
from experiments.analysis.summary import Summary
from experiments.report import style
from experiments.report.answer import estimated, sized
from experiments.report.figure import (
    Figure,
    batch_axis,
    batch_colour,
    batch_domain,
    log_axis,
    nothing,
    step_axis,
    tooltips,
    values,
)
from experiments.report.tables import Table

_NOT_ONE = (
    "The noise scale and the two critical batch sizes are three quantities, not three estimates of "
    "one: B_simple = tr(Sigma) / |G|² knows neither curvature nor learning rate."
)
_NO_VALUE = "no window tells the gradient from its noise"


def noise_figures(summary: Summary) -> list[Figure]:
    """The figures of the noise scale; none where the study did not record it."""
    if not records_noise(summary.view):
        return []
    layers = [by_layer(summary)] if noisy_layers(summary.view) else []
    return [at_goal(summary), in_training(summary), *layers]


def at_goal(summary: Summary) -> Figure:
    """The noise scale at the goal beside the critical batch sizes; the gradient's standard error
    against the batch size."""
    table = noise_at_goal(summary.view, summary.steps)
    own = summary.of_seed(table)
    chart: alt.TopLevelMixin = nothing("no trial that reached the goal holds a noise scale")
    if own["low"].drop_nulls().len():
        panels = [_scale_panel(summary, own), _error_panel(summary, own)]
        chart = alt.hconcat(*panels, spacing=30)
    return Figure(
        "noise_scale",
        "Gradient noise scale at the goal",
        f"Left: tr(Sigma) / |G|² over the last {WINDOW} evaluations before the goal, in the first "
        "trial of each batch size to reach it, with its 95% block-jackknife interval; an arrow is "
        "the lower bound where |G|² is not told from zero, a bar without one says nothing. Dashed: "
        f"the critical batch sizes of this study. {_NOT_ONE} Right: the standard error "
        "sqrt(tr(Sigma) / B) of a step's gradient; the line falls as 1/sqrt(B), and points leave "
        "it where tr(Sigma) at the goal differs between batch sizes.",
        chart,
        table,
    )


def in_training(summary: Summary) -> Figure:
    """The noise scale of the best trials against steps."""
    table = noise_in_training(summary.view, summary.of_seed(summary.best))
    hover = tooltips(
        ("batch_size", "trial", "first_step", "step", "noise_scale", "low", "high", "trace",
         "squared_norm")
    )  # fmt: skip
    picked = alt.selection_point(fields=["batch_size"], bind="legend")
    seen = alt.condition(picked, alt.value(0.95), alt.value(0.06))
    y = log_axis("noise_scale:Q", "noise scale (examples)", table["noise_scale"])
    x = step_axis("step:Q", "step at which the window ends", table["step"], most=12)
    colour = batch_colour(summary.question.batch_sizes)
    base = alt.Chart(values(table)).encode(x=x, color=colour, opacity=seen)
    chart = alt.layer(
        base.mark_rule(strokeWidth=1, clip=True).encode(
            y=alt.Y("low:Q", scale=y["scale"]), y2="high:Q", opacity=alt.value(0.3)
        ),
        base.mark_line(strokeWidth=1.5).encode(y=y).add_params(picked),
        base.mark_point(size=22, filled=True).encode(y=y, tooltip=hover),
    ).properties(width=740, height=320)
    return Figure(
        "noise_scale_in_training",
        "Gradient noise scale in training",
        f"The noise scale of the best trial of each batch size over windows of {WINDOW} "
        "evaluations, with 95% intervals. It grows as the gradient shrinks. Windows that do not "
        "tell the gradient from its noise are left out, so small batch sizes show few. Click a "
        "batch size in the legend to see it alone.",
        chart if len(table) else nothing(_NO_VALUE),
        table,
    )


_BESIDE = 1.4
"""Factor between the places of the first and the last layer of one batch size."""


def by_layer(summary: Summary) -> Figure:
    """The noise scale of every layer at the goal."""
    table = layer_noise_at_goal(summary.view, summary.steps)
    own = summary.of_seed(table).filter(pl.col("noise_scale").is_not_null())
    layers = noisy_layers(summary.view)
    chart: alt.TopLevelMixin = nothing(_NO_VALUE)
    if len(own):
        y = log_axis("noise_scale:Q", "noise scale (examples)", own["noise_scale"])
        colour = alt.Color(
            "layer:N", title="layer",
            scale=alt.Scale(domain=layers, range=style.batch_colours(len(layers))),
            legend=alt.Legend(symbolOpacity=1),
        )  # fmt: skip
        x = batch_axis(summary.question.batch_sizes)
        hover = [alt.Tooltip("layer:N"), *tooltips(("size", "noise_scale", "low", "high"),
                                                   size="batch size")]  # fmt: skip
        place = pl.col("layer").replace_strict({name: at for at, name in enumerate(layers)})
        aside = _BESIDE ** ((place + 0.5) / len(layers) - 0.5)
        beside = own.with_columns(
            size=pl.col("batch_size"), batch_size=pl.col("batch_size") * aside
        )
        base = alt.Chart(values(beside)).encode(x=x, color=colour)
        chart = alt.layer(
            base.mark_rule(opacity=0.35, clip=True).encode(
                y=alt.Y("low:Q", scale=y["scale"], title=y["title"]), y2="high:Q"
            ),
            base.mark_line(strokeWidth=1.5, opacity=0.8).encode(y=y),
            base.mark_point(filled=True, size=40, opacity=1).encode(y=y, tooltip=hover),
        ).properties(width=700, height=320)
    return Figure(
        "noise_scale_layers",
        "Gradient noise scale of every layer at the goal",
        "As above, of each array of the parameters alone (side by side about their batch size): "
        "tr(Sigma) and |G|² of its own entries, which add up to the whole ones. A layer with a "
        "smaller noise scale than the others is "
        "where larger batches stop paying first. Layers whose |G|² is not told from zero are "
        "missing.",
        chart,
        table,
    )


def _scale_panel(summary: Summary, own: pl.DataFrame) -> alt.LayerChart:
    batch_sizes = summary.question.batch_sizes
    rules = _critical_rows(summary)
    limits = pl.Series([row["size"] for row in rules], dtype=pl.Float64)
    finite = own.filter(pl.col("high").is_finite())
    shown = pl.concat([finite["low"], finite["high"], own["noise_scale"], own["low"], limits])
    y = log_axis("noise_scale:Q", "noise scale (examples)", shown)
    bottom, top = y["scale"]["domain"]
    ends = own.with_columns(pl.col("high").clip(bottom, top), pl.col("low").clip(bottom, top))
    bounded = ends.filter(pl.col("noise_scale").is_null() & (pl.col("low") > bottom))
    hover = tooltips(
        ("batch_size", "trial", "steps_to_result", "first_step", "noise_scale", "low", "high",
         "population_noise_scale", "trace", "squared_norm")
    )  # fmt: skip
    x, base = batch_axis(batch_sizes), alt.Chart(values(ends))
    rule = alt.Chart(alt.Data(values=rules))
    return alt.layer(
        base.mark_rule(color=style.BLUE, opacity=0.55, strokeWidth=2).encode(
            x=x, y=alt.Y("low:Q", scale=y["scale"]), y2="high:Q"
        ),
        base.mark_point(color=style.BLUE, filled=True, size=55, opacity=1).encode(
            x=x, y=y, tooltip=hover
        ),
        alt.Chart(values(bounded))
        .mark_point(color=style.ORANGE, shape=style.ARROW, filled=True, size=60, opacity=1)
        .encode(x=x, y=alt.Y("low:Q", scale=y["scale"]), tooltip=hover),
        rule.mark_rule(strokeDash=[6, 4]).encode(y=alt.Y("size:Q", scale=y["scale"])),
        rule.mark_text(align="right", dy=-7, dx=-4).encode(
            x="at:Q", y=alt.Y("size:Q", scale=y["scale"]), text="text:N"
        ),
    ).properties(width=385, height=300)


def _critical_rows(summary: Summary) -> list[dict[str, float | str]]:
    """The measured critical batch sizes that have a value, as rules with their names."""
    named = {
        "end of perfect scaling": summary.critical.limit,
        "noise critical batch size": summary.critical.noise,
    }
    right = batch_domain(summary.question.batch_sizes)[1]
    return [
        {"size": found.value, "text": f"{words} {sized(found.value)}", "at": right}
        for words, found in named.items()
        if found.value is not None and found.relation == "=" and found.value > 0
    ]


def _error_panel(summary: Summary, own: pl.DataFrame) -> alt.LayerChart:
    known = own.filter(pl.col("standard_error").is_not_null())
    trace = float(known["trace"].median() or 0.0)  # type: ignore[arg-type]
    ends = batch_domain(summary.question.batch_sizes)
    line = [{"batch_size": size, "standard_error": math.sqrt(trace / size)} for size in ends]
    drawn = pl.Series([row["standard_error"] for row in line])
    shown = pl.concat([known["standard_error"], drawn])
    y = log_axis("standard_error:Q", "standard error of the gradient", shown)
    x = batch_axis(summary.question.batch_sizes)
    hover = tooltips(("batch_size", "trial", "standard_error", "trace"))
    return alt.layer(
        alt.Chart(alt.Data(values=line)).mark_line(strokeDash=[6, 4], color=style.GREY)
        .encode(x=x, y=y),
        alt.Chart(values(known)).mark_point(color=style.BLUE, filled=True, size=55, opacity=1)
        .encode(x=x, y=y, tooltip=hover),
    ).properties(width=385, height=300)  # fmt: skip


def noise_table(summary: Summary) -> Table:
    """The noise scale at the goal beside the critical batch sizes, one row a search."""
    table = noise_at_goal(summary.view, summary.steps)
    several = summary.searches > 1
    rows = []
    for row in table.iter_rows(named=True):
        cells = [f"{row['batch_size']:,}", *([str(row["seed"])] if several else [])]
        if row["low"] is None:
            rows.append((*cells, "-", "", "", "", "", row["reason"]))
            continue
        value, high = row["noise_scale"], row["high"]
        ends = f"{sized(row['low'])} to {'no end' if math.isinf(high) else sized(high)}"
        population = row["population_noise_scale"]
        rows.append(
            (
                *cells,
                "-" if value is None else sized(value),
                ends,
                "-" if population is None else sized(population),
                f"{row['standard_error']:.3g}",
                f"{row['first_step']:,} to {row['last_step']:,}",
                row["reason"],
            )
        )
    limit, noise = estimated(summary.critical.limit), estimated(summary.critical.noise)
    columns = (
        "batch size", *(["seed"] if several else []), "noise scale at the goal", "95% interval",
        "of the population", "standard error", "steps", "why not known",
    )  # fmt: skip
    numeric = tuple(name not in ("why not known",) for name in columns)
    title = f"End of perfect scaling {limit}; noise critical batch size {noise}"
    return Table("noise_scale", title, columns, tuple(rows), numeric)
