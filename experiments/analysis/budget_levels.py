"""The best value against batch size at several budgets, and the batch size that is best at each.

A study has one step budget and one epoch budget. Trials at full length also answer every smaller
one, so that the two questions can be followed as the budgets grow: which batch size is best for so
many steps, and which for so many examples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import polars as pl

from experiments.analysis.budgets import BUDGETS, together
from experiments.analysis.intervals import (
    NO_ANSWER,
    Answer,
    median_of_searches,
    range_of_searches,
)
from experiments.analysis.question import SEARCH, TRIAL
from experiments.analysis.searches import searches_begun
from experiments.analysis.view import View, by_trial

LEVELS = (1 / 8, 1 / 4, 1 / 2, 1.0)
"""Shares of the study's own budgets."""


def levels(largest: int) -> list[int]:
    """Budgets that are `LEVELS` of the largest, whole, ascending and distinct.

    >>> levels(1000)
    [125, 250, 500, 1000]
    """
    return sorted({math.ceil(share * largest) for share in LEVELS})


def budget_levels(
    view: View, searches: Mapping[int, int], trials: pl.DataFrame | None = None
) -> pl.DataFrame:
    """The best values of each batch size at several budgets, over its searches.

    Args:
      view: of the study.
      trials: `of_trials`, where they are known.
      searches: batch size -> searches begun.

    Columns: ``budget`` (``"step"`` or ``"epoch"``), ``within`` (steps, or examples), then those of
    `budgets.together`. A batch size without a measurement within a budget has no row there.
    """
    trials = of_trials(view) if trials is None else trials
    return pl.concat(
        together(view, _at(trials, budget, within), searches).select(
            pl.lit(budget).alias("budget"), pl.lit(within, pl.Int64).alias("within"), pl.all()
        )
        for budget, within in _budgets(view)
    )


def best_batch_sizes(view: View, trials: pl.DataFrame | None = None) -> pl.DataFrame:
    """The batch size with the best value at each budget: a row a budget, largest last.

    Columns: ``budget, within``; ``batch_size``, that of the best median over the searches, ties
    to the smaller; ``searches`` at full length that have begun, one a seed; ``low, high,
    coverage``, the exact range of the batch size at which each of them is best, null for fewer
    than two. A search that has begun and measured nothing within the budget is no best one.
    """
    trials = of_trials(view) if trials is None else trials
    begun, sign, rows = searches_begun(view, view.full_seeds), view.goal.sign, []
    sizes, seeds = (sorted(set(keys)) for keys in zip(*begun, strict=True)) if begun else ([], [])
    for budget, within in _budgets(view):
        best = _at(trials, budget, within).with_columns(rank=sign * pl.col("best_value"))
        known = best.group_by(SEARCH).agg(pl.col("rank").min()).iter_rows()
        ranks = {(b, s): math.inf for b, s in begun} | {(b, s): rank for b, s, rank in known}
        middle = {
            size: median_of_searches(
                [Answer.exactly(r) for (b, _), r in ranks.items() if b == size]
            )
            for size in sizes
        }
        firsts = [_first({b: r for (b, s), r in ranks.items() if s == seed}) for seed in seeds]
        answers = [NO_ANSWER if size is None else Answer.exactly(size) for size in firsts]
        found = range_of_searches(answers)
        rows.append(
            {
                "budget": budget,
                "within": within,
                "batch_size": _first(middle),
                "searches": len(answers),
                "low": found.low if found else None,
                "high": found.high if found else None,
                "coverage": found.coverage if found else None,
            }
        )
    floats = dict.fromkeys(("low", "high", "coverage"), pl.Float64)
    whole = dict.fromkeys(("within", "batch_size", "searches"), pl.Int64)
    return pl.DataFrame(rows, schema={"budget": pl.String, **whole, **floats})


def _first(ranks: Mapping[int, float]) -> int | None:
    """The smallest batch size of the least rank; None where none is finite."""
    rank, size = min(((rank, size) for size, rank in ranks.items()), default=(math.inf, 0))
    return size if math.isfinite(rank) else None


def _budgets(view: View) -> list[tuple[str, int]]:
    question = view.question
    largest = zip(BUDGETS, (question.step_budget, question.example_budget), strict=True)
    return [(budget, within) for budget, most in largest for within in levels(most)]


def of_trials(view: View) -> pl.DataFrame:
    """The best value of each trial that trained to full length, a column a budget."""
    value, columns = pl.col("value"), []
    for budget, within in _budgets(view):
        counted = pl.col("step" if budget == "step" else "examples") <= within
        best = view.goal.best(value.filter(value.is_finite() & counted))
        columns.append(best.alias(f"{budget} {within}"))
    return by_trial(view.of_trained(), columns).sort(TRIAL)


def _at(trials: pl.DataFrame, budget: str, within: int) -> pl.DataFrame:
    column = pl.col(f"{budget} {within}").alias("best_value")
    return trials.select(*TRIAL, column).filter(pl.col("best_value").is_not_null())
