"""The study's result in words: one sentence, and how numbers and bounds are written."""

from __future__ import annotations

import math

import polars as pl

from experiments.analysis.critical_batch_size import CriticalBatchSize as Estimate
from experiments.analysis.regimes import FLAT_SAVING, PERFECT_OVERHEAD
from experiments.analysis.searches import ENDED, LIMITED
from experiments.analysis.summary import Summary
from experiments.report.words import goal_words, metric_title

CONDITIONS = (
    "Ranges and limits hold for this split of the data and this plan, at one batch size at a time, "
    "not for the whole curve."
)


def answer(summary: Summary) -> str:
    """One sentence that answers the question, made from the study's own numbers."""
    reached = summary.curve.drop_nulls("median").sort("batch_size")
    if reached.is_empty():
        return _nothing_reached(summary)
    if len(reached) == 1:
        return _one_reached(summary, reached)
    parts = [_perfect_part(summary), _flat_part(summary.critical.flat, reached)]
    return f"{parts[0]}; {parts[1]}. {_extremes(reached)}"


def _nothing_reached(summary: Summary) -> str:
    curve = summary.curve
    complete = int(curve["complete"].sum())
    if complete == 0:
        return _nothing_complete(summary)
    if curve["pooled"].null_count() < len(curve):
        return (
            f"At no batch size did more than half of the searches reach "
            f"{goal_words(summary.question)}: the typical search does not get there in the length "
            "of its trials."
        )
    rank = summary.question.goal.sign * pl.col("best_value")
    ranked = summary.steps.drop_nulls("best_value").sort(rank)
    if ranked.is_empty():
        return f"No answer: none of the {complete:,} COMPLETE trials holds a finite measurement."
    best, at = ranked["best_value"][0], ranked["batch_size"][0]
    return (
        f"No trial reached {goal_words(summary.question)}; the best "
        f"{metric_title(summary.question)} was {best:.4g}, at batch size {at:,}."
    )


def _nothing_complete(summary: Summary) -> str:
    """Say how the trials ended where none trained to its end and none reached the goal."""
    ended = {name: int(summary.curve[name].sum()) for name in ENDED}
    total = sum(ended.values())
    if summary.record.trials.is_empty():
        return "No trial is recorded yet."
    if not total:
        return (
            "No answer: the trials stopped at an easier goal than "
            f"{goal_words(summary.question)}, so none shows when it is reached."
        )
    said = {
        "diverged": ended["infeasible"],
        "failed": ended["incomplete"],
        "were stopped early": ended["stopped"],
    }
    parts = [f"{count:,} {words}" for words, count in said.items() if count]
    if len(parts) > 1:
        together = f"{', '.join(parts[:-1])} and {parts[-1]}"
        return f"No answer yet: of {total:,} trials {together}; none trained to its end."
    yet = "" if ended["infeasible"] else " yet"
    return f"No answer{yet}: all of the {total:,} trials {parts[0].split(' ', 1)[1]}."


def _one_reached(summary: Summary, reached: pl.DataFrame) -> str:
    row = reached.row(0, named=True)
    others = summary.curve.filter(pl.col("censored_at").is_not_null())
    alone = ", the only batch size to reach it" if len(others) else ""
    return (
        f"{goal_words(summary.question).capitalize()} takes {steps_text(row['median'])} steps "
        f"({row['median_examples']:,.0f} examples) at batch size {row['batch_size']:,}{alone}."
    )


def _perfect_part(summary: Summary) -> str:
    limit = summary.critical.limit
    cost = f"at most {PERFECT_OVERHEAD:.0%} more examples"
    if limit.value is None:
        return "The end of perfect scaling is not known"
    if limit.relation == ">=":
        return (
            f"Growing the batch saves steps in full ({cost}) up to a batch size of at least "
            f"{limit.value:,.0f}"
        )
    if limit.relation == "<=":
        return (
            f"Perfect scaling ({cost}) ends at or below {limit.value:,.0f}, the smallest batch size"
        )
    return (
        f"Growing the batch saves steps in full ({cost}) up to a batch size of about "
        f"{sized(limit.value)} ({interval(limit)})"
        + (
            f" by the fitted curve, which the points reject, or "
            f"{estimated(summary.critical.convex)} by the best convex curve"
            if summary.critical.misfit
            else ""
        )
    )


def hyperbola_words(summary: Summary) -> str:
    """Say that the points reject the hyperbola, where they do; a sentence after another, or ''."""
    test = summary.critical.hyperbola_test
    if test is None or not test.rejected:
        return ""
    return f" The points reject the hyperbola (lack of fit, p = {test.probability:.1g})."


def _flat_part(flat: Estimate, reached: pl.DataFrame) -> str:
    """Say where doubling stops paying, on the fitted curve."""
    saves = f"less than {FLAT_SAVING:.0%} of the steps"
    if flat.value is None:
        return "nor is it known from where on doubling it saves next to nothing"
    if flat.relation == ">=":
        return (
            f"at {reached['batch_size'][-1]:,} doubling it still saves at least {FLAT_SAVING:.0%} "
            "of the steps"
        )
    if flat.relation == "<=":
        return f"already at {flat.value:,.0f} doubling it saves {saves}"
    return f"from about {sized(flat.value)} on, doubling it saves {saves}"


def _extremes(reached: pl.DataFrame) -> str:
    first = reached.row(0, named=True)
    last = reached.sort("median", "batch_size").row(0, named=True)
    if last["batch_size"] == first["batch_size"]:
        return (
            f"No larger batch needs fewer steps than the {steps_text(first['median'])} at "
            f"{first['batch_size']:,}."
        )
    fewer = first["median"] / last["median"]
    more = last["median_examples"] / first["median_examples"]
    return (
        f"The fewest steps, {steps_text(last['median'])} at batch size {last['batch_size']:,}, are "
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
    """'range of 6 searches 4.8 to 16', open ends in words."""
    if estimate.low is None or estimate.high is None:
        return "one search, no range"
    return f"range of {estimate.searches} searches {size_range(estimate.low, estimate.high)}"


def size_range(low: float, high: float) -> str:
    """'4.8 to 16', '77 to beyond the largest', 'anywhere'."""
    if math.isinf(high) and low <= 0:
        return "open on both sides"
    start = "below the smallest" if low <= 0 else sized(low)
    return f"{start} to {'beyond the largest' if math.isinf(high) else sized(high)}"


def bounded(value: float | None, relation: str) -> str:
    """'11', 'at least 1,024', or 'not known'."""
    if value is None:
        return "not known"
    if relation == "=":
        return sized(value)
    return f"{'at least' if relation == '>=' else 'at most'} {value:,.0f}"


def estimated(estimate: Estimate) -> str:
    """'11 (range of 6 searches 4.8 to 16)', 'at least 1,024', or 'not known'."""
    text = bounded(estimate.value, estimate.relation)
    if estimate.value is None or estimate.low is None:
        return text
    return f"{text} ({interval(estimate)})"


def steps_text(steps: float) -> str:
    """Steps, or the mean of two in the middle, without digits that say nothing."""
    return f"{steps:,.0f}" if steps >= 100 or steps == round(steps) else f"{steps:,.1f}"


def step_interval(row: dict[str, float | int | None]) -> str:
    """Of a row of ``Summary.curve``: '2,423 to 2,804', or of one search 'to 2,944'."""
    low, high, limit = row["low"], row["high"], row["limit"]
    if low is not None and high is not None:
        start = "unknown" if math.isinf(low) else steps_text(low)
        return f"{start} to {'never' if math.isinf(high) else steps_text(high)}"
    if limit is None:
        return ""
    return f"to {'never' if math.isinf(limit) else steps_text(limit)}"


def value_interval(row: dict[str, float | int | None]) -> str:
    """Of a row of ``Summary.budgets_across``: '0.03 to 0.038', or of one search 'to 0.04'."""
    low, high, limit = row["low"], row["high"], row["limit"]
    if low is not None and high is not None:
        ends = ("unknown" if math.isinf(end) else f"{end:.3g}" for end in (low, high))
        return " to ".join(ends)
    return "" if limit is None else f"to {'unknown' if math.isinf(limit) else f'{limit:.3g}'}"


def interval_name(summary: Summary) -> str:
    """'range' of several searches, 'limit' of one."""
    return "range" if summary.searches > 1 else "limit"


def certainty(summary: Summary) -> str:
    """Describe the range or the limit of this study, in words that follow its name and a colon."""
    if summary.searches > 1:
        counts = sorted({row for row in summary.curve["searches"] if row > 1})
        covered = [f"{100 * (1 - 2.0 ** (1 - count)):.3g}%" for count in counts]
        unequal = len(set(summary.curve["searches"]) - {0}) > 1
        coverage = ", ".join(
            f"{share} where there are {count}" for share, count in zip(covered, counts, strict=True)
        )
        return (
            f"from the least to the greatest of {'the' if unequal else summary.searches} searches "
            "that learn nothing from one another (in steps, from the evaluation before the least); "
            "it covers the median answer of such a search with "
            f"{coverage if unequal else covered[-1]}"
        )
    basis = LIMITED.get(summary.question.drawn)
    earlier = "one search cannot say how much earlier another might be"
    if basis is None:
        return f"none for one search of this sampler; {earlier}"
    return f"another search like this one is at or below it with 95% ({basis}); {earlier}"
