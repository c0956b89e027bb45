"""Static facts that the programs of a pack are compiled for, beside the shapes of their arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

import jax
import numpy as np

from experiments.spec.trial import TrialConfig
from experiments.training.state import Measurements, TrainState

NORMS = ("gradient_norm", "update_norm", "parameter_norm", "learning_rate")
INITIAL_LOSS_EXAMPLES = 256
"""A trial's initial loss is taken on the first so many training examples."""


@dataclasses.dataclass(frozen=True)
class Measurement:
    """A function that is evaluated with evaluations of a trial.

    Attributes:
      name: its columns are recorded as ``measured/NAME/COLUMN``.
      function: ``(state, hyperparameters, data, *, axis_name) -> {column: number [] or [k]}``,
        pure; of one slot, without the axis of slots. Where ``axis_name`` is given, ``data`` are a
        device's share and the result must be the same on all. What is not finite is recorded and
        is no divergence.
      data: "batch", the batch that the next step takes (as `make_step` is given it); or
        "evaluation", validation and training examples (as `make_evaluation` is given them).
      due: a trial's state -> bool [], whether its evaluation is one of those at which this is
        measured; at the others its columns are NaN, and nothing is computed where no trial of a
        pack is due. None: at every evaluation.
    """

    name: str
    function: Callable[..., Measurements]
    data: Literal["batch", "evaluation"] = "batch"
    due: Callable[[TrainState], jax.Array] | None = None


@dataclasses.dataclass(frozen=True)
class Computation:
    """The static side of a pack's functions: hashable.

    Attributes:
      config: of the trials.
      divergence_factor: a loss above so many times the initial one is a divergence.
      initial_examples: training examples of the initial loss.
      axis_name: of the devices that share a step's examples; None on one device.
      groups: of devices, each with its own share of the slots.
      measurements: evaluated beside the metrics.
    """

    config: TrialConfig
    divergence_factor: float
    initial_examples: int
    axis_name: str | None = None
    groups: int = 1
    measurements: tuple[Measurement, ...] = ()

    @property
    def number(self) -> type[np.floating]:
        """The dtype of hyperparameters and of what is measured, float32 or wider."""
        return np.float64 if self.config.precision.parameters == "float64" else np.float32

    @property
    def norms(self) -> tuple[str, ...]:
        """The columns measured where norms are recorded."""
        return NORMS if self.config.clipping == "none" else (*NORMS, "clipped")
