"""Answers of all searches of a batch size: their median, its exact range, the best known.

A study makes R searches at every batch size, one a seed, and none learns from another. What one
search answers (steps to result, the best value under a budget, the best rate) is a random number;
with R >= 2 the median of the R answers is shown with their range, which covers the population
median of one search's answer (`intervals.range_of_searches`). Beside it stands what all trials
pooled give, the best known, which has no interval.

One search has no range. What another search like it would reach is bounded from above, by the
upper prediction limit: exactly where its points are independent draws, checked by simulation
(tests/analysis/test_coverage.py) where they are quasi-random, and not at all where a sampler adapts
to what it found. How much *earlier* another search might be, one search cannot say.

Every statement is conditional on the split of the data and on the plan of the study, and holds
for one batch size, not for a whole curve.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from experiments.analysis.intervals import (
    NO_ANSWER,
    Answer,
    median_of_searches,
    range_of_searches,
    upper_prediction_limit,
)
from experiments.analysis.question import SEARCH, TRIAL, Question
from experiments.analysis.view import View
from experiments.spec.trial import MOST_STARTED

LIMITED = {"random": "exact", "halton": "checked by simulation"}
"""Samplers whose single search has an upper prediction limit, and on what it rests."""

ACROSS = ("searches", "median", "low", "high", "coverage", "limit")
"""Columns of `Across` in tables."""


@dataclasses.dataclass(frozen=True)
class Across:
    """The answers of R searches, in their own unit and direction.

    Attributes:
      searches: R.
      median: of the answers; None where the search in the middle has none.
      low, high, coverage: the exact range and the probability with which it covers the median
        answer of such a search, infinite where open; None for one search.
      limit: for one search, what another one like it reaches with 95 %, infinite beyond what was
        trained; None for several searches, and where there is none.
    """

    searches: int
    median: float | None
    low: float | None = None
    high: float | None = None
    coverage: float | None = None
    limit: float | None = None

    @classmethod
    def of(
        cls,
        answers: Sequence[Answer],
        trials: Sequence[Answer] = (),
        sampler: str = "",
        sign: float = 1.0,
    ) -> Across:
        """From the answers of R >= 1 searches.

        Args:
          answers: one a search, in the unit in which smaller is better.
          trials: those of the trials of the search, where there is one search.
          sampler: by which its points were drawn.
          sign: 1 where smaller is better, -1 where ``answers`` are the negatives of what is meant.
        """
        middle = median_of_searches(answers)
        median = sign * middle if math.isfinite(middle) else None
        if (found := range_of_searches(answers)) is not None:
            low, high = sorted((sign * found.low, sign * found.high))
            return cls(len(answers), median, low, high, found.coverage)
        limit = upper_prediction_limit(trials) if sampler in LIMITED else None
        return cls(1, median, limit=None if limit is None else sign * limit)


def searches_begun(view: View, seeds: Sequence[int]) -> list[tuple[int, int]]:
    """(batch size, seed) of the searches with these seeds that hold a trial, however it ended."""
    held = view.record.trials.select(pl.col(SEARCH).cast(pl.Int64)).unique().sort(SEARCH)
    return held.filter(pl.col("seed").is_in(seeds)).rows()


def trial_answers(view: View, passed: pl.DataFrame) -> dict[tuple[int, int], list[Answer]]:
    """(batch size, seed) -> an `Answer` in steps to the goal for each counted trial.

    A trial that was past the goal at one evaluation and short of it at the one before lies in
    between; one that never was took more steps than it was trained for. A search none of whose
    trials counts has none, and so no answer; one that has not begun has no key, nor has one that
    does not answer for the view's goal (`answering`).

    Args:
      passed: rows of `steps_to_result.crossings`.
    """
    trained = view.record.trials.select(*TRIAL, pl.col("steps").alias("trained"))
    rows = passed.join(trained, on=TRIAL, how="left").sort(TRIAL)
    never = pl.col("step").is_null()
    rows = rows.select(
        *SEARCH,
        low=pl.when(never).then(pl.col("trained")).otherwise(pl.col("evaluated_before")),
        high=pl.col("step").cast(pl.Float64).fill_null(math.inf),
    )
    begun = searches_begun(view, view.question.seeds if view.all_answer else view.full_seeds)
    found: dict[tuple[int, int], list[Answer]] = {key: [] for key in begun}
    for batch_size, seed, low, high in rows.iter_rows():
        found[batch_size, seed].append(Answer(float(low), high))
    return found


def search_answer(trials: Sequence[Answer]) -> Answer:
    """The fewest steps of any trial; no answer where no trial counts."""
    if not trials:
        return NO_ANSWER
    return Answer(min(t.low for t in trials), min(t.high for t in trials))


def steps_across(
    view: View, table: pl.DataFrame, answers: Mapping[tuple[int, int], Sequence[Answer]]
) -> pl.DataFrame:
    """One row a batch size: what its searches say of steps to result.

    Args:
      table: rows of `steps_to_result`.
      answers: as `trial_answers` returns.

    Columns: ``batch_size``; those of `Across` (``median`` null where the middle search did not
    reach the goal); ``pooled, pooled_examples, pooled_seed, pooled_trial``, the fewest steps of any
    trial of any search and the least examples of any; ``median_examples``; ``censored_at``, the
    length at which the goal was not reached, where ``median`` is null; sums over the searches
    ``complete, infeasible, incomplete, stopped, missing``.
    """
    rows = []
    for batch_size in view.question.batch_sizes:
        own = answering(view, table.filter(pl.col("batch_size") == batch_size))
        trials = [answers.get((batch_size, seed), []) for seed in own["seed"]]
        across = Across.of(
            [search_answer(found) for found in trials] or [NO_ANSWER],
            trials[0] if len(trials) == 1 else (),
            view.question.drawn,
        )
        best = own.drop_nulls("steps_to_result").sort("steps_to_result", "seed")
        examples = own["examples_to_result"].cast(pl.Float64).fill_null(math.inf)
        middle = median_of_searches([Answer.exactly(e) for e in examples] or [NO_ANSWER])
        first = best.row(0, named=True) if len(best) else {}
        rows.append(
            {
                "batch_size": batch_size,
                **{name: getattr(across, name) for name in ACROSS},
                "searches": len(own),
                "pooled": first.get("steps_to_result"),
                "pooled_examples": best["examples_to_result"].min(),
                "pooled_seed": first.get("seed"),
                "pooled_trial": first.get("trial"),
                "median_examples": middle if math.isfinite(middle) else None,
                "censored_at": own["censored_at"].max() if across.median is None else None,
                **{name: own[name].sum() for name in COUNTS},
            }
        )
    whole = ("batch_size", "searches", "pooled", "pooled_examples", "pooled_seed", "pooled_trial",
             "censored_at", *COUNTS)  # fmt: skip
    names = list(rows[0]) if rows else []
    schema = {name: pl.Int64 if name in whole else pl.Float64 for name in names}
    return pl.DataFrame(rows, schema=schema)


ENDED = ("complete", "infeasible", "incomplete", "stopped")
"""How a trial may have ended, as columns that count."""
COUNTS = (*ENDED, "missing")


def spent(question: Question, table: pl.DataFrame) -> set[tuple[int, int]]:
    """(batch size, seed) of the searches that start no further trial, however few count.

    A finite space holds no other point, or 4 N trials have ended for good; one that is INCOMPLETE
    is tried again.

    Args:
      table: rows of `steps_to_result`.
    """
    ended = pl.sum_horizontal(name for name in ENDED if name != "incomplete")
    most = table.filter(ended >= MOST_STARTED * question.trials)
    return {*question.exhausted, *most.select(SEARCH).rows()}


def counted_of(view: View) -> pl.Expr:
    """The trials of a search (a row of `steps_to_result`) that count, of those planned."""
    return (view.wanted - pl.col("missing")).alias("counted")


def counted_trials(view: View, row: Mapping[str, Any]) -> int:
    """Count the trials of a row of `steps_across`; a divergence may count, where trials stop."""
    if not (view.stops or view.prunes):
        return int(row["complete"])
    return view.wanted * max(row["searches"], 1) - int(row["missing"])


def answering(view: View, table: pl.DataFrame) -> pl.DataFrame:
    """The searches (rows of `steps_to_result`) that hold a trial and answer for the view's goal.

    A goal that trials may have reached after they were stopped is answered by the searches at full
    length alone; the others did not miss it.
    """
    found = table.filter(pl.sum_horizontal(ENDED) > 0)
    return found if view.all_answer else found.filter(pl.col("seed").is_in(view.full_seeds))


def across_values(
    table: pl.DataFrame, keys: Sequence[str], column: str, searches: Mapping[int, int]
) -> pl.DataFrame:
    """The range of a number that is no race to be won (a best rate): a row for each of ``keys``.

    Args:
      table: one row a search, with ``keys`` and ``column``.
      searches: batch size -> searches begun; those without a number bound nothing.

    Columns: ``keys``, ``searches, median, low, high, coverage``.
    """
    rows = []
    for key, group in (
        table.sort(keys).partition_by(keys, as_dict=True, maintain_order=True).items()
    ):
        found = [Answer.exactly(float(value)) for value in group[column].drop_nulls()]
        batch_size = dict(zip(keys, key, strict=True))["batch_size"]
        missing = max(searches.get(batch_size, 0) - len(found), 0)
        across = Across.of([*found, *[NO_ANSWER] * missing] or [NO_ANSWER])
        rows.append((*key, across.searches, across.median, across.low, across.high,
                     across.coverage))  # fmt: skip
    floats = dict.fromkeys(("median", "low", "high", "coverage"), pl.Float64)
    schema = {key: table.schema[key] for key in keys} | {"searches": pl.Int64} | floats
    return pl.DataFrame(rows, schema=schema, orient="row")
