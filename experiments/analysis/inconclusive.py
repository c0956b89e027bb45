"""Questions that a record cannot answer, however it is read, and what would have to be run."""

from __future__ import annotations

import math

import polars as pl

from experiments.analysis.critical_batch_size import FEWEST_POINTS, CriticalBatchSize
from experiments.analysis.findings import Inconclusive, PoorFit
from experiments.analysis.intervals import prediction_rank
from experiments.analysis.lack_of_fit import LackOfFit
from experiments.analysis.question import Question
from experiments.analysis.searches import LIMITED


def inconclusive(question: Question, across: pl.DataFrame) -> list[Inconclusive]:
    """Too few batch sizes, too few trials, or no trial that answers a budget.

    Args:
      across: rows of `searches.steps_across`.
    """
    found = []
    sizes, begun = len(question.batch_sizes), across.filter(pl.col("searches") > 0)
    if sizes < FEWEST_POINTS:
        found.append(
            f"{sizes} batch size{'s' * (sizes > 1)} cannot show how steps scale: a critical batch "
            f"size needs {FEWEST_POINTS} or more that reach the goal (--batch-sizes)."
        )
    single = len(begun) and (begun["searches"] == 1).all()
    if single and question.sampler in LIMITED and prediction_rank(question.trials) is None:
        found.append(
            f"A search of {question.trials} trial{'s' * (question.trials > 1)} bounds nothing: "
            "what another like it would need is not known from so few draws (--trials, --seeds)."
        )
    if question.stop != "never" and question.full_searches == 0:
        found.append(
            "Every search stops its trials at the goal, so none answers a budget: what a stopped "
            "trial would have reached later is not known (--full-searches 1)."
        )
    return [Inconclusive(sentence) for sentence in found]


FAR = 1.5
"""A factor between the headline's end of perfect scaling and the convex curve's that matters."""


def poor_fit(
    test: LackOfFit | None, limit: CriticalBatchSize, convex: CriticalBatchSize
) -> list[PoorFit]:
    """The finding that the points reject the headline's curve, where another reads otherwise."""
    if test is None or not test.rejected or limit.value is None or convex.value is None:
        return []
    if max(limit.value, convex.value) < FAR * min(limit.value, convex.value):
        return []
    at = int(abs(test.misses).argmax())
    miss = math.exp(test.misses[at])
    return [PoorFit(test.probability, int(test.batch_sizes[at]), miss, limit.value, convex.value)]
