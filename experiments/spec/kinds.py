"""Kinds of values that a field of a study holds: what is legal, how it is recorded and read back.

Each kind has three functions. ``check(field, value)`` returns the value in its normal form or
raises a ValueError that names the field, the value and what is allowed, whatever the value's
type. ``record(value)`` returns JSON values; ``read(field, data)`` is its inverse, and raises a
ValueError where the data have another shape. Imports no jax.
"""

from __future__ import annotations

import dataclasses
import math
import re
import shlex
from typing import Any, Protocol

from experiments.spec import parts
from experiments.spec.trial import Precision, Transfer
from experiments.spec.values import CONTROLS, file_name, members, real, refuse, whole
from workloads.base import Goal
from workloads.registry import unknown_name

LONGEST_TEXT = 10_000
_SURROGATE = re.compile("[\ud800-\udfff]")


class Kind(Protocol):
    """A kind of value that a field may hold."""

    def check(self, field: str, value: Any) -> Any:
        """The value in its normal form; ValueError where it is none of this kind."""

    def record(self, value: Any) -> Any:
        """The value as JSON values."""

    def read(self, field: str, data: Any) -> Any:
        """The value that was recorded."""


class _Plain:
    """Values that JSON holds as they are."""

    def record(self, value: Any) -> Any:
        return value

    def read(self, field: str, data: Any) -> Any:
        del field
        return data


class Name(_Plain):
    """The name of a folder."""

    def check(self, field: str, value: Any) -> str:
        return file_name(field, value)


class Text(_Plain):
    """A sentence, or the path of a file."""

    def check(self, field: str, value: Any) -> str:
        plain = isinstance(value, str) and len(value) <= LONGEST_TEXT
        if not plain or CONTROLS.search(value) or _SURROGATE.search(value):
            most = f"Unicode text of at most {LONGEST_TEXT:,} characters without control characters"
            raise refuse(field, most, value)
        return str(value)


@dataclasses.dataclass(frozen=True)
class Words:
    """Words of a command line, in order."""

    def check(self, field: str, value: Any) -> tuple[str, ...]:
        words = members(field, "a tuple of words", value)
        return tuple(Text().check(field, word) for word in words)

    def record(self, value: Any) -> list[str]:
        return list(value)

    def read(self, field: str, data: Any) -> tuple[str, ...]:
        return self.check(field, shlex.split(data) if isinstance(data, str) else data)


class Flag(_Plain):
    """True or False."""

    def check(self, field: str, value: Any) -> bool:
        if not isinstance(value, bool):
            raise refuse(field, "True or False", value)
        return value


@dataclasses.dataclass(frozen=True)
class Whole(_Plain):
    """A whole number in low..high."""

    low: int
    high: int

    def check(self, field: str, value: Any) -> int:
        return whole(field, value, self.low, self.high)


@dataclasses.dataclass(frozen=True)
class RealAbove(_Plain):
    """A number above ``above``, at most ``high``."""

    above: float
    high: float = math.inf

    def check(self, field: str, value: Any) -> float:
        number = value
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            number = real(field, value)
        if self.above < number <= self.high:
            return number
        if self.high == math.inf:
            raise ValueError(f"{field} must exceed {self.above:g}, got {value!r}")
        raise ValueError(f"{field} must lie in ({self.above:g}, {self.high:g}], got {value!r}")


@dataclasses.dataclass(frozen=True)
class Wholes:
    """Several whole numbers in low..high; ``ascending`` ones are sorted and each is kept once."""

    low: int
    high: int
    most: int
    ascending: bool = False
    distinct: bool = False

    def check(self, field: str, value: Any) -> tuple[int, ...]:
        given = members(field, "a tuple of whole numbers", value)
        if not 1 <= len(given) <= self.most:
            what = "batch size" if field == "batch_sizes" else "number"
            raise ValueError(
                f"{field} must hold at least one {what} and at most {self.most:,}, "
                f"got {len(given):,}"
            )
        numbers = [whole(field, item, self.low, self.high) for item in given]
        if self.ascending:
            return tuple(sorted(set(numbers)))
        if self.distinct and len(set(numbers)) < len(numbers):
            raise refuse(field, "distinct whole numbers", tuple(numbers))
        return tuple(numbers)

    def record(self, value: Any) -> list[int]:
        return list(value)

    def read(self, field: str, data: Any) -> tuple[int, ...]:
        return self.check(field, data)


@dataclasses.dataclass(frozen=True)
class Optional:
    """None, or a value of another kind."""

    kind: Kind

    def check(self, field: str, value: Any) -> Any:
        return None if value is None else self.kind.check(field, value)

    def record(self, value: Any) -> Any:
        return None if value is None else self.kind.record(value)

    def read(self, field: str, data: Any) -> Any:
        return None if data is None else self.kind.read(field, data)


@dataclasses.dataclass(frozen=True)
class OneOf(_Plain):
    """One of several words."""

    words: tuple[str, ...]

    def check(self, field: str, value: Any) -> str:
        if not isinstance(value, str) or value not in self.words:
            first, last = ", ".join(self.words[:-1]), self.words[-1]
            raise refuse(field, f"{first} or {last}" if first else repr(last), value)
        return value


@dataclasses.dataclass(frozen=True)
class Part(_Plain):
    """The name of a row of the table that `parts.PARTS` has for the field."""

    def check(self, field: str, value: Any) -> str:
        if not isinstance(value, str):
            raise unknown_name(field.replace("_", " "), value, parts.PARTS[field])
        parts.check(field, value)
        return value


@dataclasses.dataclass(frozen=True)
class Typed:
    """A value of one of the classes that check themselves: `Goal`, `Precision`, `Transfer`."""

    kind: type[Goal | Precision | Transfer]

    def check(self, field: str, value: Any) -> Any:
        if not isinstance(value, self.kind):
            raise refuse(field, f"a {self.kind.__name__}(...)", value)
        return value

    def record(self, value: Any) -> dict[str, Any]:
        return dataclasses.asdict(value)

    def read(self, field: str, data: Any) -> Any:
        try:
            return self.kind(**data)
        except TypeError as error:
            known = ", ".join(f.name for f in dataclasses.fields(self.kind))
            raise refuse(field, f"an object with {known}", data) from error
