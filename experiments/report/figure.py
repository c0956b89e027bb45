"""Parts that all figures share: the `Figure` value, axes, tooltips, tables fit for JSON."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

import altair as alt
import numpy as np
import polars as pl

from experiments.analysis.best_hyperparameters import EFFECTIVE
from experiments.analysis.question import TRIAL, Question
from experiments.analysis.summary import Summary
from experiments.report import style
from experiments.report.words import label, metric_title
from experiments.spec.space import Choice, Distribution, ZeroOrLog

_COUNTS = frozenset(
    [
        "batch_size",
        "seed",
        "trial",
        "step",
        "steps_to_result",
        "steps_to_goal",
        "function_evaluations",
        "function_evaluations_to_result",
        "evaluated_before",
        "censored_at",
        "pooled",
        "searches",
        "examples",
        "complete",
        "infeasible",
        "k",
    ]
)


@dataclasses.dataclass(frozen=True)
class Figure:
    """A chart with its words and its numbers.

    Attributes:
      name: file name of its PNG, SVG, PDF and CSV.
      title: what it shows.
      caption: how to read it.
      chart: an Altair chart without title and theme.
      table: the numbers drawn, written as CSV.
    """

    name: str
    title: str
    caption: str
    chart: alt.TopLevelMixin
    table: pl.DataFrame

    def specification(self) -> dict[str, Any]:
        """The chart as Vega-Lite, without a theme (the page chooses light or dark)."""
        return self._specification

    @functools.cached_property
    def _specification(self) -> dict[str, Any]:
        with unchecked():
            specification = self.chart.to_dict(validate=False)
        specification.pop("config", None)
        return specification


_COPIER = "__deepcopy__"
"""Altair asks a part for it before it copies it attribute by attribute."""


@contextlib.contextmanager
def unchecked() -> Iterator[None]:
    """Build charts without two habits of Altair that took most of the time.

    It checks every part against its schema: tests check the whole charts instead
    (tests/report/test_figures.py). And whatever puts charts together copies the encodings of each,
    some hundred objects, several times over: here they are shared, as nothing changes one in place.
    """
    from altair.utils.schemapi import debug_mode

    shared = alt.FacetedEncoding
    before = shared.__dict__.get(_COPIER)
    setattr(shared, _COPIER, lambda encoding, _: encoding)
    try:
        with debug_mode(False):
            yield
    finally:
        if before is None:
            delattr(shared, _COPIER)
        else:  # inside another `unchecked`
            setattr(shared, _COPIER, before)


KEY = "key"
"""Column that names a trial, "B/SEED/INDEX": what the page selects by, in charts and table."""
IS_SELECTED = f"datum.{KEY} === selected"


def with_key(table: pl.DataFrame) -> pl.DataFrame:
    """The table with the column `KEY`."""
    return table.with_columns(pl.format("{}/{}/{}", *TRIAL).alias(KEY))


def selectable(chart: alt.TopLevelMixin) -> alt.TopLevelMixin:
    """The chart with what the page sets: ``selected``, a trial's key, and ``ink``, for its ring."""
    return chart.add_params(
        alt.param(name="selected", value=""), alt.param(name="ink", value="#1f2530")
    )


def ring() -> dict[str, Any]:
    """Encodings that draw a ring around the point of the selected trial."""

    def when(inside: object) -> dict[str, object]:
        return {"test": IS_SELECTED, "value": inside}

    return {  # typed: Altair looks for the type of a plain condition among all that it has
        "stroke": alt.StrokeValue("transparent", condition=when({"expr": "ink"})),
        "strokeWidth": alt.StrokeWidthValue(0, condition=when(2.5)),
    }


NOT_SEARCHED = "no hyperparameter was searched"


def nothing(text: str = "no COMPLETE trial is recorded") -> alt.Chart:
    """In place of a chart that would be empty."""
    data = alt.Data(values=[{"text": text}])
    return alt.Chart(data, width=400, height=60).mark_text(fontSize=14).encode(text="text:N")


def values(table: pl.DataFrame) -> alt.Data:
    """A table as inline data; numbers that JSON cannot hold become null.

    Inline data pass by Altair's limit of 5,000 rows and by its guessing of types, so every
    encoding states its type.
    """
    floats = [name for name, kind in table.schema.items() if kind.is_float()]
    clean = table.with_columns(
        pl.when(pl.col(name).is_finite()).then(pl.col(name)) for name in floats
    )
    return alt.Data(values=ChartRows([_short(row) for row in clean.to_dicts()]))


class ChartRows:
    """Rows of a chart that Altair takes as they are: it copies lists with every layer.

    ``_schema`` and ``to_dict`` are what it asks of a part that is none of its own.
    """

    _schema: ClassVar[dict[str, str]] = {"type": "array"}

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def to_dict(self, *_: Any, **__: Any) -> list[dict[str, Any]]:
        """The rows themselves."""
        return self.rows


def _short(row: dict[str, Any]) -> dict[str, Any]:
    """Six digits are more than a screen shows, and half the size of seventeen."""
    return {k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in row.items()}


def batch_axis(batch_sizes: Sequence[int], title: str = "batch size") -> alt.X:
    """x = batch size on a log2 scale with a tick at every batch size of the study."""
    return alt.X(
        "batch_size:Q",
        title=title,
        scale=alt.Scale(type="log", base=2, domain=batch_domain(batch_sizes), nice=False),
        axis=alt.Axis(
            values=list(batch_sizes),
            format="d",
            grid=False,
            labelSeparation=3,
            labelOverlap="parity",
        ),
    )


def batch_domain(batch_sizes: Sequence[float]) -> list[float]:
    """The batch sizes with a margin on either side."""
    return [min(batch_sizes) / 1.5, max(batch_sizes) * 1.5]


def batch_colour(batch_sizes: Sequence[int], **legend: Any) -> alt.Color:
    """Colour by batch size, small to large, with one legend entry each."""
    return alt.Color(
        "batch_size:O",
        title="batch size",
        scale=alt.Scale(domain=list(batch_sizes), range=style.batch_colours(len(batch_sizes))),
        legend=alt.Legend(symbolOpacity=1, **legend),
    )


def metric_axis(column: str, question: Question, measured: pl.Series, **fields: Any) -> alt.Y:
    """y = the goal's metric; logarithmic where it spans more than a factor of ten above zero."""
    low, high = extent(measured) or (0.0, 1.0)
    wide = low > 0 and high > 10 * low
    domain = padded(low, high, wide)
    kind = {"type": "log"} if wide else {"type": "linear", "zero": False}
    scale = alt.Scale(nice=False, domain=domain, **kind)
    ticks = {"values": round_ticks(domain[0], domain[-1])} if wide else {"tickCount": 6}
    axis = alt.Axis(format="~g", **ticks)
    return alt.Y(column, title=metric_title(question), scale=scale, axis=axis, **fields)


def log_axis(column: str, title: str, shown: pl.Series) -> alt.Y:
    """A logarithmic y axis over the positive numbers of ``shown`` with a margin."""
    low, high = extent(shown.filter(shown > 0)) or (1.0, 10.0)
    domain = [low / 1.6, high * 1.6]
    axis = alt.Axis(format="~g", values=round_ticks(domain[0], domain[1]))
    scale = alt.Scale(type="log", nice=False, domain=domain)
    return alt.Y(column, title=title, scale=scale, axis=axis)


def step_axis(column: str, title: str, shown: pl.Series, most: int = 6) -> alt.X:
    """A logarithmic x axis of steps from 1 on with at most so many ticks."""
    ticks = round_ticks(1, max([10.0, *(extent(shown) or ())]), most=most)
    return alt.X(
        column,
        title=title,
        scale=alt.Scale(type="log", nice=False),
        axis=alt.Axis(format=",d", grid=False, values=ticks),
    )


def extent(numbers: pl.Series) -> tuple[float, float] | None:
    """(least, greatest) of the finite numbers, None where there is none."""
    found = numbers.drop_nulls().cast(pl.Float64).to_numpy()
    found = found[np.isfinite(found)]
    return (float(found.min()), float(found.max())) if len(found) else None


def round_ticks(low: float, high: float, most: int = 8) -> list[float]:
    """1, 2, 5 times powers of ten within [low, high]; powers of ten alone where many."""
    for factors in ((1, 2, 5), (1,)):
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [float(f"{f}e{k}") for k in decades for f in factors]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= most:
            break
    return ticks


@dataclasses.dataclass(frozen=True)
class HyperparameterAxis:
    """The axis of a hyperparameter: its own scale, or 1 - value for a reverse log one."""

    name: str
    scale: str = "linear"

    @classmethod
    def of(cls, name: str, distribution: Distribution | None) -> HyperparameterAxis:
        """The axis of a searched hyperparameter on the scale it was searched on.

        One that may be zero has a linear axis: a logarithmic one has no place for it.
        """
        if distribution is None or isinstance(distribution, (Choice, ZeroOrLog)):
            return cls(name)
        return cls(name, distribution.scale)

    @property
    def field(self) -> str:
        """The column drawn."""
        return f"1-{self.name}" if self.scale == "reverse_log" else self.name

    def prepare(self, table: pl.DataFrame) -> pl.DataFrame:
        """The table with the column drawn."""
        if self.scale != "reverse_log" or self.name not in table.columns:
            return table
        return table.with_columns((1 - pl.col(self.name)).alias(self.field))

    def position(self, value: float) -> float:
        """A value where it is drawn."""
        return 1 - value if self.scale == "reverse_log" else value

    def encode(
        self, channel: type, domain: Sequence[float] | None = None, ticks: int = 8, **axis: Any
    ) -> Any:
        """The x or y of this hyperparameter; a reverse log axis is labelled with the value."""
        reverse = self.scale == "reverse_log"
        linear = self.scale == "linear"
        kind = {"type": "linear", "zero": False} if linear else {"type": "log"}
        limits = {"domain": list(domain)} if domain else {}
        scale = alt.Scale(reverse=reverse, nice=False, **kind, **limits)
        shown = "format(1 - datum.value, '.6~g')" if reverse else "format(datum.value, '.4~g')"
        axis = {"labelExpr": shown, **axis}
        if domain and not linear:
            axis["values"] = round_ticks(domain[0], domain[-1], ticks)
        else:
            axis["tickCount"] = 5
        return channel(
            f"{self.field}:Q", title=label(self.name), scale=scale, axis=alt.Axis(**axis)
        )


def padded(low: float, high: float, logarithmic: bool, share: float = 0.04) -> list[float]:
    """[low, high] with a margin on the axis's own scale."""
    if low == high:
        return [low / 2, high * 2] if logarithmic else [low - 0.5, high + 0.5]
    if logarithmic:
        margin = (high / low) ** share
        return [low / margin, high * margin]
    return [low - share * (high - low), high + share * (high - low)]


def tooltips(names: Iterable[str], **titles: str) -> list[alt.Tooltip]:
    """Hover text of numeric columns, titled in prose: counts in full, the rest to four digits."""
    return [
        alt.Tooltip(
            f"{name}:Q",
            title=titles.get(name, label(name)),
            format=",d" if name in _COUNTS else ",.4~r",
        )
        for name in names
    ]


def searched_names(summary: Summary, table: pl.DataFrame) -> list[str]:
    """The searched hyperparameters and the effective learning rate, where the table has them."""
    return [name for name in (*summary.question.space, EFFECTIVE) if name in table.columns]
