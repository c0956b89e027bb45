"""Rules by which trials stop early: how far one may go, and what it has shown by then.

A bound, or a lap, is known before a trial starts, so whoever trains it needs to ask nobody. What a
sampler is told of a trial is what it has shown by its bound, however long it was trained.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable

from experiments.search import rounds
from experiments.search.pacing import last_lap
from experiments.search.record import Ended
from experiments.search.samplers.base import Outcome
from experiments.spec.resolved import ResolvedStudy
from experiments.spec.trial import Status


def bound_after(study: ResolvedStudy, batch_size: int, earlier: Iterable[int | None]) -> int | None:
    """Return the steps after which the race ends a trial; None: its own length comes first.

    Args:
      study, batch_size: of the trial.
      earlier: steps to the goal of the trials of earlier rounds, None where it was not reached.
    """
    fewest = min((steps for steps in earlier if steps is not None), default=None)
    length = study.length(batch_size)
    bound = rounds.race_bound(fewest, length, study.race_factor)
    return bound if bound < length else None


def bound_within(study: ResolvedStudy, batch_size: int, passed: Iterable[int | None]) -> int | None:
    """Return the steps after which a round ends before which none had passed the goal; None:
    its trials' own length comes first.

    Args:
      study, batch_size: of the trials.
      passed: steps to the goal of the trials of that round, None where it was not reached.
    """
    length = study.length(batch_size)
    last = last_lap(length, passed)
    return last if last is not None and last < length else None


def shown(
    study: ResolvedStudy, batch_size: int, how: Ended, bound: int | None
) -> tuple[Outcome, float]:
    """Return what a sampler is told of a trial: its steps to the goal, or more than its last.

    Where trials stop, of every trial what it shows by then, before it diverges.

    Args:
      study, batch_size: of the trial.
      how: how it ended.
      bound: steps after which the race ends it, if it does.
    """
    if how.status == Status.INCOMPLETE:
        return "infeasible", math.inf
    diverged = how.status == Status.INFEASIBLE
    if diverged and study.stop == "never":
        return "infeasible", math.inf
    if how.passed is not None and (bound is None or how.passed <= bound):
        return "reached", float(how.passed)
    if diverged and (bound is None or how.steps <= bound):
        return "infeasible", math.inf
    if bound is None or how.last <= bound:
        return "censored", float(how.last)
    grid = study.grid(study.length(batch_size))
    return "censored", float(grid[bisect.bisect_right(grid, bound) - 1])
