"""Figures of a workload's sanity check: layers' histograms, update ratios, first filters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import polars as pl

from experiments.report import style
from experiments.report.figure import Figure, nothing, padded, values

_BINS = 40
_MOST_LAYERS = 18
_COLUMNS = 3
_MOST_FILTERS = 64


def layer_histograms(name: str, layers: Sequence[Mapping[str, Any]], steps: int) -> Figure:
    """A small histogram a layer, in the program's order.

    Args:
      name: "activations" or "gradients".
      layers: rows with ``name``, ``kind``, ``sample`` and, of ReLUs, ``dead`` and ``units``.
      steps: made before.
    """
    shown = list(layers)
    if len(shown) > _MOST_LAYERS:
        places = np.linspace(0, len(shown) - 1, _MOST_LAYERS).round().astype(int)
        shown = [shown[i] for i in places]
    rows, order = [], _titles(shown, name == "activations")
    for layer, row in zip(order, shown, strict=True):
        counts, edges = np.histogram(row["sample"], _BINS)
        share = counts / max(counts.sum(), 1)
        rows += [
            {"layer": layer, "low": float(a), "high": float(b), "share": float(n)}
            for a, b, n in zip(edges[:-1], edges[1:], share, strict=True)
        ]
    kinds = {"layer": pl.String, "low": pl.Float64, "high": pl.Float64, "share": pl.Float64}
    table = pl.DataFrame(rows, schema=kinds)
    left = (
        f" {len(layers) - len(shown)} layers between are left out." if shown != list(layers) else ""
    )
    title = "Activations" if name == "activations" else "Gradients of the parameters"
    caption = (
        f"Histograms of values over examples after {steps} steps, one a layer; the vertical axis "
        f"is the share of values on a root scale.{left}"
    )
    if table.is_empty():
        return Figure(name, title, caption, nothing("no layer is seen in the program"), table)
    chart = (
        alt.Chart(values(table), width=210, height=80)
        .mark_rect(color=style.BLUE)
        .encode(
            x=alt.X("low:Q", title=None, scale=alt.Scale(zero=False),
                    axis=alt.Axis(tickCount=4, format=".3~g", grid=False)),
            x2="high:Q",
            y=alt.Y("share:Q", title=None, scale=alt.Scale(type="sqrt"),
                    axis=alt.Axis(tickCount=2, format="~%", grid=False)),
            y2=alt.datum(0),
            tooltip=[alt.Tooltip("low:Q", format=".3~g"), alt.Tooltip("share:Q", format=".2%")],
        )
        .facet(alt.Facet("layer:N", sort=order, title=None), columns=_COLUMNS)
        .resolve_scale(x="independent", y="independent")
    )  # fmt: skip
    return Figure(name, title, caption, chart, table)


def _titles(layers: Sequence[Mapping[str, Any]], kinds: bool) -> list[str]:
    """A title a layer, each another: its path without the first part, whole where that repeats."""
    found: list[str] = []
    names = [row["name"] for row in layers]
    for paths in ([name.split("/", 1)[-1] for name in names], names):
        found = [
            f"{path} {row['kind']}" if kinds else path
            for path, row in zip(paths, layers, strict=True)
        ]
        if len(set(found)) == len(found):
            return found
    seen: Counter[str] = Counter()
    for at, title in enumerate(found):
        seen[title] += 1
        found[at] = f"{title} ({seen[title]})" if seen[title] > 1 else title
    return found


def update_ratios(ratios: Mapping[str, float], band: tuple[float, float]) -> Figure:
    """The ratio of update to weight of every array of the parameters, and its right band."""
    table = pl.DataFrame(
        {"layer": list(ratios), "ratio": list(ratios.values())},
        schema={"layer": pl.String, "ratio": pl.Float64},
    )
    drawn = table.filter(pl.col("ratio") > 0)
    caption = (
        "Median norm of the update over the norm of the parameter in the last half of the steps. "
        "About 1e-3 is right for weights (the shaded band is a factor of ten to either side); "
        "biases that start at 0 have larger ones."
    )
    title = "Update to weight"
    if drawn.is_empty():
        return Figure("update_ratios", title, caption, nothing("no update was made"), table)
    ends = [*drawn["ratio"].to_list(), *band]
    x = alt.X(
        "ratio:Q", title="|update| / |parameter|",
        scale=alt.Scale(type="log", nice=False, domain=padded(min(ends), max(ends), True)),
        axis=alt.Axis(format=".0e", tickCount=6),
    )  # fmt: skip
    shade = alt.Chart(alt.Data(values=[{"ratio": band[0], "high": band[1]}])).mark_rect(
        color=style.GREEN, opacity=0.15
    ).encode(x=x, x2="high:Q")  # fmt: skip
    points = alt.Chart(values(drawn)).mark_point(
        filled=True, size=60, opacity=1, color=style.BLUE
    ).encode(
        x=x,
        y=alt.Y("layer:N", title=None, sort=list(ratios), axis=alt.Axis(grid=True, labelLimit=300)),
        tooltip=["layer:N", alt.Tooltip("ratio:Q", format=".2e")],
    )  # fmt: skip
    chart = alt.layer(shade, points).properties(width=460, height={"step": 20})
    return Figure("update_ratios", title, caption, chart, table)


def filter_pictures(filters: np.ndarray, steps: int) -> Figure:
    """The first layer's weights [filters, height, width, channels] as pictures, side by side.

    Every picture is stretched from its least weight (black) to its greatest (white); three channels
    are red, green and blue, others are averaged.
    """
    shown = np.asarray(filters[:_MOST_FILTERS], np.float64)
    if shown.shape[-1] != 3:
        shown = shown.mean(axis=-1, keepdims=True).repeat(3, axis=-1)
    low = shown.min(axis=(1, 2, 3), keepdims=True)
    span = np.maximum(shown.max(axis=(1, 2, 3), keepdims=True) - low, 1e-30)
    bytes_ = (255 * (shown - low) / span).round().astype(int)
    across = int(np.ceil(np.sqrt(len(shown) * 2)))
    height, width = shown.shape[1:3]
    rows = [
        {"filter": n, "x": (n % across) * (width + 1) + j, "y": (n // across) * (height + 1) + i,
         "colour": "#" + "".join(f"{c:02x}" for c in bytes_[n, i, j])}
        for n in range(len(shown)) for i in range(height) for j in range(width)
    ]  # fmt: skip
    table = pl.DataFrame(rows).with_columns(x2=pl.col("x") + 1, y2=pl.col("y") + 1)
    columns, lines = across * (width + 1), -(-len(shown) // across) * (height + 1)
    cell = max(2, min(12, 640 // columns))

    def ends(most: int, reverse: bool = False) -> alt.Scale:
        return alt.Scale(domain=[0, most], nice=False, reverse=reverse)

    chart = alt.Chart(values(table), width=cell * columns, height=cell * lines,
                      view=alt.ViewBackground(stroke=None)).mark_rect().encode(
        x=alt.X("x:Q", axis=None, scale=ends(columns)), x2="x2:Q",
        y=alt.Y("y:Q", axis=None, scale=ends(lines, True)), y2="y2:Q",
        color=alt.Color("colour:N", scale=None),
    )  # fmt: skip
    more = f" The first {_MOST_FILTERS} of {len(filters)}." if len(filters) > len(shown) else ""
    return Figure(
        "filters", "First-layer weights",
        f"After {steps} steps: smooth shapes are what a trained layer has, noise is where one "
        f"starts. Each from its least weight (black) to its greatest (white).{more}",
        chart, table.select("filter", "x", "y", "colour"),
    )  # fmt: skip
