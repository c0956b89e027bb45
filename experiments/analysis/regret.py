"""Regret of rules for a change of batch size, interpolated from trials or trained, as tables."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from experiments.analysis.intervals import (
    NO_ANSWER,
    Answer,
    Interval,
    median_of_searches,
    range_of_searches,
)
from experiments.analysis.question import SEARCH
from experiments.analysis.rules import Rules, rules_of
from experiments.analysis.searches import answering, search_answer, trial_answers
from experiments.analysis.steps_to_result import crossings, steps_to_result
from experiments.analysis.view import View

WITHIN = 0.1
"""Regret up to which a rule does as well as tuning again."""


def regret_table(rules: Rules, base: int) -> pl.DataFrame:
    """Regret of every rule at every batch size from ``base``.

    Columns: ``rule, base, batch_size``; ``steps``, interpolated from the trials of all searches,
    ``at_least`` where only a lower end is known, ``retuned``, the fewest of any trial, and
    ``regret`` of the two; ``searches``, ``median, low, high, coverage`` of the regret of each
    search. Null where it is not known.
    """
    rows = []
    for rule in rules_of(rules.question):
        for batch_size in sorted(rules.pooled):
            steps = rules.pooled_steps(rule, base, batch_size)
            regret = rules.pooled_regret(rule, base, batch_size)
            own = rules.regrets(rule, base, batch_size)
            across = range_of_searches(own)
            middle = median_of_searches(own) if own else math.inf
            retuned = rules.pooled[batch_size].best().high
            rows.append(
                {
                    "rule": rule, "base": base, "batch_size": batch_size,
                    "steps": _finite(steps.high), "at_least": _least(steps),
                    "retuned": _finite(retuned), "regret": _finite(regret.high),
                    "searches": len(own), "median": _finite(middle),
                    "low": across.low if across else None,
                    "high": across.high if across else None,
                    "coverage": across.coverage if across else None,
                }
            )  # fmt: skip
    floats = ("steps", "at_least", "retuned", "regret", "median", "low", "high", "coverage")
    whole = ("base", "batch_size", "searches")
    kinds = {name: pl.Float64 if name in floats else pl.Int64 for name in (*floats, *whole)}
    return pl.DataFrame(rows, schema_overrides=kinds)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _least(steps: Answer) -> float | None:
    return steps.low if math.isinf(steps.high) and math.isfinite(steps.low) else None


def regret_map(rules: Rules) -> pl.DataFrame:
    """Regret by the trials of all searches from every batch size to every other one.

    Columns: ``rule, base, batch_size, regret`` (null: not known), ``worse``: known to exceed
    `WITHIN`, be it from below alone.
    """
    rows = []
    for rule in rules_of(rules.question):
        for base in rules.bases:
            for batch_size in sorted(rules.pooled):
                regret = rules.pooled_regret(rule, base, batch_size)
                worse = regret != NO_ANSWER and regret.low > WITHIN
                rows.append((rule, base, batch_size, _finite(regret.high), worse))
    schema = {"rule": pl.String, "base": pl.Int64, "batch_size": pl.Int64, "regret": pl.Float64,
              "worse": pl.Boolean}  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row")


@dataclasses.dataclass(frozen=True)
class Extent:
    """From where to where a rule from ``base`` does as well as tuning again.

    Attributes:
      rule, base: the rule and the batch size it starts from.
      low, high: the batch sizes next to one another, around ``base``, whose regret by the trials
        of all searches is at most `WITHIN`.
      low_known, high_known: whether the next batch size is known to have more, or ``low`` or
        ``high`` is the study's end.
      searches: range of ``high`` over the searches, infinite where one does not know its end.
    """

    rule: str
    base: int
    low: int
    high: int
    low_known: bool
    high_known: bool
    searches: Interval | None


def extents(rules: Rules, base: int) -> list[Extent]:
    """The extent of every rule from ``base``."""
    sizes, found = sorted(rules.pooled), []
    for rule in rules_of(rules.question):
        regrets = {b: rules.pooled_regret(rule, base, b) for b in sizes}
        low, low_known = _reach(regrets, [b for b in reversed(sizes) if b < base], base)
        high, high_known = _reach(regrets, [b for b in sizes if b > base], base)
        own = []
        each = {b: rules.regrets(rule, base, b) for b in sizes}
        for place in range(len(rules.seeds)):
            mine = {b: answers[place] for b, answers in each.items()}
            end, known = _reach(mine, [b for b in sizes if b > base], base)
            begun = mine.get(base, NO_ANSWER) != NO_ANSWER
            own.append(Answer(end, end if known else math.inf) if begun else NO_ANSWER)
        spread = range_of_searches(own)
        found.append(Extent(rule, base, low, high, low_known, high_known, spread))
    return found


def _reach(regrets: Mapping[int, Answer], way: Iterable[int], base: int) -> tuple[int, bool]:
    """(the last batch size on the way with little regret, whether it is known to end there)."""
    last = base
    for batch_size in way:
        regret = regrets[batch_size]
        if math.isinf(regret.high) or regret.high > WITHIN:
            return last, regret != NO_ANSWER and regret.low > WITHIN
        last = batch_size
    return last, True


def near_best(rules: Rules) -> pl.DataFrame:
    """Ranges of the hyperparameters of trials within `WITHIN` of the fewest steps, all searches.

    Columns: ``batch_size, hyperparameter, near_low, near_high, near_trials``.
    """
    rows = []
    for batch_size, surface in sorted(rules.pooled.items()):
        best = surface.best().high
        if math.isinf(best):
            continue
        near = pl.Series([answer.high <= (1 + WITHIN) * best for answer in surface.answers])
        held = surface.trials.filter(near)
        for name in surface.names:
            column = held[name].cast(pl.Float64)
            rows.append((batch_size, name, column.min(), column.max(), len(held)))
    schema = {"batch_size": pl.Int64, "hyperparameter": pl.String, "near_low": pl.Float64,
              "near_high": pl.Float64, "near_trials": pl.Int64}  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row")


def measured_regret(retuned: View, ruled: View) -> pl.DataFrame:
    """Regret of a rule whose trials were trained (``batchscale run --rule``).

    Of the rule's configuration the median over its seeds, of tuning again that over its searches.
    The range of their ratio goes from the least over the greatest to the greatest over the least;
    it covers the ratio of the two medians with at least the sum of both coverages less one.

    Columns: ``rule, base, batch_size, steps, steps_low, steps_high, retuned, regret, low, high,
    coverage``; null where either did not get there in the middle, or was made once.

    Raises:
      ValueError: the second study goes by no rule, or to another goal.
    """
    rule = ruled.question.rule
    if rule is None:
        raise ValueError(f"{ruled.question.name} goes by no rule: it has nothing to compare")
    if ruled.question.goal != retuned.question.goal:
        raise ValueError(f"{ruled.question.name} has another goal than {retuned.question.name}")
    rows = []
    theirs, mine = _of_searches(ruled), _of_searches(retuned)
    for batch_size in sorted(theirs.keys() & mine.keys()):
        by_rule, again = theirs[batch_size], mine[batch_size]
        middle, tuned = median_of_searches(by_rule), median_of_searches(again)
        spread, other = range_of_searches(by_rule), range_of_searches(again)
        row: dict[str, Any] = {
            "rule": rule.rule, "base": rule.batch_size, "batch_size": batch_size,
            "steps": _finite(middle), "retuned": _finite(tuned),
            "regret": middle / tuned - 1 if math.isfinite(middle + tuned) else None,
            "steps_low": spread.low if spread else None,
            "steps_high": spread.high if spread else None,
            "low": None, "high": None, "coverage": None,
        }  # fmt: skip
        if spread and other and other.high > 0:
            row["low"] = spread.low / other.high - 1 if math.isfinite(other.high) else -1.0
            row["high"] = spread.high / other.low - 1 if other.low > 0 else math.inf
            row["coverage"] = max(spread.coverage + other.coverage - 1, 0.0)
        rows.append(row)
    text = {"rule": pl.String, "base": pl.Int64, "batch_size": pl.Int64}
    floats = ("steps", "retuned", "regret", "steps_low", "steps_high", "low", "high", "coverage")
    return pl.DataFrame(rows, schema=text | dict.fromkeys(floats, pl.Float64))


def _of_searches(view: View) -> dict[int, list[Answer]]:
    """Batch size -> the answer of each search begun."""
    answers = trial_answers(view, crossings(view))
    found: dict[int, list[Answer]] = {}
    for batch_size, seed in answering(view, steps_to_result(view)).select(SEARCH).iter_rows():
        own = search_answer(answers.get((batch_size, seed), []))
        found.setdefault(batch_size, []).append(own)
    return found
