"""The schedule of rounds: how many trials each takes, and how long they may be.

A round goes over all batch sizes at once and begins when the one before has ended. How many
trials it takes at a batch size follows from what has ended there alone, so a study that grows
appends rounds, and a batch size that joins later begins with its own first share in the next
round. Nothing that is recorded is computed again.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping


@dataclasses.dataclass(frozen=True)
class RoundProgress:
    """Counts of what has ended at a batch size.

    Attributes:
      started: trials of earlier rounds.
      counted: those of them that count among the N (not infeasible, not failed).
      replaced: those of the last round that do not count.
    """

    started: int = 0
    counted: int = 0
    replaced: int = 0


def counts(
    total: int,
    progress: Mapping[int, RoundProgress],
    *,
    adaptive: bool,
    exhausted: Iterable[int] = (),
) -> dict[int, int]:
    """Batch size -> trials of the next round; one that wants no more is left out.

    The first round of an adaptive sampler takes ceil(N/3), later ones N/6, at least one trial;
    the blocks of other samplers, which serve as rounds for the race, N/6 from the first on.
    Trials of the last round that do not count are replaced in this one, up to 4 N started in all.

    Args:
      total: N, trials that are to count at each batch size.
      progress: of every batch size of the study; a new one's is `RoundProgress()`.
      adaptive: whether the sampler learns from earlier rounds.
      exhausted: batch sizes whose finite space has no point left.

    Raises:
      ValueError: total below 1.
    """
    if total < 1:
        raise ValueError(f"trials must be at least 1, got {total!r}")
    spent = set(exhausted)
    found = {}
    for batch_size, done in progress.items():
        first = done.started == 0
        share = -(-total // 3) if first and adaptive else max(1, total // 6)
        wanted = min(share + done.replaced, total - done.counted, 4 * total - done.started)
        if wanted > 0 and batch_size not in spent:
            found[batch_size] = wanted
    return found


def planned(total: int, *, adaptive: bool) -> tuple[int, ...]:
    """Trials of every round at a batch size where none is replaced, e.g. 24 -> 8, 4, 4, 4, 4."""
    sizes: list[int] = []
    while True:
        done = RoundProgress(sum(sizes), sum(sizes))
        following = counts(total, {0: done}, adaptive=adaptive)
        if not following:
            return tuple(sizes)
        sizes.append(following[0])


def race_bound(fewest: float | None, length: int, factor: float) -> int:
    """Steps after which a trial that has not reached the goal stops.

    Args:
      fewest: fewest steps to the goal of this batch size and search in earlier rounds, if any.
      length: the trial's full length.
      factor: the race factor, at least 1.

    Raises:
      ValueError: a factor below 1.
    """
    if not factor >= 1:
        raise ValueError(f"race_factor must be at least 1, got {factor!r}")
    if fewest is None or not math.isfinite(fewest):
        return length
    return min(length, math.ceil(factor * fewest))


PACES = 8
"""Doublings of a paced round: its first lap is 1/256 of the full length."""


def laps(length: int) -> list[int]:
    """Lengths at which a round that has no bound yet pauses: doubling up to ``length``."""
    return sorted({max(1, -(-length // 2**k)) for k in range(PACES + 1)})


def next_lap(reached: int, length: int, fewest: float | None) -> int | None:
    """Steps that a paced round's unfinished trials may make next, or None where it is over.

    All trials of the batch size pause at each lap; those that passed the goal or diverged have
    ended. The round is over at the first lap at which one has passed the goal: the others have
    then made up to twice the fewest steps, and the fewest of all are known exactly. Which steps
    are made so depends on the results alone, not on timing.

    Args:
      reached: steps made so far (the last lap; 0 before the first).
      length: full length.
      fewest: fewest steps to the goal so far in this round, if any trial has passed it.
    """
    if fewest is not None:
        return None
    return next((lap for lap in laps(length) if lap > reached), None)
