"""Figures of trials: best hyperparameters, the search itself, and training curves."""

from __future__ import annotations

import altair as alt
import polars as pl

from experiments.analysis.best_hyperparameters import (
    EFFECTIVE,
    scaling_rules,
    with_effective_rate,
)
from experiments.analysis.question import TRIAL, measurements
from experiments.analysis.summary import Summary
from experiments.report import style
from experiments.report.figure import (
    Figure,
    HyperparameterAxis,
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
from experiments.report.words import goal_words, label, metric_title
from experiments.space import Choice

CLASSES = ("infeasible", "incomplete", "goal not reached", "goal reached", "best")
_CLASS_COLOURS = (style.RED, style.GREY, style.GREY, style.BLUE, style.ORANGE)
_CLASS_SHAPES = (style.CROSS, "triangle-down", "circle", "circle", style.STAR)
_MOST_POINTS = 6_000
_CURVE_POINTS = 100
_COLUMNS = 4


def best_hyperparameters(summary: Summary) -> Figure:
    """The best trial's hyperparameters against batch size, with the two rules."""
    best = summary.of_seed(summary.best)
    names = [n for n, d in summary.question.space.items() if not isinstance(d, Choice)]
    if EFFECTIVE in best.columns and "momentum" in best.columns:
        names.append(EFFECTIVE)
    panels = [_best_panel(summary, best, name) for name in names if name in best.columns]
    chart = alt.concat(*panels, columns=3, spacing=24) if len(best) and panels else nothing()
    return Figure(
        "best_hyperparameters",
        "Best hyperparameters against batch size",
        "Of the trial that gives each batch size its steps to result (hollow where the goal was "
        "not reached: its best trial). Shaded: the range searched. Dashed: the linear and the "
        "square-root rule from the smallest batch size, for comparison; every batch size was "
        "tuned on its own.",
        chart,
        _with_rules(best),
    )


def _best_panel(summary: Summary, best: pl.DataFrame, name: str) -> alt.LayerChart:
    question = summary.question
    distribution = question.space.get(name)
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
    domain = padded(min(drawn, default=1.0), max(drawn, default=1.0), axis.scale != "linear", 0.06)
    y = axis.encode(alt.Y, domain).title(None)
    x = batch_axis(question.batch_sizes)
    if name in ("learning_rate", EFFECTIVE) and not best.is_empty():
        layers += _rule_lines(best, name, y, x)
    hover = tooltips(("batch_size", "trial", *_names(summary, best), "best_value"))
    base = alt.Chart(values(rows)).encode(x=x, y=y)
    layers += [
        base.mark_line(color=style.BLUE, strokeWidth=1.2, opacity=0.45),
        base.mark_point(color=style.BLUE, size=60, opacity=1).encode(
            fill=alt.condition("datum.reached", alt.value(style.BLUE), alt.value("transparent")),
            tooltip=hover,
        ),
    ]
    return alt.layer(*layers).properties(width=262, height=240, title=label(name))


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


def classified_trials(summary: Summary) -> pl.DataFrame:
    """Counted, infeasible and incomplete trials of the study's own seed with their class.

    Columns: batch_size, trial, class, best_value, steps_to_goal, hyperparameters.
    """
    trials = with_effective_rate(summary.record.trials)
    names = _names(summary, trials)
    passed = summary.crossings.select(*TRIAL, pl.col("step").alias("steps_to_goal"), counted=True)
    values_of = summary.values.select(*TRIAL, "best_value")
    best = summary.best.select(*TRIAL, best=True)
    joined = trials.select(*TRIAL, "status", *names)
    for part in (passed, values_of, best):
        joined = joined.join(part, on=TRIAL, how="left")
    status = pl.col("status")
    kind = (
        pl.when(status != "COMPLETE").then(status.str.to_lowercase())
        .when(pl.col("best")).then(pl.lit("best"))
        .when(pl.col("steps_to_goal").is_not_null()).then(pl.lit("goal reached"))
        .otherwise(pl.lit("goal not reached"))
    )  # fmt: skip
    counted = pl.col("counted") | (status != "COMPLETE")
    found = summary.of_seed(joined).filter(counted.fill_null(False))
    # Drawn in this order, so that the best lies on top of its neighbours.
    return (
        found.with_columns(kind.cast(pl.Enum(CLASSES)).alias("class"))
        .sort("class", "batch_size", "trial")
        .with_columns(pl.col("class").cast(pl.String))
        .select("batch_size", "trial", "class", "best_value", "steps_to_goal", *names)
    )


def search_scatter(summary: Summary) -> Figure:
    """The search space, one panel a batch size: learning rate against 1 - momentum by class."""
    question = summary.question
    table = classified_trials(summary)
    x_name, y_name = _pair(summary)
    shown = _thinned(table, len(question.batch_sizes))
    x = _searched_axis(summary, x_name)
    across = x.encode(alt.X, _searched_domain(summary, x), ticks=5, grid=False)
    shown = x.prepare(shown)
    if y_name is None:
        up = metric_axis("best_value:Q", question, shown["best_value"])
    else:
        y = _searched_axis(summary, y_name)
        shown = y.prepare(shown)
        up = y.encode(alt.Y, _searched_domain(summary, y), ticks=6, grid=False)
    panels = []
    for place, batch_size in enumerate(question.batch_sizes):
        rows = shown.filter(pl.col("batch_size") == batch_size)
        lowest = place + _COLUMNS >= len(question.batch_sizes)
        panels.append(
            alt.Chart(values(rows), title=alt.Title(f"batch size {batch_size:,}", offset=4))
            .mark_point(filled=True)
            .encode(
                x=across if lowest else _bare(across),
                y=_bare(up) if place % _COLUMNS else up,
                tooltip=_trial_hover(summary, rows),
                **_class_encodings(shown),
            )
            .properties(width=196, height=150)
        )
    chart = alt.concat(*panels, columns=_COLUMNS, spacing=16)
    return Figure(
        "search",
        "The search at each batch size",
        f"Every trial by outcome; the goal is {goal_words(question)}. The star is the best trial. "
        "A star at the border of a panel asks for a wider range.",
        chart,
        table,
    )


def _bare(channel: alt.X | alt.Y) -> alt.X | alt.Y:
    """The same axis without title and labels, for the inner panels."""
    bare = channel.copy()
    bare["title"] = None
    bare["axis"] = alt.Axis(**{**channel["axis"].to_dict(), "labels": False})
    return bare


def _trial_hover(summary: Summary, table: pl.DataFrame) -> list[alt.Tooltip]:
    names = ("batch_size", "trial", *_names(summary, table), "best_value", "steps_to_goal")
    return [*tooltips(names), alt.Tooltip("class:N", title="outcome")]


def axis_plots(summary: Summary) -> Figure:
    """Best value over training against each searched hyperparameter."""
    question = summary.question
    table = classified_trials(summary)
    shown = _thinned(table, len(question.batch_sizes))
    found = extent(shown["best_value"])
    worst = (found or (0.0, 1.0))[question.goal.direction == "min"]
    lost = pl.col("class") == "infeasible"
    shown = shown.with_columns(pl.when(lost).then(worst).otherwise("best_value").alias("y"))
    shown = shown.with_columns(
        pl.when(lost).then(pl.lit("infeasible")).otherwise(pl.lit("trial")).alias("mark")
    )
    picked = alt.selection_point(fields=["batch_size"], bind="legend")
    panels = []
    for name in question.space:
        if name not in shown.columns:
            continue
        axis = _searched_axis(summary, name)
        panels.append(
            alt.Chart(values(axis.prepare(shown)))
            .mark_point(filled=True, size=32)
            .encode(
                x=axis.encode(alt.X, _searched_domain(summary, axis), grid=False),
                y=metric_axis("y:Q", question, shown["y"]),
                color=batch_colour(question.batch_sizes),
                shape=alt.Shape(
                    "mark:N",
                    title=None,
                    legend=alt.Legend(symbolFillColor=style.GREY, symbolStrokeColor=style.GREY),
                    scale=alt.Scale(domain=["trial", "infeasible"], range=["circle", style.CROSS]),
                ),
                opacity=alt.condition(picked, alt.value(0.85), alt.value(0.04)),
                tooltip=tooltips(("batch_size", "trial", *_names(summary, shown), "best_value")),
            )
            .properties(width=390, height=290)
        )
    panels[:1] = [panel.add_params(picked) for panel in panels[:1]]
    chart = alt.concat(*panels, columns=2, spacing=24) if found and panels else nothing()
    return Figure(
        "axis_plots",
        "Best result against each searched hyperparameter",
        f"Best {metric_title(question)} of every trial over its training; crosses at the worst "
        "value shown: infeasible (diverged). Click a batch size in the legend to see it alone.",
        chart,
        table,
    )


def validation_curves(summary: Summary) -> Figure:
    """The goal's metric of the best trial of each batch size, against steps and examples."""
    question = summary.question
    table = _curves(summary)
    shown = pl.concat(
        [
            rows.gather_every(max(1, -(-len(rows) // _CURVE_POINTS)))
            for rows in table.partition_by("batch_size")
        ]
        or [table]
    )
    picked = alt.selection_point(fields=["batch_size"], bind="legend")
    y = metric_axis("value:Q", question, shown["value"])
    hover = tooltips(
        ("batch_size", "trial", "step", "examples", "value", *_names(summary, shown)),
        value=label(question.goal.metric),
    )
    panels = []
    for field, limit in (("step", question.step_budget), ("examples", question.example_budget)):
        ticks = round_ticks(1, max([10.0, *(extent(shown[field]) or ())]), most=4)
        x = alt.X(
            f"{field}:Q",
            title="steps" if field == "step" else "examples seen",
            scale=alt.Scale(type="log", nice=False),
            axis=alt.Axis(format="~s", grid=False, values=ticks),
        )
        curve = alt.Chart().encode(
            x=x,
            y=y,
            color=batch_colour(question.batch_sizes),
            opacity=alt.condition(picked, alt.value(0.95), alt.value(0.06)),
        )
        layers = [
            curve.mark_line(strokeWidth=1.5),
            curve.mark_point(size=22, filled=True).encode(
                opacity=alt.value(0.0), tooltip=hover
            ),
            alt.Chart(alt.Data(values=[{"value": question.goal.value}]))
            .mark_rule(strokeDash=[6, 4]).encode(y=alt.Y("value:Q", scale=y["scale"])),
            alt.Chart(alt.Data(values=[{field: limit}]))
            .mark_rule(strokeDash=[2, 3]).encode(x=f"{field}:Q"),
        ]  # fmt: skip
        layers[0] = layers[0].add_params(picked) if field == "step" else layers[0]
        panels.append(alt.layer(*layers).properties(width=385, height=300))
    return Figure(
        "validation_curves",
        "Training curves of the best trials",
        f"{metric_title(question).capitalize()} of the best trial of each batch size, against "
        "steps and against examples. Dashed: the goal; dotted: the budget. Click a batch size in "
        "the legend to see it alone.",
        alt.hconcat(*panels, spacing=30, data=values(shown)) if len(table) else nothing(),
        table,
    )


def _curves(summary: Summary) -> pl.DataFrame:
    best = summary.of_seed(summary.best).select(*TRIAL, *_names(summary, summary.best))
    rows = measurements(summary.record, summary.question.goal)
    rows = rows.filter(pl.col("value").is_finite()).join(best.lazy(), on=TRIAL)
    examples = (pl.col("batch_size").cast(pl.Int64) * pl.col("step")).alias("examples")
    return rows.with_columns(examples).sort("batch_size", "step").collect()


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
            scale=alt.Scale(domain=list(CLASSES), range=[30, 30, 30, 36, 110])
        ),
        "opacity": alt.Opacity(
            "class:O", title=None, sort=list(CLASSES),
            scale=alt.Scale(domain=list(CLASSES), range=[0.75, 0.8, 0.7, 0.95, 1.0]),
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


def _searched_domain(summary: Summary, axis: HyperparameterAxis) -> list[float] | None:
    distribution = summary.question.space.get(axis.name)
    if distribution is None or isinstance(distribution, Choice):
        return None
    ends = sorted(axis.position(float(end)) for end in (distribution.low, distribution.high))
    return padded(ends[0], ends[1], axis.scale != "linear")


def _thinned(table: pl.DataFrame, searches: int) -> pl.DataFrame:
    """The first trials of each search by index, so that a page stays small; the best always."""
    most = max(20, _MOST_POINTS // max(searches, 1))
    order = pl.col("trial").rank("ordinal").over("batch_size")
    return table.filter((order <= most) | (pl.col("class") == "best"))


def _names(summary: Summary, table: pl.DataFrame) -> list[str]:
    return [name for name in (*summary.question.space, EFFECTIVE) if name in table.columns]
