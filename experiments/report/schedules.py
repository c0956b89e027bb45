"""Draws schedules: rate, momentum and batch size against the step and against the examples.

    table = schedule_table(("cosine", "sutskever"), 1000, 64, {"warmup_steps": "100"})

What is drawn is what the engine uses: the registered functions themselves are evaluated.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schedules import BATCH_SIZE_SCHEDULES, MOMENTUM_SCHEDULES, SCHEDULES
from schedules.base import MomentumSchedule, Schedule
from schedules.batch_size import Phase, cuts_from, examples_after, stretch_at, stretches, updates
from workloads.registry import Hyperparameter, unknown_name

if TYPE_CHECKING:
    import polars as pl

    from experiments.report.figure import Figure

MOST_POINTS = 2000
PEAKS = (
    Hyperparameter("learning_rate", 1.0, 0.0, 1e6, meaning="peak rate"),
    Hyperparameter("momentum", 0.9, 0.0, 1.0, meaning="final momentum"),
)
GROWTH = (
    Hyperparameter(
        "factor", 2.0, 1.0, 1e6, meaning="by which the batch grows, or the rate falls, at a cut"
    ),
    Hyperparameter(
        "max_batch_size", math.inf, 1.0, math.inf, high_open=True,
        meaning="the rate takes what is above",
    ),
)  # fmt: skip
"""Settings of a batch-size schedule; its cuts are where the rate's shape falls by ``factor``."""


@dataclasses.dataclass(frozen=True)
class Drawn:
    """The schedules that are drawn, one of each kind, and every number they read."""

    rate: Schedule
    momentum: MomentumSchedule
    batch_size: str
    values: Mapping[str, float]


def chosen(names: Sequence[str], settings: Mapping[str, str]) -> Drawn:
    """The schedules called ``names``, at most one of each kind, with ``settings`` as typed.

    A kind that is not named is constant, except the rate of a batch-size schedule: it replaces a
    ``step_decay``. "constant" is the constant rate.

    Raises:
      ValueError: an unknown name, two of one kind, an unknown setting or an illegal value.
    """
    found: dict[str, str] = {}
    for name in names:
        kind = _kind(name)
        if kind in found:
            raise ValueError(f"one {kind} schedule can be drawn at a time, got {', '.join(names)}")
        found[kind] = name
    batch_size = found.get("batch-size", "constant")
    default = "constant" if batch_size == "constant" else "step_decay"
    rate = SCHEDULES[found.get("rate", default)]
    if rate.metric_driven:
        raise ValueError(f"{rate.name} follows a trial's evaluations; there is nothing to draw")
    momentum = MOMENTUM_SCHEDULES[found.get("momentum", "constant")]
    rows = [*PEAKS, *rate.hyperparameters, *momentum.hyperparameters]
    rows += GROWTH if batch_size != "constant" else ()
    known = {row.name: row for row in rows}
    values = {row.name: row.default for row in rows if row.default is not None}
    # A rate that falls in jumps is cut at its jumps.
    if batch_size != "constant" and "decay_factor" in values:
        values["factor"] = 1 / values["decay_factor"]
    for name, text in settings.items():
        if name not in known:
            raise unknown_name("setting", name, known)
        values[name] = _number(name, text)
        known[name].check(values[name])
    return Drawn(rate, momentum, batch_size, values)


def _kind(name: str) -> str:
    for kind, table in (
        ("rate", SCHEDULES),
        ("momentum", MOMENTUM_SCHEDULES),
        ("batch-size", BATCH_SIZE_SCHEDULES),
    ):
        if name in table:
            return kind
    known = dict.fromkeys((*SCHEDULES, *MOMENTUM_SCHEDULES, *BATCH_SIZE_SCHEDULES))
    raise unknown_name("schedule", name, known)


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"setting {name} must be a number, got {text!r}") from None


def schedule_table(
    names: Sequence[str], steps: int, batch_size: int, settings: Mapping[str, str]
) -> pl.DataFrame:
    """The schedules at every step (at `MOST_POINTS` of them where there are more).

    A batch that grows consumes the ``steps * batch_size`` examples in fewer steps; its phases
    take the place of the rate's shape, after the warmup.

    Columns: ``step`` (0 at the first update), ``examples`` consumed before it,
    ``learning_rate, momentum, batch_size``.
    """
    import numpy as np
    import polars as pl

    drawn = chosen(names, settings)
    total = steps * batch_size
    phases = _phases(drawn, steps, batch_size)
    made = updates(phases, total)
    at = np.unique(np.linspace(0, made - 1, min(made, MOST_POINTS)).round().astype(int))
    parts = stretches(phases)
    phase = [stretch_at(parts, step) for step in at]
    rate = drawn.rate if drawn.batch_size == "constant" else SCHEDULES["constant"]
    multiplier = rate.multiplier(at, made, drawn.values)
    multiplier = np.asarray(multiplier, float) * [p.rate_multiplier for p in phase]
    momentum = drawn.momentum.momentum(at, made, drawn.values["momentum"], drawn.values)
    return pl.DataFrame(
        {
            "step": at,
            "examples": examples_after(parts, at),
            "learning_rate": drawn.values["learning_rate"] * multiplier,
            "momentum": np.broadcast_to(np.asarray(momentum, float), at.shape),
            "batch_size": [p.batch_size for p in phase],
        }
    )


def _phases(drawn: Drawn, steps: int, batch_size: int) -> tuple[Phase, ...]:
    """The phases of the batch size; its cuts are taken from the rate's shape."""
    rule = BATCH_SIZE_SCHEDULES[drawn.batch_size].rule
    if drawn.batch_size == "constant":
        return rule(batch_size)
    factor, most = drawn.values["factor"], drawn.values["max_batch_size"]
    cuts = cuts_from(drawn.rate, drawn.values, batch_size, steps * batch_size, factor)
    return rule(batch_size, cuts, factor, None if math.isinf(most) else int(most))


def schedule_figure(
    names: Sequence[str], steps: int, batch_size: int, settings: Mapping[str, str]
) -> Figure:
    """Three rows (rate, momentum, batch size), against step on the left, examples on the right."""
    import altair as alt

    from experiments.report.figure import Figure

    table = schedule_table(names, steps, batch_size, settings)
    rows = []
    for column in ("learning_rate", "momentum", "batch_size"):
        panels = [_panel(table, x, column) for x in ("step", "examples")]
        rows.append(alt.hconcat(*panels, spacing=36))
    title = ", ".join(names)
    return Figure(
        "schedule",
        f"Schedule: {title}",
        f"Over {table['step'][-1] + 1:,} steps and {steps * batch_size:,} examples.",
        alt.vconcat(*rows, spacing=22),
        table,
    )


def _panel(table: pl.DataFrame, x: str, y: str) -> Any:
    """One curve, flat between its points where it is a staircase by nature."""
    import altair as alt

    from experiments.report import style
    from experiments.report.figure import values
    from experiments.report.words import label

    shown = "format(datum.value, '~s')" if x == "examples" else "format(datum.value, ',d')"
    ticks: dict[str, Any] = {"format": ",.4~g", "tickCount": 5}
    if y == "batch_size":
        ticks = {"format": ",d", "values": table[y].unique().sort().to_list()}
    colour = {"learning_rate": style.BLUE, "momentum": style.ORANGE, "batch_size": style.GREEN}[y]
    return (
        alt.Chart(values(table), width=370, height=140)
        .mark_line(color=colour, strokeWidth=2, interpolate="step-after")
        .encode(
            x=alt.X(f"{x}:Q", title=label(x), scale=alt.Scale(nice=False),
                    axis=alt.Axis(labelExpr=shown, tickCount=6)),
            y=alt.Y(f"{y}:Q", title=label(y), scale=_scale(table[y], y == "batch_size"),
                    axis=alt.Axis(minExtent=42, **ticks)),
        )
    )  # fmt: skip


def _scale(drawn: pl.Series, logarithmic: bool) -> Any:
    """From zero with a margin above; for batch sizes a log scale with a margin on both sides."""
    import altair as alt

    high = float(drawn.max())  # type: ignore[arg-type]
    if logarithmic:
        low = float(drawn.min())  # type: ignore[arg-type]
        return alt.Scale(type="log", base=2, domain=[low / 1.5, high * 1.5], nice=False)
    return alt.Scale(domain=[0.0, 1.08 * high or 1.0], nice=False)


def write_schedule(
    names: Sequence[str],
    out: Path,
    steps: int = 1000,
    batch_size: int = 64,
    settings: Mapping[str, str] | None = None,
) -> None:
    """Draws the schedules into ``out``; its ending chooses the format.

    Raises:
      ValueError: as `chosen`, or an ending that no format has.
      OSError: the file cannot be written.
    """
    from experiments.report.one_figure import check_ending, write_figure

    check_ending(out)
    write_figure(schedule_figure(names, steps, batch_size, settings or {}), out)
