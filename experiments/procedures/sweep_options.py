"""Options that every procedure that sweeps the learning rate takes."""

from __future__ import annotations

import dataclasses
from typing import Any

from experiments.procedures.procedure import PLAIN, Running
from experiments.procedures.rates import SweepEnds
from experiments.procedures.variants import Base, base_of, rate_range
from experiments.spec.fields import StudyFields


@dataclasses.dataclass(frozen=True)
class SweepOptions:
    """The range of a sweep, its batch size and length, and how it trains.

    Attributes:
      batch_size: default: the study's middle one.
      steps: of a trial; default: the study's step budget.
      rates: ends of the sweep; default: the study's searched range, extended where it shows no
        edge.
      factor: from one rate of the sweep to the next, above 1.
      subject: what to type for the study in proposed commands.
      running: budget, options of training, how progress is shown.

    Raises:
      ValueError: as `SweepEnds`.
    """

    batch_size: int | None = None
    steps: int | None = None
    rates: tuple[float, float] | None = None
    factor: float = 2.0
    subject: str = "STUDY"
    running: Running = PLAIN

    def __post_init__(self) -> None:
        SweepEnds(*(self.rates or (1e-4, 10.0)), self.factor)  # refuses what is no sweep

    def base_of(self, study: StudyFields) -> Base:
        """The study at one batch size and length, its rate free."""
        return base_of(study, self.batch_size, self.steps)

    def ends_of(self, study: StudyFields) -> SweepEnds:
        """The ends of the sweep: those stated, else the study's searched range."""
        low, high = self.rates or rate_range(study, self.batch_size)
        return SweepEnds(low, high, self.factor, stated=self.rates is not None)


SWEEP = SweepOptions()
"""The defaults."""


def question(base: Base, ends: SweepEnds, **more: Any) -> dict[str, Any]:
    """All that determines the stages of a procedure, as JSON values."""
    return {
        "study": base.describe(), "steps": base.steps, "rates": list(ends.grid), **more,
    }  # fmt: skip
