"""The best value under a step budget and under an epoch (example) budget.

Step budget K: the best measurement at step <= K. Epoch budget: the best at examples consumed
<= budget, as recorded (batch size x step, unless the batch grows). Best over trials and over
evaluations (the best checkpoint, not the last), among the first N COMPLETE trials; ties by
(step, trial). Where trials stop, only the searches that train to full length answer.

The two answer different questions and are never mixed: given the same number of steps a larger
batch has seen more examples, given the same examples a smaller batch has made more steps.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from experiments.analysis.intervals import NO_ANSWER, Answer
from experiments.analysis.question import SEARCH, TRIAL, StudyRecord
from experiments.analysis.searches import ACROSS, Across
from experiments.analysis.view import View, by_trial, view_of
from workloads.base import Goal

BUDGETS = ("step", "epoch")
_BEST = (*SEARCH, "best_value", "step", "examples", "trial")


def best_within(
    record: StudyRecord | View,
    goal: float | Goal | None = None,
    *,
    steps: int | None = None,
    examples: int | None = None,
) -> pl.DataFrame:
    """The best measurement of the goal's metric within the given limits, per search.

    Args:
      steps: only measurements at step <= steps; None for no limit.
      examples: only those at examples consumed <= examples; None for no limit.

    Columns: ``batch_size, seed, best_value, step, examples, trial``. A search without a
    measurement inside the limits has no row.
    """
    view = view_of(record, goal)
    inside = pl.lit(True)
    if steps is not None:
        inside &= pl.col("step") <= steps
    if examples is not None:
        inside &= pl.col("examples") <= examples
    per_trial = by_trial(view.of_trained(), view.best_of(inside, ""))
    return _of_searches(view, _of_trials(per_trial, ""))


def best_under_budgets(
    record: StudyRecord | View, goal: float | Goal | None = None
) -> pl.DataFrame:
    """`best_within` the study's step budget and its epoch budget, one below the other.

    Columns: ``budget`` (``"step"`` or ``"epoch"``), then those of `best_within`.
    """
    view = view_of(record, goal)
    return pl.concat(
        _of_searches(view, _of_trials(view.trained, f"{budget}_")).select(
            pl.lit(budget).alias("budget"), pl.all()
        )
        for budget in BUDGETS
    )


def budgets_across(view: View, searches: Mapping[int, int]) -> pl.DataFrame:
    """The best values of each batch size under each budget, over its searches.

    Args:
      searches: batch size -> searches begun; one without a measurement bounds nothing.

    Columns: ``budget, batch_size``, those of `searches.Across` in the unit of the metric, and
    ``pooled``, the best value of any trial of any search.
    """
    return pl.concat(
        together(view, _of_trials(view.trained, f"{budget}_"), searches).select(
            pl.lit(budget).alias("budget"), pl.all()
        )
        for budget in BUDGETS
    )


def together(view: View, trials: pl.DataFrame, searches: Mapping[int, int]) -> pl.DataFrame:
    """Rows of `budgets_across` of one budget, from the ``best_value`` of each trial under it."""
    sign, rows = view.goal.sign, []
    for (batch_size,), found in trials.partition_by("batch_size", as_dict=True).items():
        own = [
            [Answer.exactly(sign * value) for value in group["best_value"]]
            for group in found.partition_by("seed")
        ]
        best = [min(answers) for answers in own]
        asked = searches.get(int(batch_size), 0)
        answering = min(asked, len(view.full_seeds))
        silent = max(answering - len(own), 0)
        answers = [*best, *[NO_ANSWER] * silent]
        across = Across.of(answers, own[0] if len(answers) == 1 else (), view.question.drawn, sign)
        if answering < asked:  # no interval unless all searches answer
            across = Across(across.searches, across.median)
        pooled = sign * min(best).high
        rows.append((batch_size, *(getattr(across, name) for name in ACROSS), pooled))
    schema = {"batch_size": pl.Int64, **dict.fromkeys(ACROSS, pl.Float64), "pooled": pl.Float64}
    table = pl.DataFrame(rows, schema=schema, orient="row")
    return table.with_columns(pl.col("searches").cast(pl.Int64)).sort("batch_size")


def _of_trials(per_trial: pl.DataFrame, prefix: str) -> pl.DataFrame:
    """The best of each trial from the columns that `View.best_of` has given ``prefix``."""
    return per_trial.select(
        *TRIAL,
        pl.col(f"{prefix}best_value").alias("best_value"),
        pl.col(f"{prefix}best_step").alias("step"),
        pl.col(f"{prefix}best_examples").alias("examples"),
    ).filter(pl.col("best_value").is_not_null())


def _of_searches(view: View, trials: pl.DataFrame) -> pl.DataFrame:
    """Rows of `best_within` from those of its trials."""
    ranked = trials.sort(*SEARCH, view.goal.sign * pl.col("best_value"), "step", "trial")
    return ranked.group_by(SEARCH, maintain_order=True).first().select(_BEST).sort(SEARCH)
