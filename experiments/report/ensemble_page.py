"""The page of ensembles: their metrics against the number of members, their calibration."""

from __future__ import annotations

import altair as alt
import polars as pl

from experiments.report import style
from experiments.report.figure import Figure, tooltips, values
from experiments.report.tables import Table
from experiments.report.words import label

KINDS = ("inits", "top", "checkpoints", "average")
_COLOURS = [style.BLUE, style.ORANGE, style.GREEN, style.RED]


def numbers_table(numbers: pl.DataFrame) -> Table:
    """A row a kind and metric as text; ``numbers`` as `experiments.runner.ensemble.as_tables`."""
    rows = tuple(
        (
            row["kind"],
            label(row["metric"]),
            f"{row['value']:.4g}",
            f"{row['low']:.4g} to {row['high']:.4g}",
            f"{row['difference']:+.4g}",
            f"{row['difference_low']:+.4g} to {row['difference_high']:+.4g}",
        )
        for row in numbers.iter_rows(named=True)
    )
    columns = ("kind", "metric", "value", "95% interval", "minus the best trial", "95% interval")
    return Table("numbers", "Ensembles", columns, rows, (False, False, True, True, True, True))


def drawn(sizes: pl.DataFrame, bins: pl.DataFrame) -> list[Figure]:
    """The figures of `experiments.runner.ensemble.as_tables`."""
    return [against_size(sizes), calibrated(bins)]


def against_size(table: pl.DataFrame) -> Figure:
    """Metrics against the number of members."""
    kinds = [kind for kind in KINDS if kind in table["kind"].to_list()]
    colour = alt.Color(
        "kind:N", title="kind", scale=alt.Scale(domain=kinds, range=_COLOURS[: len(kinds)])
    )
    panels = []
    for metric in table["metric"].unique(maintain_order=True):
        held = table.filter(pl.col("metric") == metric, pl.col("value").is_finite())
        ticks = sorted(set(table["members"].to_list()))
        x = alt.X("members:Q", axis=alt.Axis(format="d", grid=False, values=ticks))
        y = alt.Y("value:Q", title=label(str(metric)), scale=alt.Scale(zero=False))
        base = alt.Chart(values(held)).encode(x=x, y=y, color=colour)
        hover = tooltips(("kind", "members", "value", "subsets"))
        panels.append(
            alt.layer(
                base.mark_line(strokeWidth=1.5),
                base.mark_point(size=30, filled=True, opacity=1).encode(tooltip=hover),
            ).properties(width=340, height=170)
        )
    rows = [alt.hconcat(*panels[i : i + 2], spacing=30) for i in range(0, len(panels), 2)]
    return Figure(
        "ensemble_size",
        "Against the number of members",
        "Means over subsets of the members. Probabilities are averaged, never logits. The kind "
        "average is one model: its point is worth one prediction. Nothing says which kind is best "
        "beforehand.",
        alt.vconcat(*rows, spacing=24),
        table,
    )


def calibrated(table: pl.DataFrame) -> Figure:
    """Accuracy against confidence."""
    held = table.filter(pl.col("examples") > 0)
    kinds = [kind for kind in KINDS if kind in held["kind"].to_list()]
    colour = alt.Color(
        "kind:N", title="kind", scale=alt.Scale(domain=kinds, range=_COLOURS[: len(kinds)])
    )
    line = alt.Chart(alt.Data(values=[{"confidence": 0, "accuracy": 0},
                                      {"confidence": 1, "accuracy": 1}]))  # fmt: skip
    x, y = alt.X("confidence:Q", title="mean confidence"), alt.Y("accuracy:Q")
    points = alt.Chart(values(held)).mark_point(filled=True, opacity=0.8).encode(
        x=x, y=y, color=colour, size=alt.Size("examples:Q", title="examples"),
        tooltip=tooltips(("kind", "confidence", "accuracy", "examples")),
    )  # fmt: skip
    return Figure(
        "ensemble_calibration",
        "Calibration of all members together",
        "A point a bin of the largest probability; on the line, confidence is accuracy. The "
        "expected calibration error is the mean distance from it, weighted by examples.",
        alt.layer(line.mark_line(strokeDash=[4, 4], color=style.GREY).encode(x=x, y=y), points)
        .properties(width=360, height=320),
        table,
    )  # fmt: skip
