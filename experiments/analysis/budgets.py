"""The best value under a step budget and under an epoch (example) budget.

Step budget K: the best measurement at step <= K. Epoch budget: the best at examples consumed
<= budget, as recorded (batch size x step, unless the batch grows). Best over trials and over
evaluations (the best checkpoint, not the last), among the first N COMPLETE trials; ties by
(step, trial). The two answer different questions and are never mixed: given the same number of
steps a larger batch has seen more examples, given the same examples a smaller batch has made more
steps.
"""

from __future__ import annotations

import polars as pl

from experiments.analysis.question import SEARCH, TRIAL, Record
from experiments.analysis.uncertainty import STANDARD, Bootstrap, bootstrap_best
from experiments.analysis.view import View, view_of
from workloads.base import Goal

_BEST = (*SEARCH, "best_value", "step", "examples", "trial")


def best_within(
    record: Record | View,
    goal: float | Goal | None = None,
    *,
    steps: int | None = None,
    examples: int | None = None,
    bootstrap: Bootstrap = STANDARD,
) -> pl.DataFrame:
    """The best measurement of the goal's metric within the given limits, per search.

    Args:
      steps: only measurements at step <= steps; None for no limit.
      examples: only those at examples consumed <= examples; None for no limit.

    Columns: ``batch_size, seed, best_value, step, examples, trial, low, high`` (the bootstrap
    interval over trials). A search without a measurement inside the limits has no row.
    """
    view = view_of(record, goal)
    inside = pl.lit(True)
    if steps is not None:
        inside &= pl.col("step") <= steps
    if examples is not None:
        inside &= pl.col("examples") <= examples
    per_trial = view.of_counted().group_by(TRIAL).agg(view.best_of(inside, "")).collect()
    return _per_search(view, per_trial, "", bootstrap)


def best_under_budgets(
    record: Record | View, goal: float | Goal | None = None, *, bootstrap: Bootstrap = STANDARD
) -> pl.DataFrame:
    """`best_within` the study's step budget and its epoch budget, one below the other.

    Columns: ``budget`` (``"step"`` or ``"epoch"``), then those of `best_within`.
    """
    view = view_of(record, goal)
    return pl.concat(
        _per_search(view, view.outcomes, f"{budget}_", bootstrap).select(
            pl.lit(budget).alias("budget"), pl.all()
        )
        for budget in ("step", "epoch")
    )


def _per_search(
    view: View, per_trial: pl.DataFrame, prefix: str, bootstrap: Bootstrap
) -> pl.DataFrame:
    """Rows of `best_within` from the columns that `View.best_of` has given ``prefix``."""
    found = per_trial.select(
        *TRIAL,
        pl.col(f"{prefix}best_value").alias("best_value"),
        pl.col(f"{prefix}best_step").alias("step"),
        pl.col(f"{prefix}best_examples").alias("examples"),
    ).filter(pl.col("best_value").is_not_null())
    found = found.sort(*SEARCH, view.goal.sign * pl.col("best_value"), "step", "trial")
    rows = []
    for (batch_size, seed), group in found.partition_by(SEARCH, as_dict=True).items():
        values = group["best_value"].to_numpy()
        ends = bootstrap_best(values, view.goal.sign, bootstrap, int(batch_size), int(seed))
        rows.append((*group.select(_BEST).row(0), *ends))
    schema = pl.Schema({name: found.schema[name] for name in _BEST})
    schema |= pl.Schema({"low": pl.Float64(), "high": pl.Float64()})
    return pl.DataFrame(rows, schema=schema, orient="row").sort(SEARCH)
