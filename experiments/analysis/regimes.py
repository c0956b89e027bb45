"""The three regimes of a curve of steps against batch size, and the lines beside it.

Regimes lie between the two borders of one fitted curve (`free_sharpness`) and are in order whatever
the luck of single points: decided point by point they contradict each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import polars as pl

from experiments.analysis.free_sharpness import FreeSharpness

PERFECT_OVERHEAD = 0.2
"""Perfect scaling: at most this share more examples than the perfect-scaling line."""
FLAT_SAVING = 0.1
"""Maximal data parallelism: doubling the batch size saves less than this share of the steps."""

PERFECT, DIMINISHING, FLAT = "perfect scaling", "diminishing returns", "maximal data parallelism"
REGIMES = (PERFECT, DIMINISHING, FLAT)

Points = tuple[np.ndarray, np.ndarray]
"""Ascending batch sizes [n] and a search's steps to result [n], infinite where not reached."""


def regime_borders(fit: FreeSharpness) -> tuple[float, float]:
    """(end of perfect scaling, start of maximal data parallelism) of a fitted curve.

    At a very sharp elbow doubling saves little from a batch size on that is still within the
    overhead; there the second border is the first.
    """
    end = fit.perfect_end(PERFECT_OVERHEAD)
    return end, max(end, fit.flat_start(FLAT_SAVING))


def regime_of(batch_size: float, perfect_end: float, flat: float) -> str:
    """The regime of a batch size between the two borders."""
    if batch_size <= perfect_end * (1 + 1e-9):
        return PERFECT
    return FLAT if batch_size > flat * (1 + 1e-9) else DIMINISHING


def points_of(table: pl.DataFrame) -> dict[int, Points]:
    """seed -> the points of its searches, from rows of `steps_to_result`."""
    found = {}
    for (seed,), rows in table.sort("batch_size").partition_by("seed", as_dict=True).items():
        steps = rows["steps_to_result"].cast(pl.Float64).fill_null(math.inf)
        found[int(seed)] = (rows["batch_size"].to_numpy().astype(float), steps.to_numpy())
    return found


def scaling(table: pl.DataFrame, fits: Mapping[int, FreeSharpness | None]) -> pl.DataFrame:
    """Adds lines, overheads and regime to rows of `steps_to_result`, a search at a time.

    Adds ``perfect_scaling_steps`` = S(B0) B0 / B from B0, the smallest batch size of the seed that
    reached the goal (null below it), and ``overhead`` = E(B) / E(B0) - 1, the share of examples
    above that line, E = S(B) B unless the batch grows; ``fitted_line_steps`` = E_min / B and
    ``fitted_overhead`` = E(B) / E_min - 1 by the seed's own fit; and ``regime`` by the borders of
    that fit, null where there is none or the goal was not reached.
    """
    return pl.concat([_scaling_of(rows, fits) for rows in table.partition_by("seed")]).sort(
        "batch_size", "seed"
    )


def _scaling_of(rows: pl.DataFrame, fits: Mapping[int, FreeSharpness | None]) -> pl.DataFrame:
    rows = rows.sort("batch_size")
    passed = rows.filter(pl.col("steps_to_result").is_not_null())
    steps, size = pl.col("steps_to_result"), pl.col("batch_size")
    grown = "examples_to_result" in rows.columns
    examples = pl.col("examples_to_result") if grown else steps * size
    fit = fits.get(rows["seed"][0])
    none = pl.lit(None, dtype=pl.Float64)
    line = overhead = fitted_line = fitted_over = none
    if len(passed):
        first = passed.row(0, named=True)
        least = (
            first["examples_to_result"] if grown else first["steps_to_result"] * first["batch_size"]
        )
        line = first["steps_to_result"] * first["batch_size"] / size
        line = pl.when(size >= first["batch_size"]).then(line)
        overhead = examples / least - 1
    regime = pl.lit(None, dtype=pl.String)
    if fit is not None:
        ends = regime_borders(fit)
        names = [
            None if missed else regime_of(b, *ends)
            for b, missed in rows.select("batch_size", steps.is_null()).iter_rows()
        ]
        regime = pl.lit(pl.Series(names, dtype=pl.String))
        if fit.least_examples > 0:
            fitted_line, fitted_over = fit.least_examples / size, examples / fit.least_examples - 1
    return rows.with_columns(
        line.alias("perfect_scaling_steps"), overhead.alias("overhead"),
        fitted_line.alias("fitted_line_steps"), fitted_over.alias("fitted_overhead"),
        regime.alias("regime"),
    )  # fmt: skip
