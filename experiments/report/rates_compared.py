"""The final value against the learning rate, a line a member: the Tuning Playbook's Figure 4."""

from __future__ import annotations

import altair as alt
import polars as pl

from experiments.analysis.compare import Compared
from experiments.analysis.rates_compared import Swept, medians, swept_members
from experiments.analysis.training_stability import UNSTABLE
from experiments.report import style
from experiments.report.figure import Figure, nothing, tooltips, values
from experiments.report.procedure_figures import log_or_linear, rate_axis
from experiments.report.tables import Table
from experiments.report.words import metric_title

STABLE, SHAKEN = "stable in every seed", "unstable in a seed"


def rate_table(compared: Compared) -> Table | None:
    """Final and best value, and the class, of every member and rate; None without sweeps."""
    found = _swept(compared)
    if not found:
        return None
    rows = []
    for label, one in found.items():
        for row in medians(one.table).iter_rows(named=True):
            kinds = dict.fromkeys(row["kinds"])
            told = ", ".join(
                f"{kind} ({row['kinds'].count(kind)})" if len(kinds) > 1 else kind for kind in kinds
            )
            clipped = "" if row["clipped"] is None else f"{row['clipped']:.0%}"
            cells = (_cell(row["final"]), _cell(row["best"]))
            rows.append((label, f"{row['rate']:.4g}", *cells, clipped, told))
    columns = ("", "learning rate", f"final {metric_title(compared.shared)}", "best", "clipped",
               "class (seeds)")  # fmt: skip
    numeric = (False, True, True, True, True, False)
    return Table("rates", "Every rate", columns, tuple(rows), numeric)


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def rate_figures(compared: Compared) -> list[Figure]:
    """The figure, where every member sweeps the rate at one batch size; else none."""
    found = _swept(compared)
    if not found:
        return []
    table = pl.concat(
        medians(one.table).select(
            pl.lit(label).alias("label"), "rate", "final", "low", "high", "best",
            state=pl.when(pl.col("kinds").list.eval(pl.element().is_in(UNSTABLE)).list.any())
            .then(pl.lit(SHAKEN)).otherwise(pl.lit(STABLE)),
        )
        for label, one in found.items()
    )  # fmt: skip
    metric = metric_title(compared.shared)
    return [
        Figure(
            "value_against_rate",
            "Final value against learning rate",
            f"The {metric} at the last evaluation, the median of the seeds; bars: their range. "
            "Hollow: unstable in a seed. Crosses at the top: no final value, training diverged.",
            _chart(table, list(found), f"final {metric}"),
            table,
        )
    ]


def _chart(table: pl.DataFrame, order: list[str], title: str) -> alt.TopLevelMixin:
    drawn = table.drop_nulls("final")
    if drawn.is_empty():
        return nothing("every trial diverged")
    ends = pl.concat([drawn[name].drop_nulls() for name in ("final", "low", "high")])
    x, y = rate_axis(table["rate"].to_list()), log_or_linear("final", title, ends)
    colour = alt.Color(
        "label:N", title=None, sort=order,
        scale=alt.Scale(scheme="tableau20" if len(order) > 10 else "tableau10", domain=order),
        legend=alt.Legend(orient="bottom", symbolOpacity=1, labelLimit=260),
    )  # fmt: skip
    hover = [alt.Tooltip("label:N", title="study"), alt.Tooltip("state:N", title="training"),
             *tooltips(("rate", "final", "low", "high", "best"))]  # fmt: skip
    base = alt.Chart(values(drawn)).encode(x=x, y=y, color=colour)
    low = alt.Y("low:Q", scale=y["scale"], title=title)
    bars = alt.Chart(values(drawn.drop_nulls(["low", "high"]))).mark_rule(
        strokeWidth=3, opacity=0.25
    ).encode(x=x, color=colour, y=low, y2="high:Q")  # fmt: skip
    lost = alt.Chart(values(table.filter(pl.col("final").is_null()))).mark_point(
        shape=style.CROSS, size=90, filled=True, opacity=1
    ).encode(
        x=x, y=alt.value(8), color=colour, tooltip=hover[:3],
        xOffset=alt.XOffset("label:N", sort=order),
    )  # fmt: skip
    points = [
        base.transform_filter(alt.datum.state == state).mark_point(
            filled=state == STABLE, size=65, opacity=1, strokeWidth=2
        ).encode(tooltip=hover)
        for state in (STABLE, SHAKEN)
    ]  # fmt: skip
    return alt.layer(base.mark_line(strokeWidth=1.5), bars, *points, lost).properties(
        width=640, height=320
    )


def _swept(compared: Compared) -> dict[str, Swept]:
    return swept_members({label: one.record for label, one in compared.members.items()})
