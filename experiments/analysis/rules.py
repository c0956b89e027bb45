"""Cost of a rule for a change of batch size, had it been followed in place of tuning again.

A rule (`schedules.rescaling`) takes the best hyperparameters of one batch size B0 to another, B.
The steps it needs there are interpolated from the trials of B, log steps linearly between those
around the point (Delaunay simplices, positions on the scales that were searched). Nothing is
extrapolated: outside the trials, or where the rule changes what was not searched, the steps are not
known; beside a trial that did not get there they are known from below alone.

    regret(rule, B0, B) = steps by the rule at B / fewest steps of the search at B - 1

Interpolation cannot lie below the best trial, so the regret is at least 0; of a convex surface it
lies above the truth. Every search is judged by its own trials alone, from its own best at B0, so
the exact range of R searches holds. Trained trials of a rule (`batchscale run --rule`) are compared
in `measured_regret`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from experiments.analysis.intervals import (
    NO_ANSWER,
    Answer,
    Interval,
    median_of_searches,
    range_of_searches,
)
from experiments.analysis.question import SEARCH, TRIAL, Question
from experiments.analysis.searches import answering, search_answer, trial_answers
from experiments.analysis.steps_to_result import crossings, steps_to_result
from experiments.analysis.view import View
from experiments.spec.space import Choice
from experiments.spec.trial import Status
from schedules.rescaling import DECAYS_PER_STEP, RULES, rescale

WITHIN = 0.1
"""Regret up to which a rule does as well as tuning again."""
MOST_DIMENSIONS = 4
"""Searched numbers between which trials are interpolated; a simplex of more has many corners."""


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
class Surface:
    """The trials of one batch size as a surface of steps over the search space.

    Attributes:
      names: searched numbers, the coordinates of ``points``.
      points: [n, d] positions of the trials.
      answers: steps to the goal of each.
      trials: their hyperparameters, rows of the trials table.
    """

    names: tuple[str, ...]
    points: np.ndarray
    answers: Sequence[Answer]
    trials: pl.DataFrame

    def column(self, name: str) -> np.ndarray:
        """[n] one hyperparameter of the trials."""
        return self._columns[name]

    @functools.cached_property
    def _columns(self) -> dict[str, np.ndarray]:
        names = [name for name in self.trials.columns if name not in TRIAL]
        return {name: self.trials[name].to_numpy().astype(float) for name in names}

    def best(self) -> Answer:
        """The fewest steps of any trial."""
        return search_answer(self.answers)

    def at(self, point: np.ndarray) -> Answer:
        """The steps interpolated at ``point`` [d]; NO_ANSWER outside the trials."""
        corners, weights = self._around(point)
        if not len(corners):
            return NO_ANSWER
        used = [(self.answers[i], w) for i, w in zip(corners, weights, strict=True) if w > 1e-9]
        if any(math.isinf(answer.high) for answer, _ in used):
            return Answer(max(min(answer.low for answer, _ in used), 1.0), math.inf)
        steps = 2 ** sum(w * math.log2(answer.high) for answer, w in used)
        return Answer.exactly(float(steps))

    def _around(self, point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(corners of the simplex of trials around a point, their weights), empty for none."""
        none = np.array([], int), np.array([])
        dimensions = self.points.shape[1]
        if not 1 <= dimensions <= MOST_DIMENSIONS or len(self.points) <= dimensions:
            return none
        if dimensions == 1:
            return self._between(point[0])
        if self._mesh is None:
            return none
        simplex = int(self._mesh.find_simplex(point[None])[0])
        if simplex < 0:
            return none
        matrix = self._mesh.transform[simplex]
        first = matrix[:dimensions] @ (point - matrix[dimensions])
        return self._mesh.simplices[simplex], np.append(first, 1 - first.sum())

    def _between(self, at: float) -> tuple[np.ndarray, np.ndarray]:
        """The two trials on either side of a point of a line."""
        order = np.argsort(self.points[:, 0], kind="stable")
        line = self.points[order, 0]
        if not line[0] - 1e-9 <= at <= line[-1] + 1e-9:
            return np.array([], int), np.array([])
        after = int(np.clip(np.searchsorted(line, at), 1, len(line) - 1))
        gap = line[after] - line[after - 1]
        share = min(max((at - line[after - 1]) / gap, 0.0), 1.0) if gap > 0 else 0.0
        return order[[after - 1, after]], np.array([1 - share, share])

    @functools.cached_property
    def _mesh(self) -> Any:
        """The simplices between the trials; None where all lie on one line or plane."""
        from scipy.spatial import Delaunay, QhullError

        try:
            return Delaunay(self.points)
        except QhullError:
            return None


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
    searches: Mapping[tuple[int, int], Surface]
    pooled: Mapping[int, Surface]
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
        self, surface: Surface, start: Mapping[str, float], rule: str, base: int, batch_size: int
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
        chosen = Surface(surface.names, surface.points[kept], answers, rows.filter(pl.Series(kept)))
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
    found = answering(view, table)
    searches = {
        (int(b), int(s)): _surface(question, names, group, answers)
        for (b, s), group in shown.partition_by(SEARCH, as_dict=True).items()
        if s in found["seed"]
    }
    pooled = {
        int(b): _surface(question, names, group, answers)
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
) -> Surface:
    def position(name: str, value: float) -> float:
        return question.space[name].position(value)

    places = [[position(name, value) for value in rows[name]] for name in names]
    points = np.array(places).T.reshape(len(rows), len(names))
    own = [answers.get(key, Answer(0.0, math.inf)) for key in rows.select(TRIAL).iter_rows()]
    return Surface(names, points, own, rows)


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
