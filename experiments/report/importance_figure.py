"""The figure of the hyperparameters' importance, per batch size."""

from __future__ import annotations

import altair as alt
import polars as pl

from experiments.analysis.importance import BEST_SHARE, FEWEST
from experiments.analysis.summary import Summary
from experiments.report import style
from experiments.report.figure import Figure, nothing, tooltips, values
from experiments.report.words import label


def importance(summary: Summary) -> Figure:
    """Shares of the divergences, a bar a batch size; no chart where there are too few trials."""
    table = summary.importance
    return Figure(
        "importance",
        "Which hyperparameters decide?",
        f"PED-ANOVA: how differently the best {BEST_SHARE:.0%} of the trials of a batch size "
        "(all searches) lie from all its trials, one hyperparameter at a time, as shares of "
        "the sum. Pale: no more than 95% of random choices of as many trials. It says where "
        "the good trials lie in the searched range, not a cause: a narrow range, or two that "
        "trade off, hide what matters, and a sampler that learns has left the bad places.",
        nothing(f"needs {FEWEST} trials and two hyperparameters") if table.is_empty()
        else _bars(table),
        table,
    )  # fmt: skip


def _bars(table: pl.DataFrame) -> alt.Chart:
    names = table["hyperparameter"].unique(maintain_order=True).to_list()
    colours = [style.BLUE, style.ORANGE, style.GREEN, style.RED, "#8a63c9", style.GREY]
    rows = table.with_columns(
        shown=table["hyperparameter"].replace({name: label(name) for name in names})
    )
    base = alt.Chart(values(rows)).encode(
        x=alt.X("batch_size:O", title="batch size", axis=alt.Axis(labelAngle=0, format=",d")),
        y=alt.Y("importance:Q", title="importance", stack=True, axis=alt.Axis(format="%")),
        tooltip=[
            alt.Tooltip("shown:N", title="hyperparameter"),
            *tooltips(("batch_size", "importance", "divergence", "chance", "trials", "best")),
        ],
    )
    bars = base.mark_bar().encode(
        color=alt.Color(
            "shown:N", title=None, legend=alt.Legend(orient="top"),
            scale=alt.Scale(domain=[label(name) for name in names],
                            range=[colours[i % len(colours)] for i in range(len(names))]),
        ),
        opacity=alt.condition("datum.beyond", alt.value(0.95), alt.value(0.25)),
    )  # fmt: skip
    return bars.properties(width=740, height=260)
