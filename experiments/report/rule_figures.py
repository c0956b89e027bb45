"""Figures of the rules for a change of batch size: what each would have cost."""

from __future__ import annotations

import math

import altair as alt
import polars as pl

from experiments.analysis.regret import WITHIN, extents, measured_regret, regret_map, regret_table
from experiments.analysis.summary import Summary
from experiments.report import style
from experiments.report.answer import interval_name, size_range, steps_text
from experiments.report.figure import (
    Figure,
    batch_axis,
    extent,
    nothing,
    padded,
    round_ticks,
    tooltips,
    values,
)
from experiments.report.tables import Table
from experiments.report.words import label

NO_RULE = "no rule changes what was searched, or no batch size reached the goal"
_COLOURS = (style.ORANGE, style.GREEN, style.RED, "#8a63c9", "#17a2b8", "#b5793a", "#cf5594",
            "#6b8e23", "#4c5b73")  # fmt: skip
TRAINED = " (trained)"


def rules(summary: Summary) -> Figure:
    """Steps to result by every rule from the middle batch size, beside those of tuning again."""
    base = summary.rules.middle
    table = pl.DataFrame() if base is None else regret_table(summary.rules, base)
    measured = measured_table(summary)
    chart: alt.TopLevelMixin = nothing(NO_RULE)
    if base is not None and table["rule"].n_unique() > 1:
        chart = _rules_chart(summary, table, measured)
    start = "" if base is None else f" from the best trial at batch size {base:,}"
    own = set(summary.question.seeds)
    fresh = all(own.isdisjoint(view.question.seeds) for view in summary.ruled)
    trained = (
        f" Diamonds: trained by the rule with {'fresh seeds' if fresh else 'the same seeds'}, with "
        "their range; at the rule's own "
        "batch size they show what selecting the best trial was worth."
    )
    trained = trained if len(measured) else ""
    return Figure(
        "rules",
        "What a rule would have cost in place of tuning again",
        f"Steps to the goal by each rule{start}, interpolated between the trials of each batch "
        "size (all searches); a line ends where the rule leaves the trials or comes beside one "
        "that did not get there. Interpolated steps are at least those of the best trial, so a "
        f"regret within {WITHIN:.0%} is no proof of a difference.{trained}",
        chart,
        pl.concat([table, measured], how="diagonal") if len(measured) else table,
    )


def measured_table(summary: Summary) -> pl.DataFrame:
    """Rows of `measured_regret` of the trained rules that the report was given."""
    found = [measured_regret(summary.view, view) for view in summary.ruled]
    return pl.concat(found) if found else pl.DataFrame()


def _rules_chart(summary: Summary, table: pl.DataFrame, measured: pl.DataFrame) -> alt.LayerChart:
    names = table["rule"].unique(maintain_order=True).to_list()
    names += [name for name in measured["rule"].unique(maintain_order=True) if name not in names
              ] if len(measured) else []  # fmt: skip
    shown = [label(name) for name in names]
    colour = alt.Color(
        "shown:N",
        title="rule",
        scale=alt.Scale(domain=["tuned again", *shown],
                        range=[style.BLUE, *_COLOURS[: len(shown)]]),
        legend=alt.Legend(symbolOpacity=1),
    )  # fmt: skip
    drawn = table.with_columns(shown=pl.col("rule").str.replace_all("_", " "))  # gaps break lines
    tuned = table.filter(pl.col("rule") == names[0]).drop_nulls("retuned")
    tuned = tuned.with_columns(shown=pl.lit("tuned again"), steps=pl.col("retuned"))
    columns = [drawn["steps"], tuned["steps"]]
    if len(measured):
        columns += [measured[name] for name in ("steps", "steps_low", "steps_high")]
    low, high = extent(pl.concat([c.cast(pl.Float64) for c in columns])) or (1.0, 2.0)
    domain = padded(max(low, 0.5), high, logarithmic=True)
    scale = alt.Scale(type="log", domain=domain, nice=False)
    axis = alt.Axis(values=round_ticks(domain[0], domain[1]), format=",d")
    y = alt.Y("steps:Q", title="steps to result", scale=scale, axis=axis)
    x = batch_axis(summary.question.batch_sizes)
    hover = [
        alt.Tooltip("shown:N", title="rule"),
        *tooltips(("batch_size", "steps", "retuned", "regret")),
    ]
    ruled = alt.Chart(values(drawn)).encode(x=x, y=y, color=colour)
    own = alt.Chart(values(tuned)).encode(x=x, y=y, color=colour)
    layers = [
        ruled.mark_line(opacity=0.75, strokeWidth=1.6),
        ruled.mark_point(size=36, opacity=0.9, filled=False).encode(tooltip=hover),
        own.mark_line(strokeWidth=2.4),
        own.mark_point(filled=True, size=40, opacity=1).encode(tooltip=hover),
    ]
    if len(measured):
        layers += _trained(measured, x, y, colour, hover)
    return alt.layer(*layers).properties(width=720, height=400)


def _trained(
    measured: pl.DataFrame, x: alt.X, y: alt.Y, colour: alt.Color, hover: list[alt.Tooltip]
) -> list[alt.Chart]:
    rows = measured.with_columns(shown=pl.col("rule").str.replace_all("_", " "))
    top = y["scale"]["domain"][1]
    bars = rows.drop_nulls(["steps_low", "steps_high"]).with_columns(
        pl.col("steps_high").clip(upper_bound=top), pl.col("steps_low").clip(lower_bound=0.5)
    )
    drawn = alt.Chart(values(rows.drop_nulls("steps"))).encode(x=x, y=y, color=colour)
    spread = alt.Chart(values(bars)).encode(
        x=x,
        y=alt.Y("steps_low:Q", scale=y["scale"], title="steps to result"),
        y2="steps_high:Q",
        color=colour,
    )
    return [
        spread.mark_rule(strokeWidth=2, opacity=0.6, clip=True),
        drawn.mark_point(filled=True, shape="diamond", size=90, opacity=1).encode(tooltip=hover),
    ]


def rule_map(summary: Summary) -> Figure:
    """Regret of every rule from every batch size to every other one."""
    table = regret_map(summary.rules)
    chart: alt.TopLevelMixin = nothing(NO_RULE)
    if len(table) and table["rule"].n_unique() > 1:
        rows = table.with_columns(
            text=pl.when(pl.col("regret").is_null() & pl.col("worse")).then(pl.lit("x")),
            shown=pl.col("rule").str.replace_all("_", " "),
        )
        names = rows["shown"].unique(maintain_order=True).to_list()
        panels = [_map_panel(rows.filter(pl.col("shown") == name), name) for name in names]
        chart = alt.concat(*panels, columns=3, spacing=22).resolve_scale(color="shared")
    return Figure(
        "rule_map",
        "Regret of each rule, from one batch size to another",
        "Rows: the batch size whose best trial is taken; columns: the batch size it is taken to. "
        "Colour: extra steps over the best trial there, by the trials of all searches; blue is "
        f"within {WITHIN:.0%}. Empty: outside the trials, or not searched. A cross: beside trials "
        "that did not get there.",
        chart,
        table,
    )


def _map_panel(rows: pl.DataFrame, name: str) -> alt.LayerChart:
    base = alt.Chart(values(rows)).encode(
        x=alt.X(
            "batch_size:O",
            title="to batch size",
            axis=alt.Axis(labelAngle=-45, labelOverlap=False),
        ),
        y=alt.Y("base:O", title="from batch size", sort="descending"),
    )
    colour = alt.Color(
        "regret:Q",
        title="regret",
        scale=alt.Scale(
            type="threshold", domain=[WITHIN, 0.25, 0.5, 1.0, 3.0],
            range=[style.BLUE, "#a9c6ef", "#f3e2b8", "#efb366", "#e07b4a", "#a8322a"],
        ),
        legend=alt.Legend(format=".0%"),
    )  # fmt: skip
    hover = tooltips(("base", "batch_size", "regret"))
    return alt.layer(
        base.transform_filter("datum.regret !== null").mark_rect(stroke="white").encode(
            color=colour, tooltip=hover
        ),
        base.transform_filter("datum.text !== null").mark_text(color=style.GREY).encode(
            text=alt.Text("text:N")
        ),
    ).properties(width=230, height=210, title=name)  # fmt: skip


def rules_table(summary: Summary) -> Table:
    """From where to where each rule is within 10 %, and its regret at the largest batch size."""
    base = summary.rules.middle
    rows = []
    several = summary.searches > 1
    columns = ["rule", f"within {WITHIN:.0%} from", "to"]
    columns += ["range of searches"] if several else []
    columns += ["greatest regret known", "at batch size"]
    found = [] if base is None else extents(summary.rules, base)
    table = pl.DataFrame() if base is None else regret_table(summary.rules, base)
    for each in found:
        own = table.filter(pl.col("rule") == each.rule).drop_nulls("regret").sort("regret")
        worst = own.row(-1, named=True) if len(own) else None
        low = f"{each.low:,}{'' if each.low_known else ' or below'}"
        cells = [label(each.rule), low, f"{each.high:,}{'' if each.high_known else ' or beyond'}"]
        if several:
            spread = each.searches
            open_ends = spread is None or math.isinf(spread.low)
            cells.append("" if spread is None or open_ends else size_range(spread.low, spread.high))
        cells.append("" if worst is None else f"{worst['regret']:+.0%}")
        cells.append("" if worst is None else f"{worst['batch_size']:,}")
        rows.append(tuple(cells))
    numeric = tuple(place > 0 for place in range(len(columns)))
    title = "Rules" if base is None else f"Rules from batch size {base:,}"
    return Table("rules", title, tuple(columns), tuple(rows), numeric)


def trained_table(summary: Summary) -> Table:
    """Regret of the rules that were trained, with its exact interval."""
    columns = ("rule", "from", "batch size", "steps", "tuned again", "regret",
               interval_name(summary), "coverage")  # fmt: skip
    rows = []
    for row in measured_table(summary).iter_rows(named=True):
        ends = ""
        if row["low"] is not None:
            high = "open" if math.isinf(row["high"]) else f"{row['high']:+.0%}"
            ends = f"{row['low']:+.0%} to {high}"
        rows.append(
            (
                label(row["rule"]),
                f"{row['base']:,}",
                f"{row['batch_size']:,}",
                "not reached" if row["steps"] is None else steps_text(row["steps"]),
                "not reached" if row["retuned"] is None else steps_text(row["retuned"]),
                "" if row["regret"] is None else f"{row['regret']:+.0%}",
                ends,
                "" if row["coverage"] is None else f"{row['coverage']:.1%}",
            )
        )
    numeric = tuple(place > 0 for place in range(len(columns)))
    return Table("trained_rules", "Rules that were trained", columns, tuple(rows), numeric)
