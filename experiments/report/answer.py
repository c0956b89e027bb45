"""The study's result in words: one sentence, and how numbers and bounds are written."""

from __future__ import annotations

import math

import polars as pl

from experiments.analysis.critical_batch_size import FLAT, FLAT_SAVING, PERFECT_OVERHEAD
from experiments.analysis.critical_batch_size import CriticalBatchSize as Estimate
from experiments.analysis.summary import Summary
from experiments.report.words import goal_words, metric_title


def answer(summary: Summary) -> str:
    """One sentence that answers the question, made from the study's own numbers."""
    own = summary.of_seed(summary.steps)
    reached = own.filter(pl.col("steps_to_result").is_not_null()).sort("batch_size")
    if reached.is_empty():
        return _nothing_reached(summary, own)
    if len(reached) == 1:
        return _one_reached(summary, own, reached)
    parts = [_perfect_part(summary.critical[summary.seed][0]), _flat_part(reached)]
    return f"{parts[0]}; {parts[1]}. {_extremes(reached)}"


def _nothing_reached(summary: Summary, own: pl.DataFrame) -> str:
    complete, infeasible = own["complete"].sum(), own["infeasible"].sum()
    if complete == 0 and infeasible == 0:
        return "No trial is recorded yet."
    if complete == 0:
        return f"No answer: all of the {infeasible:,} trials diverged."
    rank = summary.question.goal.sign * pl.col("best_value")
    ranked = own.drop_nulls("best_value").sort(rank)
    if ranked.is_empty():
        return f"No answer: none of the {complete:,} COMPLETE trials holds a finite measurement."
    best, at = ranked["best_value"][0], ranked["batch_size"][0]
    return (
        f"No trial reached {goal_words(summary.question)}; the best "
        f"{metric_title(summary.question)} was {best:.4g}, at batch size {at:,}."
    )


def _one_reached(summary: Summary, own: pl.DataFrame, reached: pl.DataFrame) -> str:
    row = reached.row(0, named=True)
    examples = row["examples_to_result"]
    others = own.filter(pl.col("censored_at").is_not_null())
    alone = ", the only batch size to reach it" if len(others) else ""
    return (
        f"{goal_words(summary.question).capitalize()} takes {row['steps_to_result']:,} steps "
        f"({examples:,} examples) at batch size {row['batch_size']:,}{alone}."
    )


def _perfect_part(limit: Estimate) -> str:
    cost = f"at most {PERFECT_OVERHEAD:.0%} more examples"
    if limit.value is None:
        return "The end of perfect scaling is not known"
    if limit.relation == ">=":
        return (
            f"Growing the batch saves steps in full ({cost}) up to a batch size of at least "
            f"{limit.value:,.0f}"
        )
    return (
        f"Growing the batch saves steps in full ({cost}) up to a batch size of about "
        f"{sized(limit.value)}"
        f" ({interval(limit)})"
    )


def _flat_part(reached: pl.DataFrame) -> str:
    """Where doubling stops paying: the start of the run of flat batch sizes at the large end."""
    flat = None
    for batch_size, regime in reversed(reached.select("batch_size", "regime").rows()):
        if regime != FLAT:
            break
        flat = batch_size
    if flat is None:
        return (
            f"at {reached['batch_size'][-1]:,} doubling it still saves at least {FLAT_SAVING:.0%} "
            "of the steps"
        )
    return f"from {flat:,} on, doubling it saves less than {FLAT_SAVING:.0%} of the steps"


def _extremes(reached: pl.DataFrame) -> str:
    first = reached.row(0, named=True)
    last = reached.sort("steps_to_result", "batch_size").row(0, named=True)
    if last["batch_size"] == first["batch_size"]:
        return (
            f"No larger batch needs fewer steps than the {first['steps_to_result']:,} at "
            f"{first['batch_size']:,}."
        )
    fewer = first["steps_to_result"] / last["steps_to_result"]
    more = last["examples_to_result"] / first["examples_to_result"]
    return (
        f"The fewest steps, {last['steps_to_result']:,} at batch size {last['batch_size']:,}, are "
        f"{fewer:,.3g} times fewer than at {first['batch_size']:,}, for {more:,.3g} times the "
        "examples."
    )


def sized(value: float) -> str:
    """A batch size that was estimated: two digits, whole above ten."""
    if value >= 100:
        digits = math.floor(math.log10(value)) - 1
        return f"{round(value, -digits):,.0f}"
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def interval(estimate: Estimate) -> str:
    """'95% bootstrap interval 4.8 to 16', open ends in words."""
    if estimate.low is None or estimate.high is None:
        return "no interval"
    high = "beyond the largest measured" if math.isinf(estimate.high) else sized(estimate.high)
    return f"bootstrap interval {sized(estimate.low)} to {high}"


def estimated(estimate: Estimate) -> str:
    """'11 (4.8 to 16)', 'at least 1,024', or 'not known'."""
    if estimate.value is None:
        return "not known"
    if estimate.relation != "=":
        words = "at least" if estimate.relation == ">=" else "at most"
        return f"{words} {estimate.value:,.0f}"
    return f"{sized(estimate.value)} ({interval(estimate)})"


def step_interval(row: dict[str, float | int | None]) -> str:
    """The bootstrap interval of steps to result, '2,544-2,804' or '54-beyond'."""
    low, high = row["bootstrap_low"], row["bootstrap_high"]
    if low is None or high is None or math.isinf(low):
        return ""
    return f"{low:,.0f} to {'never' if math.isinf(high) else f'{high:,.0f}'}"
