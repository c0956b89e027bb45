"""Optimizers on surfaces of two dimensions: what to run, and where it starts. Imports no jax."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from experiments.spec.values import file_name
from optimizers import OPTIMIZERS
from workloads.registry import unknown_name


@dataclasses.dataclass(frozen=True)
class Surface:
    """A function of a point (x, y), its picture and a start.

    Attributes:
      name: what it is called.
      formula: as written.
      function: ``"module:function"`` of ``f(x, y) -> value``, traceable.
      start: where every path begins.
      low, high: corners of the picture.
      minimum: the least value, which distances are measured from.
    """

    name: str
    formula: str
    function: str
    start: tuple[float, float]
    low: tuple[float, float]
    high: tuple[float, float]
    minimum: float


@dataclasses.dataclass(frozen=True)
class Paths:
    """The paths of optimizers on surfaces.

    Attributes:
      name: folder name of the record.
      question: one sentence.
      surfaces: where they walk.
      optimizers: names; each at the rate of ``rates`` whose mean value along the path is least.
      fixed: optimizer -> hyperparameters other than the rate; the others take their defaults.
      steps: length of every path.
      rates: learning rates tried by every optimizer on every surface, ascending.
      expected: one sentence.
    """

    name: str
    question: str
    surfaces: tuple[Surface, ...]
    optimizers: tuple[str, ...]
    steps: int
    rates: tuple[float, ...]
    fixed: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    expected: str = ""

    def __post_init__(self) -> None:
        file_name("name", self.name)
        for name in (*self.optimizers, *self.fixed):
            if name not in OPTIMIZERS:
                raise unknown_name("optimizer", name, OPTIMIZERS)
        for name in self.optimizers:
            rows = {row.name: row for row in OPTIMIZERS[name].hyperparameters}
            for field, value in self.fixed.get(name, {}).items():
                if field not in rows:
                    raise unknown_name(f"hyperparameter of {name}", field, rows)
                rows[field].check(value)
            for rate in self.rates:
                rows["learning_rate"].check(rate)
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if not self.rates or not self.surfaces or not self.optimizers:
            raise ValueError("surfaces, optimizers and rates must each hold at least one")

    def hyperparameters(self, optimizer: str) -> dict[str, float]:
        """Those of an optimizer without its rate."""
        rows = OPTIMIZERS[optimizer].hyperparameters
        values = {row.name: row.default for row in rows} | dict(self.fixed.get(optimizer, {}))
        del values["learning_rate"]
        missing = [name for name, value in values.items() if value is None]
        if missing:
            raise ValueError(f"hyperparameter {missing[0]} of {optimizer} must be fixed")
        return {name: float(value) for name, value in values.items() if value is not None}

    def describe(self) -> dict[str, Any]:
        """The whole question as JSON values."""
        return {**dataclasses.asdict(self), "fixed": {k: dict(v) for k, v in self.fixed.items()}}
