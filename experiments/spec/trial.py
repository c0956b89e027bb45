"""One training run: what determines it, and what it returns. Shared by all rooms above.

Imports no jax.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal

from schedules.rescaling import rescale
from workloads.base import Goal, Workload

if TYPE_CHECKING:
    import numpy as np

LAYERS = "layers/"
"""Before the columns of a layer's norms in a result's evaluations: layers/PATH/NORM."""
MEASURED = "measured/"
"""Before the columns of an injected measurement in a result's evaluations: measured/NAME/COLUMN."""
GRADIENT_NOISE = "gradient_noise"
"""The name of the measurement that ``record_noise`` asks for."""
CURVATURE = "curvature"
"""The name of the measurement that ``record_curvature`` asks for."""
CURVATURE_STEPS = 10
"""Its Lanczos steps. Of a trained net's Hessian they give the largest eigenvalue to about 1e-6 of
itself; the recorded error says how well each time."""
LAYER_NORMS = ("gradient_norm", "update_norm", "parameter_norm")
RecordNorms = Literal["every", "evaluations", "off"]
Reason = Literal["", "goal", "race", "pruned", "patience"]


RECORDED_COLUMNS = (
    "batch_size",
    "seed",
    "trial",
    "identity",
    "status",
    "train_steps",
    "steps",
    "seconds",
    "plan",
    "message",
    "reason",
    "race_bound",
    "clipped_share",
)
"""Columns of the trials table that are no hyperparameter's (experiments/records/schema.py)."""
MOST_STARTED = 4
"""A search starts at most this many times the wanted number of trials."""


class Status(enum.StrEnum):
    """The end of a trial (Shallue et al. 2019); STOPPED before its length, for a reason."""

    COMPLETE = "COMPLETE"
    INCOMPLETE = "INCOMPLETE"
    INFEASIBLE = "INFEASIBLE"
    STOPPED = "STOPPED"


@dataclasses.dataclass(frozen=True)
class Precision:
    """Number formats of a trial.

    Attributes:
      parameters, compute: dtype names of the parameters and of the activations.
      matmul: jax's precision of matrix products; ``"highest"`` forbids TF32 on GPUs.
    """

    parameters: Literal["float32", "bfloat16", "float64"] = "float32"
    compute: Literal["float32", "bfloat16", "float64"] = "float32"
    matmul: Literal["default", "high", "highest"] = "highest"

    def __post_init__(self) -> None:
        for field in ("parameters", "compute"):
            if getattr(self, field) not in ("float32", "bfloat16", "float64"):
                raise ValueError(
                    f"precision {field} must be float32, bfloat16 or float64, "
                    f"got {getattr(self, field)!r}"
                )
        if self.matmul not in ("default", "high", "highest"):
            raise ValueError(
                f"precision matmul must be default, high or highest, got {self.matmul!r}"
            )

    @property
    def float64(self) -> bool:
        """Tell whether anything is computed in 64 bits, for which jax needs a switch."""
        return "float64" in (self.parameters, self.compute)


@dataclasses.dataclass(frozen=True)
class Transfer:
    """Hyperparameters that are those of one batch size, and follow at the others by a rule.

    Attributes:
      rule: of `schedules.rescaling.RULES`, or several joined by ``+``.
      batch_size: that the hyperparameters are for, searched or fixed.

    Raises:
      ValueError: an unknown rule, two rules for the rate, or no batch size.
    """

    rule: str
    batch_size: int

    def __post_init__(self) -> None:
        if not isinstance(self.rule, str):
            raise ValueError(f"rule must be a name, got {self.rule!r}")  # noqa: TRY004
        if not isinstance(self.batch_size, int) or isinstance(self.batch_size, bool):
            raise ValueError(  # noqa: TRY004 (bad input, like a number that is too small)
                f"batch_size of a rule must be a whole number, got {self.batch_size!r}"
            )
        rescale({}, self.batch_size, self.batch_size, self.rule)

    def values(self, hyperparameters: Mapping[str, float], batch_size: int) -> dict[str, float]:
        """The hyperparameters at ``batch_size``, from those at ``self.batch_size``."""
        return rescale(hyperparameters, self.batch_size, batch_size, self.rule)


@dataclasses.dataclass(frozen=True)
class TrialConfig:
    """The compiled part of a trial: all that is not a number (hashable; numbers are traced).

    One program is compiled per configuration, batch size and plan.
    """

    workload: Workload
    optimizer: str
    schedule: str
    precision: Precision
    record_norms: RecordNorms
    clipping: str = "none"
    averaging: str = "none"
    momentum_schedule: str = "constant"
    batch_size_schedule: str = "constant"
    goal: Goal | None = None  # its metric on validation is what a metric-driven schedule reads
    norms_per_layer: bool = False


@dataclasses.dataclass(frozen=True)
class Trial:
    """A run to be made.

    Attributes:
      batch_size: examples per step; where the batch grows, of the first one.
      seed: the search's seed; initialisation, data order and dropout derive from it and index.
      index: 0, 1, 2, ... within its batch size and seed, in the order of the sampler.
      train_steps: its length in steps.
      hyperparameters: name -> number, complete (searched, fixed and defaults).
      identity: hash of all that determines the result, were it trained to its length.
      stops: whether it ends at its first evaluation past the goal, or at ``race_bound``.
      race_bound: steps after which a race ends it, below ``train_steps``; None: it does not.
      pause: steps after which it is put aside, its state held, until it is decided whether it
        goes on; None: it is not.
      patience: steps without an improvement after which it ends; None: it does not.
      min_delta: what is no improvement.
    """

    batch_size: int
    seed: int
    index: int
    train_steps: int
    hyperparameters: Mapping[str, float]
    identity: str
    stops: bool = False
    race_bound: int | None = None
    pause: int | None = None
    patience: int | None = None
    min_delta: float = 0.0

    @property
    def most_steps(self) -> int:
        """Steps after which it ends or is put aside, if not earlier."""
        raced = self.race_bound if self.stops else None
        return min(n for n in (self.train_steps, raced, self.pause) if n is not None)

    @property
    def pauses(self) -> bool:
        """Tell whether it is put aside before its end."""
        return self.pause is not None and self.pause == self.most_steps < self.train_steps

    @property
    def key(self) -> tuple[int, int, int]:
        """(batch size, seed, index): unique within a study."""
        return (self.batch_size, self.seed, self.index)


@dataclasses.dataclass(frozen=True)
class TrialResult:
    """The result of a run.

    Attributes:
      trial: the run.
      status: COMPLETE, INFEASIBLE (diverged at any point), INCOMPLETE (an exception), or STOPPED.
      steps: updates made; for an INFEASIBLE trial the step whose loss or gradient diverged.
      evaluations: column -> [evaluations] array. ``step`` and ``examples`` (consumed) are always
        there, then ``split/metric`` for validation and train; norms too where they are recorded at
        evaluations, those of every layer under `LAYERS`, and what was measured beside the metrics
        under `MEASURED`. Rows after a divergence are not kept.
      norms: column -> [steps] array (``step``, ``examples``, ``gradient_norm``, ``update_norm``,
        ``parameter_norm``, ``learning_rate``), None unless recorded at every step.
      seconds: wall-clock time of the run, its share of the pack; not part of the science.
      plan: index into the recorded plans of how it was executed.
      message: why it is INCOMPLETE.
      clipped_share: steps whose gradient was clipped over ``steps``; None without clipping, and
        for a STOPPED trial.
      reason: why it STOPPED: "goal", "race", "pruned" (or put aside: what it may still become is
        not known yet) or "patience".
    """

    trial: Trial
    status: Status
    steps: int
    evaluations: Mapping[str, np.ndarray]
    norms: Mapping[str, np.ndarray] | None = None
    seconds: float = 0.0
    plan: int = 0
    message: str = ""
    clipped_share: float | None = None
    reason: Reason = ""


def out_of_patience(
    measured: Iterable[tuple[int, float]], patience: int, min_delta: float, sign: int
) -> int | None:
    """The first step that lies ``patience`` or more after the last improvement, if any.

    An improvement is over the best value that was itself one, by more than ``min_delta``; the
    first finite value is one, and what is not finite is none.

    Args:
      measured: (step, value), steps ascending.
      sign: 1 where a lower value is better, -1 where a higher one is.
    """
    level, since = math.inf, 0
    for step, value in measured:
        if math.isfinite(value) and sign * value < level - min_delta:
            level, since = sign * value, step
        elif step - since >= patience:
            return int(step)
    return None


def evaluation_steps(train_steps: int, spacing: float = 0.05) -> list[int]:
    """The evaluation grid up to ``train_steps``: a function of the step alone.

    Every step at first, then geometric: s -> max(s + 1, floor((1 + spacing) s)), so that no gap
    exceeds ``spacing`` of the step it starts from. The last step is always on the grid.
    """
    grid = []
    step = 1
    while step < train_steps:
        grid.append(step)
        step = max(step + 1, math.floor(step * (1 + spacing) + 1e-9))
    return [*grid, train_steps]
