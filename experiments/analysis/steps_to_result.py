"""Steps to result: the fewest steps at which any trial of a search is strictly past the goal.

Shallue et al. 2019, as their data release computes it: per batch size, the first N COMPLETE
trials by index; all their measurements sorted by (step, trial); the first row whose metric is
strictly better than the goal. Here a search is one (batch size, seed). A trial that passed the
goal and diverged later is INFEASIBLE and does not count.

Steps to result are known only to the evaluation grid: the trial was last seen short of the goal
at ``evaluated_before``, so the truth lies in (``evaluated_before``, ``steps_to_result``].
"""

from __future__ import annotations

import polars as pl

from experiments.analysis.question import (
    SEARCH,
    TRIAL,
    Record,
    choose_goal,
    columns_of,
    measurements,
    read_question,
)
from experiments.spec.trial import Status
from workloads.base import Goal

COUNTED = "function_evaluations"
"""Column of the evaluations table: evaluations over the batch a trial had made by that step."""
COUNTED_TO_RESULT = "function_evaluations_to_result"


def counted_trials(record: Record) -> pl.DataFrame:
    """The first N COMPLETE trials of each search by index; all there are where fewer.

    Returns the trials table's rows, sorted by (batch_size, seed, trial).
    """
    n = record.study["study"]["trials"]
    complete = record.trials.filter(pl.col("status") == Status.COMPLETE.value)
    return complete.sort(TRIAL).group_by(SEARCH, maintain_order=True).head(n)


def trial_counts(record: Record) -> pl.DataFrame:
    """How the trials of each search ended, for every planned search, trials or not.

    Columns: ``batch_size, seed, complete, infeasible, incomplete`` and ``missing``, the COMPLETE
    trials short of the planned N.
    """
    question = read_question(record)
    planned = pl.DataFrame(
        [(b, s) for b in question.batch_sizes for s in question.seeds],
        schema={"batch_size": pl.Int64, "seed": pl.Int64},
        orient="row",
    )
    status = pl.col("status")
    counts = record.trials.group_by(SEARCH).agg(
        (status == ended.value).sum().cast(pl.Int64).alias(ended.value.lower()) for ended in Status
    )
    names = ["complete", "infeasible", "incomplete"]
    counts = counts.select(*(pl.col(name).cast(pl.Int64) for name in SEARCH), *names)
    table = planned.join(counts, on=SEARCH, how="left").with_columns(pl.col(names).fill_null(0))
    missing = (question.trials - pl.col("complete")).clip(lower_bound=0).alias("missing")
    return table.with_columns(missing).sort(SEARCH)


def crossings(record: Record, goal: float | Goal | None = None) -> pl.DataFrame:
    """When each counted trial first passed the goal.

    Columns: ``batch_size, seed, trial, train_steps``; ``step``, null where it never did;
    ``evaluated_before``, the last step at which it was measured short of the goal before that
    (0 where its first measurement is past the goal), and ``examples`` consumed by ``step``, null
    where ``step`` is.
    """
    goal = choose_goal(record, goal)
    counted = counted_trials(record).select(*TRIAL, "train_steps")
    first = pl.col("step").filter(goal.better(pl.col("value"))).min()
    consumed = pl.col("examples").filter(goal.better(pl.col("value"))).min()
    before = pl.col("step").filter(pl.col("step") < first).max().fill_null(0)
    passed = (
        measurements(record, goal)
        .join(counted.lazy(), on=TRIAL, how="semi")
        .group_by(TRIAL)
        .agg(first.alias("first"), before.alias("evaluated_before"), consumed)
        .filter(pl.col("first").is_not_null())
        .rename({"first": "step"})
        .collect()
    )
    whole = (pl.col(name).cast(pl.Int64) for name in ("step", "evaluated_before", "examples"))
    return counted.join(passed, on=TRIAL, how="left").with_columns(whole).sort(TRIAL)


def has_function_evaluations(record: Record) -> bool:
    """Whether evaluations over the batch were counted beside steps (second-order rules)."""
    return COUNTED in columns_of(record)


def function_evaluations_to_result(
    record: Record, goal: float | Goal | None = None
) -> pl.DataFrame:
    """The fewest function evaluations at which any counted trial is strictly past the goal.

    As steps to result, with the evaluations a trial has made in place of its steps: the two may
    be of different trials. Known to the evaluation grid, like steps. Columns: ``batch_size, seed,
    function_evaluations_to_result``; a search that did not reach the goal has no row.
    """
    goal = choose_goal(record, goal)
    return (
        measurements(record, goal, COUNTED)
        .join(counted_trials(record).lazy(), on=TRIAL, how="semi")
        .filter(goal.better(pl.col("value")))
        .group_by(SEARCH)
        .agg(pl.col(COUNTED).min().cast(pl.Int64).alias(COUNTED_TO_RESULT))
        .collect()
        .sort(SEARCH)
    )


def best_values(record: Record, goal: float | Goal | None = None) -> pl.DataFrame:
    """The best measurement of each counted trial (best checkpoint, not the last).

    Columns: ``batch_size, seed, trial, best_value, best_step``; ties go to the lowest step. A
    trial without a finite measurement has no row.
    """
    goal = choose_goal(record, goal)
    value = pl.col("value")
    best = goal.best(value)
    first = pl.col("step").filter(value == best).min()
    return (
        measurements(record, goal)
        .filter(value.is_finite())
        .join(counted_trials(record).lazy(), on=TRIAL, how="semi")
        .group_by(TRIAL)
        .agg(best.alias("best_value"), first.alias("best_step"))
        .collect()
        .sort(TRIAL)
    )


def steps_to_result(record: Record, goal: float | Goal | None = None) -> pl.DataFrame:
    """One row a search (batch size and seed), planned or recorded, sorted by both.

    Args:
      record: a study read back.
      goal: another value, or a whole `Goal`; default: the recorded goal.

    Columns: ``batch_size, seed, goal``; ``steps_to_result, trial, evaluated_before``,
    ``examples_to_result`` consumed by then, null where no counted trial passed the goal;
    ``censored_at``, the length in steps at which a search that did not reach the goal ended, null
    where it did or where nothing COMPLETE is recorded;
    ``best_value`` over all counted measurements; ``complete, infeasible, incomplete, missing``
    as in `trial_counts`; ``function_evaluations_to_result`` where the record counts them.

    Raises:
      ValueError: a goal the record cannot answer (`choose_goal`).
    """
    goal = choose_goal(record, goal)
    passed = crossings(record, goal)
    first = (
        passed.filter(pl.col("step").is_not_null())
        .sort([*SEARCH, "step", "trial"])
        .group_by(SEARCH, maintain_order=True)
        .first()
        .select(
            *SEARCH,
            pl.col("step").alias("steps_to_result"),
            "trial",
            "evaluated_before",
            pl.col("examples").alias("examples_to_result"),
        )
    )
    lengths = passed.group_by(SEARCH).agg(pl.col("train_steps").max().alias("length"))
    best = best_values(record, goal).group_by(SEARCH).agg(goal.best(pl.col("best_value")))
    table, parts, counted = trial_counts(record), [first, lengths, best], []
    if has_function_evaluations(record):
        parts.append(function_evaluations_to_result(record, goal))
        counted = [COUNTED_TO_RESULT]
    for part in parts:
        table = table.join(part, on=SEARCH, how="left")
    unreached = pl.when(pl.col("steps_to_result").is_null()).then(pl.col("length"))
    return table.with_columns(
        unreached.alias("censored_at"), pl.lit(goal.value).cast(pl.Float64).alias("goal")
    ).select(
        *SEARCH, "goal", "steps_to_result", "trial", "evaluated_before", "examples_to_result",
        "censored_at", "best_value", "complete", "infeasible", "incomplete", "missing", *counted,
    ).sort(SEARCH)  # fmt: skip
