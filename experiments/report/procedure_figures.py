"""Figures of the Tuning Playbook's procedures, in the manner of its Figures 4 to 9.

Training curves by learning rate or by remedy, the best value against the rate, the norms of
gradient and update against the step beside the loss, and the histogram of gradient norms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import numpy as np
import polars as pl

from experiments.report import style
from experiments.report.figure import Figure, extent, padded, round_ticks, tooltips, values

COLOURS: Mapping[str, str] = {
    "stable": style.BLUE,
    "no progress": style.GREY,
    "early instability": style.ORANGE,
    "mid-training instability": "#8a63c9",
    "divergence": style.RED,
}
"""The colour of a class."""
_POINTS = 250
_BINS = 40


def class_colour(title: str = "class") -> alt.Color:
    """Colour by class, always the same."""
    return alt.Color(
        "kind:N",
        title=title,
        scale=alt.Scale(domain=list(COLOURS), range=list(COLOURS.values())),
        legend=alt.Legend(orient="bottom", columns=5, symbolOpacity=1),
    )


def log_or_linear(name: str, title: str, drawn: pl.Series) -> alt.Y:
    """y, logarithmic where all of it is positive."""
    low, high = extent(drawn) or (0.0, 1.0)
    wide = low > 0 and high > 3 * low
    domain = padded(low, high, wide)
    kind = {"type": "log"} if wide else {"type": "linear", "zero": False}
    round_ones = round_ticks(domain[0], domain[-1]) if wide else []
    ticks = {"values": round_ones} if len(round_ones) > 1 else {"tickCount": 6}
    scale = alt.Scale(nice=False, domain=domain, clamp=True, **kind)
    return alt.Y(f"{name}:Q", title=title, scale=scale, axis=alt.Axis(format="~g", **ticks))


def rate_axis(rates: Sequence[float]) -> alt.X:
    """x = learning rate, logarithmic."""
    domain = padded(min(rates), max(rates), logarithmic=True)
    return alt.X(
        "rate:Q",
        title="learning rate",
        scale=alt.Scale(type="log", nice=False, domain=domain),
        axis=alt.Axis(format="~g", values=round_ticks(domain[0], domain[-1], 7)),
    )


def value_against_rate(
    table: pl.DataFrame, metric: str, marks: Mapping[str, float], group: str = ""
) -> Figure:
    """The best value of every rate, its class in colour, rates that matter as rules.

    Args:
      table: columns ``rate, value, kind, batch_size, seed, trial`` and, where lines are to be told
        apart, ``group``.
      metric: title of the y axis.
      marks: what a rule is called -> its rate.
      group: title of the column ``group``, "" where there is one line.
    """
    drawn = table.filter(pl.col("value").is_finite())
    x, y = rate_axis(table["rate"].to_list()), log_or_linear("value", metric, drawn["value"])
    base = alt.Chart(values(drawn)).encode(x=x, y=y)
    dash: dict[str, alt.StrokeDash] = {}
    if group:
        order = table["group"].unique(maintain_order=True).to_list()
        dash = {"strokeDash": alt.StrokeDash("group:N", title=group, sort=order)}
    line = base.mark_line(strokeWidth=1.2, color=style.GREY).encode(**dash)
    hover = [*tooltips(["rate", "value"], value=metric), alt.Tooltip("kind:N", title="class")]
    points = base.mark_point(filled=True, size=70, opacity=1).encode(
        color=class_colour(), tooltip=hover
    )
    lost = alt.Chart(values(table.filter(pl.col("value").is_null()))).mark_point(
        shape=style.CROSS, size=90, filled=True, opacity=1
    ).encode(x=x, y=alt.value(8), color=class_colour(), tooltip=tooltips(["rate"]))  # fmt: skip
    return Figure(
        "value_against_rate",
        "Best value against learning rate",
        f"The best {metric} over training at each rate. Crosses at the top: nothing finite was "
        "measured. Dashed: the rates named there.",
        alt.layer(line, points, lost, *_rules(marks, x)).properties(width=640, height=300),
        table,
    )


def _rules(marks: Mapping[str, float], x: alt.X) -> list[alt.Chart]:
    rows = [{"rate": rate, "name": name} for name, rate in marks.items()]
    base = alt.Chart(alt.Data(values=rows)).encode(x=x)
    text = base.mark_text(angle=270, dy=-7, align="right", fontSize=11)
    return [
        base.mark_rule(strokeDash=[5, 3]),
        text.encode(text="name:N", y=alt.value(4)),
    ]


def curves(
    name: str, title: str, caption: str, table: pl.DataFrame, *, series: str, loss: str
) -> Figure:
    """Training loss against steps, a line a series.

    Args:
      table: columns ``series`` (text), ``order`` (number, of the legend), ``step, loss, kind``.
      series: title of the legend.
      loss: title of the y axis.
    """
    order = table.select("series", "order").unique().sort("order")["series"].to_list()
    shown = pl.concat([table.clear(), *(_thinned(t) for t in table.partition_by("series"))])
    picked = alt.selection_point(fields=["series"], bind="legend")
    base = alt.Chart(values(shown)).encode(
        x=alt.X("step:Q", title="steps", axis=alt.Axis(grid=False, format="~s")),
        y=log_or_linear("loss", loss, shown["loss"]),
        color=alt.Color(
            "series:N",
            title=series,
            sort=order,
            scale=alt.Scale(domain=order, range=style.batch_colours(len(order))),
            legend=alt.Legend(symbolOpacity=1),
        ),
        opacity=alt.condition(picked, alt.value(0.95), alt.value(0.08)),
    )
    hover = [
        alt.Tooltip("series:N", title=series),
        *tooltips(["step", "loss"]),
        alt.Tooltip("kind:N", title="class"),
    ]
    lines = base.mark_line(strokeWidth=1.5).add_params(picked)
    points = base.mark_point(size=20, filled=True).encode(opacity=alt.value(0.0), tooltip=hover)
    return Figure(name, title, caption, alt.layer(lines, points).properties(
        width=640, height=320), table)  # fmt: skip


def _thinned(curve: pl.DataFrame) -> pl.DataFrame:
    """At most 250 points and the last, the largest loss of each stretch among them."""
    every = -(-len(curve) // _POINTS)
    if every <= 1:
        return curve
    place = pl.int_range(pl.len()) // every
    return curve.filter((pl.col("loss") == pl.col("loss").max().over(place)) | (
        pl.int_range(pl.len()) == pl.len() - 1))  # fmt: skip


def beside_the_loss(
    table: pl.DataFrame, quantities: Mapping[str, str], caption: str, rules: Mapping[str, str]
) -> Figure:
    """Loss, norms and, where it was recorded, sharpness against the step, one panel each.

    Args:
      table: ``step, series`` and the columns of ``quantities``.
      quantities: column -> title of its panel.
      caption: how to read it.
      rules: column -> a column of thresholds that is drawn dashed in its panel.
    """
    panels = []
    order = table["series"].unique(maintain_order=True).to_list()
    for column, title in quantities.items():
        rows = table.filter(pl.col(column).is_finite())
        drawn = pl.concat([rows[column], *(rows[rules[c]] for c in [column] if c in rules)])
        base = alt.Chart(values(rows)).encode(
            x=alt.X("step:Q", title="steps", axis=alt.Axis(grid=False, format="~s")),
            y=log_or_linear(column, title, drawn),
            color=alt.Color(
                "series:N", title="", sort=order,
                scale=alt.Scale(domain=order, range=style.batch_colours(len(order))),
            ),
        )  # fmt: skip
        layers = [base.mark_line(strokeWidth=1.3)]
        if column in rules:
            y = log_or_linear(rules[column], title, drawn)
            layers.append(base.mark_line(strokeDash=[5, 3], strokeWidth=1.3).encode(y=y))
        panels.append(alt.layer(*layers).properties(width=310, height=200))
    return Figure(
        "beside_the_loss",
        "Gradient, update and loss, step by step",
        caption,
        alt.concat(*panels, columns=2, spacing=28),
        table,
    )


def norm_histogram(norms: pl.Series, marks: Mapping[str, float]) -> Figure:
    """Histogram of gradient norms, with thresholds as rules."""
    kept = norms.filter(norms.is_finite() & (norms > 0)).to_numpy()
    low, high = float(kept.min()), float(kept.max())
    high = high if high > low else low * 1.01
    edges = np.geomspace(low, high, _BINS + 1)
    counts, _ = np.histogram(kept, edges)
    table = pl.DataFrame({"from": edges[:-1], "to": edges[1:], "steps": counts})
    domain = padded(low, high, logarithmic=True)
    scale = alt.Scale(type="log", nice=False, domain=domain)
    axis = alt.Axis(format="~g", values=round_ticks(domain[0], domain[-1], 7))
    bars = alt.Chart(values(table)).mark_rect(color=style.BLUE, opacity=0.75).encode(
        x=alt.X("from:Q", title="unclipped gradient norm", scale=scale, axis=axis),
        x2="to:Q",
        y=alt.Y("steps:Q", title="steps"),
        y2=alt.datum(0),
        tooltip=tooltips(["from", "to", "steps"]),
    )  # fmt: skip
    rows = [{"from": value, "name": f"{name} ({value:.3g})"} for name, value in marks.items()]
    base = alt.Chart(alt.Data(values=rows)).encode(x=alt.X("from:Q", scale=scale))
    text = base.mark_text(angle=270, dy=-6, align="right", fontSize=10)
    return Figure(
        "norm_histogram",
        "How large gradients are",
        "Steps by the norm of their gradient before any clipping. Dashed: thresholds; what lies to "
        "the right of one would be clipped by it.",
        alt.layer(
            bars, base.mark_rule(strokeDash=[5, 3]), text.encode(text="name:N", y=alt.value(4))
        ).properties(width=640, height=260),
        table,
    )


def by_setting(table: pl.DataFrame, metric: str) -> Figure:
    """Best checkpoints of every seed, one row a setting.

    Args:
      table: columns ``setting, value``, settings in order.
      metric: title of the x axis.
    """
    order = table["setting"].unique(maintain_order=True).to_list()
    low, high = extent(table["value"]) or (0.0, 1.0)
    scale = alt.Scale(zero=False, nice=False, domain=padded(low, high, logarithmic=False))
    base = alt.Chart(values(table)).encode(
        y=alt.Y("setting:N", sort=order, title="", axis=alt.Axis(labelLimit=240)),
        x=alt.X("value:Q", title=f"best {metric}", scale=scale),
    )
    points = base.mark_point(filled=True, size=60, opacity=0.7, color=style.BLUE)
    middle = base.mark_tick(thickness=2, size=22, color=style.RED).encode(x="median(value):Q")
    return Figure(
        "by_setting",
        "Best checkpoint of every seed",
        f"The best {metric} over training, a point a seed; the tick is their median.",
        alt.layer(points.encode(tooltip=tooltips(["value"], value=metric)), middle).properties(
            width=520, height=max(60, 34 * len(order))
        ),
        table,
    )
