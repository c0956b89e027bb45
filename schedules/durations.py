"""Durations in steps, examples, epochs or a fraction of a trial: the only place that converts.

A step is one update; an epoch is one pass over the training set; a fraction is of the trial's
steps. Conversions to steps round up, so that a duration is never cut short. Imports no jax.
"""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Literal

from workloads.registry import finite_number

Unit = Literal["steps", "examples", "epochs", "fraction"]
UNITS: tuple[str, ...] = ("steps", "examples", "epochs", "fraction")
_SLACK = 1e-12
"""Relative: 0.1 * 30 is three steps, though float64 makes it a little more."""


@dataclasses.dataclass(frozen=True)
class Duration:
    """An amount with its unit, e.g. ``Duration(90, "epochs")``.

    Raises ValueError where the amount is negative or not finite, is a fraction above 1, or the
    unit is unknown.
    """

    amount: float
    unit: Unit = "steps"

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ValueError(f"duration unit must be one of {', '.join(UNITS)}, got {self.unit!r}")
        highest = 1.0 if self.unit == "fraction" else math.inf
        if not (finite_number(self.amount) and 0 <= self.amount <= highest):
            allowed = "[0, 1]" if self.unit == "fraction" else "[0, inf)"
            raise ValueError(f"duration in {self.unit} must lie in {allowed}, got {self.amount!r}")

    def steps(
        self, batch_size: int, train_size: int | None = None, train_steps: int | None = None
    ) -> int:
        """The number of steps, rounded up.

        steps: amount; examples: amount / B; epochs: amount * N / B; fraction: amount * T, with
        B = ``batch_size``, N = ``train_size``, T = ``train_steps``. Raises ValueError where the
        one it needs is not given.
        """
        exact = self.amount * _steps_per(self.unit, batch_size, train_size, train_steps)
        return math.ceil(exact * (1 - _SLACK))

    def __str__(self) -> str:
        return f"{self.amount:g} {self.unit}"


def of_steps(
    steps: int,
    unit: Unit,
    batch_size: int,
    train_size: int | None = None,
    train_steps: int | None = None,
) -> Duration:
    """The duration in ``unit`` that lasts ``steps``; the inverse of `Duration.steps`.

    >>> of_steps(500, "examples", batch_size=64)
    Duration(amount=32000.0, unit='examples')
    """
    per = _steps_per(unit, batch_size, train_size, train_steps)
    return Duration(steps / per if unit != "steps" else steps, unit)


def parse(text: str) -> Duration:
    """A duration from ``"90 epochs"``, ``"1e6 examples"``, ``"0.1 fraction"`` or ``"500"``.

    A bare number is steps, a percentage (``"5%"``) a fraction. Raises ValueError on anything
    else.

    >>> parse("5%"), parse("90 epochs").steps(batch_size=256, train_size=50_000)
    (Duration(amount=0.05, unit='fraction'), 17579)
    """
    match = isinstance(text, str) and re.fullmatch(r"\s*([0-9.eE+_-]+?)\s*(%|[a-z]*)\s*", text)
    try:
        amount = float(match[1]) if match else None
    except ValueError:
        amount = None
    if not match or amount is None:
        raise ValueError(
            f"duration must be a number and a unit ({', '.join(UNITS)} or %), got {text!r}"
        )
    if match[2] == "%":
        return Duration(amount / 100, "fraction")
    unit = match[2] or "steps"
    plural = {"step": "steps", "example": "examples", "epoch": "epochs"}
    return Duration(amount, plural.get(unit, unit))  # type: ignore[arg-type]


def _steps_per(
    unit: str, batch_size: int, train_size: int | None, train_steps: int | None
) -> float:
    """Steps that one of a unit lasts."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size!r}")
    if unit == "steps":
        return 1.0
    if unit == "examples":
        return 1.0 / batch_size
    if unit == "epochs":
        return _needed("train_size", train_size, unit) / batch_size
    return float(_needed("train_steps", train_steps, unit))


def _needed(field: str, value: int | None, unit: str) -> int:
    if value is None or value < 1:
        raise ValueError(f"{field} must be at least 1 for a duration in {unit}, got {value!r}")
    return value
