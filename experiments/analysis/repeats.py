"""The best configuration of every batch size, trained again with fresh seeds.

What a search answers is a minimum: of its trials the one that got there first, which had the better
hyperparameters and the luckier seed. Which share of it was luck shows when that configuration is
fixed and trained again, with other seeds of initialisation, example order and dropout. The trial
that selected it is not counted, because it was selected for being early. Of R such trials the
median is shown with its exact interval (`intervals.median_best_of` one trial: of ten the second to
the ninth, 97.9 %). A trial that diverges, or does not get there in its length, counts as infinite
and is never replaced.

This is another quantity than the steps to result of a search: what one configuration needs, not
what the best of N trials needs. The factor between it and the steps of the trial that was selected
is the effect of selecting it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import polars as pl

from experiments.analysis.best_hyperparameters import best_known
from experiments.analysis.intervals import Answer, Interval, median_best_of, median_of_searches
from experiments.analysis.question import SEARCH, TRIAL, StudyRecord
from experiments.analysis.regimes import Points
from experiments.analysis.view import View, by_trial
from experiments.spec.trial import Status
from workloads.base import Goal

CONFIGURATIONS = "configurations"
"""Field of the study.json of repeats: what was chosen at each batch size, in the order of choice.

``trial`` of a repeat is the place of its configuration among those of its batch size.
"""


@dataclasses.dataclass(frozen=True)
class Configuration:
    """Hyperparameters that were the best of a batch size over all searches.

    Attributes:
      batch_size: examples per step.
      seed, trial: of the trial that selected it.
      steps: its steps to the goal; None where it did not get there (its best value selected it).
      hyperparameters: name -> number.
    """

    batch_size: int
    seed: int
    trial: int
    steps: int | None
    hyperparameters: Mapping[str, float]

    @property
    def key(self) -> tuple[int, int, int]:
        """That of the trial that selected it."""
        return (self.batch_size, self.seed, self.trial)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Configuration:
        """As `dataclasses.asdict` wrote it."""
        return cls(**data)


def best_configurations(
    view: View, table: pl.DataFrame, best: pl.DataFrame
) -> tuple[Configuration, ...]:
    """The best configuration of each batch size, pooled over the searches.

    Args:
      table: rows of `steps_to_result`.
      best: rows of `best_trials`.
    """
    held = view.record.trials.columns
    names = [name for name in view.question.hyperparameters if name in held]
    chosen = best_known(table, best, view.goal.sign).sort("batch_size")
    values = view.record.trials.select(*TRIAL, *names)
    rows = chosen.select(*TRIAL, "steps_to_result").join(values, on=TRIAL, how="left")
    return tuple(
        Configuration(
            row["batch_size"],
            row["seed"],
            row["trial"],
            row["steps_to_result"],
            {name: row[name] for name in names},
        )
        for row in rows.sort("batch_size").iter_rows(named=True)
    )


@dataclasses.dataclass(frozen=True)
class Repeated:
    """The answers of a study's repeats.

    Attributes:
      table: one row a batch size whose configuration was repeated: ``batch_size``; ``seed, trial``
        of the trial that selected it; ``selected``, its steps; ``wanted`` and ``ended`` repeats;
        ``diverged`` and ``never`` (not there in their length); ``median`` of the ended ones, null
        where it is infinite or none has ended; ``low, high, coverage``, the exact interval, null
        until all have ended; ``selection``, median over selected; ``stale``, whether the searches
        have since found a better one.
      trials: one row a repeat of those configurations: ``batch_size, seed, steps_to_result,
        evaluated_before``, null where it never got there, and ``status``.
    """

    table: pl.DataFrame
    trials: pl.DataFrame

    @property
    def finished(self) -> bool:
        """Tell whether every repeat has ended."""
        return bool((self.table["ended"] == self.table["wanted"]).all())

    @property
    def curves(self) -> tuple[Points, ...]:
        """The points of each fresh seed that ended at every batch size: a curve without tuning."""
        sizes = self.table["batch_size"].to_numpy().astype(float)
        found = []
        for rows in self.trials.sort("batch_size").partition_by("seed"):
            if len(rows) == len(sizes):
                steps = rows["steps_to_result"].cast(pl.Float64).fill_null(math.inf)
                found.append((sizes, steps.to_numpy()))
        return tuple(found)


def repeated(
    record: StudyRecord, goal: Goal, newest: tuple[Configuration, ...] = ()
) -> Repeated | None:
    """The repeats in ``record`` for a goal; None where it chose no configuration, or for another
    goal than the one its trials stopped at.

    Args:
      record: the record of repeats (`StudyRecord.repeats` of a study's).
      goal: that of the study, or another.
      newest: what the searches would select now.
    """
    view = View(record, goal)
    chosen = selected(record.study)
    if not chosen or not view.all_answer:
        return None
    trials = _ended(view, {b: place for b, (place, _) in chosen.items()})
    now = {configuration.batch_size: configuration.key for configuration in newest}
    rows = []
    for batch_size, (_, configuration) in chosen.items():
        own = trials.filter(pl.col("batch_size") == batch_size)
        answers = [_answer(*row) for row in own.select(_ANSWER).iter_rows()]
        wanted = len(view.question.seeds)
        median = median_of_searches(answers) if answers else math.inf
        interval = median_best_of(1, answers) if len(answers) == wanted else None
        rows.append(
            {
                "batch_size": batch_size,
                "seed": configuration.seed,
                "trial": configuration.trial,
                "selected": configuration.steps,
                "wanted": wanted,
                "ended": len(answers),
                "diverged": int((own["status"] == Status.INFEASIBLE).sum()),
                "never": sum(math.isinf(answer.high) for answer in answers),
                "median": median if math.isfinite(median) else None,
                **_columns(interval),
                "selection": median / configuration.steps
                if configuration.steps and math.isfinite(median)
                else None,
                "stale": now.get(batch_size, configuration.key) != configuration.key,
            }
        )
    floats = ("median", "low", "high", "coverage", "selection")
    schema = {name: pl.Float64 if name in floats else pl.Int64 for name in rows[0]}
    table = pl.DataFrame(rows, schema=schema | {"stale": pl.Boolean}).sort("batch_size")
    return Repeated(table, trials.drop("trial", "steps"))


def selected(study: Mapping[str, Any]) -> dict[int, tuple[int, Configuration]]:
    """Batch size -> (place, configuration) of those that were chosen last."""
    found: dict[int, tuple[int, Configuration]] = {}
    for data in study.get(CONFIGURATIONS, []):
        configuration = Configuration.from_json(data)
        place = found[configuration.batch_size][0] + 1 if configuration.batch_size in found else 0
        found[configuration.batch_size] = (place, configuration)
    return found


_ANSWER = ("status", "steps", "steps_to_result", "evaluated_before")


def _ended(view: View, places: Mapping[int, int]) -> pl.DataFrame:
    """The repeats of the configurations at these places, with their steps to the goal."""
    wanted = pl.DataFrame(
        list(places.items()), schema={"batch_size": pl.Int64, "trial": pl.Int64}, orient="row"
    )
    trials = view.record.trials.join(wanted, on=["batch_size", "trial"], how="semi")
    trials = trials.filter(
        pl.col("seed").is_in(list(view.question.seeds)), pl.col("status") != Status.INCOMPLETE
    )
    passed = by_trial(view.measurements(), view.first_past_the_goal())
    passed = passed.with_columns(pl.col("passed_step", "evaluated_before").cast(pl.Int64))
    kept = pl.col("status") != Status.INFEASIBLE
    return (
        trials.select(*TRIAL, "status", "steps")
        .join(passed, on=TRIAL, how="left")
        .with_columns(pl.when(kept).then("passed_step").alias("steps_to_result"))
        .with_columns(pl.when(pl.col("steps_to_result").is_not_null()).then("evaluated_before"))
        .drop("passed_step")
        .sort(SEARCH)
    )


def _answer(status: str, steps: int, passed: int | None, before: int | None) -> Answer:
    """A divergence never gets there; one that did not in its length needs more steps than it."""
    if passed is not None:
        return Answer(float(before or 0), float(passed))
    return Answer(math.inf if status == Status.INFEASIBLE else float(steps), math.inf)


def _columns(interval: Interval | None) -> dict[str, float | None]:
    if interval is None:
        return dict.fromkeys(("low", "high", "coverage"))
    return {"low": interval.low, "high": interval.high, "coverage": interval.coverage}
