"""Parts that all tables share: names, references to code, and rows of hyperparameters.

The one module that `optimizers` and `schedules` share with `workloads`; it depends on the
standard library alone. A table is a dict from a name to a row; code that imports jax is named in
it as ``"module:attribute"`` and resolved when it is used.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Reference = str | Callable[..., Any]


class UnknownNameError(ValueError):
    """A name that no registry holds; the message lists the known names and the nearest one."""


def unknown_name(kind: str, name: object, known: Iterable[str]) -> UnknownNameError:
    """The error for ``name``, with the known names and, where one is close, the nearest.

    >>> unknown_name("optimizer", "adm", ["adam", "sgd"]).args[0]
    "optimizer 'adm' is unknown; did you mean 'adam'? (known: adam, sgd)"
    """
    names = sorted(known)
    nearest = difflib.get_close_matches(str(name), names, n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return UnknownNameError(f"{kind} {name!r} is unknown{hint} (known: {', '.join(names)})")


def resolve(reference: Reference) -> Any:
    """The object that ``"module:attribute"`` names; an object is returned as it is.

    >>> resolve("math:sqrt")(4.0)
    2.0

    Raises:
      ModuleNotFoundError: the module does not exist.
      AttributeError: the module has no such attribute.
    """
    if not isinstance(reference, str):
        return reference
    module, _, attribute = reference.partition(":")
    return getattr(importlib.import_module(module), attribute)


def describe_reference(reference: Reference) -> str:
    """``"module:attribute"`` of a reference, for the record."""
    if isinstance(reference, str):
        return reference
    return f"{reference.__module__}:{reference.__qualname__}"


def finite_number(value: object) -> bool:
    """Tell whether a float can hold ``value``: no boolean, NaN, infinity or 10^400."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond the largest float
        return False


@dataclasses.dataclass(frozen=True)
class Hyperparameter:
    """One number that an optimizer's rule, a schedule's shape or another row of a table reads.

    >>> Hyperparameter("momentum", 0.9, 0.0, 1.0, high_open=True).check(1.0)
    Traceback (most recent call last):
      ...
    ValueError: momentum must lie in [0, 1), got 1.0

    Attributes:
      name: the field's standard name, a keyword argument of the rule.
      default: its value where it is neither searched nor fixed; None where it must be given.
      low, high: the legal interval; ``low`` is excluded where ``low_open``, likewise ``high``.
      space: default search range as plain data (experiments/spec/space.py), None if not searched.
      meaning: one line, with units.
      searched_from: budget of trials from which a default search includes it (Tuning Playbook:
        fewer hyperparameters first, more later).
    """

    name: str
    default: float | None
    low: float
    high: float
    _: dataclasses.KW_ONLY
    low_open: bool = False
    high_open: bool = False
    space: Mapping[str, Any] | None = None
    meaning: str = ""
    searched_from: int = 0

    def check(self, value: float) -> None:
        """Refuse a value outside the legal interval, or one that is not finite.

        Raises:
          ValueError: it names field, interval and value.
        """
        above = value > self.low or (value == self.low and not self.low_open)
        below = value < self.high or (value == self.high and not self.high_open)
        if not (math.isfinite(value) and above and below):
            raise ValueError(f"{self.name} must lie in {self.interval}, got {value!r}")

    def clipped(self, value: float) -> float:
        """The nearest legal value."""
        low = math.nextafter(self.low, math.inf) if self.low_open else self.low
        high = math.nextafter(self.high, -math.inf) if self.high_open else self.high
        return min(max(value, low), high)

    @property
    def interval(self) -> str:
        """The legal interval as written, e.g. ``[0, 1)``."""
        left, right = "(" if self.low_open else "[", ")" if self.high_open else "]"
        return f"{left}{self.low:g}, {self.high:g}{right}"
