"""A schedule as the rest of the house sees it: a unitless shape times the peak rate.

This module imports no jax; a shape is named ``"module:function"`` and resolved when used.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from workloads.registry import Hyperparameter, resolve

WARMUP = (
    Hyperparameter(
        "warmup_steps", 0.0, 0.0, 1e9, meaning="W, steps of the ramp, part of the trial"
    ),
    Hyperparameter(
        "warmup_start_factor", 0.0, 0.0, 1.0,
        meaning="share of the peak rate the ramp begins at",
    ),
)  # fmt: skip
"""What every schedule reads besides its own settings: warmup is prepended to any shape."""


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A row of the registry.

    Attributes:
      name: what users call it.
      shape: ``"module:function"`` of ``f(step, train_steps, **settings) -> multiplier in
        [0, 1]``, traceable in every argument.
      settings: the numbers the shape reads besides the warmup's.
      summary: the shape in one line.
      metric_driven: True where the validation metric, not the step, lowers the rate; the engine
        multiplies by what `schedules.plateau` remembers.
    """

    name: str
    shape: str
    settings: tuple[Hyperparameter, ...] = ()
    summary: str = ""
    metric_driven: bool = False

    @property
    def hyperparameters(self) -> tuple[Hyperparameter, ...]:
        """The shape's settings and the warmup's."""
        return (*self.settings, *WARMUP)

    def multiplier(self, step: Any, train_steps: Any, hyperparameters: Mapping[str, Any]) -> Any:
        """The multiplier of the peak rate at ``step`` (0 at the first update).

        ``train_steps`` is the length of the whole trial, warmup included; the shape runs over
        ``train_steps - warmup_steps``. Warmup settings that are absent take their defaults.
        """
        shape, with_warmup = resolve(self.shape), resolve("schedules.shapes:with_warmup")
        settings = {setting.name: hyperparameters[setting.name] for setting in self.settings}
        warmup = {row.name: hyperparameters.get(row.name, row.default) for row in WARMUP}
        return with_warmup(
            lambda t, length: shape(t, length, **settings), step, train_steps, **warmup
        )


@dataclasses.dataclass(frozen=True)
class MomentumSchedule:
    """A row of the table of momentum schedules.

    ``rule`` is the ``"module:function"`` of ``f(step, train_steps, momentum, **settings) ->
    momentum at this step``, traceable in every argument.
    """

    name: str
    rule: str
    settings: tuple[Hyperparameter, ...] = ()
    summary: str = ""

    @property
    def hyperparameters(self) -> tuple[Hyperparameter, ...]:
        """The rule's settings."""
        return self.settings

    def momentum(
        self, step: Any, train_steps: Any, momentum: Any, hyperparameters: Mapping[str, Any]
    ) -> Any:
        """The momentum at ``step`` (0 at the first update), given its final value."""
        settings = {setting.name: hyperparameters[setting.name] for setting in self.settings}
        return resolve(self.rule)(step, train_steps, momentum, **settings)
