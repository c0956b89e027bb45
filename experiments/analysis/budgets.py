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

from experiments.analysis.question import (
    SEARCH,
    TRIAL,
    Record,
    choose_goal,
    measurements,
    read_question,
)
from experiments.analysis.steps_to_result import counted_trials
from experiments.analysis.uncertainty import STANDARD, Bootstrap, bootstrap_best
from workloads.base import Goal

_BEST = (*SEARCH, "best_value", "step", "examples", "trial")


def best_within(
    record: Record,
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
    goal = choose_goal(record, goal)
    value = pl.col("value")
    inside = value.is_finite()
    if steps is not None:
        inside &= pl.col("step") <= steps
    if examples is not None:
        inside &= pl.col("examples") <= examples
    best = goal.best(value)
    first = [pl.col(name).filter(value == best).min() for name in ("step", "examples")]
    per_trial = (
        measurements(record, goal)
        .filter(inside)
        .join(counted_trials(record).lazy(), on=TRIAL, how="semi")
        .group_by(TRIAL)
        .agg(best.alias("best_value"), *first)
        .sort(*SEARCH, goal.sign * pl.col("best_value"), "step", "trial")
        .collect()
    )
    rows = []
    for (batch_size, seed), group in per_trial.partition_by(SEARCH, as_dict=True).items():
        values = group["best_value"].to_numpy()
        ends = bootstrap_best(values, goal.sign, bootstrap, int(batch_size), int(seed))
        rows.append((*group.select(_BEST).row(0), *ends))
    schema = pl.Schema({name: per_trial.schema[name] for name in _BEST})
    schema |= pl.Schema({"low": pl.Float64(), "high": pl.Float64()})
    return pl.DataFrame(rows, schema=schema, orient="row").sort(SEARCH)


def best_under_budgets(
    record: Record, goal: float | Goal | None = None, *, bootstrap: Bootstrap = STANDARD
) -> pl.DataFrame:
    """`best_within` the study's step budget and its epoch budget, one below the other.

    Columns: ``budget`` (``"step"`` or ``"epoch"``), then those of `best_within`.
    """
    question = read_question(record)
    limits = {
        "step": {"steps": question.step_budget},
        "epoch": {"examples": question.example_budget},
    }
    tables = [
        best_within(record, goal, **limit, bootstrap=bootstrap).select(
            pl.lit(name).alias("budget"), pl.all()
        )
        for name, limit in limits.items()
    ]
    return pl.concat(tables)
