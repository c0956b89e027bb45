"""The page of `experiments.spec.paths`: maps with the paths drawn in, and a slider over steps."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import polars as pl

from experiments.records.paths import read_paths
from experiments.report.document import document, figure_section, table_html
from experiments.report.figure import Figure, values
from experiments.report.tables import Table
from experiments.report.write import replace_report, write_figure

BANDS = 16
"""Shades of a map; each covers the same area, so that valleys and cliffs are both seen."""
LOWEST = 1e-6
"""Heights below it are drawn at it: the axis is logarithmic."""


def write_paths_report(folder: Path | str) -> Path:
    """Writes ``folder/report/`` from the record alone; returns the path of its index.html.

    Raises:
      RecordError: the record cannot be read.
    """
    question, paths, surfaces = read_paths(folder)
    figure = paths_figure(question, paths, surfaces)

    def build(target: Path) -> None:
        write_figure(figure, target)
        (target / "index.html").write_text(_page(question, paths, figure), encoding="utf-8")

    return replace_report(folder, build)


def paths_figure(
    question: Mapping[str, Any], paths: pl.DataFrame, surfaces: pl.DataFrame
) -> Figure:
    """A row a surface: its map with every path up to the slider's step, and the heights."""
    last = int(paths["step"].max())  # type: ignore[arg-type]
    slider = alt.param(
        name="upto", value=last, bind=alt.binding_range(min=0, max=last, step=1, name="step ")
    )
    rows = []
    for number, surface in enumerate(question["surfaces"]):
        name = surface["name"]
        mine = paths.filter(pl.col("surface") == name).with_columns(
            drawn=pl.col("value").clip(lower_bound=LOWEST)
        )
        cells = surfaces.filter(pl.col("surface") == name)
        rows.append(
            alt.hconcat(
                _map(surface, mine, cells, question["optimizers"]),
                _heights(mine, question["optimizers"], legend=number == 0),
                spacing=30,
            ).resolve_scale(color="independent")
        )
    return Figure(
        "paths",
        "The paths of the optimizers",
        "Left: darker is lower, every shade covers the same area. Right: height above the minimum "
        f"against the step, drawn down to {LOWEST:g}. Move the slider to walk.",
        alt.vconcat(*rows, spacing=26).resolve_scale(color="independent").add_params(slider),
        paths,
    )


def _colour(optimizers: list[str], legend: bool = False) -> alt.Color:
    scheme = "tableau10" if len(optimizers) <= 10 else "tableau20"
    return alt.Color(
        "optimizer:N", title=None, sort=optimizers,
        scale=alt.Scale(scheme=scheme, domain=optimizers),
        legend=alt.Legend(symbolStrokeWidth=3, symbolType="stroke") if legend else None,
    )  # fmt: skip


def _map(
    surface: Mapping[str, Any], paths: pl.DataFrame, cells: pl.DataFrame, optimizers: list[str]
) -> alt.LayerChart:
    """The surface in shades and the paths up to the slider's step."""
    heights = cells["value"].to_numpy()
    levels = np.quantile(heights, np.linspace(0, 1, BANDS + 1)[1:-1])
    shaded = cells.with_columns(pl.Series("band", np.searchsorted(levels, heights)))
    x = alt.X("x:Q", title="x", scale=_between(surface, 0), axis=alt.Axis(grid=False))
    y = alt.Y("y:Q", title="y", scale=_between(surface, 1), axis=alt.Axis(grid=False))
    # One grey that lies as well on a white page as on a dark one.
    grey = alt.Scale(range=["#5c6573", "#e7e9ed"], domain=[0, BANDS - 1])
    ground = (
        alt.Chart(values(shaded.select("x", "x2", "y", "y2", "band")))
        .mark_rect(strokeWidth=1.2)  # without a stroke the page shines through the seams
        .encode(x=x, x2="x2:Q", y=y, y2="y2:Q",
                fill=alt.Fill("band:Q", legend=None, scale=grey),
                stroke=alt.Stroke("band:Q", legend=None, scale=grey))
    )  # fmt: skip
    columns = ("optimizer", "step", "x", "y", "value")
    walked = alt.Chart(values(paths.select(columns))).encode(x=x, y=y, color=_colour(optimizers))
    hover = [alt.Tooltip("optimizer:N"), alt.Tooltip("step:Q"),
             *(alt.Tooltip(f"{name}:Q", format=".4~g") for name in ("x", "y", "value"))
             ]  # fmt: skip
    lines = (
        walked.transform_filter("datum.step <= upto")
        .mark_line(clip=True, strokeWidth=1.8, opacity=0.9)
        .encode(order="step:Q")
    )
    heads = (
        walked.transform_filter("datum.step == upto")
        .mark_point(clip=True, filled=True, size=75, opacity=1, stroke="white", strokeWidth=1)
        .encode(tooltip=hover)
    )
    chart = alt.layer(ground, lines, heads)
    title = f"{surface['name']}: {surface['formula']}"
    return chart.properties(width=400, height=290, title=title)


def _between(surface: Mapping[str, Any], axis: int) -> alt.Scale:
    return alt.Scale(domain=[surface["low"][axis], surface["high"][axis]], nice=False, zero=False)


def _heights(paths: pl.DataFrame, optimizers: list[str], legend: bool) -> alt.LayerChart:
    """Height above the minimum against the step, with a rule at the slider's."""
    last = int(paths["step"].max())  # type: ignore[arg-type]
    base = alt.Chart(values(paths.select("optimizer", "step", "drawn")))
    lines = base.mark_line(strokeWidth=1.6).encode(
        x=alt.X("step:Q", title="step", scale=alt.Scale(domain=[0, last], nice=False)),
        y=alt.Y("drawn:Q", title="height above the minimum",
                scale=alt.Scale(type="log", nice=False), axis=alt.Axis(format=".0e", tickCount=6)),
        color=_colour(optimizers, legend),
    )  # fmt: skip
    rule = (
        alt.Chart(alt.Data(values=[{}]))
        .transform_calculate(step="upto")
        .mark_rule(strokeDash=[3, 3])
        .encode(x="step:Q")
    )
    return alt.layer(lines, rule).properties(width=310, height=290)


def _page(question: Mapping[str, Any], paths: pl.DataFrame, figure: Figure) -> str:
    expected = f'<p class="note">Expected: {html.escape(question["expected"])}</p>'
    body = (
        f'<p class="name">{html.escape(question["name"])}</p>\n'
        f"<h1>{html.escape(question['question'])}</h1>\n"
        f"{expected if question['expected'] else ''}"
        f"{figure_section(figure)}<h2>Learning rates</h2>"
        '<p class="caption">Of those tried, the one whose mean height along the path is least; '
        "in brackets the height at the end.</p>"
        f"{table_html(_rates(question, paths))}"
    )
    return document(f"{question['name']}: paths of optimizers", body, [figure])


def _rates(question: Mapping[str, Any], paths: pl.DataFrame) -> Table:
    """The rate of every optimizer on every surface, and how far it got."""
    ends = paths.group_by("surface", "optimizer").agg(
        pl.col("learning_rate").first(), pl.col("value").last()
    )
    found = {(row[0], row[1]): f"{row[2]:.3g} ({row[3]:.2g})" for row in ends.iter_rows()}
    names = [surface["name"] for surface in question["surfaces"]]
    rows = [(name, *(found[s, name] for s in names)) for name in question["optimizers"]]
    return Table("rates", "Learning rates", ("", *names), tuple(rows),
                 (False, *(True for _ in names)))  # fmt: skip
