"""Steps to result: the fewest steps at which any trial of a search is strictly past the goal.

Shallue et al. 2019, as their data release computes it: per batch size, the first N COMPLETE
trials by index; all their measurements sorted by (step, trial); the first row whose metric is
strictly better than the goal. Here a search is one (batch size, seed). A trial that passed the
goal and diverged later is INFEASIBLE and does not count, unless the study's trials stop at the
goal (`View.countable`): a trial that stopped there never came to diverge.

Steps to result are known only to the evaluation grid: the trial was last seen short of the goal
at ``evaluated_before``, so the truth lies in (``evaluated_before``, ``steps_to_result``].
"""

from __future__ import annotations

import polars as pl

from experiments.analysis.question import SEARCH, TRIAL, StudyRecord
from experiments.analysis.view import COUNTED, View, view_of
from experiments.spec.trial import Status
from workloads.base import Goal

COUNTED_TO_RESULT = "function_evaluations_to_result"


def trial_counts(record: StudyRecord | View) -> pl.DataFrame:
    """Counts of how the trials of each planned search ended, whether it has trials or not.

    Columns: ``batch_size, seed, complete, infeasible, incomplete, stopped`` and ``missing``, the
    trials that count short of the planned N.
    """
    view = view_of(record)
    question = view.question
    planned = pl.DataFrame(
        [(b, s) for b in question.batch_sizes for s in question.seeds],
        schema={"batch_size": pl.Int64, "seed": pl.Int64},
        orient="row",
    )
    status = pl.col("status")
    counts = view.record.trials.group_by(SEARCH).agg(
        (status == ended.value).sum().cast(pl.Int64).alias(ended.value.lower()) for ended in Status
    )
    names = ["complete", "infeasible", "incomplete", "stopped"]
    counts = counts.select(*(pl.col(name).cast(pl.Int64) for name in SEARCH), *names)
    table = planned.join(counts, on=SEARCH, how="left").with_columns(pl.col(names).fill_null(0))
    started = view.record.trials.filter(status != Status.INCOMPLETE.value)
    counting = started if view.prunes else view.countable  # with a pruner N counts trials started
    count = counting.group_by(SEARCH).agg(pl.len().cast(pl.Int64).alias("count"))
    missing = (view.wanted - pl.col("count").fill_null(0)).clip(lower_bound=0).alias("missing")
    table = table.join(count, on=SEARCH, how="left").with_columns(missing)
    return table.drop("count").sort(SEARCH)


def crossings(record: StudyRecord | View, goal: float | Goal | None = None) -> pl.DataFrame:
    """Steps at which each counted trial first passed the goal.

    Columns: ``batch_size, seed, trial, train_steps``; ``step``, null where it never did;
    ``evaluated_before``, the last step at which it was measured short of the goal before that
    (0 where its first measurement is past the goal), and ``examples`` consumed by ``step``, null
    where ``step`` is.
    """
    view = view_of(record, goal)
    passed = (
        view.crossed[0]
        .filter(pl.col("passed_step").is_not_null())
        .select(
            *TRIAL,
            pl.col("passed_step").alias("step"),
            "evaluated_before",
            pl.col("passed_examples").alias("examples"),
        )
    )
    return view.counted.select(*TRIAL, "train_steps").join(passed, on=TRIAL, how="left").sort(TRIAL)


def function_evaluations_to_result(
    record: StudyRecord | View, goal: float | Goal | None = None
) -> pl.DataFrame:
    """The fewest function evaluations at which any counted trial is strictly past the goal.

    As steps to result, with the evaluations a trial has made in place of its steps: the two may
    be of different trials. Known to the evaluation grid, like steps. Columns: ``batch_size, seed,
    function_evaluations_to_result``; a search that did not reach the goal has no row.
    """
    made = pl.col(f"passed_{COUNTED}")
    return (
        view_of(record, goal)
        .crossed[0]
        .filter(made.is_not_null())
        .group_by(SEARCH)
        .agg(made.min().alias(COUNTED_TO_RESULT))
        .sort(SEARCH)
    )


def best_values(record: StudyRecord | View, goal: float | Goal | None = None) -> pl.DataFrame:
    """The best measurement of each counted trial (best checkpoint, not the last).

    Columns: ``batch_size, seed, trial, best_value, best_step``; ties go to the lowest step. A
    trial without a finite measurement has no row.
    """
    found = view_of(record, goal).outcomes.filter(pl.col("best_value").is_not_null())
    return found.select(*TRIAL, "best_value", "best_step")


def steps_to_result(record: StudyRecord | View, goal: float | Goal | None = None) -> pl.DataFrame:
    """One row a search (batch size and seed), planned or recorded, sorted by both.

    Args:
      record: a study read back.
      goal: another value, or a whole `Goal`; default: the recorded goal.

    Columns: ``batch_size, seed, goal``; ``steps_to_result, trial, evaluated_before``,
    ``examples_to_result`` consumed by then, null where no counted trial passed the goal;
    ``censored_at``, the length in steps at which a search that did not reach the goal ended, null
    where it did or where nothing COMPLETE is recorded;
    ``best_value`` over all counted measurements; ``complete, infeasible, incomplete, stopped,
    missing`` as in `trial_counts`; ``function_evaluations_to_result`` where the record counts them.

    Raises:
      ValueError: a goal the record cannot answer (`View`).
    """
    view = view_of(record, goal)
    goal = view.goal
    passed = crossings(view)
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
    table, parts, counted = trial_counts(view), [first, lengths, view.crossed[1]], []
    if view.counts_function_evaluations:
        parts.append(function_evaluations_to_result(view))
        counted = [COUNTED_TO_RESULT]
    for part in parts:
        table = table.join(part, on=SEARCH, how="left")
    unreached = pl.when(pl.col("steps_to_result").is_null()).then(pl.col("length"))
    return table.with_columns(
        unreached.alias("censored_at"), pl.lit(goal.value).cast(pl.Float64).alias("goal")
    ).select(
        *SEARCH, "goal", "steps_to_result", "trial", "evaluated_before", "examples_to_result",
        "censored_at", "best_value", "complete", "infeasible", "incomplete", "stopped", "missing",
        *counted,
    ).sort(SEARCH)  # fmt: skip
