"""Pruners: who trains to where, decided for a whole population of trials at once.

A resource is a share of a trial's full budget, counted 1 .. R (epochs of a search, R-ths of a
study's length). A population is the trials of one recorded round: a bracket of Hyperband, or all
trials of another pruner. What it decides follows from its trials' values at equal resources,
never from the order in which they came: whoever is killed and started again decides the same.

A trial's value at a resource is the best of its curve up to there. A trial that diverged has none
at any resource, so it ranks last; one that ran out of patience keeps what it had.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from experiments.search.asynchronous import Asynchronous
from experiments.search.extrapolation import BELOW, Extrapolated
from experiments.search.pruning import Rounding, Rung, best_of, hyperband, median_stop, power_floor
from experiments.spec.fields import StudyFields

WORKERS = 8
"""Imagined workers of asynchronous halving: a constant, so that a record does not depend on any
machine."""
PRUNERS = {
    "none": "every trial trains to its full budget",
    "successive_halving": "the best 1/eta of all trials go on from rung to rung",
    "hyperband": "brackets of successive halving, from many short trials to few long ones",
    "asha": "successive halving without waiting for a rung, on a virtual clock",
    "median": "a trial stops once its best is worse than the median of the others' means so far",
    "patience": "a trial stops after so many resources without an improvement",
    "extrapolation": f"a trial stops where P(its end beats earlier rounds) < {100 * BELOW:.0f} %",
}

Curve = Callable[[int, int], Sequence[float] | None]
"""(trial, resource) -> values at resources 1 .. resource, NaN where there is none, as everywhere
beyond where a recorded trial was stopped; None where it has not trained so far and still may."""


@dataclasses.dataclass(frozen=True)
class Pruner:
    """A pruner with its numbers.

    Attributes:
      name: of `PRUNERS`.
      resource: R, of a trial that trains to its full budget.
      eta: one in so many goes on.
      minimize: whether a lower value is better.
      rounding: of Hyperband's brackets.

    Raises:
      ValueError: an unknown name, R below 1, eta below 2.
    """

    name: str
    resource: int
    eta: int = 3
    minimize: bool = True
    rounding: Rounding = "paper"

    def __post_init__(self) -> None:
        if self.name not in PRUNERS:
            raise ValueError(f"pruner must be one of {', '.join(PRUNERS)}, got {self.name!r}")
        power_floor(self.resource, self.eta)

    @classmethod
    def of(cls, study: StudyFields) -> Pruner | None:
        """That of a study; None where it has none.

        Raises:
          ValueError: a pruner without a goal, which says what is better.
        """
        if study.pruner == "none":
            return None
        if study.goal is None:
            raise ValueError(
                f"goal must be stated for pruner {study.pruner!r}, which compares by it; got None"
            )
        return cls(
            study.pruner,
            study.pruner_resource,
            study.pruner_eta,
            study.goal.sign == 1,
            "paper" if study.pruner_rounding == "paper" else "floor_first",
        )

    @property
    def at_once(self) -> bool:
        """Tell whether all trials of a search are one population: asked for before any is known."""
        return self.name in ("successive_halving", "asha", "median")

    @property
    def round_of_brackets(self) -> int:
        """Trials of all brackets of Hyperband, each once."""
        return sum(b[0].trials for b in hyperband(self.resource, self.eta, rounding=self.rounding))

    @property
    def least(self) -> int:
        """Trials of the smallest search: a bracket of Hyperband, or those of which one goes on."""
        if self.name == "hyperband":
            return self._bracket(0)[0].trials
        halves = self.name in ("successive_halving", "asha") and self.resource >= self.eta
        return self.eta if halves else 1

    def following(self, number: int, started: int, trials: int) -> int:
        """Trials of population ``number`` of a search of ``trials``, ``started`` of them by now.

        Of Hyperband a whole bracket, widest first and round again; 0 where it does not fit.
        """
        left = max(0, trials - started)
        if self.name != "hyperband":
            return left
        size = self._bracket(number)[0].trials
        return size if size <= left else 0

    def sizes(self, trials: int) -> list[int]:
        """Trials of every population; the first of a larger search are those of a smaller one."""
        found: list[int] = []
        while size := self.following(len(found), sum(found), trials):
            found.append(size)
        return found

    def _bracket(self, number: int) -> tuple[Rung, ...]:
        brackets = hyperband(self.resource, self.eta, rounding=self.rounding)
        return brackets[number % len(brackets)]

    def rungs(self, number: int, trials: int) -> tuple[Rung, ...]:
        """The rungs of population ``number`` if it has ``trials``; the last is at R."""
        eta, top = self.eta, power_floor(self.resource, self.eta)
        if self.name == "hyperband":
            halvings = top - number % (top + 1)
        elif self.name == "successive_halving":
            halvings = min(top, power_floor(trials, eta))
        elif self.name == "asha":
            halvings = top
        else:
            return (Rung(trials, self.resource),)
        # A population that a finite space could not fill keeps one trial on every rung.
        return tuple(
            Rung(max(1, trials // eta**i), max(1, self.resource * eta**i // eta**halvings))
            for i in range(halvings + 1)
        )

    def cost(self, number: int, trials: int) -> int:
        """Resources that population ``number`` trains at most, over all its trials."""
        made, before = 0, 0
        for rung in self.rungs(number, trials):
            made, before = made + rung.trials * (rung.resource - before), rung.resource
        return made

    def population(self, number: int, trials: int, before: int = 0) -> PrunedPopulation:
        """Population ``number``, of so many trials, after ``before`` of earlier ones."""
        if self.name == "extrapolation":
            return Extrapolating(
                Extrapolated(trials, before, self.resource, minimize=self.minimize)
            )
        if self.name == "median":
            return Median(trials, self.resource, minimize=self.minimize)
        rungs = self.rungs(number, trials)
        if self.name == "asha":
            return Asha(trials, [rung.resource for rung in rungs], self.eta, minimize=self.minimize)
        return Halving(rungs, minimize=self.minimize)

    def check(self, trials: int) -> None:
        """Refuse a search that is smaller than a bracket.

        Raises:
          ValueError: one line.
        """
        if trials >= self.least:
            return
        if self.name == "hyperband":
            raise ValueError(
                f"trials must be at least {self.least}, the first bracket of hyperband with a "
                f"resource of {self.resource} and eta {self.eta}, got {trials}"
            )
        raise ValueError(
            f"trials must be at least {self.least}, of which {self.name} with eta {self.eta} "
            f"promotes one, got {trials}"
        )


def table(pruner: Pruner, trials: int) -> list[tuple[int, int, str]]:
    """(population, its trials, its rungs as "9 @ 1, 3 @ 3, 1 @ 10"), to be shown beforehand."""
    return [
        (number, size, ", ".join(f"{r.trials} @ {r.resource}" for r in pruner.rungs(number, size)))
        for number, size in enumerate(pruner.sizes(trials))
    ]


@dataclasses.dataclass(frozen=True)
class Decision:
    """The decisions by now.

    Attributes:
      jobs: trials that are to train further -> up to which resource in all.
      pruned: trials that never will.
    """

    jobs: Mapping[int, int]
    pruned: frozenset[int] = frozenset()


class PrunedPopulation(Protocol):
    """Trials 0 .. n - 1 that are decided on together."""

    def decide(self, curve: Curve) -> Decision:
        """The decisions that follow from what is known; those made before stay."""
        ...


def value_at(curve: Curve, trial: int, resource: int, minimize: bool) -> float | None:
    """The best of a curve up to ``resource``, NaN where nothing is finite; None: not known yet."""
    found = curve(trial, resource)
    if found is None:
        return None
    finite = [value for value in found if math.isfinite(value)]
    return (min if minimize else max)(finite, default=math.nan)


class Halving:
    """Successive halving: all trials of a rung end it before any goes on."""

    def __init__(self, rungs: Sequence[Rung], *, minimize: bool):
        self._rungs, self._minimize = tuple(rungs), minimize
        self._alive: Sequence[int] = range(rungs[0].trials)
        self._rung = 0
        self._pruned: frozenset[int] = frozenset()

    def decide(self, curve: Curve) -> Decision:
        """The rung's trials that have not ended it, once all have the next rung's."""
        while True:
            resource = self._rungs[self._rung].resource
            values = [value_at(curve, trial, resource, self._minimize) for trial in self._alive]
            missing = [t for t, v in zip(self._alive, values, strict=True) if v is None]
            if missing or self._rung == len(self._rungs) - 1:
                return Decision(dict.fromkeys(missing, resource), self._pruned)
            known = np.array(values, float)
            count = self._rungs[self._rung + 1].trials
            kept = best_of(known, count, minimize=self._minimize) & np.isfinite(known)
            self._pruned |= {t for t, keep in zip(self._alive, kept, strict=True) if not keep}
            self._alive = [t for t, keep in zip(self._alive, kept, strict=True) if keep]
            self._rung += 1


class Asha:
    """Asynchronous halving; trials that were not promoted are pruned once all is over."""

    def __init__(self, trials: int, ladder: Sequence[int], eta: int, *, minimize: bool):
        self._trials, self._top, self._minimize = trials, ladder[-1], minimize
        self._jobs = Asynchronous(
            ladder, trials=trials, workers=WORKERS, eta=eta, minimize=minimize
        )

    def decide(self, curve: Curve) -> Decision:
        """The jobs under way on the virtual clock."""
        jobs = self._jobs.advance(lambda t, r: value_at(curve, t, r, self._minimize))
        if jobs:
            return Decision(dict(jobs))
        top = {job.trial for job in self._jobs.ended if job.resource == self._top}
        return Decision({}, frozenset(range(self._trials)) - top)


class Median:
    """The median rule, for all trials that have not stopped at one resource after the other."""

    def __init__(self, trials: int, resource: int, *, minimize: bool):
        self._resource, self._minimize = resource, minimize
        self._alive = list(range(trials))
        self._at = 1
        self._pruned: frozenset[int] = frozenset()

    def decide(self, curve: Curve) -> Decision:
        """The trials that have not trained to the resource that all are compared at."""
        while True:
            found = [curve(trial, self._at) for trial in self._alive]
            known = [values for values in found if values is not None]
            if len(known) < len(found):
                missing = [t for t, v in zip(self._alive, found, strict=True) if v is None]
                return Decision(dict.fromkeys(missing, self._at), self._pruned)
            if self._at == self._resource:
                return Decision({}, self._pruned)
            stopped = median_stop(np.array(known), minimize=self._minimize)
            self._pruned |= {t for t, stop in zip(self._alive, stopped, strict=True) if stop}
            self._alive = [t for t, stop in zip(self._alive, stopped, strict=True) if not stop]
            self._at += 1


@dataclasses.dataclass(frozen=True)
class Extrapolating:
    """Trials stopped by extrapolation of their curves."""

    trials: Extrapolated

    def decide(self, curve: Curve) -> Decision:
        """The trials that have not trained to their next check."""
        jobs = self.trials.jobs(curve)
        return Decision(jobs, frozenset(self.trials.pruned))


class Populations:
    """The populations of one search at one batch size, in the order of their trials' indices.

    Attributes:
      trials: of all populations.
      pruned: trials that are pruned by now.
    """

    def __init__(self, pruner: Pruner):
        self._pruner = pruner
        self._members: list[tuple[int, PrunedPopulation]] = []  # first index, population
        self.trials = 0
        self.pruned: set[int] = set()

    def add(self, trials: int) -> None:
        """The next round's; its trials follow those of the rounds before."""
        if trials:
            population = self._pruner.population(len(self._members), trials, self.trials)
            self._members.append((self.trials, population))
            self.trials += trials

    def jobs(self, curve: Curve) -> dict[int, int]:
        """Trials that are to train further by what is known -> up to which resource in all."""
        wanted: dict[int, int] = {}
        for first, population in self._members:
            found = population.decide(lambda trial, at, first=first: curve(first + trial, at))  # type: ignore[misc]
            wanted |= {first + trial: resource for trial, resource in found.jobs.items()}
            self.pruned |= {first + trial for trial in found.pruned}
        return wanted
