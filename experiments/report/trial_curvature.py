"""The page of one trial's curvature: its numbers, its spectrum, its landscape. Imports no jax."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt
import polars as pl

from experiments.report import style
from experiments.report.figure import Figure, log_axis, nothing, tooltips, values
from experiments.report.tables import Table
from experiments.report.words import label

_FLOOR = 1e-6
"""Densities below this share of the largest are not drawn."""


def numbers_table(numbers: pl.DataFrame) -> Table:
    """The numbers as text: a row a quantity, a value and its error for every trial."""
    trials = numbers["trial"].unique(maintain_order=True).to_list()
    rows = []
    for (quantity,), held in numbers.group_by("quantity", maintain_order=True):
        own = {row["trial"]: row for row in held.iter_rows(named=True)}
        cells = [cell for trial in trials for cell in _cells(own.get(trial))]
        rows.append((str(quantity), *cells, str(held["how"][0])))
    heads = [head for trial in trials for head in (trial if len(trials) > 1 else "value", "±")]
    columns = ("quantity", *heads, "how")
    numeric = (False, *(True for _ in heads), False)
    return Table("numbers", "Numbers", columns, tuple(rows), numeric)


def _cells(row: Mapping[str, Any] | None) -> tuple[str, str]:
    return ("", "") if row is None else (_number(row["value"]), _error(row["error"]))


def _number(value: float) -> str:
    return f"{value:,.5g}" if abs(value) < 1e6 else f"{value:.4g}"


def _error(value: float | None) -> str:
    return "" if value is None else f"{value:.1g}"


def drawn(curves: Mapping[str, pl.DataFrame]) -> list[Figure]:
    """The figures of what was measured."""
    makers = {
        "density": density, "errors": errors, "alignment": alignment, "plane": plane,
        "lines": lines,
    }  # fmt: skip
    return [make(curves[name]) for name, make in makers.items() if name in curves]


def density(table: pl.DataFrame) -> Figure:
    """The spectral density of the Hessian."""
    highest = float(table["density"].max() or 1.0)  # type: ignore[arg-type]
    held = table.filter(pl.col("density") > _FLOOR * highest)
    chart = (
        alt.Chart(values(held))
        .mark_line(color=style.BLUE, strokeWidth=1.2)
        .encode(
            x=alt.X("eigenvalue:Q", title="eigenvalue", axis=alt.Axis(grid=False)),
            y=log_axis("density:Q", "density", held["density"]),
            tooltip=tooltips(("eigenvalue", "density")),
        )
        .properties(width=740, height=300)
    )
    return Figure(
        "spectral_density",
        "Spectral density of the Hessian",
        "By stochastic Lanczos quadrature (Ghorbani et al. 2019), Gaussian kernel of variance 1e-5 "
        "times the spread; integral 1. The mass is near zero; single eigenvalues far from it "
        f"stand alone. Densities below {_FLOOR:g} of the largest are not drawn.",
        chart,
        table,
    )


def errors(table: pl.DataFrame) -> Figure:
    """The standard error of the mean gradient against the batch size."""
    lines = table.unpivot(
        ["without_replacement", "with_replacement"], index="batch_size", variable_name="drawn",
        value_name="error",
    ).with_columns(drawn=pl.col("drawn").str.replace("_", " "))  # fmt: skip
    shown = pl.concat([table["measured"], lines["error"]])
    y = log_axis("error:Q", "error of the mean gradient", shown)
    ticks = table["batch_size"].to_list()
    x = alt.X(
        "batch_size:Q",
        title="batch size",
        scale=alt.Scale(type="log", base=2, nice=False),
        axis=alt.Axis(values=ticks, format=",d", grid=False),
    )
    colour = alt.Color("drawn:N", title="tr(Σ) says, drawn", scale=alt.Scale(
        domain=["with replacement", "without replacement"], range=[style.GREY, style.BLUE]
    ))  # fmt: skip
    curve = alt.Chart(values(lines)).mark_line().encode(x=x, y=y, color=colour)
    points = (
        alt.Chart(values(table.rename({"measured": "error"})))
        .mark_point(color=style.ORANGE, filled=True, size=45, opacity=1)
        .encode(x=x, y=y, tooltip=tooltips(("batch_size", "error")))
    )
    return Figure(
        "gradient_error",
        "Standard error of the gradient",
        "Root mean square distance of a batch's gradient from that of all these examples. With "
        "replacement it falls as 1/sqrt(B); without, it reaches zero where the batch holds all. "
        "Points: measured over random batches without replacement.",
        alt.layer(curve, points).properties(width=560, height=300),
        table,
    )


def alignment(table: pl.DataFrame) -> Figure:
    """Cosines of successive gradients."""
    held = table.filter(pl.col("cosine").is_finite())
    colour = alt.Color("gradients:N", title="gradients", scale=alt.Scale(
        domain=["of batches", "of the measured examples"], range=[style.ORANGE, style.BLUE]
    ))  # fmt: skip
    zero = alt.Chart(alt.Data(values=[{"cosine": 0}])).mark_rule(strokeDash=[4, 4])
    y = alt.Y("cosine:Q", title="cosine with the next", scale=alt.Scale(domain=[-1, 1]))
    x = alt.X("step:Q", scale=alt.Scale(zero=False, nice=False), axis=alt.Axis(
        format=",d", grid=False, tickMinStep=1
    ))  # fmt: skip
    base = alt.Chart(values(held)).encode(x=x, y=y, color=colour)
    return Figure(
        "gradient_alignment",
        "Alignment of successive gradients",
        "Cosine of each gradient with that of the next step, as the trial goes on from its best "
        "step. Near 1 larger steps would have done; near -1 steps cross a valley and back; batches "
        "of noise alone are near 0.",
        alt.layer(
            zero.encode(y=y),
            base.mark_line(strokeWidth=1.5),
            base.mark_point(size=22, filled=True, opacity=1).encode(
                tooltip=tooltips(("step", "cosine"))
            ),
        ).properties(width=560, height=240),
        table,
    )


def plane(table: pl.DataFrame) -> Figure:
    """The loss on a plane through the solution."""
    finite = table.filter(pl.col("loss").is_finite() & (pl.col("loss") > 0))
    if finite.is_empty():
        chart: alt.TopLevelMixin = nothing("the loss is finite nowhere on the plane")
    else:
        step = float(table["first"].unique().sort().diff().max() or 0.1)  # type: ignore[arg-type]
        half = step / 2
        squares = finite.with_columns(
            x1=pl.col("first") - half, x2=pl.col("first") + half,
            y1=pl.col("second") - half, y2=pl.col("second") + half,
        )  # fmt: skip
        colour = alt.Color(
            "loss:Q", title="loss", scale=alt.Scale(type="log", scheme="viridis", nice=False)
        )
        chart = (
            alt.Chart(values(squares))
            .mark_rect()
            .encode(
                x=alt.X("x1:Q", title="along the first direction",
                        scale=alt.Scale(nice=False), axis=alt.Axis(grid=False)),
                x2="x2:Q",
                y=alt.Y("y1:Q", title="along the second direction",
                        scale=alt.Scale(nice=False), axis=alt.Axis(grid=False)),
                y2="y2:Q",
                color=colour,
                tooltip=tooltips(("first", "second", "loss")),
            )
            .properties(width=420, height=420)
        )  # fmt: skip
    return Figure(
        "loss_plane",
        "The loss around the solution",
        "On a plane of two random directions, each filter as long as the solution's own (Li et al. "
        "2018): at 1 every filter has moved by its length. Biases and scales stay. Rescaling the "
        "layers of a ReLU net changes nothing here.",
        chart,
        table,
    )


def lines(table: pl.DataFrame) -> Figure:
    """Losses and errors on the paths to the second solution."""
    split = pl.col("quantity").str.split("/")
    parted = table.with_columns(split=split.list.first(), metric=split.list.last())
    rows = []
    for path in parted["path"].unique(maintain_order=True):
        panels = [
            _path_panel(parted.filter((pl.col("path") == path) & (pl.col("metric") == metric)),
                        str(path), str(metric))
            for metric in parted["metric"].unique(maintain_order=True)
        ]  # fmt: skip
        rows.append(alt.hconcat(*panels, spacing=30))
    return Figure(
        "between_solutions",
        "Between two solutions",
        "Left end of the dashed lines (0): this trial; right (1): the other one. The line and the "
        "arc are Keskar et al.'s (2017); the curve is a quadratic Bezier whose bend was trained "
        "(Garipov et al. 2018); the last one puts the other net's hidden units in this one's order "
        "first (Ainsworth et al. 2023). Parameters are interpolated; batch norm keeps this "
        "trial's running statistics.",
        alt.vconcat(*rows, spacing=24),
        table,
    )


def _path_panel(table: pl.DataFrame, path: str, metric: str) -> alt.LayerChart:
    held = table.filter(pl.col("value").is_finite())
    logarithmic = held["value"].min() is not None and float(held["value"].min()) > 0  # type: ignore[arg-type]
    logarithmic &= float(held["value"].max() or 0) > 20 * float(held["value"].min() or 1)  # type: ignore[arg-type]
    y = (
        log_axis("value:Q", label(metric), held["value"])
        if logarithmic
        else alt.Y("value:Q", title=label(metric))
    )
    x = alt.X("alpha:Q", title=path, axis=alt.Axis(grid=False), scale=alt.Scale(nice=False))
    colour = alt.Color("split:N", title="", scale=alt.Scale(range=[style.BLUE, style.ORANGE]))
    ends = alt.Chart(alt.Data(values=[{"alpha": 0}, {"alpha": 1}]))
    curve = alt.Chart(values(held)).encode(x=x, y=y, color=colour)
    return alt.layer(
        ends.mark_rule(strokeDash=[4, 4]).encode(x="alpha:Q"),
        curve.mark_line(strokeWidth=1.5),
        curve.mark_point(size=14, filled=True).encode(
            tooltip=[*tooltips(("alpha", "value")), alt.Tooltip("quantity:N")]
        ),
    ).properties(width=340, height=180)
