"""A search over a user's own trials as far as it is known: points, and what each has measured."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np

from experiments.analysis.search_record import ONE, PUT_ASIDE, Searched
from experiments.records.store import Record
from experiments.runner.search_objectives import Origin, TrialJob
from experiments.runner.search_told import Indices, Points, Told, ToldTrials
from experiments.search.fidelity import Pruner
from experiments.search.record import Round
from experiments.search.samplers.base import Outcome, Seen
from experiments.spec.conditions import ConditionalSpace, recorded
from experiments.spec.space import Value
from experiments.spec.trial import Reason, Status, Trial, TrialResult
from experiments.spec.user_search import Proposer
from optimizers.coordinates import COORDINATES, Coordinate


@dataclasses.dataclass(frozen=True)
class SearchQuestion:
    """The question of a search, as its loop needs it.

    Attributes:
      space: searched hyperparameters.
      trials: N, started in all.
      sampler, seed: who proposes.
      pruner: with R, the resource of a full trial.
      patience: resources without an improvement by more than ``min_delta`` that end a trial.
      column: of the evaluations that decides.
      lengths: batch size -> steps after each resource, ascending.
      identity: of the record.
      batch_size: of a trial that does not search it.
      proposer: instead of the sampler, where there is one.
      further: resources that a trial trains which begins with another's weights.
      coordinates: in which the optimum moves least, for samplers that model where it lies.
    """

    space: ConditionalSpace
    trials: int
    sampler: str
    seed: int
    pruner: Pruner
    patience: int | None
    min_delta: float
    column: str
    lengths: Callable[[int], list[int]]
    identity: str
    batch_size: int
    proposer: Proposer | None = None
    further: int | None = None
    coordinates: tuple[Coordinate, ...] = COORDINATES

    @property
    def sign(self) -> int:
        """1 where a lower value is better, -1 where a higher one is."""
        return 1 if self.pruner.minimize else -1

    def trial(self, index: int, values: Mapping[str, Value], parent: int | None = None) -> Trial:
        """A trial as it is recorded; ``parent`` is the one whose weights it begins with."""
        batch_size = int(values.get("batch_size", self.batch_size))
        plain: dict[str, Any] = {
            name: recorded(self.space.ranges[name], value)
            for name, value in values.items()
            if name != "batch_size"
        }
        inherited = [] if parent is None else [parent]
        text = json.dumps([self.identity, index, batch_size, plain, *inherited], sort_keys=True)
        lengths = self.lengths(batch_size)
        resource = len(lengths) if parent is None else self.further
        assert resource is not None, "only a search that inherits has parents"
        return Trial(
            batch_size,
            self.seed,
            index,
            lengths[resource - 1],
            plain,
            hashlib.sha256(text.encode()).hexdigest()[:32],
            patience=self.patience,
            min_delta=self.min_delta,
        )


class Known:
    """The points of a search and the results of its trials. Not thread-safe.

    Args:
      question: what is asked.

    Attributes:
      points: of the trials 0, 1, 2, ...
      parents: trial -> the one whose weights it begins with; of those that do.
      results: index -> all that a trial has measured, until it is final and recorded; put aside,
        it is STOPPED for now.
      final: trials of which no more is to come.
    """

    def __init__(self, question: SearchQuestion):
        self._question = question
        self.points = Points(len(question.space.ranges))
        self.parents: dict[int, int] = {}
        self.results: dict[int, TrialResult] = {}
        self.final = Indices()
        self._told: dict[int, Told] = {}  # of trials that are not final, or not recorded
        self._kept = ToldTrials()

    def take(self, result: TrialResult) -> None:
        """Take all that a trial has measured so far."""
        self.results[result.trial.index] = result
        self._told[result.trial.index] = Told.of(result, self._question.column)

    def recorded(self, index: int) -> None:
        """Keep of a trial that is on disk for good only what others are compared with."""
        if index in self.final:
            self.results.pop(index, None)
            if (told := self._told.pop(index, None)) is not None:
                self._kept[index] = told

    def add(self, found: Round) -> int:
        """Take the points of a round; how many they are."""
        points = found.proposal.points.get(ONE, ())
        for index, parent in enumerate(found.proposal.parents.get(ONE, ()), len(self.points)):
            if parent is not None:
                self.parents[index] = parent
        self.points.extend(points)
        return len(points)

    def take_up(self, record: Record) -> None:
        """Take what a record holds of the trials: those put aside are known as far as they came."""
        searched = Searched.of(record)
        rows = searched.record.trials.rows(named=True)
        scanned = record.scan("evaluations")
        assert scanned is not None, "a record always has the table"
        tables = scanned.sort("step").collect().partition_by("trial", as_dict=True)
        for row in rows:
            index = row["trial"]
            put_aside = row["message"].startswith(PUT_ASIDE)
            if row["status"] == Status.INCOMPLETE and not put_aside:
                continue
            table = tables.get((index,))
            columns = [] if table is None else [c for c in table.columns if _measures(c)]
            evaluations = {name: table[name].to_numpy() for name in columns}  # type: ignore[index]
            status = Status.STOPPED if put_aside else Status(row["status"])
            reason = "pruned" if put_aside else (row["reason"] or "")
            result = TrialResult(
                self.trial(index), status, row["steps"], evaluations, None, row["seconds"], 0,
                row["message"], reason=cast("Reason", reason),
            )  # fmt: skip
            self.take(result)
            if not put_aside:
                self.final.add(index)
                self.recorded(index)

    def values(self, index: int) -> dict[str, Value]:
        """The hyperparameters of a trial, those that exist."""
        names = sorted(self._question.space.ranges)
        return self._question.space.sample(dict(zip(names, self.points[index], strict=True)))

    def trial(self, index: int) -> Trial:
        """A trial, at its point."""
        return self._question.trial(index, self.values(index), self.parents.get(index))

    def job(self, index: int, target: int) -> TrialJob:
        """The job that trains a trial up to a resource."""
        known = self.results.get(index)
        found = known.evaluations if known is not None else {}
        return TrialJob(
            self.trial(index),
            self.values(index),
            target,
            np.asarray(found.get("step", ()), np.int64),
            np.asarray(found.get(self._question.column, ()), float),
            self.origin(index),
        )

    def origin(self, index: int) -> Origin | None:
        """The trial whose weights one begins with; None where it begins anew."""
        parent = self.parents.get(index)
        if parent is None:
            return None
        return Origin(self.trial(parent), self.values(parent), self.origin(parent))

    def _of(self, index: int) -> Told | None:
        told = self._told.get(index)
        return self._kept.get(index) if told is None else told

    def curve(self, index: int, resource: int) -> list[float] | None:
        """The values of a trial at resources 1 .. ``resource``; see `fidelity.Curve`."""
        told = self._of(index)
        if told is None:
            return None
        if told.status in (Status.INFEASIBLE, Status.INCOMPLETE):
            return [math.nan] * resource
        grid = self._question.lengths(told.batch_size)
        over = told.status == Status.COMPLETE or told.reason == "patience"
        if not over and told.steps < grid[resource - 1]:
            return [math.nan] * resource if index in self.final else None
        at = dict(zip(told.at, told.values, strict=True))
        return [at.get(step, math.nan) for step in grid[:resource]]

    def seen(self) -> tuple[Seen, ...]:
        """All trials as a sampler is told of them: a pruned one is worse than its best value."""
        found = []
        for index, point in enumerate(self.points):
            told = self._of(index)
            values = [] if told is None else told.finite
            if told is None or not values or index not in self.final:
                found.append(Seen(ONE, index, point, "infeasible"))
                continue
            value = min(self._question.sign * value for value in values)
            outcome: Outcome = "censored" if told.reason == "pruned" else "reached"
            found.append(Seen(ONE, index, point, outcome, value))
        return tuple(found)


def _measures(column: str) -> bool:
    return column in ("step", "examples") or "/" in column
