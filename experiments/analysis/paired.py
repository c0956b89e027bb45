"""The examples that one study needs over those that another needs, from paired searches.

Two studies of a comparison make their searches with the same seeds: search r of either begins with
the same parameters and sees the examples in the same order (common random numbers), and neither
learns from anything but its own trials. So the R ratios of their examples to the goal are
independent of each other, and [least, greatest] covers the median ratio with 1 - 2^(1-R)
(`intervals.range_of_searches`), whatever the pairing does to each ratio. A difference is told where
that range leaves out 1.

Around its median a range reaches down by one factor and up by another; x is the smaller of the two.
Had the same searches lain around a ratio closer to 1 than x, on either side, their range would have
held 1: with so many searches differences below x cannot be seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import polars as pl

from experiments.analysis.intervals import NO_ANSWER, Answer, median_of_searches, range_of_searches
from experiments.analysis.searches import search_answer, trial_answers
from experiments.analysis.summary import Summary


def example_answers(summary: Summary) -> dict[tuple[int, int], Answer]:
    """(batch size, seed) -> examples to the goal of each search begun that answers for it.

    Infinite where no trial got there, or none counts. Where the batch grows within a trial, the
    lower end counts its steps at the first batch size.
    """
    known = summary.steps.select("batch_size", "seed", "examples_to_result")
    examples = {(batch_size, seed): passed for batch_size, seed, passed in known.iter_rows()}
    found = {}
    for key, trials in trial_answers(summary.view, summary.crossings).items():
        answer, passed = search_answer(trials), examples.get(key)
        high = math.inf if passed is None else float(passed)
        found[key] = Answer(max(answer.low, 1.0) * key[0], high)
    return found


def ratio(one: Answer, other: Answer) -> Answer:
    """The interval of one over the other; no answer where neither got there."""
    if math.isinf(one.high) and math.isinf(other.high):
        return NO_ANSWER
    low = 0.0 if math.isinf(other.high) else one.low / other.high
    return Answer(low, math.inf if math.isinf(one.high) else one.high / other.low)


def point_ratio(one: Answer, other: Answer) -> float | None:
    """One over the other at the first evaluations past the goal; None where neither got there."""
    if math.isinf(one.high):
        return None if math.isinf(other.high) else math.inf
    return one.high / other.high


def paired_ratios(members: Mapping[str, Summary], reference: str) -> pl.DataFrame:
    """One row a member other than ``reference`` and batch size.

    Columns: ``label, batch_size``; ``searches``, pairs R that both have begun; ``ratio``, the
    median of the examples of the member over those of the reference, null where fewer than half of
    the pairs have one or the middle one is infinite; ``low, high, coverage``, its exact range (null
    for one pair); ``told``, whether that leaves out 1; ``unseen``, the factor below which
    differences cannot be seen (null where the range is open).
    """
    base, rows = example_answers(members[reference]), []
    for label, summary in members.items():
        own = example_answers(summary)
        for batch_size in summary.question.batch_sizes if label != reference else ():
            seeds = sorted(s for b, s in own if b == batch_size and (b, s) in base)
            pairs = [(own[batch_size, s], base[batch_size, s]) for s in seeds]
            rows.append((label, batch_size, *_row(pairs)))
    floats = ("ratio", "low", "high", "coverage")
    schema = {"label": pl.String, "batch_size": pl.Int64, "searches": pl.Int64,
              **dict.fromkeys(floats, pl.Float64), "told": pl.Boolean,
              "unseen": pl.Float64}  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row")


def _row(pairs: list[tuple[Answer, Answer]]) -> tuple[float | int | bool | None, ...]:
    points = [point for pair in pairs if (point := point_ratio(*pair)) is not None]
    middle = math.inf
    if points and 2 * len(points) >= len(pairs):
        middle = median_of_searches([Answer.exactly(point) for point in points])
    found = range_of_searches([ratio(*pair) for pair in pairs])
    median = middle if 0 < middle < math.inf else None
    if found is None:
        return len(pairs), median, None, None, None, None, None
    low, high = max(found.low, 0.0), found.high
    unseen = None
    if median is not None and low > 0 and high < math.inf:
        unseen = min(high / median, median / low)
    return len(pairs), median, low, high, found.coverage, not low <= 1 <= high, unseen
