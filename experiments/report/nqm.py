"""The noisy quadratic model's steps to a goal against batch size: printed, written, drawn.

    table = nqm_table("momentum", batch_sizes=(16, 256, 4096))

Zhang et al. (2019): the exact expected loss of workloads/oracles/noisy_quadratic.py, at every batch
size by the best configuration of the authors' grid (workloads/oracles/steps.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workloads.oracles.noisy_quadratic import OptimizerName
from workloads.oracles.steps import BATCH_SIZES, GOAL, Row, steps_table

if TYPE_CHECKING:
    import polars as pl

    from experiments.report.figure import Figure

COEFFICIENTS = {"momentum": "momentum", "ema": "averaging_coefficient"}
"""What the second number of a configuration is; plain SGD has none."""


@dataclasses.dataclass(frozen=True)
class Asked:
    """One question to the model.

    Attributes:
      optimizer: "sgd", "momentum" or "ema".
      power: p of the preconditioner H^p, in [0, 1].
      goal: expected loss to pass.
      batch_sizes: examples per step, ascending.
    """

    optimizer: OptimizerName = "sgd"
    power: float = 0.0
    goal: float = GOAL
    batch_sizes: Sequence[int] = BATCH_SIZES

    def __post_init__(self) -> None:
        object.__setattr__(self, "batch_sizes", tuple(sorted(set(self.batch_sizes))))
        # Without a batch size nothing is iterated, but everything is checked.
        steps_table(self.optimizer, power=self.power, goal=self.goal, batch_sizes=())

    @property
    def title(self) -> str:
        """'Noisy quadratic model: steps to an expected loss below 0.01 with momentum'."""
        by = {"sgd": "plain SGD", "momentum": "momentum", "ema": "averaged SGD"}[self.optimizer]
        preconditioned = f", preconditioned by H^{self.power:g}" if self.power else ""
        return (
            f"Noisy quadratic model: steps to an expected loss below {self.goal:g} "
            f"with {by}{preconditioned}"
        )


def rows(asked: Asked) -> Iterator[Row]:
    """The row of each batch size, as soon as it is known (under a second each)."""
    for batch_size in asked.batch_sizes:
        yield from steps_table(
            asked.optimizer, power=asked.power, goal=asked.goal, batch_sizes=(batch_size,)
        )


def as_table(asked: Asked, found: Sequence[Row]) -> pl.DataFrame:
    """One row a batch size; null where no configuration of the grid reaches the goal.

    Columns: ``batch_size, steps_to_goal, examples, learning_rate``, ``momentum`` or
    ``averaging_coefficient`` where the optimizer has one, ``effective_learning_rate`` (over one
    minus the momentum), ``perfect_scaling_steps`` (from the
    smallest batch size that reaches the goal), ``overhead`` (the share of examples above that
    line), ``regime``, and ``lower_bound``, K / (2 C B), of the steps at small batch sizes.
    """
    import polars as pl

    from experiments.analysis.best_hyperparameters import EFFECTIVE, with_effective_rate
    from experiments.analysis.critical_batch_size import scaling

    steps = pl.Series([row.steps for row in found], dtype=pl.Int64)
    table = pl.DataFrame(
        {
            "batch_size": [row.batch_size for row in found],
            "seed": [0] * len(found),
            "steps_to_result": steps,
            "learning_rate": pl.Series([row.learning_rate for row in found], dtype=pl.Float64),
            "coefficient": pl.Series([row.coefficient for row in found], dtype=pl.Float64),
            "lower_bound": [row.perfect_scaling for row in found],
        }
    )
    table = scaling(table).rename({"steps_to_result": "steps_to_goal"})
    examples = (pl.col("steps_to_goal") * pl.col("batch_size")).alias("examples")
    named = COEFFICIENTS.get(asked.optimizer)
    table = table.rename({"coefficient": named} if named else {})
    return with_effective_rate(table).select(
        "batch_size",
        "steps_to_goal",
        examples,
        "learning_rate",
        *([named] if named else []),
        EFFECTIVE,
        "perfect_scaling_steps",
        "overhead",
        "regime",
        "lower_bound",
    )


def line(asked: Asked, row: Row) -> str:
    """A row for a terminal, under `heading`."""
    if row.steps is None:
        return f"{row.batch_size:>10,}  not reached by any configuration of the grid"
    text = f"{row.batch_size:>10,} {row.steps:>12,} {row.steps * row.batch_size:>16,}"
    text += f" {row.learning_rate:>14.4g}"
    if asked.optimizer in COEFFICIENTS:
        text += f" {row.coefficient:>22.7g}"
    return text


def heading(asked: Asked) -> str:
    """The names of the columns of `line`."""
    text = f"{'batch size':>10} {'steps':>12} {'examples':>16} {'learning rate':>14}"
    if asked.optimizer in COEFFICIENTS:
        text += f" {COEFFICIENTS[asked.optimizer].replace('_', ' '):>22}"
    return text


def summary(table: pl.DataFrame) -> str:
    """Where perfect scaling ends, in one line."""
    import polars as pl

    from experiments.analysis.critical_batch_size import PERFECT, PERFECT_OVERHEAD

    perfect = table.filter(pl.col("regime") == PERFECT)["batch_size"]
    if perfect.is_empty():
        return "no batch size reaches the goal"
    end, largest = max(perfect), max(table["batch_size"])
    words = "no end of perfect scaling up to" if end == largest else "perfect scaling up to"
    return f"{words} B = {end:,} (at most {PERFECT_OVERHEAD:.0%} more examples than the smallest)"


def show(asked: Asked, csv: Path | None = None, out: Path | None = None) -> pl.DataFrame:
    """Prints the table row by row as it becomes known; writes ``csv`` and draws ``out``.

    Raises:
      ValueError: an ending of ``out`` that no figure has, or a folder that does not exist.
      OSError: a file cannot be written.
    """
    from experiments.report.one_figure import check_ending, write_figure

    if out:
        check_ending(out)
    for path in (csv, out):  # known before the time is spent
        if path and not path.parent.is_dir():
            raise ValueError(f"folder {path.parent} of {path.name} does not exist")
    print(f"{asked.title}\n{heading(asked)}", flush=True)
    found = []
    for row in rows(asked):
        print(line(asked, row), flush=True)
        found.append(row)
    table = as_table(asked, found)
    print(summary(table))
    if csv:
        table.write_csv(csv)
        print(f"written: {csv}")
    if out:
        write_figure(figure(asked, table), out)
        print(f"written: {out}")
    return table


def figure(asked: Asked, table: pl.DataFrame) -> Figure:
    """Steps to the goal against batch size, and below it the best effective learning rate."""
    import altair as alt
    import polars as pl

    from experiments.analysis.best_hyperparameters import EFFECTIVE, scaling_rules
    from experiments.report.figure import Figure, nothing

    reached = table.filter(pl.col("steps_to_goal").is_not_null())
    chart: alt.TopLevelMixin = nothing("no batch size reaches the goal")
    if not reached.is_empty():
        rules = scaling_rules(reached).select("batch_size", linear_rule="linear")
        drawn = reached.join(rules, on="batch_size", how="left")
        chart = alt.vconcat(
            _panel(asked, drawn, "steps_to_goal", "perfect_scaling_steps", 300),
            _panel(asked, drawn, EFFECTIVE, "linear_rule", 170),
            spacing=18,
        )
    caption = (
        "Every batch size with the best configuration of the authors' grid (Zhang et al. 2019). "
        "Dashed: perfect scaling, where doubling the batch halves the steps, and the effective "
        "learning rate, learning rate / (1 - momentum), in proportion to the batch size."
    )
    return Figure("nqm", asked.title, caption, chart, table)


def _panel(asked: Asked, drawn: pl.DataFrame, column: str, reference: str, height: int) -> Any:
    """One column against batch size, both logarithmic, over its dashed reference."""
    import altair as alt

    from experiments.report import style
    from experiments.report.figure import (
        batch_axis,
        extent,
        round_ticks,
        tooltips,
        values,
    )
    from experiments.report.words import label

    steps = column == "steps_to_goal"
    least, most = extent(drawn[column]) or (1.0, 1.0)
    low, high = least / 2, most * 2  # wide enough for a round tick wherever it lies
    scale = alt.Scale(type="log", domain=[low, high], nice=False)
    ticks = round_ticks(low, high, 8 if steps else 5)
    axis = alt.Axis(format=",d" if steps else ".6~g", values=ticks, minExtent=60)
    title = "steps to the goal" if steps else f"best {label(column)}"
    hover = ["batch_size", "steps_to_goal", "examples", "learning_rate", "overhead"]
    hover += [name for name in COEFFICIENTS.values() if name in drawn.columns]
    base = alt.Chart(values(drawn)).encode(x=batch_axis(asked.batch_sizes))
    y = alt.Y(f"{column}:Q", title=title, scale=scale, axis=axis)
    return alt.layer(
        base.mark_line(color=style.GREY, strokeDash=[6, 4], strokeWidth=1.5, clip=True).encode(
            y=alt.Y(f"{reference}:Q", title=title, scale=scale)
        ),
        base.mark_line(color=style.BLUE, opacity=0.6, strokeWidth=1.5).encode(y=y),
        base.mark_point(color=style.BLUE, filled=True, size=55, opacity=1).encode(
            y=y, tooltip=tooltips(hover)
        ),
    ).properties(width=800, height=height)
