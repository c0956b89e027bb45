"""One training run: what determines it, and what it returns. Shared by all rooms above."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping

import numpy as np


class Status(enum.StrEnum):
    """How a trial ended (Shallue et al. 2019)."""

    COMPLETE = "COMPLETE"
    INCOMPLETE = "INCOMPLETE"
    INFEASIBLE = "INFEASIBLE"


@dataclasses.dataclass(frozen=True)
class Trial:
    """A run to be made.

    Attributes:
      batch_size: examples per step.
      seed: the search's seed; initialisation, data order and dropout derive from it and index.
      index: 0, 1, 2, ... within its batch size and seed, in the order of the sampler.
      train_steps: its length in steps.
      hyperparameters: name -> number, complete (searched, fixed and defaults).
      identity: hash of all that determines the result (contract 8).
    """

    batch_size: int
    seed: int
    index: int
    train_steps: int
    hyperparameters: Mapping[str, float]
    identity: str

    @property
    def key(self) -> tuple[int, int, int]:
        """(batch size, seed, index): unique within a study."""
        return (self.batch_size, self.seed, self.index)


@dataclasses.dataclass(frozen=True)
class TrialResult:
    """What a run returned.

    Attributes:
      trial: the run.
      status: COMPLETE, INFEASIBLE (diverged at any point) or INCOMPLETE (an exception).
      steps: updates made; for an INFEASIBLE trial the step whose loss or gradient diverged.
      evaluations: column -> [evaluations] array. ``step`` is always there, then
        ``split/metric`` for validation and train; norms too where they are recorded at
        evaluations. Rows after a divergence are not kept.
      norms: column -> [steps] array (``step``, ``gradient_norm``, ``update_norm``,
        ``parameter_norm``, ``learning_rate``), None unless recorded at every step.
      seconds: wall-clock time of the run, its share of the pack; not part of the science.
      plan: index into the recorded plans of how it was executed.
      message: why it is INCOMPLETE.
      clipped_share: steps whose gradient was clipped over ``steps``; None without clipping.
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
