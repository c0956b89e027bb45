"""The recorded curvature against the bound of the update rule; of studies that recorded it."""

from __future__ import annotations

import altair as alt
import polars as pl

from experiments.analysis.curvature import (
    PRECONDITIONED,
    curvature_at_best,
    curvature_in_training,
    records_curvature,
)
from experiments.analysis.summary import Summary
from experiments.report.figure import (
    Figure,
    batch_colour,
    log_axis,
    nothing,
    step_axis,
    tooltips,
    values,
)
from experiments.report.tables import Table
from experiments.report.words import label

_BOUND = {
    "sgd": "2/η",
    "momentum": "2(1+μ)/η",
    "nesterov": "2(1+μ)/((1+2μ)η)",
    "adam": "2(1+β₁)/((1−β₁)η)",
}


def curvature_figures(summary: Summary) -> list[Figure]:
    """The figure of the curvature; none where the study did not record it."""
    return [in_training(summary)] if records_curvature(summary.view) else []


def in_training(summary: Summary) -> Figure:
    """The top eigenvalue of the best trials, and its ratio to their rule's bound."""
    table = curvature_in_training(summary.view, summary.of_seed(summary.best))
    rule = summary.question.optimizer
    what = "of D^(-1/2) H D^(-1/2), D what the rule divides its step by," if (
        rule in PRECONDITIONED
    ) else "of the Hessian"  # fmt: skip
    bound = f" ({_BOUND[rule]})" if rule in _BOUND else ""
    chart: alt.TopLevelMixin = nothing("no best trial holds the curvature")
    if len(table):
        picked = alt.selection_point(fields=["batch_size"], bind="legend")
        panels = [_panel(summary, table, picked, "largest", "top eigenvalue")]
        if table["ratio"].drop_nulls().len():
            panels.append(_panel(summary, table, picked, "ratio", "top eigenvalue / bound"))
        chart = alt.hconcat(*panels, spacing=30)
    without = "" if table.is_empty() or table["ratio"].drop_nulls().len() else (
        f" {label(rule)} has no such bound: it is not linear in the gradient up to a diagonal."
    )  # fmt: skip
    return Figure(
        "curvature_in_training",
        "Curvature in training",
        f"The largest eigenvalue {what} on the evaluated training examples, in the best trial of "
        f"each batch size. Right: over the bound above which {label(rule)} is unstable on a "
        f"quadratic{bound}, at the rate and momentum of that step; the dashed line is the edge of "
        "stability, where full-batch training settles. The noise of small batches keeps them "
        "below it. Negative eigenvalues are not drawn. Click a batch size in the legend to see it "
        f"alone.{without}",
        chart,
        table,
    )


def _panel(
    summary: Summary, table: pl.DataFrame, picked: alt.Parameter, column: str, title: str
) -> alt.LayerChart:
    held = table.filter(pl.col(column) > 0)
    edge = pl.Series([1.0]) if column == "ratio" else pl.Series([], dtype=pl.Float64)
    y = log_axis(f"{column}:Q", title, pl.concat([held[column], edge]))
    hover = tooltips(
        ("batch_size", "trial", "step", "value", "largest", "error", "threshold", "ratio")
    )
    seen = alt.condition(picked, alt.value(0.95), alt.value(0.06))
    base = alt.Chart(values(held)).encode(
        x=step_axis("step:Q", "step", held["step"]),
        y=y,
        color=batch_colour(summary.question.batch_sizes),
        opacity=seen,
    )
    layers = [
        base.mark_line(strokeWidth=1.5),
        base.mark_point(size=22, filled=True).encode(tooltip=hover),
    ]
    if column == "largest":
        layers[0] = layers[0].add_params(picked)
    else:
        rule = alt.Chart(alt.Data(values=[{"ratio": 1.0}])).mark_rule(strokeDash=[6, 4])
        layers.append(rule.encode(y=alt.Y("ratio:Q", scale=y["scale"])))
    return alt.layer(*layers).properties(width=385, height=300)


def curvature_table(summary: Summary) -> Table:
    """The curvature at the best measured evaluation of each search's best trial."""
    table = curvature_at_best(summary.view, summary.best).sort("batch_size", "seed")
    several = summary.searches > 1
    rows = []
    for row in table.iter_rows(named=True):
        known = row["ratio"] is not None
        rows.append(
            (
                f"{row['batch_size']:,}",
                *([str(row["seed"])] if several else []),
                f"{row['step']:,}",
                f"{row['value']:.4g}",
                f"{row['largest']:.4g} ± {row['error']:.1g}",
                f"{row['threshold']:.4g}" if known else "-",
                f"{row['ratio']:.3g}" if known else "-",
                f"{row['most']:.3g}" if known else "-",
            )
        )
    columns = (
        "batch size", *(["seed"] if several else []), "step", label(summary.question.goal.metric),
        "top eigenvalue", "bound of the rule", "ratio", "largest ratio in training",
    )  # fmt: skip
    title = "At the best of the measured evaluations"
    return Table("curvature_in_training", title, columns, tuple(rows), (True,) * len(columns))
