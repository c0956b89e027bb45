"""The joint page of a comparison: who is best at every batch size, and how sure that is."""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING, Any

import altair as alt
import numpy as np
import polars as pl

from experiments import space as spaces
from experiments.analysis.compare import (
    Compared,
    Winner,
    best_value,
    fewest_steps,
    read_compared,
    worst_end,
)
from experiments.analysis.uncertainty import best_of_k
from experiments.report import style
from experiments.report.figure import (
    Figure,
    extent,
    nothing,
    padded,
    round_ticks,
    tooltips,
    values,
)
from experiments.report.page import document, figure_section, table_html
from experiments.report.tables import Table
from experiments.report.words import budget_words, goal_words, label, metric_title
from experiments.report.write import replace_report, write_figure

if TYPE_CHECKING:
    from rich.console import Console

COLUMNS = 3


def write_comparison_report(folder: Path | str) -> Path:
    """Writes ``folder/report/`` from the records alone; returns the path of its index.html."""
    compared = read_compared(folder)
    figures = [steps_figure(compared), value_figure(compared), trials_figure(compared)]

    def build(target: Path) -> None:
        for figure in figures:
            write_figure(figure, target)
        (target / "index.html").write_text(comparison_page(compared, figures), encoding="utf-8")

    return replace_report(folder, build)


def answers(compared: Compared) -> list[str]:
    """A sentence a batch size: who is ahead, and who cannot be told apart from it."""
    sentences = []
    for batch_size in compared.shared.batch_sizes:
        steps, best = fewest_steps(compared, batch_size), best_value(compared, batch_size)
        parts = [f"At batch size {batch_size:,}"]
        if steps is None:
            parts.append(f"nobody reached {goal_words(compared.shared)}")
        else:
            parts.append(
                f"{steps.label} needs the fewest steps to {goal_words(compared.shared)}, "
                f"{steps.value:,.0f}{_near(steps)}"
            )
        if best is not None:
            parts.append(
                f"the best {metric_title(compared.shared)} is {best.label}'s, "
                f"{best.value:.4g}{_near(best)}"
            )
        sentences.append(parts[0] + " " + "; ".join(parts[1:]) + ".")
    return sentences


def _near(winner: Winner) -> str:
    within = f" (interval to {worst_end(winner)}"
    return f"{within}; also within it: {', '.join(winner.near)})" if winner.near else f"{within})"


def steps_figure(compared: Compared) -> Figure:
    """Steps to result of every member, a panel a batch size."""
    lengths = compared.shared.train_steps
    reached, high = pl.col("steps_to_result").is_not_null(), pl.col("bootstrap_high")
    length = pl.col("batch_size").replace_strict(lengths, return_dtype=pl.Float64)
    table = compared.table.with_columns(
        shown=pl.coalesce("steps_to_result", "censored_at"),
        reached=reached,
        high=pl.when(reached).then(pl.min_horizontal(high, length)),
    )
    hover = tooltips(
        ("steps_to_result", "evaluated_before", "bootstrap_high", "censored_at", "complete",
         "infeasible"),
        bootstrap_high="bootstrap high", evaluated_before="not yet at",
    )  # fmt: skip
    return Figure(
        "steps_to_result",
        "Steps to result",
        f"The fewest steps to {goal_words(compared.shared)} of any of "
        f"{compared.shared.trials} COMPLETE trials; bars: 95% bootstrap interval over trials, "
        "which never goes below the observed minimum (a bar to the trials' length has no end); "
        "triangles: not reached by that step.",
        _panels(compared, table, "shown", "high", "steps", hover),
        compared.table,
    )


def value_figure(compared: Compared) -> Figure:
    """The best value of every member, a panel a batch size."""
    top = compared.shared.goal.direction == "max"
    table = compared.table.with_columns(
        shown=pl.col("best_value"),
        high=pl.col("best_low" if top else "best_high"),
        reached=pl.lit(True),
    )
    hover = tooltips(("best_value", "best_low", "best_high", "complete", "infeasible"))
    return Figure(
        "best_value",
        f"Best {metric_title(compared.shared)}",
        f"The best at any evaluation of any of {compared.shared.trials} COMPLETE trials (best of "
        "N); bars: 95% bootstrap interval over trials.",
        _panels(compared, table, "shown", "high", metric_title(compared.shared), hover),
        compared.table.select("label", "batch_size", "best_value", "best_low", "best_high"),
    )


def _panels(
    compared: Compared, table: pl.DataFrame, x: str, x2: str, title: str, hover: list[alt.Tooltip]
) -> alt.TopLevelMixin:
    """Members down, the measure across, a panel a batch size."""
    panels = []
    for number, batch_size in enumerate(compared.shared.batch_sizes):
        rows = table.filter((pl.col("batch_size") == batch_size) & pl.col(x).is_not_null())
        first = number % COLUMNS == 0
        y = alt.Y(
            "label:N", title=None, sort=list(compared.members),
            scale=alt.Scale(domain=list(compared.members)),
            axis=alt.Axis(grid=True, labelFontSize=12, labelLimit=200, **({} if first else {
                "labels": False, "ticks": False})),
        )  # fmt: skip
        across = _axis(alt.X, x, title, pl.concat([rows[end].cast(pl.Float64) for end in (x, x2)]))
        base = alt.Chart(values(rows)).encode(y=y)
        layers = alt.layer(
            base.transform_filter(f"isValid(datum.{x2})")
            .mark_rule(color=style.BLUE, opacity=0.5, strokeWidth=3)
            .encode(x=across, x2=f"{x2}:Q"),
            base.transform_filter("datum.reached")
            .mark_point(color=style.BLUE, filled=True, size=70, opacity=1)
            .encode(x=across, tooltip=hover),
            base.transform_filter("!datum.reached")
            .mark_point(color=style.GREY, shape="triangle-right", filled=True, size=70, opacity=1)
            .encode(x=across, tooltip=hover),
        )
        height = 24 * len(compared.members)
        panels.append(layers.properties(width=250, height=height, title=f"B = {batch_size:,}"))
    if table[x].is_null().all():
        return nothing()
    return alt.concat(*panels, columns=COLUMNS, spacing=16)


def _axis(channel: type, column: str, title: str, drawn: pl.Series) -> Any:
    """Logarithmic where all that is drawn is above zero."""
    low, high = extent(drawn) or (1.0, 1.0)
    first, last = domain = padded(low, high, low > 0)
    kind = {"type": "log"} if low > 0 else {"type": "linear", "zero": False}
    ticks: dict[str, Any] = {"tickCount": 5}
    if low > 0 and len(round_ticks(first, last, 5)) > 1:
        ticks = {"values": round_ticks(first, last, 5)}
    return channel(
        f"{column}:Q",
        title=title,
        scale=alt.Scale(nice=False, domain=domain, **kind),
        axis=alt.Axis(format=",.4~g", **ticks),
    )


def trials_figure(compared: Compared) -> Figure:
    """The median best value of a search of k trials: does the order depend on the budget?"""
    found: list[pl.DataFrame] = []
    for name, summary in compared.members.items():
        own = summary.of_seed(summary.values)
        for (batch_size,), trials in own.partition_by("batch_size", as_dict=True).items():
            grid = sorted({round(k) for k in np.geomspace(1, len(trials), 10)})
            direction = summary.question.goal.direction
            best = best_of_k(trials["best_value"].to_numpy(), grid, direction)
            found.append(best.select(pl.lit(name).alias("label"),
                                    pl.lit(batch_size).alias("batch_size"), pl.all()))  # fmt: skip
    if not found:
        return Figure("best_of_trials", "Best of k trials", "", nothing(), pl.DataFrame())
    table = pl.concat(found)
    panels = []
    for batch_size in compared.shared.batch_sizes:
        rows = table.filter(pl.col("batch_size") == batch_size)
        chart = (
            alt.Chart(values(rows))
            .mark_line(point=alt.OverlayMarkDef(size=14), strokeWidth=1.5)
            .encode(
                x=alt.X("k:Q", title="trials in the search",
                        scale=alt.Scale(type="log", nice=False), axis=alt.Axis(format="d")),
                y=_axis(alt.Y, "median", metric_title(compared.shared), rows["median"]),
                color=alt.Color("label:N", title=None, sort=list(compared.members),
                                scale=alt.Scale(scheme="tableau20" if len(compared.members) > 10
                                                else "tableau10")),
                tooltip=[alt.Tooltip("label:N"), *tooltips(("k", "median"), k="trials")],
            )
        )  # fmt: skip
        panels.append(chart.properties(width=240, height=230, title=f"B = {batch_size:,}"))
    return Figure(
        "best_of_trials",
        "Does the order depend on the tuning budget?",
        f"Median best {metric_title(compared.shared)} in a search of k trials, by resampling the "
        "COMPLETE trials. Where curves cross, the order depends on how much was tuned.",
        alt.concat(*panels, columns=COLUMNS, spacing=16),
        table,
    )


def comparison_page(compared: Compared, figures: list[Figure]) -> str:
    """The whole document."""
    shared = compared.shared
    lines = "".join(f'<p class="answer">{html.escape(text)}</p>' for text in answers(compared))
    expected = (
        f'<p class="note">Expected: {html.escape(compared.expected)}</p>'
        if compared.expected
        else ""
    )
    budget = (
        f"{shared.trials} COMPLETE trials of each at every batch size, every one in its own search "
        f"space; {budget_words(shared, 'step')}, {budget_words(shared, 'epoch')}; "
        f"{shared.workload} on {shared.dataset}."
    )
    notes = [(name, "not run yet") for name in compared.missing] + compared.findings()
    items = "".join(
        f"<li><b>{html.escape(name)}</b>: {html.escape(text)}</li>" for name, text in notes
    )
    weak = f'<ul class="findings">{items}</ul>' if items else "<p>No check speaks against it.</p>"
    sections = [figure_section(figures[0], table_html(joint_table(compared)))]
    sections += [figure_section(figure) for figure in figures[1:]]
    body = (
        f'<p class="name">{html.escape(compared.name)}</p>\n'
        f"<h1>{html.escape(compared.question)}</h1>\n{lines}{expected}"
        f'<p class="caption">{html.escape(budget)}</p>'
        f"<h2>What to make of it</h2>{weak}{''.join(sections)}"
        f"<h2>Search spaces</h2>{table_html(space_table(compared))}"
    )
    return document(f"{compared.name}: a comparison", body, figures)


def joint_table(compared: Compared) -> Table:
    """Steps to result and best value, a row a member and batch size."""
    rows = []
    for row in compared.table.sort("batch_size", maintain_order=True).iter_rows(named=True):
        rows.append((f"{row['batch_size']:,}", row["label"], *_cells(row),
                     f"{row['complete']:,}", f"{row['infeasible']:,}"))  # fmt: skip
    columns = ("batch size", "", "steps to result", "to", "best value", "to", "trials",
               "infeasible")  # fmt: skip
    return Table("comparison", "Comparison", columns, tuple(rows), (True, False) + (True,) * 6)


def _cells(row: dict) -> tuple[str, str, str, str]:
    """Steps, the unlucky end of their interval, best value, the unlucky end of its interval."""
    if row["steps_to_result"] is None:
        steps = "-" if row["censored_at"] is None else f"> {row['censored_at']:,}"
        upper = ""
    else:
        high = row["bootstrap_high"]
        steps = f"{row['steps_to_result']:,}"
        upper = "never" if np.isinf(high) else f"{high:,.0f}"
    if row["best_value"] is None:
        return steps, upper, "-", ""
    ends = (row["best_low"], row["best_high"])
    worse = max(ends, key=lambda end: abs(end - row["best_value"]))
    return steps, upper, f"{row['best_value']:.4g}", f"{worse:.4g}"


def space_table(compared: Compared) -> Table:
    """What was searched for each member."""
    rows = []
    for name, summary in compared.members.items():
        ranges = "; ".join(f"{label(n)} {_range(d)}" for n, d in summary.question.space.items())
        rows.append((name, f"{len(summary.question.space)}", ranges))
    columns = ("", "hyperparameters searched", "ranges")
    return Table("spaces", "Search spaces", columns, tuple(rows), (False, True, False))


def _range(distribution: spaces.Distribution) -> str:
    if isinstance(distribution, spaces.Choice):
        return "one of " + ", ".join(map(str, distribution.values))
    scale = distribution.scale.replace("_", " ")
    return f"{distribution.low:g} to {distribution.high:g} ({scale})"


def print_comparison(compared: Compared, console: Console | None = None) -> None:
    """Answers, the joint table and what weakens them, in 80 columns."""
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    console = console or Console(highlight=False)
    console.print(Text(compared.question, style="bold"))
    for sentence in answers(compared):
        console.print(Text(sentence))
    cells = joint_table(compared)
    table = RichTable(box=None, pad_edge=False)
    for name, numeric in zip(cells.columns, cells.numeric, strict=True):
        table.add_column(name, justify="right" if numeric else "left")
    for row in cells.rows:
        table.add_row(*row)
    console.print(table)
    for name, sentence in compared.findings():
        console.print(Text("! ", style="bold yellow").append(f"{name}: {sentence}", style="not bold default"))  # fmt: skip
