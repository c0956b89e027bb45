"""Kinds of values that a field of a study holds: what is legal, how it is recorded and read back.

Each kind has three functions. ``check(field, value)`` returns the value in its normal form or
raises a ValueError that names the field, the value and what is allowed, whatever the value's
type. ``record(value)`` returns JSON values; ``read(field, data)`` is its inverse, and raises a
ValueError where the data have another shape. Imports no jax.
"""

from __future__ import annotations

import dataclasses
import math
import operator
import re
import shlex
from collections.abc import Collection, Mapping
from typing import Any, Protocol

from experiments.spec import parts
from experiments.spec import space as spaces
from experiments.spec.trial import Precision, Transfer
from workloads.base import Goal, Workload
from workloads.registry import unknown_name

MOST_STEPS = 2**31 - 1
"""The engine counts steps in int32."""
MOST_EXAMPLES = 2**53
"""The largest count that float64, and so JSON, holds exactly."""
LARGEST_SEED = 2**63 - 1
"""Tables hold seeds in Int64."""
LONGEST_NAME = 100
LONGEST_TEXT = 10_000
MOST_MEMBERS = 1_000_000
_SURROGATE = re.compile("[\ud800-\udfff]")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=,%-]*")
SHOWN = 80  # characters of a refused value


class Kind(Protocol):
    """What a field may hold."""

    def check(self, field: str, value: Any) -> Any:
        """The value in its normal form; ValueError where it is none of this kind."""

    def record(self, value: Any) -> Any:
        """The value as JSON values."""

    def read(self, field: str, data: Any) -> Any:
        """The value that was recorded."""


def refuse(field: str, allowed: str, value: object) -> ValueError:
    """The error of a bad value, in one line."""
    shown = " ".join(repr(value).split())
    if len(shown) > SHOWN:
        shown = f"{shown[: SHOWN - 3]}..."
    return ValueError(f"{field} must be {allowed}, got {shown}")


def file_name(field: str, value: object) -> str:
    """``value``, a name that is safe as the name of a file or folder."""
    if (
        not isinstance(value, str)
        or len(value) > LONGEST_NAME
        or not _NAME.fullmatch(value)
        or value.endswith(".")
    ):
        raise refuse(
            field,
            f"a file name of 1 to {LONGEST_NAME} letters, digits and _ . + = , % - that begins "
            "with a letter, a digit or _",
            value,
        )
    return value


def whole(field: str, value: object, low: int, high: int | None = None) -> int:
    """``value`` as an int; ValueError where it is not a whole number in low..high."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or number < low or (high is not None and number > high):
        allowed = f"of at least {low}" if high is None else f"in {low}..{high}"
        if number is not None and high is not None and number < low:
            allowed = f"of at least {low}"
        raise refuse(field, f"a whole number {allowed}", value)
    return number


def real(field: str, value: object) -> float | int:
    """``value``, a finite number."""
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise refuse(field, "a finite number", value)
    try:
        number = value if isinstance(value, (int, float)) else float(value)  # such as numpy's
        finite = math.isfinite(number)
    except (TypeError, ValueError, OverflowError):
        finite = False
    if not finite:
        raise refuse(field, "a finite number", value)
    return number


def members(field: str, allowed: str, value: object) -> tuple[Any, ...]:
    """What a tuple, list, set or range holds; no text, mapping or iterator."""
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Collection):
        raise refuse(field, allowed, value)
    try:
        many = len(value) > MOST_MEMBERS
    except (TypeError, OverflowError) as error:
        raise refuse(field, allowed, value) from error
    if many:
        raise ValueError(f"{field} may hold at most {MOST_MEMBERS:,}, got {len(value):,}")
    return tuple(value)


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
        plain = isinstance(value, str) and len(value) <= LONGEST_TEXT and "\0" not in value
        if not plain or _SURROGATE.search(value):
            raise refuse(field, f"Unicode text of at most {LONGEST_TEXT:,} characters", value)
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
class Real(_Plain):
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


class WorkloadKind:
    """What is learned."""

    def check(self, field: str, value: Any) -> Workload:
        if not isinstance(value, Workload):
            raise refuse(field, "a Workload(...)", value)
        try:
            described = value.describe()
        except (TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{field} must be made of JSON values and code: {error}") from error
        for part in ("name", "dataset"):
            if not isinstance(described[part], str):
                raise refuse(f"{field} {part}", "a name", described[part])
        Typed(Goal).check(f"{field} goal", value.goal)
        if "train_examples" in (options := described["dataset_options"]):
            whole(f"{field} dataset_options train_examples", options["train_examples"], 1)
        FixedValues().check(f"{field} hyperparameters", value.hyperparameters)
        if not isinstance(value.search_spaces, Mapping):
            raise refuse(f"{field} search_spaces", "a mapping", value.search_spaces)
        for optimizer, space in value.search_spaces.items():
            Space().check(f"{field} search_spaces of {optimizer}", space)
        return value

    def record(self, value: Any) -> dict[str, Any]:
        return value.describe()

    def read(self, field: str, data: Any) -> Workload:
        try:
            return Workload.from_description(data)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{field} is not a described workload ({error})") from error


class Space:
    """Hyperparameter -> the range it is searched in; a range may be given as plain data."""

    def check(self, field: str, value: Any) -> dict[str, spaces.Distribution]:
        if not isinstance(value, Mapping):
            raise refuse(field, "a mapping from hyperparameters to ranges", value)
        found = {}
        for name, given in value.items():
            if not isinstance(name, str):
                raise refuse(f"a hyperparameter of {field}", "a name", name)
            if not isinstance(given, (Mapping, spaces.Distribution)):
                raise refuse(f"{field} of {name}", "a Real, Integer, ZeroOrLog or Choice", given)
            found[name] = spaces.from_json(given)
        return found

    def record(self, value: Any) -> dict[str, Any]:
        return {name: spaces.to_json(found) for name, found in value.items()}

    def read(self, field: str, data: Any) -> dict[str, spaces.Distribution]:
        return self.check(field, data)


class FixedValues:
    """Hyperparameter -> the number, or the duration, it is held at."""

    def check(self, field: str, value: Any) -> dict[str, float | str]:
        if not isinstance(value, Mapping):
            raise refuse(field, "a mapping from hyperparameters to numbers", value)
        found: dict[str, float | str] = {}
        for name, held in value.items():
            if not isinstance(name, str):
                raise refuse(f"a hyperparameter of {field}", "a name", name)
            found[name] = held if isinstance(held, str) else real(f"hyperparameter {name}", held)
        return found

    def record(self, value: Any) -> dict[str, float | str]:
        return dict(value)

    def read(self, field: str, data: Any) -> dict[str, float | str]:
        return self.check(field, data)


class Lengths:
    """Batch size -> steps."""

    def check(self, field: str, value: Any) -> dict[int, int]:
        if not isinstance(value, Mapping):
            raise refuse(field, "a mapping from batch sizes to steps", value)
        return {
            whole(f"a batch size of {field}", size, 1, MOST_EXAMPLES): whole(
                f"{field} of batch size {size}", steps, 1, MOST_STEPS
            )
            for size, steps in value.items()
        }

    def record(self, value: Any) -> dict[str, int]:
        return {str(size): steps for size, steps in value.items()}

    def read(self, field: str, data: Any) -> dict[int, int]:
        try:
            return {int(size): int(steps) for size, steps in data.items()}
        except (AttributeError, TypeError, ValueError) as error:
            raise refuse(field, "an object from batch sizes to steps", data) from error


class Code:
    """File -> sha256 of its text: the user's own code that a study is made of."""

    def check(self, field: str, value: Any) -> dict[str, str]:
        plain = isinstance(value, Mapping) and all(
            isinstance(word, str) for pair in value.items() for word in pair
        )
        if not plain:
            raise refuse(field, "a mapping from files to their sha256", value)
        return dict(value)

    def record(self, value: Any) -> dict[str, str]:
        return dict(value)

    def read(self, field: str, data: Any) -> dict[str, str]:
        return self.check(field, data)
