"""The page of a trial's branches. Imports no jax."""

from __future__ import annotations

import math

import altair as alt
import polars as pl

from experiments.analysis.branching import Branched
from experiments.report import style
from experiments.report.answer import estimated, sized
from experiments.report.figure import (
    Figure,
    batch_axis,
    batch_domain,
    log_axis,
    tooltips,
    values,
)
from experiments.report.plain_page import PlainPage
from experiments.report.tables import Table


def branch_page(found: Branched, tolerance: float) -> PlainPage:
    """The content of a page of branches."""
    rows = [
        {
            "window": answer.window,
            "factor": k,
            "batch_size": k * found.batch_size,
            "smoothed_loss": loss,
            "over_unbranched": loss / answer.losses[1] - 1,
            "holds": k <= answer.factor,
        }
        for answer in found.answers
        for k, loss in answer.losses.items()
    ]
    table = pl.DataFrame(rows)
    shown = Table(
        "numbers",
        "Branches",
        ("window (examples)", "batch size", "smoothed loss", "over the unbranched", "holds"),
        tuple(
            (
                f"{row['window']:,}",
                f"{row['batch_size']:,}",
                f"{row['smoothed_loss']:.4g}",
                f"{row['over_unbranched']:+.2%}",
                "yes" if row["holds"] else "no",
            )
            for row in rows
        ),
        (True, True, True, True, False),
    )
    title = f"Branches of trial {found.trial} at step {found.step:,}"
    return PlainPage(
        title, _facts(found, tolerance), shown, table, [_figure(found, table, tolerance)]
    )


def _facts(found: Branched, tolerance: float) -> list[tuple[str, str]]:
    facts = [
        ("Trial", found.trial),
        ("Step", f"{found.step:,}"),
        ("Rate", "times k" if found.rate == "linear" else "times sqrt(k)"),
        ("Tolerance", f"{tolerance:g} of the unbranched smoothed loss"),
    ]
    for answer in found.answers:
        bound = "" if answer.bounded else "at least "
        size = answer.factor * found.batch_size
        name = f"Local critical batch size, window of {answer.window:,} examples"
        facts.append((name, f"{bound}{size:,} (k = {answer.factor})"))
    return [
        *facts,
        ("Gradient noise scale there", f"{found.noise_scale:,.4g}"),
        ("End of perfect scaling of the record", estimated(found.limit)),
        ("Noise critical batch size of the record", estimated(found.noise)),
    ]


FARTHEST = 16
"""Critical batch sizes beyond so many times the batch sizes tried are told, not drawn."""
_COLOURS = [style.RED, style.BLUE, style.GREEN, style.ORANGE]
_WINDOWS = [style.GREY, style.BLUE, style.ORANGE]


def _figure(found: Branched, table: pl.DataFrame, tolerance: float) -> Figure:
    """The branches, and below them the record's own curve, on one axis of batch sizes."""
    sizes = sorted({*table["batch_size"].to_list(), *found.curve["batch_size"].to_list()})
    local = found.answers[1].factor * found.batch_size
    known = {
        f"local critical batch size{'' if found.answers[1].bounded else ' (at least)'}": local,
        "gradient noise scale here": found.noise_scale,
        "end of perfect scaling (record)": found.limit.value,
        "noise critical batch size (record)": found.noise.value,
    }
    drawn = {
        name: float(size)
        for name, size in known.items()
        if size is not None and math.isfinite(size) and size <= FARTHEST * sizes[-1]
    }
    marks = [{"batch_size": size, "quantity": name} for name, size in drawn.items()]
    beyond = [f"{name} {sized(size)}" for name, size in known.items()
              if name not in drawn and size is not None and math.isfinite(size)]  # fmt: skip
    domain = batch_domain([*sizes, *drawn.values()])
    x = batch_axis(sizes).scale(type="log", base=2, nice=False, domain=domain)
    rules = alt.Chart(alt.Data(values=marks)).mark_rule(strokeWidth=2, strokeDash=[5, 3])
    rules = rules.encode(x=x, tooltip=[alt.Tooltip("quantity:N"), *tooltips(("batch_size",))])
    legend = alt.Legend(labelLimit=300, symbolType="stroke")
    told, untold = (
        alt.Color(
            "quantity:N", title="critical batch sizes", sort=None, legend=shown,
            scale=alt.Scale(domain=[name for name in known if name in drawn],
                            range=[c for name, c in zip(known, _COLOURS, strict=True)
                                   if name in drawn]),
        )
        for shown in (legend, None)
    )  # fmt: skip
    panels = [_branches(found, table, tolerance, x, rules.encode(color=told))]
    if len(found.curve):
        panels.append(_measured_curve(found.curve, x, rules.encode(color=untold)))
    far = f" Too far to draw: {', '.join(beyond)}." if beyond else ""
    none = "" if len(found.curve) else " No batch size of the record got to the goal: no curve."
    return Figure(
        "branches",
        "Branches, noise scale and the measured curve",
        "Above: every branch starts from one state and sees the same window of examples; its batch "
        "is larger and its rate grows with it (Merrill et al. 2025). Dashed: the tolerance; losses "
        "far above it leave the figure, the table has them. Below: the steps to the goal of the "
        "record's own searches (bars: their range), with the line of perfect scaling. Vertical: "
        "four quantities that are called critical batch sizes, and are not the same."
        f"{far}{none}",
        alt.vconcat(*panels, spacing=18).resolve_scale(color="independent"),
        table,
    )


def _branches(
    found: Branched, table: pl.DataFrame, tolerance: float, x: alt.X, rules: alt.Chart
) -> alt.LayerChart:
    held = table.filter(pl.col("over_unbranched").is_finite()).with_columns(
        window=pl.col("window").cast(pl.String)
    )
    order = [str(answer.window) for answer in found.answers]
    worst = max(5 * tolerance, 0.05)
    least = min([-0.5 * worst, *held["over_unbranched"].to_list()])
    y = alt.Y(
        "over_unbranched:Q",
        title="smoothed loss over the unbranched",
        axis=alt.Axis(format="+%"),
        scale=alt.Scale(domain=[max(-1.0, least), worst], nice=False),
    )
    colour = alt.Color(
        "window:N", title="window of examples", sort=order,
        scale=alt.Scale(domain=order, range=_WINDOWS[: len(order)]),
    )  # fmt: skip
    base = alt.Chart(values(held)).encode(x=x, y=y, color=colour)
    hover = tooltips(("window", "batch_size", "smoothed_loss", "over_unbranched"))
    limit = alt.Chart(alt.Data(values=[{"over_unbranched": tolerance}]))
    lines = alt.layer(
        base.mark_line(strokeWidth=1.5, clip=True),
        base.mark_point(size=36, filled=True, opacity=1, clip=True).encode(tooltip=hover),
    )
    level = limit.mark_rule(strokeDash=[6, 4]).encode(
        y=alt.Y("over_unbranched:Q", scale=y["scale"])
    )
    both = alt.layer(lines, level, rules).resolve_scale(color="independent")
    return both.properties(width=600, height=250)


def _measured_curve(curve: pl.DataFrame, x: alt.X, rules: alt.Chart) -> alt.LayerChart:
    """Steps to the goal against the batch size, and perfect scaling from the smallest one."""
    first = curve.row(0, named=True)
    ideal = curve.with_columns(
        median=first["median"] * first["batch_size"] / pl.col("batch_size")
    ).filter(pl.col("median") > 0.3 * curve["median"].min())  # type: ignore[operator]
    spans = curve.filter(pl.col("low").is_finite() & pl.col("high").is_finite())
    shown = pl.concat([curve["median"], ideal["median"], spans["low"], spans["high"]])
    y = log_axis("median:Q", "steps to the goal", shown)
    base = alt.Chart(values(curve)).encode(x=x, y=y)
    return alt.layer(
        alt.Chart(values(ideal)).mark_line(strokeDash=[2, 3], color=style.GREY).encode(x=x, y=y),
        alt.Chart(values(spans)).mark_rule(color=style.GREY).encode(x=x, y="low:Q", y2="high:Q"),
        base.mark_line(strokeWidth=1.5, color="black"),
        base.mark_point(size=36, filled=True, opacity=1, color="black").encode(
            tooltip=tooltips(("batch_size", "median", "low", "high"))
        ),
        rules,
    ).properties(width=600, height=220)  # fmt: skip
