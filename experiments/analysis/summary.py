"""Everything the report and the terminal show of a study, computed once from its record."""

from __future__ import annotations

import dataclasses
import functools

import polars as pl

from experiments.analysis import critical_batch_size as critical
from experiments.analysis.best_hyperparameters import best_across, choose_best
from experiments.analysis.budget_levels import best_batch_sizes, budget_levels, of_trials
from experiments.analysis.budgets import best_under_budgets, budgets_across
from experiments.analysis.cost import CostToGoal, Prices, cost_of
from experiments.analysis.critical_batch_size import CriticalBatchSize
from experiments.analysis.definitions import definition_table
from experiments.analysis.findings import PoorFit
from experiments.analysis.free_sharpness import FreeSharpness
from experiments.analysis.importance import importance
from experiments.analysis.inconclusive import poor_fit
from experiments.analysis.lack_of_fit import LackOfFit, lack_of_fit
from experiments.analysis.longer_search import longer_searches
from experiments.analysis.question import SEARCH, TRIAL, Question, StudyRecord
from experiments.analysis.regimes import (
    Points,
    points_of,
    regime_borders,
    regime_of,
    scaling,
)
from experiments.analysis.repeats import Repeated, best_configurations, repeated
from experiments.analysis.rules import Rules, rules_from
from experiments.analysis.scaling_curve import Hyperbola
from experiments.analysis.searches import answering, steps_across, trial_answers
from experiments.analysis.steps_to_result import best_values, crossings, steps_to_result
from experiments.analysis.verdict import Verdict, judge
from experiments.analysis.view import View, by_trial, view_of
from workloads.base import Goal


@dataclasses.dataclass(frozen=True)
class Critical:
    """The batch sizes where scaling changes; every estimate is of all searches together.

    Attributes:
      limit: end of perfect scaling of the curves of free sharpness, the headline.
      hyperbola: end of perfect scaling were the curves hyperbolas.
      noise: noise critical batch size, of the hyperbolas.
      convex: end of perfect scaling of the best convex curve.
      anchored: end of perfect scaling read from the smallest batch size.
      flat: from where doubling saves less than 10 % of the steps, on the fitted curves.
      cheapest: the measured batch size of the fewest examples.
      searches: the points of each seed that was searched.
      fits: seed -> its curve of free sharpness, None where it has none.
    """

    limit: CriticalBatchSize
    hyperbola: CriticalBatchSize
    noise: CriticalBatchSize
    convex: CriticalBatchSize
    anchored: CriticalBatchSize
    flat: CriticalBatchSize
    cheapest: CriticalBatchSize
    searches: tuple[Points, ...]
    fits: dict[int, FreeSharpness | None]

    @functools.cached_property
    def definitions(self) -> pl.DataFrame:
        """The end of perfect scaling under each definition and overhead."""
        return definition_table(self.searches)

    @functools.cached_property
    def fit_test(self) -> LackOfFit | None:
        """The test of the searches' points against the curve of the headline, if there is one."""
        return lack_of_fit(self.searches)

    @functools.cached_property
    def hyperbola_test(self) -> LackOfFit | None:
        """The same against a hyperbola."""
        return lack_of_fit(self.searches, Hyperbola)

    @property
    def misfit(self) -> list[PoorFit]:
        """The finding that speaks against the curve that the headline is read from, if any."""
        return poor_fit(self.fit_test, self.limit, self.convex)

    @property
    def least_examples(self) -> float | None:
        """Median E_min of the fitted curves; None where no search has one."""
        found = [fit.least_examples for fit in self.fits.values() if fit and fit.least_examples > 0]
        return float(pl.Series(found).median()) if found else None  # type: ignore[arg-type]


@dataclasses.dataclass(frozen=True)
class Summary:
    """The numbers of a study.

    Attributes:
      view: what they were computed from, with its record.
      steps: one row a search: `steps_to_result` and `critical_batch_size.scaling`.
      curve: one row a batch size, its searches together: `searches.steps_across`, with
        ``line_steps``, the perfect-scaling line of the fitted curves, ``over_line``, median
        examples over those of that line, ``regime`` by the median borders, and ``regime_agreed``,
        whether every search puts it there.
      crossings: one row a counted trial.
      values: the best measurement of each counted trial, one row each.
      budgets: best value under the step and the epoch budget, one row a search and budget.
      budgets_across: the same, the searches of a batch size together.
      best: the best trial of each search with its hyperparameters.
      best_across: its rates, the searches of a batch size together.
      critical: both critical batch sizes, and what stands beside them.
      verdict: findings and the next command.
      prices: what the report is told of time and money.
      ruled: studies whose hyperparameters follow a rule, to be compared with this one.
    """

    view: View
    steps: pl.DataFrame
    curve: pl.DataFrame
    crossings: pl.DataFrame
    values: pl.DataFrame
    budgets: pl.DataFrame
    budgets_across: pl.DataFrame
    best: pl.DataFrame
    best_across: pl.DataFrame
    critical: Critical
    verdict: Verdict
    prices: Prices = dataclasses.field(default_factory=Prices)
    ruled: tuple[View, ...] = ()

    @functools.cached_property
    def cost(self) -> CostToGoal:
        """Time and cost to the goal (ValueError: a plan that is none)."""
        answers = trial_answers(self.view, self.crossings)
        return cost_of(self.view, self.curve, answers, self.prices)

    @functools.cached_property
    def rules(self) -> Rules:
        """Its trials, for what a rule would have cost in place of tuning again."""
        return rules_from(self.view)

    @functools.cached_property
    def budget_levels(self) -> pl.DataFrame:
        """Best values at several budgets, the searches of a batch size together."""
        searches = dict(self.curve.select("batch_size", "searches").rows())
        return budget_levels(self.view, searches, self._under_budgets)

    @functools.cached_property
    def best_batch_sizes(self) -> pl.DataFrame:
        """The batch size that is best at each of those budgets."""
        return best_batch_sizes(self.view, self._under_budgets)

    @functools.cached_property
    def _under_budgets(self) -> pl.DataFrame:
        """The best value of each trial under each of those budgets."""
        return of_trials(self.view)

    @functools.cached_property
    def importance(self) -> pl.DataFrame:
        """The importance of each searched hyperparameter, per batch size."""
        return importance(self.view)

    @functools.cached_property
    def longer_searches(self) -> pl.DataFrame:
        """Of independent trials: what a longer search would reach; else empty."""
        return longer_searches(self.view)

    @functools.cached_property
    def repeated(self) -> Repeated | None:
        """The best configurations trained again; None where that was not begun, or where the
        goal is stricter than the one at which those trials stopped."""
        repeats = self.record.repeats
        if repeats is None:
            return None
        newest = best_configurations(self.view, self.steps, self.best)
        return repeated(repeats, self.view.goal, newest)

    @property
    def record(self) -> StudyRecord:
        """The study read back."""
        return self.view.record

    @property
    def question(self) -> Question:
        """The study; ``question.goal`` is the goal analysed here."""
        return self.view.question

    @property
    def seed(self) -> int:
        """The study's own seed, whose search the figures of single trials show."""
        return self.question.seeds[0]

    @property
    def searches(self) -> int:
        """The most searches that any batch size holds."""
        return int(self.curve["searches"].max() or 0)  # type: ignore[arg-type]

    @property
    def full_values(self) -> pl.DataFrame:
        """Rows of ``values`` of the trials that trained to full length: those that can be compared
        by their best value."""
        trained = self.view.trained.select(TRIAL)
        return self.values.join(trained, on=TRIAL, how="semi", maintain_order="left")

    @functools.cached_property
    def ends(self) -> pl.DataFrame:
        """One row a trial with measurements, counted or not, from one pass over them.

        Columns: ``steps_to_goal`` (its first evaluation past the goal, null if never),
        ``best_value, best_step, best_examples``.
        """
        first = pl.col("step").filter(self.view.goal.better(pl.col("value"))).min()
        columns = [first.alias("steps_to_goal"), *self.view.best_of(None, "")]
        return by_trial(self.view.measurements(), columns)

    def of_seed(self, table: pl.DataFrame) -> pl.DataFrame:
        """The rows of the study's own seed."""
        return table.filter(pl.col("seed") == self.seed)


def summarise(record: StudyRecord | View, goal: float | Goal | None = None) -> Summary:
    """The summary of a record, for its own goal or another.

    Raises:
      ValueError: a goal the record cannot answer (`View`).
    """
    view = view_of(record, goal)
    values = best_values(view)  # asks for all of a trial in one pass, which the others then share
    passed, found = crossings(view), steps_to_result(view)
    across = steps_across(view, found, trial_answers(view, passed))
    searches = dict(across.select("batch_size", "searches").rows())
    borders = _critical(view, found)
    best = choose_best(view, found, values)
    return Summary(
        view=view,
        steps=scaling(found, borders.fits).sort(SEARCH),
        curve=_with_regimes(across, borders),
        crossings=passed,
        values=values,
        budgets=best_under_budgets(view),
        budgets_across=budgets_across(view, searches),
        best=best,
        best_across=best_across(best, searches),
        critical=borders,
        verdict=judge(view, found, best, across, passed, misfit=borders.misfit),
    )


def summary_of(source: StudyRecord | View | Summary) -> Summary:
    """``source`` itself where it is a summary, else the summary of it."""
    return source if isinstance(source, Summary) else summarise(source)


def _critical(view: View, table: pl.DataFrame) -> Critical:
    question = view.question
    if question.batch_size_schedule != "constant":
        note = "is defined for a batch that does not grow within a trial"
        limit, hyperbola, noise, convex, anchored, flat, cheapest = (
            critical.together(name, [], "", note) for name in critical.NAMES
        )
        none = dict.fromkeys(question.seeds)
        return Critical(limit, hyperbola, noise, convex, anchored, flat, cheapest, (), none)
    by_seed = points_of(answering(view, table))
    searches = tuple(by_seed.values())
    return Critical(
        critical.perfect_scaling_limit(searches),
        critical.hyperbola_limit(searches),
        critical.noise_critical_batch_size(searches),
        critical.convex_limit(searches),
        critical.anchored_limit(searches),
        critical.flat_start(searches),
        critical.fewest_examples(searches),
        searches=searches,
        fits={seed: critical.fitted(points) for seed, points in by_seed.items()},
    )


def _with_regimes(across: pl.DataFrame, borders: Critical) -> pl.DataFrame:
    """Adds line, overhead and regime of the fitted curves; null without a fit."""
    fits = [fit for fit in borders.fits.values() if fit is not None]
    ends = [regime_borders(fit) for fit in fits]
    middle = tuple(pl.Series(column).median() for column in zip(*ends, strict=True))
    regimes, agreed = [], []
    for batch_size, median in across.select("batch_size", "median").iter_rows():
        known = bool(middle) and median is not None
        name = regime_of(batch_size, *middle) if known else None  # type: ignore[arg-type]
        regimes.append(name)
        each = {regime_of(batch_size, *pair) for pair in ends}
        agreed.append(len(ends) == len(borders.fits) and each == {name} if known else None)
    least = borders.least_examples
    line = pl.lit(least, dtype=pl.Float64)
    if least is None:  # the line of the smallest batch size that reached the goal
        first = across.drop_nulls("median_examples").sort("batch_size")
        line = pl.lit(first["median_examples"][0] if len(first) else None, dtype=pl.Float64)
    return across.with_columns(
        line_steps=line / pl.col("batch_size"),
        over_line=pl.col("median_examples") / line,
        regime=pl.Series(regimes, dtype=pl.String),
        regime_agreed=pl.Series(agreed, dtype=pl.Boolean),
    )
