"""The page of a trial's branches. Imports no jax."""

from __future__ import annotations

import math

import altair as alt
import polars as pl

from experiments.analysis.branching import Branched
from experiments.report import style
from experiments.report.answer import estimated, sized
from experiments.report.figure import Figure, tooltips, values
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


def _figure(found: Branched, table: pl.DataFrame, tolerance: float) -> Figure:
    held = table.filter(pl.col("over_unbranched").is_finite()).with_columns(
        window=pl.col("window").cast(pl.String)
    )
    order = [str(answer.window) for answer in found.answers]
    x = alt.X(
        "batch_size:Q",
        title="batch size of the branch",
        scale=alt.Scale(type="log", base=2, nice=False),
        axis=alt.Axis(format=",d", grid=False, values=sorted(set(table["batch_size"].to_list()))),
    )
    worst = max(5 * tolerance, 0.05)
    least = min([-0.5 * worst, *held["over_unbranched"].to_list()])
    y = alt.Y(
        "over_unbranched:Q",
        title="smoothed loss over the unbranched",
        axis=alt.Axis(format="+%"),
        scale=alt.Scale(domain=[max(-1.0, least), worst], nice=False),
    )
    colour = alt.Color(
        "window:N", title="window", sort=order,
        scale=alt.Scale(domain=order, range=[style.GREY, style.BLUE, style.ORANGE][: len(order)]),
    )  # fmt: skip
    base = alt.Chart(values(held)).encode(x=x, y=y, color=colour)
    hover = tooltips(("window", "batch_size", "smoothed_loss", "over_unbranched"))
    sizes = table["batch_size"].to_list()
    known = [
        (size, text)
        for size, text in (
            (found.noise_scale, "noise scale"),
            (found.limit.value, "end of perfect scaling"),
            (found.noise.value, "noise critical batch size"),
        )
        if size is not None and math.isfinite(size)
    ]
    inside = [(size, text) for size, text in known if min(sizes) <= size <= max(sizes)]
    outside = [f"{text} {sized(size)}" for size, text in known if (size, text) not in inside]
    marks = [{"batch_size": size, "text": text} for size, text in inside]
    rules = alt.Chart(alt.Data(values=marks))
    limit = alt.Chart(alt.Data(values=[{"over_unbranched": tolerance}]))
    beyond = f" Beyond the axis: {', '.join(outside)}." if outside else ""
    return Figure(
        "branches",
        "Loss of the branches",
        "Every branch starts from one state and sees the same window of examples; its batch is "
        "larger and its rate grows with it (Merrill et al. 2025). Dashed: the tolerance; losses "
        "far above it leave the figure, the table has them. Vertical: "
        "the gradient noise scale at this step, and the critical batch sizes of the whole record, "
        f"which are other quantities.{beyond}",
        alt.layer(
            base.mark_line(strokeWidth=1.5, clip=True),
            base.mark_point(size=36, filled=True, opacity=1, clip=True).encode(tooltip=hover),
            limit.mark_rule(strokeDash=[6, 4]).encode(y="over_unbranched:Q"),
            rules.mark_rule(strokeDash=[2, 3]).encode(x=x),
            rules.mark_text(align="left", dx=4, dy=-130).encode(x=x, text="text:N"),
        ).properties(width=640, height=300),
        table,
    )
