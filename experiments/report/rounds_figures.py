"""Rounds of a search that learns: its points in their order, who proposed them, and its boxes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt
import polars as pl

from experiments.analysis.summary import Summary
from experiments.report import style
from experiments.report.figure import (
    Figure,
    HyperparameterAxis,
    batch_axis,
    extent,
    padded,
    tooltips,
    values,
)
from experiments.search.record import Round
from experiments.spec.space import Choice, Distribution

_MOST_PANELS = 4
_WIDTH = 0.62
"""Share of the distance between two batch sizes over which the rounds of one are spread."""
_SHAPES = {"quasi-random": "circle", "model": style.STAR, "neighbours": "diamond"}


def rounds_figures(summary: Summary) -> list[Figure]:
    """The figure of the first search's rounds; none where it has no rounds of its own."""
    rounds = [
        found
        for found in map(Round.from_json, summary.record.study.get("rounds", []))
        if found.seed == summary.seed
    ]
    names = [
        name
        for name, searched in sorted(summary.question.space.items())
        if not isinstance(searched, Choice)
    ]
    if len(rounds) < 2 or not names or summary.question.sampler == "halton":
        return []
    return [_figure(summary, rounds, names)]


def _figure(summary: Summary, rounds: list[Round], names: list[str]) -> Figure:
    table = _points(summary, rounds, names)
    panels = [_panel(summary, table, name) for name in names[:_MOST_PANELS]]
    return Figure(
        "rounds",
        "The rounds of the search",
        f"Every trial of the first search, {len(rounds)} rounds from left to right at each batch "
        "size, the first quasi-random. Bars: the box that a round could search, longer than the "
        "space (dashed) where the best trial so far lay at an edge. Shapes say who proposed a "
        "point: nobody yet (quasi-random), the model about the best trial of its batch size, or "
        "the curve of optima that its neighbours draw.",
        alt.concat(*panels, columns=2, spacing=24).resolve_scale(color="shared", shape="shared"),
        table,
    )


def _points(summary: Summary, rounds: list[Round], names: list[str]) -> pl.DataFrame:
    """A row a trial: batch_size, trial, round, source, x, its values, and its round's box."""
    rows: list[dict[str, Any]] = []
    made: dict[int, int] = {}
    order = sorted(summary.question.space)
    for found in rounds:
        for batch_size, points in found.proposal.points.items():
            box = found.proposal.boxes[batch_size]
            ends = {
                key: value
                for name in names
                for key, value in _ends(
                    name, summary.question.space[name], box[order.index(name)]
                ).items()
            }
            for point, source in zip(points, found.proposal.sources[batch_size], strict=True):
                rows.append(
                    {
                        "batch_size": batch_size,
                        "trial": made.setdefault(batch_size, 0),
                        "round": found.number + 1,
                        "source": source,
                        "x": batch_size * 2 ** _shift(found.number, len(rounds)),
                        **{
                            name: _value(summary.question.space[name], point[order.index(name)])
                            for name in names
                        },
                        **ends,
                    }
                )
                made[batch_size] += 1
    return pl.DataFrame(rows)


def _shift(number: int, rounds: int) -> float:
    """Octaves to the side of its batch size at which a round is drawn."""
    return _WIDTH * (number / max(rounds - 1, 1) - 0.5)


def _value(distribution: Distribution, position: float) -> float:
    return float(distribution.value(position))


def _ends(name: str, searched: Distribution, box: tuple[float, float]) -> Mapping[str, float]:
    low, high = sorted(_value(searched, position) for position in box)
    return {f"{name} from": low, f"{name} to": high}


def _panel(summary: Summary, table: pl.DataFrame, name: str) -> alt.LayerChart:
    """One hyperparameter: the boxes behind, the points before them."""
    question = summary.question
    searched = question.space[name]
    assert not isinstance(searched, Choice)
    axis = HyperparameterAxis.of(name, searched)
    low, high = f"{name} from", f"{name} to"
    shown = axis.prepare(table).with_columns(
        pl.col(column).map_elements(axis.position, return_dtype=pl.Float64)
        for column in (low, high)
    )
    drawn = extent(pl.concat([shown[column] for column in (axis.field, low, high)]))
    least, most = drawn or (searched.low, searched.high)
    y = axis.encode(alt.Y, padded(least, most, axis.scale != "linear"), ticks=6, grid=False)
    x = batch_axis(question.batch_sizes)
    x["shorthand"] = "x:Q"
    boxes = (
        alt.Chart(values(shown.select("x", low, high).unique(maintain_order=True)))
        .mark_bar(size=5, color=style.GREY, opacity=0.25)
        .encode(x=x, y=_renamed(y, low), y2=alt.Y2(f"{low.replace(' from', ' to')}"))
    )
    ends = pl.DataFrame(
        {axis.field: [axis.position(float(e)) for e in (searched.low, searched.high)]}
    )
    space = alt.Chart(values(ends)).mark_rule(strokeDash=[4, 4]).encode(y=_renamed(y, axis.field))
    points = (
        alt.Chart(values(shown))
        .mark_point(filled=True, size=34, opacity=0.9)
        .encode(
            x=x,
            y=y,
            color=alt.Color("round:O", title="round", scale=alt.Scale(scheme="viridis")),
            shape=alt.Shape(
                "source:N",
                title="proposed by",
                scale=alt.Scale(domain=list(_SHAPES), range=list(_SHAPES.values())),
            ),
            tooltip=[
                *tooltips(("batch_size", "trial", name)),
                alt.Tooltip("round:O"),
                alt.Tooltip("source:N", title="proposed by"),
            ],
        )
    )
    return (boxes + space + points).properties(width=390, height=260)


def _renamed(channel: Any, field: str) -> Any:
    other = channel.copy()
    other["shorthand"] = f"{field}:Q"
    return other
