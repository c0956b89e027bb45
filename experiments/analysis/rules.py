"""Rules for a change of batch size, and what one would have cost in place of tuning again.

A rule (`schedules.rescaling`) takes the best hyperparameters of one batch size B0 to another, B.
The steps it needs there are interpolated from the trials of B (`trial_surface`); they are not known
where the rule changes what was not searched.

    regret(rule, B0, B) = steps by the rule at B / fewest steps of the search at B - 1

Interpolation cannot lie below the best trial, so the regret is at least 0; of a convex surface it
lies above the truth. Every search is judged by its own trials alone, from its own best at B0, so
the exact range of R searches holds. Trained trials of a rule (`batchscale run --rule`) are compared
in `regret.measured_regret`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
import polars as pl

from experiments.analysis.intervals import NO_ANSWER, Answer
from experiments.analysis.question import SEARCH, TRIAL, Question
from experiments.analysis.searches import answering, trial_answers
from experiments.analysis.steps_to_result import crossings, steps_to_result
from experiments.analysis.trial_surface import TrialSurface
from experiments.analysis.view import View
from experiments.spec.space import Choice
from experiments.spec.trial import Status
from schedules.rescaling import DECAYS_PER_STEP, RULES, rescale


def rules_of(question: Question) -> tuple[str, ...]:
    """The rules that change one of the study's searched hyperparameters, and "none".

    Where a decay per step is searched, the rules for the rate are combined with its half-life too.
    """
    names = set(question.space)
    probe = {name: 0.5 for name in question.hyperparameters}
    found = ["none"]
    for name in RULES:
        changed = rescale(probe, 1, 2, name)
        if any(changed[other] != 0.5 for other in names if other in changed):
            found.append(name)
    if names & set(DECAYS_PER_STEP):
        found += [f"{rate}+half_life" for rate in ("linear", "square_root") if rate in found]
    return tuple(found)


@dataclasses.dataclass(frozen=True)
class Rules:
    """All trials of a study as surfaces, and the best of each search to start a rule from.

    Attributes:
      question: the study.
      searches: (batch size, seed) -> surface of the search's own trials.
      pooled: batch size -> surface of the trials of all searches.
      starts: (batch size, seed) -> hyperparameters of the search's best trial that got there.
      best: batch size -> those of the best trial of all searches.
      seeds: of the searches.
    """

    question: Question
    searches: Mapping[tuple[int, int], TrialSurface]
    pooled: Mapping[int, TrialSurface]
    starts: Mapping[tuple[int, int], Mapping[str, float]]
    best: Mapping[int, Mapping[str, float]]
    seeds: tuple[int, ...]

    @property
    def bases(self) -> list[int]:
        """Batch sizes that a rule can start from."""
        return sorted(self.best)

    @property
    def middle(self) -> int | None:
        """The one in the middle, from which a rule goes both ways; None where there is none."""
        return self.bases[len(self.bases) // 2] if self.best else None

    def pooled_steps(self, rule: str, base: int, batch_size: int) -> Answer:
        """Steps at ``batch_size`` by a rule from the best trial of all searches at ``base``."""
        if base not in self.best or batch_size not in self.pooled:
            return NO_ANSWER
        return self._steps(self.pooled[batch_size], self.best[base], rule, base, batch_size)

    def pooled_regret(self, rule: str, base: int, batch_size: int) -> Answer:
        """That over the fewest steps of any trial there, less one."""
        found = self.pooled_steps(rule, base, batch_size)
        return found if found == NO_ANSWER else _over(found, self.pooled[batch_size].best())

    def regrets(self, rule: str, base: int, batch_size: int) -> list[Answer]:
        """The regret of each search by its own trials, from its own best; one a seed."""
        found = []
        for seed in self.seeds:
            surface = self.searches.get((batch_size, seed))
            start = self.starts.get((base, seed))
            if surface is None or start is None:
                found.append(NO_ANSWER)
                continue
            steps = self._steps(surface, start, rule, base, batch_size)
            found.append(steps if steps == NO_ANSWER else _over(steps, surface.best()))
        return found

    def _steps(
        self,
        surface: TrialSurface,
        start: Mapping[str, float],
        rule: str,
        base: int,
        batch_size: int,
    ) -> Answer:
        taken = rescale(start, base, batch_size, rule)
        space, rows = self.question.space, surface.trials
        kept = np.ones(len(rows), bool)
        for name, value in taken.items():
            if name not in surface.names:
                kept &= np.isclose(surface.column(name), value, rtol=1e-6, atol=1e-12)
        if not kept.any():
            return NO_ANSWER
        point = np.array([space[name].position(taken[name]) for name in surface.names])
        if kept.all():
            return surface.at(point)
        answers = [answer for answer, keep in zip(surface.answers, kept, strict=True) if keep]
        chosen = TrialSurface(
            surface.names, surface.points[kept], answers, rows.filter(pl.Series(kept))
        )
        return chosen.at(point)


def _over(steps: Answer, best: Answer) -> Answer:
    """steps / best - 1; nothing where no trial got there."""
    if math.isinf(best.high):
        return NO_ANSWER
    return Answer(max(steps.low / best.high - 1, 0.0), max(steps.high / best.high - 1, 0.0))


def rules_from(view: View) -> Rules:
    """The surfaces of a study's trials: the counted ones, and those that diverged."""
    passed = crossings(view)
    table = steps_to_result(view)
    question, rows = view.question, view.record.trials
    answers = {
        key: answer
        for (batch_size, seed), own in trial_answers(view, passed).items()
        for key, answer in zip(_keys(passed, batch_size, seed), own, strict=True)
    }
    names = tuple(n for n, d in sorted(question.space.items()) if not isinstance(d, Choice))
    hyperparameters = [name for name in question.hyperparameters if name in rows.columns]
    diverged = pl.col("status") == Status.INFEASIBLE.value
    counted = passed.select(TRIAL)
    shown = pl.concat([counted, rows.filter(diverged).join(counted, on=TRIAL, how="anti")
                       .select(TRIAL)]).sort(TRIAL)  # fmt: skip
    shown = shown.join(rows.select(*TRIAL, *hyperparameters), on=TRIAL, how="left").sort(TRIAL)
    shown = shown.drop_nulls(names)  # an archive's batch sizes may have searched other numbers
    found = answering(view, table)
    searches = {
        (int(b), int(s)): _surface(question, names, group, answers)
        for (b, s), group in shown.partition_by(SEARCH, as_dict=True).items()
        if s in found["seed"]
    }
    pooled = {
        int(b): _surface(question, names, group, answers)
        if group["seed"].n_unique() > 1 or (int(b), group["seed"][0]) not in searches
        else searches[int(b), group["seed"][0]]
        for (b,), group in shown.partition_by("batch_size", as_dict=True).items()
    }
    reached = found.drop_nulls("steps_to_result").join(
        rows.select(*TRIAL, *hyperparameters), on=TRIAL, how="left"
    )
    starts = {
        (row["batch_size"], row["seed"]): {name: row[name] for name in hyperparameters}
        for row in reached.iter_rows(named=True)
    }
    best = {
        row["batch_size"]: {name: row[name] for name in hyperparameters}
        for row in reached.sort("steps_to_result", "seed", descending=[True, True]).iter_rows(
            named=True
        )
    }
    return Rules(question, searches, pooled, starts, best, question.seeds)


def _keys(passed: pl.DataFrame, batch_size: int, seed: int) -> list[tuple[int, int, int]]:
    own = passed.filter((pl.col("batch_size") == batch_size) & (pl.col("seed") == seed))
    return [(batch_size, seed, trial) for trial in own.sort("trial")["trial"]]


def _surface(
    question: Question,
    names: tuple[str, ...],
    rows: pl.DataFrame,
    answers: Mapping[tuple[int, int, int], Answer],
) -> TrialSurface:
    def position(name: str, value: float) -> float:
        return question.space[name].position(value)

    places = [[position(name, value) for value in rows[name]] for name in names]
    points = np.array(places).T.reshape(len(rows), len(names))
    own = [answers.get(key, Answer(0.0, math.inf)) for key in rows.select(TRIAL).iter_rows()]
    return TrialSurface(names, points, own, rows)
