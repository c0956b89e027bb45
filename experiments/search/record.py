"""Notes that a search writes down of itself: its rounds, and how its trials ended.

A round is recorded before any of its trials starts and never computed again: a resume reads it
back. What a sampler may learn from is how earlier trials ended, found in the same way in a result
and in the record.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.search.samplers.base import Box, Point, Proposal
from experiments.spec.trial import Status, TrialResult
from workloads.base import Goal


@dataclasses.dataclass(frozen=True)
class Round:
    """The points of one round of one search, as study.json holds them under ``rounds``.

    Attributes:
      seed: the search's.
      number: 0, 1, 2, ... within the search.
      proposal: batch size -> points, boxes and sources. The points of a batch size follow those
        of earlier rounds: together they are those of trials 0, 1, 2, ...
    """

    seed: int
    number: int
    proposal: Proposal

    @property
    def counts(self) -> dict[int, int]:
        """Batch size -> points."""
        return {batch_size: len(points) for batch_size, points in self.proposal.points.items()}

    def to_json(self) -> dict[str, Any]:
        """As JSON values; floats come back to the bit."""
        found = self.proposal
        return {
            "seed": self.seed,
            "round": self.number,
            "batch_sizes": {
                str(batch_size): {
                    "points": [list(point) for point in points],
                    "box": [list(ends) for ends in found.boxes[batch_size]],
                    "sources": list(found.sources[batch_size]),
                    "exhausted": batch_size in found.exhausted,
                    **({"parents": list(found.parents[batch_size])} if found.parents else {}),
                }
                for batch_size, points in found.points.items()
            },
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Round:
        """The inverse of `to_json`."""
        sizes = {int(batch_size): rows for batch_size, rows in data["batch_sizes"].items()}
        points = {b: tuple(tuple(point) for point in rows["points"]) for b, rows in sizes.items()}
        boxes: dict[int, Box] = {
            b: tuple((low, high) for low, high in rows["box"]) for b, rows in sizes.items()
        }
        sources = {b: tuple(rows["sources"]) for b, rows in sizes.items()}
        exhausted = frozenset(b for b, rows in sizes.items() if rows["exhausted"])
        parents = {b: tuple(rows["parents"]) for b, rows in sizes.items() if "parents" in rows}
        found = Proposal(points, boxes, sources, exhausted, parents)
        return cls(data["seed"], data["round"], found)


@dataclasses.dataclass(frozen=True)
class Ended:
    """The end of a trial, as far as a search may know.

    Attributes:
      status: of the trial.
      steps: updates made; of an INFEASIBLE trial the step that diverged.
      passed: the first evaluation past the goal (of an INFEASIBLE trial: before it diverged).
      last: its last evaluation; 0 where it has none.
      reason: why it is STOPPED.
      measured: (step, value) of the goal's metric, where a pruner asks for it.
    """

    status: Status
    steps: int = 0
    passed: int | None = None
    last: int = 0
    reason: str = ""
    measured: tuple[tuple[int, float], ...] = ()

    @classmethod
    def of(cls, result: TrialResult, goal: Goal, curve: bool = False) -> Ended:
        """The end of a trial that has just returned."""
        steps = np.asarray(result.evaluations.get("step", ()), np.int64)
        values = np.asarray(result.evaluations.get(goal.column, np.full(len(steps), np.nan)))
        passed = steps[goal.better(values)] if len(steps) else steps
        return cls(
            result.status,
            result.steps,
            int(passed[0]) if len(passed) else None,
            int(steps[-1]) if len(steps) else 0,
            result.reason,
            tuple(zip(steps.tolist(), values.tolist(), strict=True)) if curve else (),
        )


Points = dict[int, list[Point]]
"""Batch size -> the points of its trials 0, 1, 2, ..."""
