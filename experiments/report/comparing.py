"""Members of a comparison against each other: ratios, profiles, and what they can tell."""

from __future__ import annotations

import math

import altair as alt
import polars as pl

from experiments.analysis.compare import Compared
from experiments.analysis.profiles import MOST
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
from experiments.report.words import goal_words


def told_words(compared: Compared) -> list[str]:
    """Sentences on what the comparison can and cannot tell."""
    shared, ratios = compared.shared, compared.ratios
    searches = int(ratios["searches"].max() or 0) if len(ratios) else 0  # type: ignore[arg-type]
    words = []
    if len(shared.batch_sizes) < 2:
        words.append(
            f"One batch size, {shared.batch_sizes[0]:,}, does not say which member is better: "
            "orders change with the batch size (--batch-sizes)."
        )
    if searches < 2:
        words.append(
            "One search of each member cannot tell a difference from the luck of its trials: "
            "ratios have no interval (--seeds 6 gives them one)."
        )
        return words
    words.append(
        f"Searches of one seed begin with the same parameters and see examples in the same order "
        f"in every member, so {searches} ratios are compared in pairs."
    )
    unseen = ratios["unseen"].drop_nulls()
    if len(unseen):
        words.append(
            f"With {searches} searches differences below a factor of {_factor(unseen.min())} "  # type: ignore[arg-type]
            f"to {_factor(unseen.max())} (by member and batch size, in the table) cannot be seen."  # type: ignore[arg-type]
        )
    last = compared.stability
    settled = last.filter(pl.col("same_fastest") == pl.col("batch_sizes"))["k"]
    if len(last) and last["batch_sizes"][-1]:
        half = last.filter(pl.col("k") >= shared.trials / 2).row(0, named=True)
        words.append(
            f"After {half['k']} of {shared.trials} trials the fastest member is that after all at "
            f"{half['same_fastest']} of {half['batch_sizes']} batch sizes"
            + ("" if half["agreement"] is None else
               f", and the order agrees with Kendall's tau {half['agreement']:.2f}")
            + (f"; at all of them from {_from(last, settled)} trials on." if len(settled) else ".")
        )  # fmt: skip
    return words


def _from(table: pl.DataFrame, settled: pl.Series) -> int:
    """The fewest trials from which on the fastest members stay."""
    changing = table.filter(pl.col("same_fastest") < pl.col("batch_sizes"))["k"]
    last = int(changing.max()) if len(changing) else 0  # type: ignore[arg-type]
    return int(settled.filter(settled > last).min())  # type: ignore[arg-type]


def _factor(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def ratio_table(compared: Compared) -> Table:
    """The examples of every member over those of the reference."""
    rows = []
    for row in compared.ratios.sort("batch_size", maintain_order=True).iter_rows(named=True):
        verdict = ""
        if row["told"] is not None:
            verdict = ("fewer" if row["high"] < 1 else "more") if row["told"] else "not told"
        rows.append((
            f"{row['batch_size']:,}", row["label"],
            "-" if row["ratio"] is None else f"{row['ratio']:.2f}", _interval(row), verdict,
            "" if row["unseen"] is None else _factor(row["unseen"]), f"{row['searches']}",
        ))  # fmt: skip
    columns = ("batch size", "", f"examples / {compared.reference}'s", "interval", "it needs",
               "unseen below", "pairs")  # fmt: skip
    numeric = (True, False, True, True, False, True, True)
    return Table("ratios", "Examples to the goal against one member", columns, tuple(rows), numeric)


def _interval(row: dict[str, float | None]) -> str:
    low, high = row["low"], row["high"]
    if low is None or high is None:
        return ""
    return f"{low:.2f} to {'any' if math.isinf(high) else f'{high:.2f}'}"


def score_cells(compared: Compared) -> Table:
    """The scores of the performance profiles, best first."""
    rows = []
    for row in compared.scores.iter_rows(named=True):
        ends = "" if row["low"] is None else f"{row['low']:.2f} to {row['high']:.2f}"
        fastest = f"{row['fastest']} of {len(compared.shared.batch_sizes)}"
        score = "-" if row["score"] is None else f"{row['score']:.3f}"
        rows.append((row["label"], score, ends, fastest))
    columns = ("", "score", "range of searches", "fastest at batch sizes")
    return Table("scores", "Performance profiles", columns, tuple(rows), (False, True, True, True))


def comparing_figures(compared: Compared) -> list[Figure]:
    """Ratios, profiles, and how soon the order stays; none for a single member."""
    if len(compared.members) < 2:
        return []
    return [_ratios(compared), _profiles(compared), _stability(compared)]


def _colour(compared: Compared) -> alt.Color:
    scheme = "tableau20" if len(compared.members) > 10 else "tableau10"
    scale = alt.Scale(scheme=scheme, domain=list(compared.members))
    return alt.Color("label:N", title=None, sort=list(compared.members), scale=scale)


def _ratios(compared: Compared) -> Figure:
    table = compared.ratios
    drawn = pl.concat([table[name] for name in ("ratio", "low", "high")])
    ends = extent(drawn.filter(drawn > 0))
    chart: alt.TopLevelMixin = nothing("no pair of searches reached the goal")
    if ends is not None:
        domain = padded(min(ends[0], 0.9), max(ends[1], 1.1), True)
        y = alt.Y(
            "ratio:Q",
            title=f"examples to the goal, over those of {compared.reference}",
            scale=alt.Scale(type="log", domain=domain, nice=False),
            axis=alt.Axis(values=round_ticks(domain[0], domain[1]), format=".3~g"),
        )
        x = batch_axis(compared.shared.batch_sizes)
        bars = table.drop_nulls(["low", "high"]).with_columns(pl.col("low", "high").clip(*domain))
        one = alt.Chart(alt.Data(values=[{"ratio": 1}])).mark_rule(strokeDash=[5, 4])
        base = alt.Chart(values(table.drop_nulls("ratio"))).encode(x=x, color=_colour(compared))
        hover = [alt.Tooltip("label:N"), *tooltips(("batch_size", "ratio", "low", "high",
                                                     "unseen", "searches"))]  # fmt: skip
        chart = alt.layer(
            one.encode(y=y),
            alt.Chart(values(bars)).mark_rule(strokeWidth=3, opacity=0.25).encode(
                x=x, color=_colour(compared), y=alt.Y("low:Q", scale=y["scale"], title=None),
                y2="high:Q",
            ),
            base.mark_line(strokeWidth=1.5, opacity=0.8).encode(y=y),
            base.mark_point(filled=True, size=45, opacity=1).encode(y=y, tooltip=hover),
        ).properties(width=740, height=330)  # fmt: skip
    return Figure(
        "ratios",
        f"Examples to the goal against {compared.reference}",
        f"Examples to {goal_words(compared.shared)} of every member over those of "
        f"{compared.reference}: the median of the ratios of searches with the same seed. Bars: "
        "their exact range; where it leaves out 1, the difference is told.",
        chart,
        table,
    )


def _profiles(compared: Compared) -> Figure:
    table = compared.profile
    chart = (
        alt.Chart(values(table))
        .mark_line(interpolate="step-after", strokeWidth=2)
        .encode(
            x=alt.X("tau:Q", title="times the steps of the fastest, at most",
                    scale=alt.Scale(domain=[1, MOST], nice=False)),
            y=alt.Y("share:Q", title="share of the batch sizes",
                    scale=alt.Scale(domain=[0, 1.02], nice=False), axis=alt.Axis(format="%")),
            color=_colour(compared),
            tooltip=[alt.Tooltip("label:N"), *tooltips(("tau", "share"))],
        )
        .properties(width=520, height=300)
    )  # fmt: skip
    return Figure(
        "profiles",
        "Performance profiles over the batch sizes",
        "The share of batch sizes at which a member's steps to the goal are at most tau times "
        "those of the fastest member there (AlgoPerf's definition, batch sizes in place of "
        f"workloads, steps in place of time); the score is the area up to {MOST:g}.",
        chart,
        table,
    )


def _stability(compared: Compared) -> Figure:
    table = compared.stability.with_columns(
        fastest=pl.col("same_fastest") / pl.col("batch_sizes").replace(0, None)
    )
    shown = {"fastest": "share of the batch sizes with the same fastest member",
             "agreement": "Kendall's tau of the orders, mean of the batch sizes"}  # fmt: skip
    rows = table.unpivot(list(shown), index="k", variable_name="measure").drop_nulls("value")
    rows = rows.with_columns(pl.col("measure").replace_strict(shown, return_dtype=pl.String))
    chart: alt.TopLevelMixin = nothing("no batch size at which two members reached the goal")
    if len(rows):
        low = min(0.0, float(rows["value"].min()))  # type: ignore[arg-type]
        colour = alt.Color("measure:N", title=None, sort=list(shown.values()),
                           legend=alt.Legend(orient="top", labelLimit=400,
                                             symbolOpacity=1))  # fmt: skip
        x = alt.X("k:Q", title="trials of each search", axis=alt.Axis(format="d", tickMinStep=1))
        y = alt.Y("value:Q", title="agreement with the order after all trials",
                  scale=alt.Scale(domain=[low, 1.02], nice=False))  # fmt: skip
        base = alt.Chart(values(rows)).encode(x=x, y=y, color=colour)
        hover = [alt.Tooltip("measure:N"), *tooltips(("k", "value"))]
        chart = alt.layer(
            base.mark_line(strokeWidth=2),
            base.mark_point(filled=True, size=35).encode(tooltip=hover),
        ).properties(width=520, height=260)
    return Figure(
        "stability",
        "How many trials settle the order",
        "The order of the members after the first k trials of every search against that after all. "
        "A curve that still rises at its end says that more trials may change the order.",
        chart,
        table,
    )
