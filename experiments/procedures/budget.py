"""Cost of a procedure and its bound: trials, trial-steps or time."""

from __future__ import annotations

import dataclasses
import re
from typing import Self

from experiments.spec.errors import StudyError

_UNITS = {"trials": 1.0, "steps": 1.0, "s": 1.0, "min": 60.0, "h": 3600.0}
_FORM = re.compile(r"(\d+(?:\.\d+)?(?:e\d+)?) ?(trials|steps|s|min|h)")


class BudgetEnds(StudyError):
    """A stage that the budget does not hold; the message is one line."""


@dataclasses.dataclass(frozen=True)
class ProcedureCost:
    """Trials, their steps together, and the seconds they took, 0 where none were measured."""

    trials: int = 0
    steps: int = 0
    seconds: float = 0.0

    def __add__(self, other: ProcedureCost) -> ProcedureCost:
        return ProcedureCost(
            self.trials + other.trials, self.steps + other.steps, self.seconds + other.seconds
        )

    def __str__(self) -> str:
        return f"{self.trials:,} trials, {self.steps:,} steps"


@dataclasses.dataclass(frozen=True)
class Budget:
    """A bound on a procedure's cost; none where ``amount`` is None.

    Attributes:
      amount: in ``unit``.
      unit: "trials", "steps", or "s", "min", "h" of training time.
    """

    amount: float | None = None
    unit: str = "steps"

    @classmethod
    def parse(cls, text: str) -> Self:
        """'40trials', '1e5steps' or '30min'; ValueError otherwise."""
        found = _FORM.fullmatch(text.strip())
        if not found or not float(found[1]) > 0:
            raise ValueError(
                f"budget must be a number above 0 of {', '.join(_UNITS)} (40trials, 1e5steps, "
                f"30min), got {text!r}"
            )
        return cls(float(found[1]), found[2])

    def __bool__(self) -> bool:
        return self.amount is not None

    def __str__(self) -> str:
        return f"{self.amount:,.12g}{self.unit}".replace(",", "") if self else "none"

    def check(self, cost: ProcedureCost, stage: str) -> None:
        """BudgetEnds where ``cost``, spent and next together, is more than it holds.

        Time is compared with what was spent alone: how long a stage will take is an estimate.
        """
        if self.amount is None:
            return
        needed = {"trials": cost.trials, "steps": cost.steps}.get(
            self.unit, cost.seconds / _UNITS[self.unit]
        )
        if needed > self.amount:
            needs = f"{needed:,.4g} {self.unit}" if self.unit in ("trials", "steps") else "more"
            raise BudgetEnds(
                f"the budget of {self} ends before {stage}, which brings the sum to {needs}; "
                "a larger --budget goes on from here"
            )


NO_BUDGET = Budget()
