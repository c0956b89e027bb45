"""The cost of a larger search: a general rule beside its special case, search by search.

Choi et al. (2019): a rule includes another if some of its hyperparameters, limits allowed, make it
the other. Tuned without end it is then never worse. With N trials it may be: its space has more
dimensions. With spaces that contain each other, equal trials and equal seeds, the ratio of the
steps to result of the two, paired by search, says which it is; its median over R searches has the
exact range of an order statistic (`intervals.range_of_searches`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import polars as pl

from experiments.analysis.intervals import Answer
from experiments.analysis.question import Question
from experiments.analysis.searches import Across, answering
from experiments.analysis.summary import Summary
from experiments.spec.space import Integer, Real, ZeroOrLog

SPECIAL_CASES = {
    "momentum": "sgd", "nesterov": "sgd", "adam": "momentum", "nadam": "nesterov",
}  # fmt: skip
"""General rule -> the rule it includes (Choi et al. 2019)."""
LARGE_EPSILON = 1.0
"""An epsilon beside which the root of the squared gradients of a trained net hardly counts."""


def contains(general: Question, special: Question) -> bool:
    """Tell whether the space of a general rule holds its special case, at every rate of its space.

    Momentum m = 0 is SGD. Adam with a large epsilon, beta1 = m and rate a epsilon / (1 - m) goes
    over into momentum at rate a, but for its bias correction, which beta2 = 0 leaves to the first
    1 / (1 - m) steps; so does NAdam into Nesterov's.
    """
    if SPECIAL_CASES.get(general.optimizer) != special.optimizer:
        return False
    ours, theirs = _ranges(general), _ranges(special)
    if "learning_rate" not in theirs:
        return False
    low, high = theirs["learning_rate"]
    if special.optimizer == "sgd":
        return _holds(ours, "learning_rate", low, high) and _holds(ours, "momentum", 0.0, 0.0)
    least, most = theirs.get("momentum", (0.0, 0.0))
    return (
        _holds(ours, "epsilon", LARGE_EPSILON, LARGE_EPSILON)
        and _holds(ours, "beta1", least, most)
        and _holds(ours, "beta2", 0.0, 0.0)
        and _holds(ours, "learning_rate", low * LARGE_EPSILON, high * LARGE_EPSILON / (1 - most))
    )


def _ranges(question: Question) -> dict[str, tuple[float, float]]:
    """Hyperparameter -> (lowest, highest) value, searched or fixed."""
    found = {
        name: (float(value), float(value))
        for name, value in question.fixed.items()
        if not isinstance(value, str)
    }
    for name, searched in question.space.items():
        if isinstance(searched, Real):
            found[name] = (searched.low, searched.high)
        elif isinstance(searched, ZeroOrLog):
            found[name] = (0.0, searched.high)
        elif isinstance(searched, Integer):
            found[name] = (float(searched.low), float(searched.high))
    return found


def _holds(ranges: Mapping[str, tuple[float, float]], name: str, low: float, high: float) -> bool:
    if name not in ranges:
        return False
    least, most = ranges[name]
    return least <= low * (1 + 1e-9) and high * (1 - 1e-9) <= most


def paired_ratios(members: Mapping[str, Summary]) -> pl.DataFrame:
    """Steps of a general rule over those of its special case, one row a pair and batch size.

    Pairs of members whose spaces contain each other and that have begun searches of equal seeds.

    Columns: ``general, special`` (labels), ``batch_size, searches``; ``ratio``, the median over
    the searches, and its exact range ``low, high`` with its ``coverage``, null for one search; a
    search that did not reach the goal with the general rule counts as infinite, with the special
    case alone as zero.
    """
    rows: list[tuple[object, ...]] = []
    for general, ours in members.items():
        for special, theirs in members.items():
            if contains(ours.question, theirs.question):
                for batch_size in ours.question.batch_sizes:
                    ratios = _ratios(ours, theirs, batch_size)
                    if not ratios:
                        continue
                    across = Across.of([Answer.exactly(ratio) for ratio in ratios])
                    rows.append((general, special, batch_size, len(ratios), across.median,
                                 across.low, across.high, across.coverage))  # fmt: skip
    floats = dict.fromkeys(("ratio", "low", "high", "coverage"), pl.Float64)
    schema = {"general": pl.String, "special": pl.String, "batch_size": pl.Int64,
              "searches": pl.Int64, **floats}  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row")


def _ratios(ours: Summary, theirs: Summary, batch_size: int) -> list[float]:
    """A ratio for each seed whose searches both have begun."""
    steps = [
        dict(
            answering(found.view, found.steps.filter(batch_size=batch_size))
            .select("seed", "steps_to_result")
            .rows()
        )
        for found in (ours, theirs)
    ]
    found = []
    for seed in sorted(steps[0].keys() & steps[1].keys()):
        general, special = (table[seed] for table in steps)
        if general is None or special is None:
            found.append(math.inf if general is None else 0.0)
        else:
            found.append(general / special)
    return found
