"""Everything the report and the terminal show of a study, computed once from its record."""

from __future__ import annotations

import dataclasses

import polars as pl

from experiments.analysis.best_hyperparameters import choose_best
from experiments.analysis.budgets import best_under_budgets
from experiments.analysis.critical_batch_size import (
    CriticalBatchSize,
    noise_critical_batch_size,
    perfect_scaling_limit,
    scaling,
)
from experiments.analysis.question import SEARCH, Question, Record
from experiments.analysis.steps_to_result import best_values, crossings, steps_to_result
from experiments.analysis.uncertainty import STANDARD, Bootstrap, bootstrap_steps, steps_of
from experiments.analysis.verdict import Verdict, judge
from experiments.analysis.view import View, view_of
from workloads.base import Goal


@dataclasses.dataclass(frozen=True)
class Summary:
    """The numbers of a study.

    Attributes:
      view: what they were computed from, with its record.
      bootstrap: how the intervals of ``steps`` and ``budgets`` were drawn.
      steps: one row a search: `steps_to_result`, `bootstrap_steps`, `scaling`.
      crossings: one row a counted trial.
      values: the best measurement of each counted trial, one row each.
      budgets: best value under the step and the epoch budget, one row a search and budget.
      best: the best trial of each search with its hyperparameters.
      critical: the perfect-scaling limit and the noise critical batch size of each seed.
      verdict: findings and the next command.
    """

    view: View
    bootstrap: Bootstrap
    steps: pl.DataFrame
    crossings: pl.DataFrame
    values: pl.DataFrame
    budgets: pl.DataFrame
    best: pl.DataFrame
    critical: dict[int, tuple[CriticalBatchSize, CriticalBatchSize]]
    verdict: Verdict

    @property
    def record(self) -> Record:
        """The study read back."""
        return self.view.record

    @property
    def question(self) -> Question:
        """The study; ``question.goal`` is the goal analysed here."""
        return self.view.question

    @property
    def seed(self) -> int:
        """The study's own seed, whose search the figures show first."""
        return self.question.seeds[0]

    def of_seed(self, table: pl.DataFrame) -> pl.DataFrame:
        """The rows of the study's own seed."""
        return table.filter(pl.col("seed") == self.seed)


def summarise(
    record: Record | View, goal: float | Goal | None = None, bootstrap: Bootstrap = STANDARD
) -> Summary:
    """The summary of a record, for its own goal or another.

    Raises:
      ValueError: a goal the record cannot answer (`View`).
    """
    view = view_of(record, goal)
    passed = crossings(view)
    steps = scaling(steps_to_result(view)).join(
        bootstrap_steps(passed, bootstrap), on=SEARCH, how="left"
    )
    values = best_values(view)
    best = choose_best(view, steps, values)
    return Summary(
        view=view,
        bootstrap=bootstrap,
        steps=steps.sort(SEARCH),
        crossings=passed,
        values=values,
        budgets=best_under_budgets(view, bootstrap=bootstrap),
        best=best,
        critical=_critical(view.question, passed),
        verdict=judge(view.question, steps, best),
    )


def summary_of(source: Record | View | Summary) -> Summary:
    """``source`` itself where it is a summary, else the summary of it."""
    return source if isinstance(source, Summary) else summarise(source)


def _critical(
    question: Question, passed: pl.DataFrame
) -> dict[int, tuple[CriticalBatchSize, CriticalBatchSize]]:
    if question.batch_size_schedule != "constant":
        note = "is defined for a batch that does not grow within a trial"
        limit = CriticalBatchSize("perfect_scaling_limit", None, "=", None, None, note)
        noise = dataclasses.replace(limit, name="noise_critical_batch_size")
        return dict.fromkeys(question.seeds, (limit, noise))
    per_search = steps_of(passed)
    found = {}
    for seed in question.seeds:
        curve = {b: steps for (b, s), steps in per_search.items() if s == seed}
        found[seed] = (perfect_scaling_limit(curve), noise_critical_batch_size(curve))
    return found
