"""The exact steps to a goal of the noisy quadratic model, read as a study's steps are.

Imports no jax.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from experiments.analysis.best_hyperparameters import EFFECTIVE, with_effective_rate
from experiments.analysis.critical_batch_size import fitted
from experiments.analysis.regimes import PERFECT_OVERHEAD, points_of, scaling
from workloads.oracles.grid import COEFFICIENTS, BestConfiguration, GridSearch


def scaling_table(search: GridSearch, found: Sequence[BestConfiguration]) -> pl.DataFrame:
    """One row a batch size; null where no configuration of the grid reaches the goal.

    Columns: ``batch_size, steps_to_goal, examples, learning_rate``, ``momentum`` or
    ``averaging_coefficient`` where the optimizer has one, ``effective_learning_rate`` (over one
    minus the momentum), ``perfect_scaling_steps`` (from the
    smallest batch size that reaches the goal), ``overhead`` (the share of examples above that
    line), ``regime`` by the curve fitted to all, and ``lower_bound``, K / (2 C B), of the steps
    at small batch sizes.
    """
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
    fits = {seed: fitted(points) for seed, points in points_of(table).items()}
    table = scaling(table, fits).rename({"steps_to_result": "steps_to_goal"})
    examples = (pl.col("steps_to_goal") * pl.col("batch_size")).alias("examples")
    named = COEFFICIENTS.get(search.optimizer)
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


def summary(table: pl.DataFrame) -> str:
    """Say in one line where perfect scaling ends."""
    perfect = table.filter(pl.col("overhead") <= PERFECT_OVERHEAD + 1e-12)["batch_size"]
    if perfect.is_empty():
        return "no batch size reaches the goal"
    end, largest = max(perfect), max(table["batch_size"])
    words = "no end of perfect scaling up to" if end == largest else "perfect scaling up to"
    return f"{words} B = {end:,} (at most {PERFECT_OVERHEAD:.0%} more examples than the smallest)"
