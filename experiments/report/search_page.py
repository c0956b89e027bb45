"""The page of a search over a user's own model or function: what is best, and how it was found."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import altair as alt
import polars as pl

from experiments.analysis.search_record import ONE, Searched
from experiments.report import style
from experiments.report.architecture_figure import architecture_figure
from experiments.report.document import document, figure_section, noted, table_html
from experiments.report.figure import Figure, nothing, values
from experiments.report.tables import Table
from experiments.report.write import note_of, replace_report, write_figure
from experiments.search.architecture.strategies.table import stated
from experiments.search.fidelity import PRUNERS
from experiments.search.samplers.table import SAMPLERS
from experiments.spec.space import Choice, Range, ZeroOrLog

ENDED = ("diverged", "failed", "pruned", "out of patience", "full budget", "best")
_COLOURS = (style.RED, style.GREY, style.GREY, style.GREEN, style.BLUE, style.ORANGE)
_COLUMNS = 3
_MOST_CURVES = 400
"""Curves that a figure can still show; the best trials are kept."""


def write_search_report(found: Searched, folder: Path | str, refresh: int = 0) -> Path:
    """Writes ``folder/report/`` from the record alone; returns the path of its index.html.

    ``refresh``: seconds after which the page reads itself again, 0 for never.
    """
    drawn = architecture_figure(found)
    figures = [drawn] if drawn else []
    figures += [progress_figure(found), curves_figure(found), hyperparameters_figure(found)]

    def build(target: Path) -> None:
        for figure in figures:
            write_figure(figure, target)
        page = _page(found, figures, note_of(Path(folder)), refresh)
        (target / "index.html").write_text(page, encoding="utf-8")

    return replace_report(folder, build)


def outcomes(found: Searched) -> pl.DataFrame:
    """`Searched.trials` with how each ended in words (``ended``, one of `ENDED`)."""
    best = found.best
    status, reason = pl.col("status"), pl.col("reason").fill_null("")
    ended = (
        pl.when(pl.col("trial") == (best["trial"] if best else -1)).then(pl.lit("best"))
        .when(status == "COMPLETE").then(pl.lit("full budget"))
        .when(status == "INFEASIBLE").then(pl.lit("diverged"))
        .when(reason == "patience").then(pl.lit("out of patience"))
        .when(reason == "pruned").then(pl.lit("pruned"))
        .when(pl.col("value").is_not_null()).then(pl.lit("pruned"))  # put aside by now
        .otherwise(pl.lit("failed"))
    )  # fmt: skip
    return found.trials.with_columns(ended=ended)


def _colour(rows: pl.DataFrame) -> alt.Color:
    there = [name for name in ENDED if name in set(rows["ended"])]
    scale = alt.Scale(domain=there, range=[_COLOURS[ENDED.index(name)] for name in there])
    return alt.Color("ended:N", title=None, scale=scale)


def _value_axis(found: Searched, field: str, rows: pl.Series) -> alt.Y:
    """A value's axis, logarithmic where all are positive and span more than a factor of three."""
    known = rows.drop_nulls()
    low, high = (known.min(), known.max()) if len(known) else (None, None)
    wide = low is not None and low > 0 and high > 3 * low  # type: ignore[operator]
    scale = alt.Scale(type="log" if wide else "linear", zero=False, nice=False, padding=8)
    return alt.Y(field, title=metric_name(found), scale=scale, axis=alt.Axis(format="~g"))


def metric_name(found: Searched) -> str:
    """The metric that decides, in words."""
    split, _, metric = found.asked["column"].partition("/")
    plain = metric.replace("_", " ")
    return plain if found.asked["of"] == "objective" else f"{split} {plain}"


def _hover(found: Searched) -> list[alt.Tooltip]:
    numbers = [alt.Tooltip("trial:Q"), alt.Tooltip("value:Q", format=".4~g"),
               alt.Tooltip("resource:Q", title=found.asked["unit"]),
               alt.Tooltip("ended:N")]  # fmt: skip
    names = [alt.Tooltip(f"hyperparameter {i}:N", title=n) for i, n in enumerate(found.names)]
    return [*numbers, *names]


def _drawn(found: Searched, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with their hyperparameters as words under names that Vega reads as they are."""
    words = [
        pl.Series(f"hyperparameter {i}", [_word(value) for value in rows[name]], dtype=pl.String)
        for i, name in enumerate(found.names)
    ]
    kept = ["trial", "ended", "resource", "value", "best", "source", "round"]
    return rows.select(kept).with_columns(words)


def progress_figure(found: Searched) -> Figure:
    """Every trial's value and the best so far, in the order the trials were proposed."""
    rows = outcomes(found)
    drawn = _drawn(found, rows.filter(pl.col("value").is_not_null()))
    if drawn.is_empty():
        chart: alt.TopLevelMixin = nothing("no trial has a value yet")
    else:
        x = alt.X("trial:Q", title="trial", scale=alt.Scale(nice=False, padding=8),
                  axis=alt.Axis(format="d", tickMinStep=1))  # fmt: skip
        up = _value_axis(found, "value:Q", drawn["value"])
        base = alt.Chart(values(drawn))
        line = base.mark_line(interpolate="step-after", strokeWidth=1.6, color=style.ORANGE)
        points = base.mark_point(filled=True, size=55, opacity=0.9)
        chart = alt.layer(
            line.encode(x=x, y=alt.Y("best:Q", title=metric_name(found))),
            points.encode(x=x, y=up, color=_colour(drawn), tooltip=_hover(found)),
        ).properties(width=640, height=260)
    return Figure(
        "progress",
        "Every trial, and the best so far",
        "A point is a trial's best value, whatever it was trained to; the line is the best of the "
        "trials up to there, by their numbers (trials run side by side).",
        chart,
        rows,
    )


def curves_figure(found: Searched) -> Figure:
    """The value of every trial against what it was trained to."""
    rows = outcomes(found)
    unit = found.asked["unit"]
    kept = rows.sort(found.sign * pl.col("value"), nulls_last=True).head(_MOST_CURVES)
    curves = found.curves.join(kept.select("trial", "ended"), on="trial")
    curves = curves.filter(pl.col("value").is_finite())
    if curves.is_empty():
        chart: alt.TopLevelMixin = nothing("no trial has a value yet")
    else:
        x = alt.X("resource:Q", title=unit, scale=alt.Scale(nice=False, padding=8),
                  axis=alt.Axis(tickMinStep=1))  # fmt: skip
        base = alt.Chart(values(curves)).encode(
            x=x,
            y=_value_axis(found, "value:Q", curves["value"]),
            color=_colour(curves),
            detail="trial:N",
            tooltip=[alt.Tooltip("trial:Q"), alt.Tooltip("resource:Q", title=unit),
                     alt.Tooltip("value:Q", format=".4~g"), alt.Tooltip("ended:N")],
        )  # fmt: skip
        chart = alt.layer(
            base.mark_line(strokeWidth=1.3, opacity=0.7),
            base.mark_point(filled=True, size=22, opacity=0.8),
        ).properties(width=640, height=280)
    return Figure(
        "curves",
        f"Value against {unit}",
        "A line is a trial, up to where it ended.",
        chart,
        curves,
    )


def hyperparameters_figure(found: Searched) -> Figure:
    """The value of every trial against each hyperparameter."""
    rows = outcomes(found).filter(pl.col("value").is_not_null())
    drawn = _drawn(found, rows)
    panels = []
    for place, name in enumerate(found.names):
        own = drawn.with_columns(rows[name].alias("x")).drop_nulls("x")
        y = _value_axis(found, "value:Q", drawn["value"])
        if place % _COLUMNS:
            y["title"] = None
        panels.append(
            alt.Chart(values(own))
            .mark_point(filled=True, size=50, opacity=0.85)
            .encode(x=_across(found, name), y=y, color=_colour(drawn), tooltip=_hover(found))
            .properties(width=230, height=190)
        )
    chart: alt.TopLevelMixin = nothing("no trial has a value yet")
    if len(drawn):
        chart = alt.concat(*panels, columns=_COLUMNS, spacing=22)
    return Figure(
        "hyperparameters",
        "Value against every hyperparameter",
        "A trial's best value; trials that were stopped early were judged on less training.",
        chart,
        rows,
    )


def _across(found: Searched, name: str) -> alt.X:
    distribution = found.space.ranges[name]
    title = name.replace("_", " ")
    if isinstance(distribution, Choice):
        return alt.X("x:O", title=title, axis=alt.Axis(labelAngle=0))
    kind: Literal["linear", "log", "symlog"] = "log" if distribution.scale == "log" else "linear"
    if isinstance(distribution, ZeroOrLog):
        kind = "symlog"
    scale = alt.Scale(type=kind, nice=False, zero=False, padding=8)
    return alt.X("x:Q", title=title, scale=scale, axis=alt.Axis(format="~g", tickCount=5))


def _page(found: Searched, figures: list[Figure], note: str, refresh: int) -> str:
    asked = found.asked
    expected = html.escape(asked.get("expected", ""))
    body = [
        noted(note),
        f'<p class="name">{html.escape(asked["name"])}</p>',
        f"<h1>{html.escape(asked['question'])}</h1>",
        f'<p class="answer">{html.escape(answer(found))}</p>',
        f'<p class="note">Expected: {expected}</p>' if expected else "",
        f'<p class="note">{html.escape(_about(found))}</p>',
        *map(figure_section, figures),
        f"<h2>Rounds</h2>{table_html(rounds_table(found))}",
        "<h2>Trials</h2>",
        f"<details><summary>Every trial</summary>{table_html(trials_table(found))}</details>",
    ]
    return document(f"{asked['name']}: a search", "\n".join(filter(None, body)), figures,
                    refresh=refresh)  # fmt: skip


def answer(found: Searched) -> str:
    """The best trial, in a sentence."""
    best, unit = found.best, found.asked["unit"]
    if best is None:
        return "No trial has a value yet."
    words = ", ".join(
        f"{name.replace('_', ' ')} {_word(value)}"
        for name, value in found.hyperparameters(best).items()
    )
    ended = f" of {found.wanted:,}" if found.ended < found.wanted else ""
    rest = f"trial {best['trial']}, trained to {best['resource']} {unit}"
    text = (
        f"Best {metric_name(found)}: {best['value']:.4g} with {words} ({rest}), of "
        f"{found.ended:,}{ended} trials."
    )
    if found.exhausted:
        text += f" The space holds no other point than these {len(found.trials):,}."
    return text


def _about(found: Searched) -> str:
    asked, pruner = found.asked, found.pruner
    parts = [
        f"Points: {_meaning(asked)}",
        f"stopping: {PRUNERS[pruner.name]}",
        f"full budget: {pruner.resource} {asked['unit']}",
    ]
    if asked["patience"]:
        parts.append(f"patience: {asked['patience']} {asked['unit']}")
    if found.inherit is not None:
        heirs, steps, anew = found.steps
        further = f"{found.inherit['further']} {asked['unit']}"
        parts.append(
            f"{heirs} of {found.ended:,} began with the weights of an earlier one and trained "
            f"{further}, {steps:,} steps in all (about {anew:,} had each begun anew)"
        )
    if asked["of"] == "build":
        parts.append(f"{asked['optimizer']} on {asked['workload']['dataset']}")
    return "; ".join(parts) + "."


def _meaning(asked: Mapping[str, Any]) -> str:
    """Say who proposes, in words."""
    if "proposer" in asked:
        asks = asked["proposer"]
        settings = stated(asks["strategy"], asks["settings"])
        return f"{asks['meaning']}{f' ({settings})' if settings else ''}"
    return SAMPLERS[asked["sampler"]].meaning


def rounds_table(found: Searched) -> Table:
    """One row a round: who proposed its points, from which box, to where they trained."""
    trials = found.trials
    rungs = {number: words for number, _, words in found.plan}
    rows = []
    for one in found.rounds:
        own = trials.filter(pl.col("round") == one.number)
        known = own["value"].drop_nulls().to_list()
        best = (min if found.sign == 1 else max)(known, default=None)
        counts = own.group_by("source").len().sort("len", "source", descending=[True, False])
        proposed = one.proposal.sources.get(ONE, ())
        who = ", ".join(f"{count} {source}" for source, count in counts.iter_rows())
        rows.append(
            (
                str(one.number),
                str(len(proposed)),
                who or f"{len(proposed)} points",
                _box(found, one.proposal.boxes.get(ONE, ())),
                rungs.get(one.number, ""),
                f"{int(own['resource'].sum()):,}",
                "" if best is None else f"{float(best):.4g}",
            )
        )
    unit = found.asked["unit"]
    columns = ("round", "trials", "proposed by", "box", f"trials @ {unit}", f"{unit} trained",
               "best")  # fmt: skip
    numeric = (True, True, False, False, False, True, True)
    return Table("rounds", "Rounds", columns, tuple(rows), numeric)


def _box(found: Searched, box: tuple[tuple[float, float], ...]) -> str:
    names = sorted(found.space.ranges)
    narrowed = []
    for name, (low, high) in zip(names, box, strict=False):
        distribution = found.space.ranges[name]
        if (low, high) != (0.0, 1.0) and isinstance(distribution, Range):
            ends = (distribution.value(low), distribution.value(high))
            narrowed.append(f"{name} {_word(ends[0])} to {_word(ends[1])}")
    return ", ".join(narrowed) or "whole space"


def trials_table(found: Searched) -> Table:
    """Every trial; what came of it first, as many hyperparameters are wider than a page."""
    rows = outcomes(found)
    unit = found.asked["unit"]
    columns = ("trial", "value", "best so far", "ended", unit, "round", "proposed by", *found.names)
    cells = [
        (
            str(row["trial"]),
            _word(row["value"]),
            _word(row["best"]),
            row["ended"],
            str(row["resource"]),
            _word(row["round"]),
            (row["source"] or "") + _grew(row.get("parent")),
            *(_word(row[name]) for name in found.names),
        )
        for row in rows.iter_rows(named=True)
    ]
    numeric = (True, True, True, False, True, True, False, *(True for _ in found.names))
    return Table("trials", "Trials", columns, tuple(cells), numeric)


def _grew(parent: int | None) -> str:
    return "" if parent is None else f", grew out of trial {parent}"


def _word(value: float | str | None) -> str:
    """A cell's text."""
    if value is None or isinstance(value, str):
        return value or ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
