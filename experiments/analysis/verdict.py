"""Judgement of a study: the Tuning Playbook's checks as code, and the next command to run."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from experiments.analysis.best_hyperparameters import CLIPPED
from experiments.analysis.curve_checks import (
    mixed_budgets,
    of_curves,
    too_few_good,
    unequal_tuning,
    unstable_above,
)
from experiments.analysis.findings import (
    CLIPPED_SHARE,
    EARLY_SHARE,
    EDGE_SHARE,
    FEWER_EXAMPLES,
    INFEASIBLE_SHARE,
    LATE_SHARE,
    MORE_STEPS,
    BestStep,
    EdgeOptimum,
    MostlyClipped,
    MostlyInfeasible,
    NonMonotone,
    OneSearch,
    PoorFit,
    Shortfall,
    Unreached,
    UntunedSmallest,
)
from experiments.analysis.inconclusive import inconclusive
from experiments.analysis.next_step import Finding, NextStep, next_step, widened
from experiments.analysis.question import SEARCH, Question
from experiments.analysis.searches import ENDED, LIMITED, counted_of, spent
from experiments.analysis.view import View
from experiments.spec import space as spaces


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Findings in order of weight, and what answers the weightiest.

    ``findings`` is empty where nothing speaks against the study as it is.
    """

    findings: tuple[Finding, ...]
    next: NextStep


def judge(
    view: View,
    table: pl.DataFrame,
    best: pl.DataFrame,
    across: pl.DataFrame,
    passed: pl.DataFrame,
    *,
    misfit: Sequence[PoorFit] = (),
) -> Verdict:
    """The verdict on one study.

    Args:
      view: the record.
      table: rows of `steps_to_result`, all seeds.
      best: rows of `best_trials`, all seeds.
      across: rows of `searches.steps_across`.
      passed: rows of `crossings`.
      misfit: what speaks against the fitted curve (`inconclusive.poor_fit`).
    """
    question = view.question
    findings: tuple[Finding, ...] = (
        *shortfalls(view, table),
        *unreached(across),
        *edge_optima(question, best),
        *mostly_infeasible(table),
        *unstable_above(view, best),
        *mostly_clipped(best),
        *of_curves(view, best),
        *best_steps(_full_length(question, best)),
        *untuned_smallest(question, across),
        *non_monotone(across),
        *unequal_tuning(view, table),
        *mixed_budgets(question),
        *too_few_good(passed),
        *misfit,
        *one_search(question, across),
        *inconclusive(question, across),
    )
    return Verdict(findings, next_step(question, findings))


def edge_optima(question: Question, best: pl.DataFrame) -> list[EdgeOptimum]:
    """One finding per searched range and end at which best trials lie.

    Of several searches of a batch size the one in the middle counts: among many, some best trial
    always lies near an end. By a rule only its own batch size was searched in these ranges.
    """
    found = []
    if question.rule is not None:
        best = best.filter(pl.col("batch_size") == question.rule.batch_size)
    for name, distribution in question.space.items():
        if isinstance(distribution, spaces.Choice) or name not in best.columns:
            continue
        places: dict[int, list[float]] = {}
        for batch_size, value in best.select("batch_size", name).iter_rows():
            at = distribution.position(_typed(distribution, value))
            places.setdefault(batch_size, []).append(at)
        positions = [(batch_size, statistics.median(at)) for batch_size, at in places.items()]
        near = {
            "lower": {b for b, at in positions if at <= EDGE_SHARE},
            "upper": {b for b, at in positions if at >= 1 - EDGE_SHARE},
        }
        for end, batch_sizes in near.items():
            if batch_sizes:
                proposed = widened(question, name, distribution, end)
                ends = (distribution.low, distribution.high)
                found.append(EdgeOptimum(name, end, tuple(sorted(batch_sizes)), ends, proposed))
    return found


def mostly_infeasible(table: pl.DataFrame) -> list[MostlyInfeasible]:
    """Batch sizes at which over half of all trials that ended diverged, all searches together."""
    ended = pl.sum_horizontal(ENDED)
    share = (pl.col("infeasible") / ended).alias("share")
    sums = table.group_by("batch_size").agg(pl.col(ENDED).sum())
    rows = sums.filter(ended > 0).sort("batch_size").select("batch_size", share)
    rows = rows.filter(pl.col("share") > INFEASIBLE_SHARE)
    if rows.is_empty():
        return []
    return [MostlyInfeasible(_unique(rows), tuple(rows["share"].to_list()))]


def mostly_clipped(best: pl.DataFrame) -> list[MostlyClipped]:
    """Searches whose best trial was clipped at more than half of its steps."""
    if CLIPPED not in best.columns:
        return []
    rows = best.filter(pl.col(CLIPPED) > CLIPPED_SHARE)
    return [MostlyClipped(_unique(rows), tuple(rows[CLIPPED].to_list()))] if len(rows) else []


def best_steps(best: pl.DataFrame) -> list[BestStep]:
    """Find where three quarters of the searches are at their best early, or late, in training.

    (The Tuning Playbook: "always" and "consistently". On a plateau chance puts a best step into the
    last quarter in a third of the searches.)
    """
    share = (pl.col("best_step") / pl.col("train_steps")).alias("share")
    rows = best.select("batch_size", share).drop_nulls()
    found = []
    for when, hit in (
        ("early", pl.col("share") <= EARLY_SHARE),
        ("late", pl.col("share") >= LATE_SHARE),
    ):
        there = rows.filter(hit)
        if len(there) and 4 * len(there) >= 3 * len(rows):
            found.append(BestStep(when, _unique(there), rows["batch_size"].n_unique()))
    return found


def _full_length(question: Question, best: pl.DataFrame) -> pl.DataFrame:
    """The rows of searches whose trials train to full length: of others none says it was long."""
    if question.stop == "never":
        return best
    return best.filter(pl.col("seed").is_in(question.seeds[: question.full_searches]))


def shortfalls(view: View, table: pl.DataFrame) -> list[Shortfall]:
    """Searches in which fewer trials count than planned."""
    question, rows = view.question, table.filter(pl.col("missing") > 0)
    if rows.is_empty():
        return []
    short = set(rows.select(SEARCH).rows())
    finite, exhausted = short <= question.exhausted, short <= spent(question, table)
    counted = tuple(rows.select(counted_of(view)).to_series())
    early = view.stops or view.prunes
    return [Shortfall(_unique(rows), counted, view.wanted, exhausted, finite, early)]


def unreached(across: pl.DataFrame) -> list[Unreached]:
    """Batch sizes that have COMPLETE trials, where no search, or not half of them, got there."""
    rows = across.filter(pl.col("median").is_null() & (pl.col("complete") > 0))
    never = rows.filter(pl.col("pooled").is_null())
    most = rows.filter(pl.col("pooled").is_not_null())
    found = [] if never.is_empty() else [Unreached(_unique(never))]
    return found if most.is_empty() else [*found, Unreached(_unique(most), some=True)]


def untuned_smallest(question: Question, across: pl.DataFrame) -> list[UntunedSmallest]:
    """A larger batch size whose examples lie more than 20 % below those of the smallest.

    Medians of the searches; examples may fall while a batch grows within a trial, so such a
    study has no finding.
    """
    rows = across.drop_nulls("median_examples").sort("batch_size")
    if len(rows) < 2 or question.batch_size_schedule != "constant":
        return []
    first, least = rows.row(0, named=True), rows.sort("median_examples").row(0, named=True)
    fewer = 1 - least["median_examples"] / first["median_examples"]
    if fewer <= FEWER_EXAMPLES:
        return []
    return [UntunedSmallest(first["batch_size"], least["batch_size"], fewer)]


def non_monotone(across: pl.DataFrame) -> list[NonMonotone]:
    """Batch sizes whose steps lie more than 50 % above those of a smaller one.

    Of several searches the ranges must lie apart as well.
    """
    rows = across.drop_nulls("median").sort("batch_size")
    found, least = [], None
    for row in rows.iter_rows(named=True):
        apart = least is not None and _apart(least, row)
        if least and row["median"] > (1 + MORE_STEPS) * least["median"] and apart:
            found.append((row["batch_size"], least["batch_size"], row["median"] / least["median"]))
        if least is None or row["median"] < least["median"]:
            least = row
    if not found:
        return []
    worst = max(found, key=lambda rising: rising[2])
    return [NonMonotone(tuple(b for b, _, _ in found), worst[1], worst[2] - 1)]


def _apart(less: Mapping[str, Any], more: Mapping[str, Any]) -> bool:
    """Tell whether two ranges are apart; where one is a single search's, there is no range."""
    if less["high"] is None or more["low"] is None:
        return True
    return bool(more["low"] > less["high"])


def one_search(question: Question, across: pl.DataFrame) -> list[OneSearch]:
    """Tell whether the goal was reached by searches of one seed only."""
    reached = across.filter(pl.col("pooled").is_not_null())
    single = len(reached) and (reached["searches"] == 1).all()
    return [OneSearch(question.drawn in LIMITED)] if single else []


def _typed(distribution: spaces.Range, value: float) -> float | int:
    return int(value) if isinstance(distribution, spaces.Integer) else value


def _unique(rows: pl.DataFrame) -> tuple[int, ...]:
    return tuple(rows["batch_size"].unique().sort().to_list())
