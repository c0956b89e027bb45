"""Figures of the search: every trial in its space, by outcome and by what it reached."""

from __future__ import annotations

import math

import altair as alt
import polars as pl

from experiments.analysis.best_hyperparameters import (
    best_known,
    with_effective_rate,
)
from experiments.analysis.question import TRIAL
from experiments.analysis.summary import Summary
from experiments.report import style
from experiments.report.figure import (
    KEY,
    NOT_SEARCHED,
    Figure,
    HyperparameterAxis,
    batch_colour,
    extent,
    metric_axis,
    nothing,
    padded,
    ring,
    searched_names,
    selectable,
    tooltips,
    values,
    with_key,
)
from experiments.report.words import goal_words, metric_title
from experiments.spec.space import Choice

CLASSES = ("infeasible", "incomplete", "pruned", "goal not reached", "goal reached", "best")
_CLASS_COLOURS = (style.RED, style.GREY, style.GREEN, style.GREY, style.BLUE, style.ORANGE)
_CLASS_SHAPES = (style.CROSS, "triangle-down", "diamond", "circle", "circle", style.STAR)
_MOST_POINTS = 6_000
_COLUMNS = 4


def classified_trials(summary: Summary) -> pl.DataFrame:
    """Counted, infeasible, incomplete and pruned trials of all searches with their class.

    The best of a batch size is that of all of them. Columns: batch_size, seed, trial, class,
    best_value, steps_to_goal, hyperparameters.
    """
    trials = with_effective_rate(summary.record.trials)
    names = searched_names(summary, trials)
    passed = summary.crossings.select(*TRIAL, pl.col("step").alias("steps_to_goal"), counted=True)
    values_of = summary.values.select(*TRIAL, "best_value")
    known = best_known(summary.steps, summary.best, summary.question.goal.sign)
    best = known.select(*TRIAL, best=True)
    joined = trials.select(*TRIAL, "status", *names)
    pruned = pl.lit(False)
    if summary.view.prunes:
        best_so_far = summary.view.goal.best(pl.col("value")).alias("best_value")
        values_of = summary.view.measurements().group_by(TRIAL).agg(best_so_far).collect()
        pruned = (pl.col("status") == "STOPPED").fill_null(False)
    for part in (passed, values_of, best):
        joined = joined.join(part, on=TRIAL, how="left")
    status = pl.col("status")
    ended = status.is_in(["COMPLETE", "STOPPED"])
    kind = (
        pl.when(~ended).then(status.str.to_lowercase())
        .when(pruned).then(pl.lit("pruned"))
        .when(pl.col("best")).then(pl.lit("best"))
        .when(pl.col("steps_to_goal").is_not_null()).then(pl.lit("goal reached"))
        .otherwise(pl.lit("goal not reached"))
    )  # fmt: skip
    counted = pl.col("counted") | ~ended | pruned
    found = joined.filter(counted.fill_null(False))
    # Drawn in this order, so that the best lies on top of its neighbours.
    return (
        with_key(found)
        .with_columns(kind.cast(pl.Enum(CLASSES)).alias("class"))
        .sort("class", "batch_size", "trial", "seed")
        .with_columns(pl.col("class").cast(pl.String))
        .select("batch_size", "seed", "trial", "class", "best_value", "steps_to_goal", *names, KEY)
    )


def search_scatter(summary: Summary) -> Figure:
    """The search space, one panel a batch size: learning rate against 1 - momentum by class."""
    question = summary.question
    table = classified_trials(summary)
    x_name, y_name = _pair(summary)
    shown = _thinned(table, len(question.batch_sizes))
    x = y = _searched_axis(summary, x_name)
    shown = x.prepare(shown)
    across = x.encode(alt.X, _searched_domain(summary, x, shown), ticks=5, grid=False)
    if y_name is None:
        up = metric_axis("best_value:Q", question, shown["best_value"])
    else:
        y = _searched_axis(summary, y_name)
        shown = y.prepare(shown)
        up = y.encode(alt.Y, _searched_domain(summary, y, shown), ticks=6, grid=False)
    panels = []
    for place, batch_size in enumerate(question.batch_sizes):
        rows = shown.filter(pl.col("batch_size") == batch_size)
        lowest = place + _COLUMNS >= len(question.batch_sizes)
        points = (
            alt.Chart(values(rows))
            .mark_point(filled=True)
            .encode(
                x=across if lowest else _bare(across),
                y=_bare(up) if place % _COLUMNS else up,
                tooltip=_trial_hover(summary, rows),
                **_class_encodings(shown),
                **ring(),
            )
        )
        title = alt.Title(f"batch size {batch_size:,}", offset=4)
        lines = _contours(x, y, points) if (x_name, y_name) == _RATE_PAIR else []
        layers = alt.layer(*lines, points)
        panels.append(layers.properties(width=196, height=150, title=title))
    chart = selectable(alt.concat(*panels, columns=_COLUMNS, spacing=16))
    return Figure(
        "search",
        "The search at each batch size",
        f"Every trial of all searches by outcome; the goal is {goal_words(question)}. The star is "
        "the best trial. A star at the border of a panel asks for a wider range."
        f"{_CONTOURS_NOTE if (x_name, y_name) == _RATE_PAIR else ''} Click a point to select its "
        "trial.",
        chart,
        table.drop(KEY),
    )


_RATE_PAIR = ("momentum", "learning_rate")
_CONTOURS_NOTE = (
    " Lines: equal effective learning rate, learning rate / (1 - momentum), a factor of ten apart."
)


def _contours(x: HyperparameterAxis, y: HyperparameterAxis, panel: alt.Chart) -> list[alt.Chart]:
    """Lines of equal effective rate where the panel is momentum against learning rate.

    They have the channels of ``panel``, so that they share its axes.
    """
    across, up = panel.encoding.x, panel.encoding.y
    domains = [axis["scale"].to_dict().get("domain") for axis in (across, up)]
    if x.scale != "reverse_log" or y.scale != "log" or None in domains:
        return []
    (left, right), (low, high) = (sorted(domain) for domain in domains)
    first, last = math.ceil(math.log10(low / right)), math.floor(math.log10(high / left))
    rows = []
    for power in range(first, last + 1):
        rate = 10.0**power  # learning rate = rate (1 - momentum), inside the panel
        for missing in (max(left, low / rate), min(right, high / rate)):
            rows.append({x.field: missing, y.field: rate * missing, "contour": power})
    chart = alt.Chart(alt.Data(values=rows)).mark_line(
        color=style.GREY, strokeWidth=0.8, opacity=0.45, clip=True
    )
    return [chart.encode(x=across, y=up, detail=alt.Detail("contour:N"))]


def _bare(channel: alt.X | alt.Y) -> alt.X | alt.Y:
    """The same axis without title and labels, for the inner panels."""
    bare = channel.copy()
    bare["title"] = None
    bare["axis"] = alt.Axis(**{**channel["axis"].to_dict(), "labels": False})
    return bare


def _trial_hover(summary: Summary, table: pl.DataFrame) -> list[alt.Tooltip]:
    names = ("batch_size", "seed", "trial", *searched_names(summary, table), "best_value",
             "steps_to_goal")  # fmt: skip
    return [*tooltips(names), alt.Tooltip("class:N", title="outcome")]


def axis_plots(summary: Summary) -> Figure:
    """Best value over training against each searched hyperparameter."""
    question = summary.question
    table = classified_trials(summary)
    shown = _thinned(table, len(question.batch_sizes))
    found = extent(shown["best_value"])
    low, high = found or (0.0, 1.0)
    worst = high if question.goal.sign > 0 else low
    lost = pl.col("class") == "infeasible"
    shown = shown.with_columns(
        pl.when(lost).then(worst).otherwise("best_value").alias("y"),
        pl.when(lost).then(pl.lit("infeasible")).otherwise(pl.lit("trial")).alias("mark"),
    )
    picked = alt.selection_point(fields=["batch_size"], bind="legend")
    names = [name for name in question.space if name in shown.columns]
    panels = [panel for name in names for panel in _axis_panels(summary, shown, name, picked)]
    panels[:1] = [panel.add_params(picked) for panel in panels[:1]]
    chart: alt.TopLevelMixin = nothing(NOT_SEARCHED) if found else nothing()
    if found and panels:
        chart = selectable(alt.concat(*panels, columns=2, spacing=24))
    return Figure(
        "axis_plots",
        "Best result against each searched hyperparameter",
        f"Left: best {metric_title(question)} of every trial of all searches over its training; "
        "crosses at the worst value shown: infeasible (diverged). Right (isolation): of those that "
        "trained to their full length, the best of each tenth of the range, whatever the other "
        "hyperparameters. Click a batch size in the legend to see it alone.",
        chart,
        table.drop(KEY),
    )


def _axis_panels(
    summary: Summary, shown: pl.DataFrame, name: str, picked: alt.Parameter
) -> list[alt.Chart | alt.LayerChart]:
    """Every trial against a hyperparameter, and the best of each tenth of its range."""
    question = summary.question
    axis = _searched_axis(summary, name)
    hover = ("batch_size", "seed", "trial", *searched_names(summary, shown), "best_value")
    mark = alt.Shape(
        "mark:N",
        title=None,
        legend=alt.Legend(symbolFillColor=style.GREY, symbolStrokeColor=style.GREY),
        scale=alt.Scale(domain=["trial", "infeasible"], range=["circle", style.CROSS]),
    )
    drawn = axis.prepare(shown)
    x = axis.encode(alt.X, _searched_domain(summary, axis, drawn), grid=False)
    y = metric_axis("y:Q", question, shown["y"])
    points = (
        alt.Chart(values(drawn))
        .mark_point(filled=True, size=32)
        .encode(
            x=x,
            y=y,
            color=batch_colour(question.batch_sizes),
            shape=mark,
            opacity=alt.condition(picked, alt.value(0.85), alt.value(0.04)),
            tooltip=tooltips(hover),
            **ring(),
        )
    )
    found = isolated(summary, shown, name)
    panels = [points.properties(width=390, height=290, title=_panel_title("every trial"))]
    if len(found):
        lines = alt.Chart(values(axis.prepare(found))).encode(
            x=x,
            y=_bare(y),
            color=batch_colour(question.batch_sizes),
            opacity=alt.condition(picked, alt.value(0.9), alt.value(0.04)),
        )
        both = alt.layer(lines.mark_line(strokeWidth=1.5), lines.mark_point(filled=True, size=18))
        title = _panel_title("best of each tenth of the range")
        panels.append(both.properties(width=390, height=290, title=title))
    return panels


def _panel_title(text: str) -> alt.Title:
    return alt.Title(text, offset=4, fontSize=12, fontWeight="normal")


TENTHS = 10


def isolated(summary: Summary, shown: pl.DataFrame, name: str) -> pl.DataFrame:
    """The best trial of each tenth of a hyperparameter's range, whatever the others are.

    The Tuning Playbook's isolation plot: ``batch_size``, the hyperparameter and ``y``, sorted by
    both. Trials that diverged are no best ones, nor are those that stopped short of their length,
    whose best value says where they stopped.
    """
    distribution = summary.question.space.get(name)
    kept = shown.filter((pl.col("mark") == "trial") & pl.col("y").is_finite())
    trained = summary.view.trained.select(TRIAL)
    kept = kept.join(trained, on=TRIAL, how="semi", maintain_order="left")
    if distribution is None or isinstance(distribution, Choice):
        return kept.select("batch_size", name, "y").clear()
    places = [int(TENTHS * distribution.position(value)) for value in kept[name]]
    rank = summary.question.goal.sign * pl.col("y")
    best = kept.with_columns(tenth=pl.Series(places, dtype=pl.Int64)).sort(rank)
    best = best.group_by("batch_size", "tenth", maintain_order=True).first()
    return best.select("batch_size", name, "y").sort("batch_size", name)


def _class_encodings(table: pl.DataFrame) -> dict[str, object]:
    """Colour, shape, size and opacity by class, with a legend of the classes that occur."""
    occur = [name for name in CLASSES if name in set(table["class"])]
    return {
        "color": alt.Color(
            "class:N",
            title=None,
            scale=alt.Scale(domain=list(CLASSES), range=list(_CLASS_COLOURS)),
            legend=alt.Legend(orient="top", values=occur),
        ),
        "shape": alt.Shape(
            "class:N", title=None, scale=alt.Scale(domain=list(CLASSES), range=list(_CLASS_SHAPES))
        ),
        "size": alt.Size(
            "class:O", title=None, sort=list(CLASSES),
            scale=alt.Scale(domain=list(CLASSES), range=[30, 30, 30, 30, 36, 110])
        ),
        "opacity": alt.Opacity(
            "class:O", title=None, sort=list(CLASSES),
            scale=alt.Scale(domain=list(CLASSES), range=[0.75, 0.8, 0.8, 0.7, 0.95, 1.0]),
        ),
    }  # fmt: skip


def _pair(summary: Summary) -> tuple[str, str | None]:
    """(x, y) of the scatter: momentum and learning rate, else the first two searched."""
    names = [n for n in summary.question.space if n in summary.record.trials.columns]
    if {"learning_rate", "momentum"} <= set(names):
        return "momentum", "learning_rate"
    if len(names) > 1:
        return names[1], names[0]
    return (names[0] if names else "trial"), None


def _searched_axis(summary: Summary, name: str) -> HyperparameterAxis:
    return HyperparameterAxis.of(name, summary.question.space.get(name))


def _searched_domain(
    summary: Summary, axis: HyperparameterAxis, shown: pl.DataFrame
) -> list[float] | None:
    """The searched range, and what lies beyond it where a search was widened."""
    distribution = summary.question.space.get(axis.name)
    if distribution is None or isinstance(distribution, Choice):
        return None
    ends = [axis.position(float(end)) for end in (distribution.low, distribution.high)]
    ends += extent(shown[axis.field]) or () if axis.field in shown.columns else ()
    kept = [end for end in ends if end > 0 or axis.scale == "linear"]
    return padded(min(kept), max(kept), axis.scale != "linear")


def _thinned(table: pl.DataFrame, searches: int) -> pl.DataFrame:
    """The first trials of each search by index, so that a page stays small; the best always."""
    most = max(20, _MOST_POINTS // max(searches, 1))
    order = pl.col("trial").rank("ordinal").over("batch_size")
    return table.filter((order <= most) | (pl.col("class") == "best"))
