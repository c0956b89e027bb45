"""A comparison: several studies that differ in one respect and are read side by side.

Imports no jax. Each member is an ordinary study with its own record; what makes the comparison
fair is checked here, at construction.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.spec.study import Study
from optimizers import OPTIMIZERS
from workloads.registry import unknown_name

EQUAL = (
    "workload", "goal", "batch_sizes", "step_budget", "example_budget", "train_steps", "trials",
    "seeds", "precision", "evaluation_spacing", "train_evaluation_examples", "divergence_factor",
)  # fmt: skip
"""What the studies of a comparison must share: one task, one grid, one tuning budget."""
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Studies answered together.

    Attributes:
      name: folder name of their records.
      question: one sentence, shown in the report.
      studies: label -> study; the label is the name of its folder and what tables show.
      expected: one sentence, the result expected beforehand or known.
    """

    name: str
    question: str
    studies: Mapping[str, Study]
    expected: str = ""

    def __post_init__(self) -> None:
        if len(self.studies) < 2:
            raise ValueError(f"studies must hold at least two, got {len(self.studies)}")
        for label in self.studies:
            if not _LABEL.fullmatch(label) or label == "report":
                raise ValueError(
                    f"a label of studies must be letters, digits, '_', '.' or '-' and not "
                    f"'report', got {label!r}"
                )
        (first, study), *others = self.studies.items()
        for label, other in others:
            for field in EQUAL:
                mine, theirs = getattr(study, field), getattr(other, field)
                if mine != theirs:
                    raise ValueError(
                        f"studies must agree in {field}: {first} has {mine!r}, "
                        f"{label} has {theirs!r}"
                    )

    def changed(self, **changes: Any) -> Comparison:
        """The comparison with these fields of every study changed alike."""
        studies = {
            label: dataclasses.replace(study, **changes) for label, study in self.studies.items()
        }
        return dataclasses.replace(self, studies=studies)

    def describe(self) -> dict[str, Any]:
        """What the record keeps beside its studies, as JSON values."""
        return {
            "name": self.name,
            "question": self.question,
            "expected": self.expected,
            "studies": list(self.studies),
        }


def of_optimizers(study: Study, optimizers: Sequence[str]) -> dict[str, Study]:
    """One study an optimizer, each with its own default search space for ``study.trials``.

    ``study`` is that of any one of them; fixed hyperparameters must be the schedule's, the
    clipping's or the workload's, which all share.
    """
    for name in optimizers:
        if name not in OPTIMIZERS:
            raise unknown_name("optimizer", name, OPTIMIZERS)
    return {
        name: dataclasses.replace(study, name=f"{study.name}-{name}", optimizer=name, space=None)
        for name in optimizers
    }
