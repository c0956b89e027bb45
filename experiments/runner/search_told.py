"""The little that a search keeps of every trial: some 70 bytes, in arrays of numbers.

An array of whole numbers or of float64 gives back to the bit what was put in.
"""

from __future__ import annotations

import dataclasses
import math
from array import array
from collections.abc import Iterable, Iterator
from typing import get_args

from experiments.search.samplers.base import Point
from experiments.spec.trial import Reason, Status, TrialResult

_STATUSES, _REASONS = tuple(Status), get_args(Reason)


@dataclasses.dataclass(frozen=True, slots=True)
class Told:
    """A trial as pruners and samplers are told of it.

    Attributes:
      status, reason, steps: as of a `TrialResult`.
      batch_size: of the trial.
      at, values: steps of its evaluations, and the values that decide there.
    """

    status: Status
    reason: Reason
    steps: int
    batch_size: int
    at: tuple[int, ...]
    values: tuple[float, ...]

    @classmethod
    def of(cls, result: TrialResult, column: str) -> Told:
        """Of a result; values in this column of its evaluations."""
        at = tuple(map(int, result.evaluations.get("step", ())))
        values = result.evaluations.get(column, (math.nan,) * len(at))
        return cls(
            result.status, result.reason, result.steps, result.trial.batch_size, at,
            tuple(map(float, values)),
        )  # fmt: skip

    @property
    def finite(self) -> list[float]:
        """The values that count: finite ones, of a trial that neither diverged nor failed."""
        if self.status not in (Status.COMPLETE, Status.STOPPED):
            return []
        return [value for value in self.values if math.isfinite(value)]


class ToldTrials:
    """Trials 0, 1, 2, ... as pruners and samplers are told of them, each once it is final."""

    def __init__(self) -> None:
        self._ends = bytearray()  # two a trial: 1 + place of its status, place of its reason
        self._numbers = array("q")  # four a trial: steps, batch size, first evaluation, how many
        self._at, self._values = array("q"), array("d")  # one an evaluation

    def __setitem__(self, index: int, told: Told) -> None:
        missing = max(0, index + 1 - len(self._ends) // 2)
        self._ends.extend(bytes(2 * missing))
        self._numbers.extend([0] * 4 * missing)
        ends = 1 + _STATUSES.index(told.status), _REASONS.index(told.reason)
        self._ends[2 * index : 2 * index + 2] = bytes(ends)
        numbers = told.steps, told.batch_size, len(self._at), len(told.at)
        self._numbers[4 * index : 4 * index + 4] = array("q", numbers)
        self._at.extend(told.at)
        self._values.extend(told.values)

    def get(self, index: int) -> Told | None:
        """Return what was told of a trial; None where nothing was."""
        status, reason = self._ends[2 * index : 2 * index + 2] or (0, 0)
        if not status:
            return None
        steps, batch_size, first, count = self._numbers[4 * index : 4 * index + 4]
        at, values = self._at[first : first + count], self._values[first : first + count]
        how = _STATUSES[status - 1], _REASONS[reason]
        return Told(*how, steps, batch_size, tuple(at), tuple(values))


class Points:
    """The points of the trials 0, 1, 2, ...

    Args:
      dimensions: positions of a point, at least one.
    """

    def __init__(self, dimensions: int):
        self._dimensions, self._positions = dimensions, array("d")

    def __len__(self) -> int:
        return len(self._positions) // self._dimensions

    def __getitem__(self, index: int) -> Point:
        first = index * self._dimensions
        return tuple(self._positions[first : first + self._dimensions])

    def __iter__(self) -> Iterator[Point]:
        return (self[index] for index in range(len(self)))

    def extend(self, points: Iterable[Point]) -> None:
        """Take the points of the next trials."""
        for point in points:
            self._positions.extend(point)


class Indices:
    """A set of trials, a byte each."""

    def __init__(self) -> None:
        self._inside, self._count = bytearray(), 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, index: int) -> bool:
        return index < len(self._inside) and bool(self._inside[index])

    def add(self, index: int) -> None:
        """Put a trial in; it may be there."""
        self._inside.extend(bytes(max(0, index + 1 - len(self._inside))))
        self._count += not self._inside[index]
        self._inside[index] = 1

    def discard(self, index: int) -> None:
        """Take a trial out, if it is there."""
        if index in self:
            self._inside[index], self._count = 0, self._count - 1
