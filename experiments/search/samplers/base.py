"""The protocol of a sampler: what one search has seen -> the points of its next round.

    propose(ask) -> proposal

A search is one seed of a study. Its rounds go over all batch sizes at once: round r is asked for
when every trial of the rounds before it has ended, so its points are a function of (seed, r, the
results of earlier rounds of this seed) and of nothing else; neither timing nor workers nor a
resume changes them. A sampler never sees another seed's trials: replicate searches stay
independent. Once recorded, a round is never computed again.

A point is a tuple of positions, one a hyperparameter, in the alphabetical order of their names.
Positions are those of the study's own space (`experiments.spec.space`): 0 and 1 are the ends of
its ranges; a box that was widened reaches beyond them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import numpy as np

from experiments.spec.conditions import Condition, ConditionalSpace
from experiments.spec.space import Distribution
from optimizers.coordinates import COORDINATES, Coordinate

Point = tuple[float, ...]
Box = tuple[tuple[float, float], ...]
"""(low, high) positions a hyperparameter, in the order of a point."""
Outcome = Literal["reached", "censored", "infeasible"]


@dataclasses.dataclass(frozen=True)
class Seen:
    """A trial that has ended, as a sampler is told of it.

    Attributes:
      batch_size: examples per step.
      index: 0, 1, 2, ... within its batch size, in the order of the sampler.
      point: where it was.
      outcome: "reached": ``value`` is exact. "censored": the true one is above ``value`` (the
        goal was not reached at its last evaluation, for whatever reason it ended).
        "infeasible": it diverged or failed; ``value`` says nothing.
      value: steps to the goal, or any number of which less is better.
    """

    batch_size: int
    index: int
    point: Point
    outcome: Outcome
    value: float = math.inf


@dataclasses.dataclass(frozen=True)
class Ask:
    """All that a sampler may look at.

    Attributes:
      seed: the search's.
      round: 0, 1, 2, ...
      total: trials that the search is to make at each batch size (N).
      space: name -> distribution; the same at every batch size.
      counts: batch size -> points wanted in this round.
      seen: all trials of earlier rounds of this seed.
      boxes: batch size -> box of its last round; one that is missing is the whole space.
      limits: name -> (low, high) values a box may be widened to; none: it may not be.
      log_values: whether values are compared by ratios (steps are) or by differences.
      conditions: hyperparameters that exist only sometimes -> when.
      coordinates: in which the optimum moves least, as the optimizer declares them.
    """

    seed: int
    round: int
    total: int
    space: Mapping[str, Distribution]
    counts: Mapping[int, int]
    seen: Sequence[Seen] = ()
    boxes: Mapping[int, Box] = dataclasses.field(default_factory=dict)
    limits: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    log_values: bool = True
    conditions: Mapping[str, Condition] = dataclasses.field(default_factory=dict)
    coordinates: Sequence[Coordinate] = COORDINATES

    @property
    def names(self) -> tuple[str, ...]:
        """Hyperparameters in the order of a point."""
        return tuple(sorted(self.space))

    def canonical(self, point: Sequence[float] | np.ndarray) -> Point:
        """The point with what does not exist there in the middle of its range."""
        return ConditionalSpace(self.space, self.conditions).canonical(point)

    def box(self, batch_size: int) -> Box:
        """The box of a batch size so far."""
        return self.boxes.get(batch_size, ((0.0, 1.0),) * len(self.space))

    def of(self, batch_size: int) -> list[Seen]:
        """Trials of a batch size in the order of their indices."""
        found = [trial for trial in self.seen if trial.batch_size == batch_size]
        return sorted(found, key=lambda trial: trial.index)

    @property
    def in_order(self) -> list[Seen]:
        """All trials, by batch size and index: the order in which they ended never matters."""
        return sorted(self.seen, key=lambda trial: (trial.batch_size, trial.index))


@dataclasses.dataclass(frozen=True)
class Proposal:
    """A round's points, for the record.

    Attributes:
      points: batch size -> points; fewer than wanted where a finite space is exhausted.
      boxes: batch size -> the box they were taken from.
      sources: batch size -> who proposed each point (e.g. "quasi-random", "model").
      exhausted: batch sizes at which every point of a finite space has been proposed.
      parents: batch size -> the trial whose weights each point's begins with, or None; only of a
        search in which weights are inherited.
    """

    points: Mapping[int, tuple[Point, ...]]
    boxes: Mapping[int, Box]
    sources: Mapping[int, tuple[str, ...]]
    exhausted: frozenset[int] = frozenset()
    parents: Mapping[int, tuple[int | None, ...]] = dataclasses.field(default_factory=dict)


class Sampler(Protocol):
    """A pure function; the table is `experiments.search.samplers.table`."""

    def __call__(self, ask: Ask) -> Proposal:
        """The points of round ``ask.round``."""
        ...


def excesses(ask: Ask, trials: Sequence[Seen], *, worst: float = 6.0) -> np.ndarray:
    """[len(trials)] how much worse than the best of its batch size each trial is; 0 is the best.

    Of steps, log2(value / best); of other values, the difference over its median. A censored
    trial is taken to be one unit above its bound; what diverged, and every trial of a batch size
    where none has reached the goal, has ``worst``, which is also the most that any has.
    """
    best: dict[int, float] = {}
    for trial in ask.seen:
        if trial.outcome == "reached":
            best[trial.batch_size] = min(best.get(trial.batch_size, math.inf), trial.value)
    found = np.full(len(trials), np.inf)
    for row, trial in enumerate(trials):
        if trial.batch_size in best and trial.outcome != "infeasible":
            low = best[trial.batch_size]
            found[row] = math.log2(trial.value / low) if ask.log_values else trial.value - low
    if not ask.log_values:
        positive = found[np.isfinite(found) & (found > 0)]
        found = found / (float(np.median(positive)) if len(positive) else 1.0)
    censored = np.array([trial.outcome == "censored" for trial in trials], bool)
    return np.minimum(np.maximum(found, 0.0) + censored, worst)
