"""Search spaces in which a hyperparameter may exist only where another one has certain values.

    {"layers": Choice((1, 2)), "second_units": When("layers", 2, Integer(16, 512, step=16))}

`ConditionalSpace` is what becomes of such a mapping: all distributions, and the conditions beside
them, so that a sampler that knows no conditions proposes a position for each. Imports no jax.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiments.spec import space as spaces
from experiments.spec.space import Choice, Distribution, Value
from workloads.registry import finite_number, unknown_name

MIDDLE = 0.5
"""The position of a hyperparameter that does not exist at a point: two points are then equal where
everything that exists is."""


@dataclasses.dataclass(frozen=True)
class Condition:
    """A hyperparameter exists where ``parent`` exists and has one of ``values``."""

    parent: str
    values: tuple[Value, ...]


@dataclasses.dataclass(frozen=True)
class When:
    """A range of a hyperparameter that exists only where ``parent`` has a value of ``values``.

    Attributes:
      parent: another hyperparameter of the space.
      values: one of its values or several.
      distribution: the range.
    """

    parent: str
    values: Value | Sequence[Value]
    distribution: Distribution | Mapping[str, Any]

    @property
    def condition(self) -> Condition:
        """Without the range."""
        one = isinstance(self.values, str) or not isinstance(self.values, Sequence)
        return Condition(self.parent, (self.values,) if one else tuple(self.values))  # type: ignore[arg-type]


@dataclasses.dataclass(frozen=True)
class ConditionalSpace:
    """A search space with conditions; `ConditionalSpace.of` makes and checks it.

    Attributes:
      ranges: every hyperparameter -> its distribution.
      conditions: those that exist only sometimes -> when.
    """

    ranges: Mapping[str, Distribution]
    conditions: Mapping[str, Condition]

    @classmethod
    def of(cls, given: Mapping[str, Distribution | When | Mapping[str, Any]]) -> ConditionalSpace:
        """From what a user writes: distributions, `When`s, or plain data of either.

        Raises:
          ValueError: one line; no hyperparameter, a range that is none, a parent that is unknown,
            depends on its own child, or never has the value.
        """
        if not isinstance(given, Mapping) or not given:
            raise ValueError(f"space must hold at least one hyperparameter, got {given!r}")
        ranges: dict[str, Distribution] = {}
        conditions: dict[str, Condition] = {}
        for name, found in given.items():
            if not isinstance(name, str) or not name:
                raise ValueError(f"a hyperparameter of space must be a name, got {name!r}")
            if isinstance(found, Mapping) and "when" in found:
                plain = dict(found)
                parent, values = plain.pop("when")
                found = When(parent, values, plain)
            if isinstance(found, When):
                conditions[name] = found.condition
                found = found.distribution
            try:
                ranges[name] = spaces.from_json(found)
            except ValueError as error:
                raise ValueError(f"space of {name}: {error}") from error
        space = cls(ranges, conditions)
        for name in conditions:
            space._check(name)
        for name, distribution in ranges.items():
            _check_texts(name, distribution)
        return space

    def _check(self, name: str) -> None:
        condition, seen = self.conditions[name], [name]
        if condition.parent not in self.ranges:
            raise unknown_name(f"parent of {name}: hyperparameter", condition.parent, self.ranges)
        parent = self.ranges[condition.parent]
        legal = [value for value in condition.values if _has(parent, value)]
        if len(legal) < len(condition.values) or not legal:
            odd = next((v for v in condition.values if v not in legal), condition.values)
            raise ValueError(
                f"space of {name}: its parent {condition.parent} never has the value {odd!r}"
            )
        while (above := self.conditions.get(seen[-1])) is not None:
            if above.parent in seen:
                raise ValueError(f"space of {name}: it depends on itself ({above.parent})")
            seen.append(above.parent)

    def exists(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """Those of ``values``, one of each hyperparameter, that exist beside the others."""
        return {name: value for name, value in values.items() if self._exists(name, values)}

    def _exists(self, name: str, values: Mapping[str, Value]) -> bool:
        condition = self.conditions.get(name)
        if condition is None:
            return True
        return self._exists(condition.parent, values) and any(
            _same(values[condition.parent], value) for value in condition.values
        )

    def sample(self, unit: Mapping[str, float]) -> dict[str, Value]:
        """The hyperparameters that exist at a point of the unit cube."""
        return self.exists(spaces.sample(self.ranges, unit))

    def canonical(self, point: Iterable[float]) -> tuple[float, ...]:
        """A point, positions by the alphabetical order of the names, what does not exist in the
        middle of its range."""
        names = sorted(self.ranges)
        exact = tuple(float(position) for position in point)
        if not self.conditions:
            return exact
        there = self.sample(dict(zip(names, exact, strict=True)))
        return tuple(
            position if name in there else MIDDLE
            for name, position in zip(names, exact, strict=True)
        )

    def to_json(self) -> dict[str, Any]:
        """As plain data, which `of` reads."""
        found = {name: spaces.to_json(distribution) for name, distribution in self.ranges.items()}
        for name, condition in self.conditions.items():
            found[name]["when"] = [condition.parent, list(condition.values)]
        return found


def is_text(distribution: Distribution) -> bool:
    """Tell whether its values are recorded as words: a choice that does not hold numbers alone."""
    return isinstance(distribution, Choice) and not all(map(finite_number, distribution.values))


def recorded(distribution: Distribution, value: Value) -> float | str:
    """A value as a record holds it: a number, or a word."""
    return str(value) if is_text(distribution) else float(value)


def read_back(distribution: Distribution, found: float | str) -> Value:
    """The value that was `recorded`."""
    if isinstance(distribution, Choice):
        return next(v for v in distribution.values if recorded(distribution, v) == found)
    return int(found) if isinstance(distribution, spaces.Integer) else float(found)


def _same(one: Value, other: Value) -> bool:
    """Equal, and both truth values or neither."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _has(distribution: Distribution, value: Value) -> bool:
    """Tell whether a distribution may take ``value``."""
    if isinstance(distribution, Choice):
        return any(_same(value, known) for known in distribution.values)
    if not finite_number(value):
        return False
    if isinstance(distribution, spaces.Integer):
        return value in distribution.values
    zero = isinstance(distribution, spaces.ZeroOrLog) and value == 0
    return zero or distribution.low <= value <= distribution.high  # type: ignore[operator]


def _check_texts(name: str, distribution: Distribution) -> None:
    """Values that are recorded as words have different ones."""
    if is_text(distribution):
        assert isinstance(distribution, Choice)
        words = [str(value) for value in distribution.values]
        if len(set(words)) < len(words):
            raise ValueError(
                f"space of {name}: choice values must read differently, got {distribution.values!r}"
            )
