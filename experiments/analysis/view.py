"""A record and a goal, resolved once; its measurements are read in one pass.

Every function of the analysis takes a record, or a `View` of one: a caller that asks several
questions makes the view and hands it on, as `experiments.analysis.summary.summarise` does.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

import polars as pl

from experiments.analysis.question import SEARCH, TRIAL, Question, StudyRecord, read_question
from experiments.analysis.search_record import is_search
from experiments.records.files import RecordError
from experiments.search.fidelity import Pruner
from experiments.spec.trial import Status
from workloads.base import Goal
from workloads.registry import unknown_name

COUNTED = "function_evaluations"
"""Column of the evaluations table: evaluations over the batch a trial had made by that step."""


class View:
    """A record as analysis reads it for one goal.

    Attributes:
      record: the study read back.
      question: the study's fields; ``question.goal`` is the goal of this view.
      goal: the recorded goal or another that the record can answer.
    """

    def __init__(self, record: StudyRecord, goal: float | Goal | None = None) -> None:
        """For ``goal``: a value for the recorded metric, a whole `Goal`, None for the recorded one.

        Raises:
          RecordError: study.json holds a field that cannot be understood.
          ValueError: a value that is not finite, a direction other than the recorded one for the
            same metric, or a column that the evaluations do not hold.
        """
        self.record = record
        question = _read_question(record)
        self.goal = _chosen(self, question.goal, goal)
        self.question: Question = dataclasses.replace(question, goal=self.goal)

    @functools.cached_property
    def countable(self) -> pl.DataFrame:
        """The trials that may count among the N, rows of the trials table sorted by `TRIAL`.

        COMPLETE ones. Where trials stop, STOPPED ones too, and of those that diverged the ones
        that had passed the goal before, or that the race would have ended before: one counting
        rule holds for searches that stop and for those that train to full length.
        """
        trials, status = self.record.trials.sort(TRIAL), pl.col("status")
        if not self.stops:
            return trials.filter(status == Status.COMPLETE.value)
        diverged = trials.filter(status == Status.INFEASIBLE.value)
        passed = self.measurements().filter(self.goal.better(pl.col("value"))).select(TRIAL)
        shown = diverged.lazy().join(passed, on=TRIAL, how="semi").collect().select(TRIAL)
        if "race_bound" in diverged.columns:
            raced = diverged.filter(pl.col("race_bound") < pl.col("steps")).select(TRIAL)
            shown = pl.concat([shown, raced]).unique()
        ended = trials.filter(status.is_in([Status.COMPLETE.value, Status.STOPPED.value]))
        return pl.concat([ended, diverged.join(shown, on=TRIAL, how="semi")]).sort(TRIAL)

    @functools.cached_property
    def counted(self) -> pl.DataFrame:
        """The first N `countable` trials of each search by index; all there are where fewer.

        A goal that a STOPPED trial may have reached after it stopped is answered by the searches
        that train to full length alone. Rows of the trials table, sorted by `TRIAL`.
        """
        first = self.countable.group_by(SEARCH, maintain_order=True).head(self.question.trials)
        return first if self.all_answer else first.filter(pl.col("seed").is_in(self.full_seeds))

    @property
    def prunes(self) -> bool:
        """Tell whether a pruner stops trials: only those that it lets end are COMPLETE."""
        return self.question.pruner != "none"

    @functools.cached_property
    def wanted(self) -> int:
        """Trials that each search is to have: N, with a pruner those of its whole populations."""
        pruner = Pruner.of(self.question)
        trials = self.question.trials
        return trials if pruner is None else sum(pruner.sizes(trials))

    @property
    def stops(self) -> bool:
        """Tell whether trials of the study stop before their length."""
        return self.question.stop != "never"

    @property
    def full_seeds(self) -> list[int]:
        """Seeds of the searches that train to full length."""
        seeds = self.question.seeds
        return list(seeds[: self.question.full_searches] if self.stops else seeds)

    @functools.cached_property
    def all_answer(self) -> bool:
        """Tell whether every search answers for this goal: it is no stricter than their own."""
        recorded = _read_question(self.record).goal
        same = self.goal.column == recorded.column and self.goal.direction == recorded.direction
        easier = recorded.sign * (self.goal.value - recorded.value) >= 0
        return not self.stops or (same and easier)

    @functools.cached_property
    def trained(self) -> pl.DataFrame:
        """Rows of `outcomes` of the trials that answer the budgets: COMPLETE, at full length."""
        if not self.stops:
            return self.outcomes
        full = pl.col("seed").is_in(self.full_seeds) & (pl.col("status") == Status.COMPLETE.value)
        return self.outcomes.join(self.counted.filter(full), on=TRIAL, how="semi")

    @property
    def steps_saved(self) -> tuple[int, int]:
        """(trial-steps that STOPPED trials did not make, those of all trials at full length)."""
        trials = self.record.trials
        stopped = trials.filter(pl.col("status") == Status.STOPPED.value)
        left = (stopped["train_steps"] - stopped["steps"]).sum()
        return int(left), int(trials["train_steps"].sum())

    @functools.cached_property
    def columns(self) -> list[str]:
        """The columns of the evaluations."""
        return self._evaluations.collect_schema().names()

    @property
    def counts_function_evaluations(self) -> bool:
        """Tell whether evaluations of the batch were counted beside steps (second-order rules)."""
        return COUNTED in self._columns_of_counted

    def measurements(self, *others: str) -> pl.LazyFrame:
        """Every measurement of the goal's metric: ``*TRIAL, step, examples, value``.

        With the columns ``others`` of the evaluations beside it. Without rows where nothing was
        ever measured, as in a record that holds no trial yet.
        """
        return _measured(self.goal, self._evaluations, self.columns, others)

    def of_counted(self, *others: str) -> pl.LazyFrame:
        """`measurements` of the counted trials."""
        return _measured(self.goal, self._of_counted, self._columns_of_counted, others)

    def of_trained(self) -> pl.LazyFrame:
        """`measurements` of the trials that answer the budgets (`trained`)."""
        rows = self.of_counted()
        if not self.stops:
            return rows
        return rows.join(self.trained.select(TRIAL).lazy(), on=TRIAL, how="semi")

    @functools.cached_property
    def outcomes(self) -> pl.DataFrame:
        """One row a counted trial with measurements, sorted by `TRIAL`, from one pass over them.

        Columns: ``passed_step, passed_examples`` where it first passed the goal (null if never) and
        ``evaluated_before``, the last step at which it was measured before that (0 where none was);
        ``best_value, best_step, best_examples`` over all finite measurements, then the same with
        the prefixes ``step_`` and ``epoch_`` over those within the step and the epoch budget, null
        where there is none, ties to the lowest step; ``passed_function_evaluations`` where counted.
        """
        step = pl.col("step")
        others, columns = _crossing(self)
        columns += [
            *self.best_of(None, ""),
            *self.best_of(step <= self.question.step_budget, "step_"),
            *self.best_of(pl.col("examples") <= self.question.example_budget, "epoch_"),
        ]
        found = by_trial(self.of_counted(*others), columns)
        return found.with_columns(_whole()).sort(TRIAL)

    @functools.cached_property
    def crossed(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """(the columns ``passed_*`` and ``evaluated_before`` of `outcomes`, best of each search).

        From one pass that leaves out what only budgets ask; of `outcomes` where they are there. The
        second has a row a search, ``best_value`` over the counted trials' finite measurements.
        """
        value = pl.col("value")
        if "outcomes" in self.__dict__:
            best = self.goal.best(pl.col("best_value")).alias("best_value")
            return self.outcomes, self.outcomes.group_by(SEARCH).agg(best)
        others, columns = _crossing(self)
        best = self.goal.best(value.filter(value.is_finite())).alias("best_value")
        found = by_trial(self.of_counted(*others), [*columns, best]).with_columns(_whole())
        of_searches = found.group_by(SEARCH).agg(self.goal.best(pl.col("best_value")))
        return found.drop("best_value"), of_searches.drop_nulls()

    def first_past_the_goal(self) -> list[pl.Expr]:
        """``passed_step`` and ``evaluated_before`` of `outcomes` from a trial's `measurements`."""
        step = pl.col("step")
        first = step.filter(self.goal.better(pl.col("value"))).min()
        before = step.filter(step < first).max().fill_null(0)
        return [first.alias("passed_step"), before.alias("evaluated_before")]

    def best_of(self, inside: pl.Expr | None, prefix: str) -> list[pl.Expr]:
        """The best finite value of a trial's measurements ``inside``, its step and its examples."""
        value = pl.col("value")
        held = value.is_finite() if inside is None else value.is_finite() & inside
        kept = value.filter(held)
        best = self.goal.best(kept)
        at = [
            pl.col(name).filter(held & (value == best)).min().alias(f"{prefix}best_{name}")
            for name in ("step", "examples")
        ]
        return [best.alias(f"{prefix}best_value"), *at]

    @functools.cached_property
    def _evaluations(self) -> pl.LazyFrame:
        """The evaluations, whose parts are verified once."""
        return _evaluations(self.record)

    @functools.cached_property
    def _of_counted(self) -> pl.LazyFrame:
        """The evaluations of the counted trials; parts that hold no others are not read."""
        return _evaluations(self.record, self.counted.select(TRIAL))

    @functools.cached_property
    def _columns_of_counted(self) -> list[str]:
        return self._of_counted.collect_schema().names()


def by_trial(rows: pl.LazyFrame, columns: Sequence[pl.Expr]) -> pl.DataFrame:
    """One row a trial of its measurements' ``columns``.

    A trial's rows lie together in a record, so that runs of rows are told apart in a third of the
    time of a table of keys; where they do not, that table is made.
    """
    run = pl.struct(TRIAL).rle_id().alias("run")
    found = rows.group_by(run).agg(pl.col(TRIAL).first(), *columns).collect().drop("run")
    if found.select(pl.struct(TRIAL).is_duplicated().any()).item():
        found = rows.group_by(TRIAL).agg(columns).collect()
    return found


def _evaluations(record: StudyRecord, of: pl.DataFrame | None = None) -> pl.LazyFrame:
    held = record.scan("evaluations", of)
    assert held is not None, "a record always has the table"
    return held


def _measured(
    goal: Goal, held: pl.LazyFrame, columns: Sequence[str], others: Sequence[str]
) -> pl.LazyFrame:
    """Rows of evaluations as `View.measurements` gives them."""
    if goal.column not in columns:
        held = held.clear().with_columns(pl.lit(None, dtype=pl.Float64).alias(goal.column))
    return held.select(*TRIAL, "step", "examples", *others, pl.col(goal.column).alias("value"))


def _chosen(view: View, recorded: Goal, goal: float | Goal | None) -> Goal:
    if goal is None:
        return recorded
    if not isinstance(goal, Goal):
        number = isinstance(goal, (int, float)) and not isinstance(goal, bool)
        if not number or not math.isfinite(goal):
            raise ValueError(f"goal value must be a finite number, got {goal!r}")
        return dataclasses.replace(recorded, value=float(goal))
    if goal.metric == recorded.metric and goal.direction != recorded.direction:
        raise ValueError(
            f"goal direction of {goal.metric} must be {recorded.direction!r}, "
            f"got {goal.direction!r}"
        )
    measured = [name for name in view.columns if "/" in name]
    if goal.column not in measured:
        raise unknown_name("measurement", goal.column, measured)
    return goal


def _crossing(view: View) -> tuple[list[str], list[pl.Expr]]:
    """(further columns that are read, what is asked of a trial's crossing of the goal)."""
    passed = view.goal.better(pl.col("value"))
    found = [
        *view.first_past_the_goal(),
        pl.col("examples").filter(passed).min().alias("passed_examples"),
    ]
    if not view.counts_function_evaluations:
        return [], found
    return [COUNTED], [*found, pl.col(COUNTED).filter(passed).min().alias(f"passed_{COUNTED}")]


def _whole() -> pl.Expr:
    """The columns of `View.outcomes` that hold whole numbers, as such."""
    return pl.col("^.*(_step|_examples|_before|_evaluations)$").cast(pl.Int64)


def view_of(record: StudyRecord | View, goal: float | Goal | None = None) -> View:
    """``record`` itself where it is a view and no other goal is asked for; else a view of it."""
    if isinstance(record, View):
        return record if goal in (None, record.goal) else View(record.record, goal)
    return View(record, goal)


def _read_question(record: StudyRecord) -> Question:
    if is_search(record.study):
        raise RecordError(
            "the record holds a search over a user's own model or function, no study of batch "
            "sizes: batchscale report and batchscale status read it"
        )
    try:
        return read_question(record)
    except KeyError as error:
        raise RecordError(f"study.json lacks the field {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise RecordError(f"study.json cannot be understood: {error}") from error
