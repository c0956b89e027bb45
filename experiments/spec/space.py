"""Distributions of a search space: a point of the unit interval <-> a hyperparameter's value.

Scales are those of Shallue et al.'s data release: linear, log, and reverse log, which samples
1 - value uniformly in log space (for a momentum near one).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from workloads.registry import finite_number, unknown_name

Value = float | int | str | bool
Scale = Literal["linear", "log", "reverse_log"]
LARGEST = 2**53
"""Above it float64 does not hold every whole number."""
SCALES: tuple[str, ...] = ("linear", "log", "reverse_log")


@dataclasses.dataclass(frozen=True)
class Real:
    """A real number in [low, high], uniform on its scale."""

    low: float
    high: float
    scale: Scale = "linear"

    def __post_init__(self) -> None:
        for field in ("low", "high"):
            _check_finite(field, getattr(self, field))
        _check_ends(self.low, self.high)
        if self.scale not in SCALES:
            raise ValueError(f"range scale must be one of {', '.join(SCALES)}, got {self.scale!r}")
        if self.scale == "log" and self.low <= 0:
            raise ValueError(f"range low must be above 0 on a log scale, got {self.low!r}")
        if self.scale == "reverse_log" and self.high >= 1:
            raise ValueError(
                f"range high must be below 1 on a reverse log scale, got {self.high!r}"
            )

    def _axis(self, value: float) -> float:
        if self.scale == "log":
            return math.log(value)
        if self.scale == "reverse_log":
            return -math.log1p(-value)
        return float(value)

    def value(self, unit: float) -> float:
        """The value at ``unit``, strictly increasing: of [0, 1] within [low, high].

        A position outside [0, 1] lies beyond the ends (a search's box may be widened).
        """
        low, high = self._axis(self.low), self._axis(self.high)
        axis = low + unit * (high - low)
        if self.scale == "log":
            value = math.exp(axis)
        elif self.scale == "reverse_log":
            value = -math.expm1(-axis)
        else:
            value = axis
        return min(max(value, self.low), self.high) if 0 <= unit <= 1 else value

    def position(self, value: float) -> float:
        """The point of [0, 1] whose value this is; the inverse of `value`."""
        low, high = self._axis(self.low), self._axis(self.high)
        return (self._axis(value) - low) / (high - low)


@dataclasses.dataclass(frozen=True)
class Integer:
    """A whole number in low..high, both included; on the log scale small ones are likelier.

    With a ``step`` only low, low + step, low + 2 step, ... up to high, on the linear scale.
    """

    low: int
    high: int
    scale: Scale = "linear"
    step: int = 1

    def __post_init__(self) -> None:
        for field in ("low", "high", "step"):
            value = getattr(self, field)
            if not isinstance(value, int) or isinstance(value, bool) or abs(value) > LARGEST:
                raise ValueError(f"range {field} must be a whole number up to 2^53, got {value!r}")
        if self.scale not in ("linear", "log"):
            raise ValueError(f"an integer's scale must be linear or log, got {self.scale!r}")
        _check_ends(self.low, self.high)
        if self.scale == "log" and self.low < 1:
            raise ValueError(f"range low must be above 0 on a log scale, got {self.low!r}")
        if not 1 <= self.step <= self.high - self.low:
            raise ValueError(
                f"range step must lie in 1..{self.high - self.low} (high - low), got {self.step!r}"
            )
        if self.scale == "log" and self.step != 1:
            raise ValueError(f"range step must be 1 on a log scale, got {self.step!r}")

    @property
    def values(self) -> range:
        """All values."""
        return range(self.low, self.high + 1, self.step)

    @functools.cached_property
    def _real(self) -> Real:
        # Half a unit on either side gives both ends their full share.
        half = self.step / 2
        return Real(self.values[0] - half, self.values[-1] + half, self.scale)

    def value(self, unit: float) -> int:
        """The whole number at ``unit`` in [0, 1]."""
        if self.step > 1:
            return self.values[min(max(int(unit * len(self.values)), 0), len(self.values) - 1)]
        return min(max(math.floor(self._real.value(unit) + 0.5), self.low), self.high)

    def position(self, value: float) -> float:
        """The point of [0, 1] in the middle of this number's share."""
        return self._real.position(value)


@dataclasses.dataclass(frozen=True)
class ZeroOrLog:
    """Zero, or a real number in [low, high] that is uniform on a log scale.

    For what may be absent, such as a weight decay: the first ``zero_share`` of the unit interval
    is zero, the rest is the range.
    """

    low: float
    high: float
    zero_share: float = 0.5
    scale: ClassVar[Scale] = "log"

    def __post_init__(self) -> None:
        Real(self.low, self.high, "log")  # refuses what is no such range
        _check_finite("zero_share", self.zero_share)
        if not 0 < self.zero_share < 1:
            raise ValueError(f"range zero_share must lie in (0, 1), got {self.zero_share!r}")

    @functools.cached_property
    def _positive(self) -> Real:
        return Real(self.low, self.high, "log")

    def value(self, unit: float) -> float:
        """The value at ``unit`` in [0, 1], increasing: 0, or within [low, high]."""
        if unit < self.zero_share:
            return 0.0
        return self._positive.value((unit - self.zero_share) / (1 - self.zero_share))

    def position(self, value: float) -> float:
        """The point of [0, 1] whose value this is; of zero the middle of its share."""
        if value == 0:
            return self.zero_share / 2
        return self.zero_share + (1 - self.zero_share) * self._positive.position(value)


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of several values, each with the same share of the unit interval."""

    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.values, (tuple, list)) or not all(
            finite_number(value) or isinstance(value, (str, bool)) for value in self.values
        ):
            raise ValueError(
                f"choice values must be finite numbers, strings or booleans, got {self.values!r}"
            )
        object.__setattr__(self, "values", tuple(self.values))
        if not self.values or len(set(self.values)) != len(self.values):
            raise ValueError(f"choice values must be distinct, at least one, got {self.values!r}")

    def value(self, unit: float) -> Value:
        """The choice at ``unit`` in [0, 1]."""
        return self.values[min(int(unit * len(self.values)), len(self.values) - 1)]

    def position(self, value: Value) -> float:
        """The point of [0, 1] in the middle of this value's share."""
        return (self.values.index(value) + 0.5) / len(self.values)


Range = Real | Integer | ZeroOrLog
"""What has a low and a high end."""
Distribution = Range | Choice


def greatest(distribution: Distribution) -> float:
    """The greatest value that may be drawn; of a choice, that of its numbers (0 without any)."""
    if isinstance(distribution, Choice):
        return max((float(v) for v in distribution.values if finite_number(v)), default=0.0)
    return distribution.high


_TYPES: dict[str, type[Distribution]] = {
    "real": Real,
    "integer": Integer,
    "zero_or_log": ZeroOrLog,
    "choice": Choice,
}


def _check_finite(field: str, value: object) -> None:
    if not finite_number(value):
        raise ValueError(f"range {field} must be a finite number, got {value!r}")


def _check_ends(low: float, high: float) -> None:
    if not low < high:
        raise ValueError(f"range low must be below high, got low={low!r} high={high!r}")


def to_json(distribution: Distribution) -> dict[str, Any]:
    """A distribution as plain data, e.g. ``{"type": "real", "low": ..., "scale": "log"}``."""
    name = next(name for name, kind in _TYPES.items() if isinstance(distribution, kind))
    fields = dataclasses.asdict(distribution)
    if fields.get("step") == 1:  # recorded identities know no default of it
        del fields["step"]
    return {"type": name, **{k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}}


def from_json(data: Mapping[str, Any] | Distribution) -> Distribution:
    """A distribution from plain data; errors name the field, the value and what is allowed."""
    if isinstance(data, Distribution):
        return data
    if not isinstance(data, Mapping):
        raise ValueError(f"a range must be a mapping or a range type, got {data!r}")  # noqa: TRY004
    fields = dict(data)
    name = fields.pop("type", "real")
    if name not in _TYPES:
        raise unknown_name("range type", name, _TYPES)
    known = {field.name for field in dataclasses.fields(_TYPES[name])}
    for field in fields:
        if field not in known:
            raise unknown_name(f"field of a {name} range", field, known)
    try:
        return _TYPES[name](**fields)
    except TypeError as error:
        raise ValueError(
            f"a {name} range needs {', '.join(sorted(known))}, got {fields!r}"
        ) from error


def sample(space: Mapping[str, Distribution], unit: Mapping[str, float]) -> dict[str, Value]:
    """The hyperparameters at a point of the unit cube."""
    return {name: distribution.value(unit[name]) for name, distribution in space.items()}
