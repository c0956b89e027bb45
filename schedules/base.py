"""What a schedule is to the rest of the house: a unitless shape times the peak rate.

This module imports no jax; a shape is named ``"module:function"`` and resolved when used.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Setting:
    """One number a shape reads: name, default, legal closed interval, meaning."""

    name: str
    default: float
    low: float
    high: float
    space: Mapping[str, Any] | None = None
    meaning: str = ""

    def check(self, value: float) -> None:
        """Refuse a value outside the legal interval (ValueError names field and interval)."""
        if not self.low <= value <= self.high:
            raise ValueError(
                f"{self.name} must lie in [{self.low:g}, {self.high:g}], got {value!r}"
            )


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A row of the registry.

    ``shape`` is the ``"module:function"`` of ``f(step, train_steps, **settings) ->
    multiplier in [0, 1]``, traceable in every argument.
    """

    name: str
    shape: str
    hyperparameters: tuple[Setting, ...] = ()
    summary: str = ""

    def multiplier(self, step: Any, train_steps: Any, hyperparameters: Mapping[str, Any]) -> Any:
        """The multiplier of the peak rate at ``step`` (0 at the first update)."""
        module, _, function = self.shape.partition(":")
        shape = getattr(importlib.import_module(module), function)
        settings = {h.name: hyperparameters[h.name] for h in self.hyperparameters}
        return shape(step, train_steps, **settings)
