"""The best trial of every search, its hyperparameters, and the rules for a change of batch size.

Shallue et al. 2019: the effective learning rate of momentum methods is lr / (1 - momentum). The
linear rule multiplies it by B / B0 and the square-root rule by sqrt(B / B0), anchored at the best
trial of the smallest batch size. They are drawn for comparison; the study retunes at every batch
size and assumes neither.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from experiments.analysis.question import SEARCH, TRIAL, StudyRecord
from experiments.analysis.searches import across_values
from experiments.analysis.steps_to_result import best_values, steps_to_result
from experiments.analysis.view import View, view_of
from workloads.base import Goal

EFFECTIVE = "effective_learning_rate"
CLIPPED = "clipped_share"


def with_effective_rate(trials: pl.DataFrame) -> pl.DataFrame:
    """Adds ``effective_learning_rate`` = learning_rate / (1 - momentum).

    The learning rate itself where there is no momentum; the table unchanged where there is no
    learning rate.
    """
    if "learning_rate" not in trials.columns:
        return trials
    rate = pl.col("learning_rate")
    if "momentum" in trials.columns:
        rate = rate / (1 - pl.col("momentum"))
    return trials.with_columns(rate.alias(EFFECTIVE))


def best_trials(record: StudyRecord | View, goal: float | Goal | None = None) -> pl.DataFrame:
    """The best counted trial of each search that has one, sorted by batch size and seed.

    Best is the trial of the steps to result; where the goal was not reached, the one with the
    best value. Columns: ``batch_size, seed, trial, reached, best_value, best_step,
    train_steps``, then the hyperparameters, the effective learning rate and, where the study
    clips, ``clipped_share``, the share of the trial's steps whose gradient was clipped.
    """
    view = view_of(record, goal)
    return choose_best(view, steps_to_result(view), best_values(view))


def choose_best(view: View, table: pl.DataFrame, values: pl.DataFrame) -> pl.DataFrame:
    """`best_trials` from rows of `steps_to_result` and of `best_values` that are at hand."""
    fallback = (
        values.with_columns(rank=view.goal.sign * pl.col("best_value"))
        .sort([*SEARCH, "rank", "best_step", "trial"])
        .group_by(SEARCH, maintain_order=True)
        .first()
        .select(*SEARCH, pl.col("trial").alias("best_trial"))
    )
    reached = pl.col("steps_to_result").is_not_null()
    chosen = (
        table.select(*SEARCH, "trial", reached.alias("reached"))
        .join(fallback, on=SEARCH)
        .select(*SEARCH, pl.coalesce("trial", "best_trial").alias("trial"), "reached")
    )
    trials = with_effective_rate(view.record.trials)
    known = (*view.question.hyperparameters, EFFECTIVE, CLIPPED)
    names = [name for name in known if name in trials.columns]
    return (
        chosen.join(values, on=TRIAL, how="left")
        .join(trials.select(*TRIAL, "train_steps", *names), on=TRIAL, how="left")
        .sort(SEARCH)
    )


def best_known(table: pl.DataFrame, best: pl.DataFrame, sign: float) -> pl.DataFrame:
    """The best trial of each batch size in any search: the fewest steps, else the best value.

    Args:
      table: rows of `steps_to_result`.
      best: rows of `best_trials`.
      sign: of the goal, 1 where smaller values are better.

    Columns: those of ``best`` and ``steps_to_result``; ties go to the better value, then to the
    lower seed.
    """
    steps = table.select(*SEARCH, "steps_to_result")
    ranked = best.join(steps, on=SEARCH, how="left").with_columns(rank=sign * pl.col("best_value"))
    ranked = ranked.sort("batch_size", "steps_to_result", "rank", "seed", nulls_last=True)
    return ranked.drop("rank").group_by("batch_size", maintain_order=True).first()


def best_across(best: pl.DataFrame, searches: Mapping[int, int]) -> pl.DataFrame:
    """The best trials' rates of each batch size, over its searches.

    Args:
      best: rows of `best_trials`, all seeds.
      searches: batch size -> searches begun; one without a best trial bounds nothing.

    Columns: ``batch_size, hyperparameter, searches, median, low, high, coverage``, of the learning
    rate, the momentum and the effective learning rate where there are.
    """
    names = [n for n in ("learning_rate", "momentum", EFFECTIVE) if n in best.columns]
    rows = best.select("batch_size", *(pl.col(name).cast(pl.Float64) for name in names))
    rows = rows.unpivot(index="batch_size", variable_name="hyperparameter", value_name="value")
    return across_values(rows, ("batch_size", "hyperparameter"), "value", searches)


def scaling_rules(best: pl.DataFrame, column: str = EFFECTIVE) -> pl.DataFrame:
    """The linear and the square-root rule for ``column``, anchored at the smallest batch size.

    Args:
      best: rows of `best_trials` of one seed.

    Columns: ``batch_size, linear, sqrt``; empty where ``best`` is.
    """
    best = best.sort("batch_size")
    if best.is_empty():
        return best.select("batch_size", linear=pl.col(column), sqrt=pl.col(column))
    ratio = pl.col("batch_size") / best["batch_size"][0]
    anchor = best[column][0]
    return best.select("batch_size", linear=anchor * ratio, sqrt=anchor * ratio.sqrt())
