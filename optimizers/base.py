"""What an optimizer is to the rest of the house: a rule, its hyperparameters, their ranges.

This module imports no jax; a rule is named ``"module:function"`` and resolved when used.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Hyperparameter:
    """One number a rule reads.

    Attributes:
      name: the field's standard name, a keyword argument of the rule.
      default: its value where it is neither searched nor fixed; None where it must be given.
      low, high: the legal interval; ``low`` is excluded where ``low_open``, likewise ``high``.
      space: default search range as plain data (experiments/space.py), None if not searched.
      meaning: one line, with units.
    """

    name: str
    default: float | None
    low: float
    high: float
    low_open: bool = False
    high_open: bool = False
    space: Mapping[str, Any] | None = None
    meaning: str = ""

    def check(self, value: float) -> None:
        """Refuse a value outside the legal interval (ValueError names field and interval)."""
        above = value > self.low or (value == self.low and not self.low_open)
        below = value < self.high or (value == self.high and not self.high_open)
        if not (math.isfinite(value) and above and below):
            left, right = "(" if self.low_open else "[", ")" if self.high_open else "]"
            interval = f"{left}{self.low:g}, {self.high:g}{right}"
            raise ValueError(f"{self.name} must lie in {interval}, got {value!r}")


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """A row of the registry.

    ``rule`` is the ``"module:function"`` of ``f(learning_rate, **others) ->
    optax.GradientTransformation`` built from traced scalars; ``learning_rate`` is the current
    step's rate, peak times schedule.
    """

    name: str
    rule: str
    hyperparameters: tuple[Hyperparameter, ...]
    summary: str = ""

    def transformation(self, hyperparameters: Mapping[str, Any]) -> Any:
        """The optax transformation at these (traced) hyperparameters; others are ignored."""
        module, _, function = self.rule.partition(":")
        rule = getattr(importlib.import_module(module), function)
        return rule(**{h.name: hyperparameters[h.name] for h in self.hyperparameters})
