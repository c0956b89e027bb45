"""A comparison: several studies that differ in one respect and are read side by side.

Imports no jax. Each member is an ordinary study with its own record; what makes the comparison
fair is checked here, at construction.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.spec.fields import COMPARED, StudyFields
from experiments.spec.kinds import Text
from experiments.spec.study import Study, as_typed, resolve
from experiments.spec.values import file_name, refuse
from optimizers import OPTIMIZERS
from workloads.registry import unknown_name


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Studies answered together.

    Attributes:
      name: folder name of their records.
      question: one sentence, shown in the report.
      studies: label -> study; the label is the name of its folder and what tables show.
      expected: one sentence, the result expected beforehand or known.
      differ: fields of `COMPARED` in which they may differ, because that is the question.
    """

    name: str
    question: str
    studies: Mapping[str, StudyFields]
    expected: str = ""
    differ: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        file_name("name", self.name)
        for field in ("question", "expected"):
            Text().check(field, getattr(self, field))
        if not isinstance(self.studies, Mapping):
            raise refuse("studies", "a mapping from labels to studies", self.studies)
        if len(self.studies) < 2:
            raise ValueError(f"studies must hold at least two, got {len(self.studies)}")
        for label, study in self.studies.items():
            if file_name("a label of studies", label) == "report":
                raise refuse("a label of studies", "a file name and not 'report'", label)
            if not isinstance(study, StudyFields):
                raise refuse(f"study {label}", "a Study(...)", study)
        for field in self.differ:
            if field not in COMPARED:
                raise unknown_name("field of differ", field, COMPARED)
        (first, mine), *others = ((label, resolve(s)) for label, s in self.studies.items())
        for label, theirs in others:
            for field in (name for name in COMPARED if name not in self.differ):
                ours, other = getattr(mine, field), getattr(theirs, field)
                if ours != other:
                    raise ValueError(
                        f"studies must agree in {field}: {first} has {ours!r}, "
                        f"{label} has {other!r}"
                    )

    def changed(self, **changes: Any) -> Comparison:
        """The comparison with these fields of every study changed alike."""
        studies = {
            label: dataclasses.replace(study, **changes) for label, study in self.studies.items()
        }
        return dataclasses.replace(self, studies=studies)

    def describe(self) -> dict[str, Any]:
        """The comparison as JSON values, as the record keeps it beside its studies."""
        return {
            "name": self.name,
            "question": self.question,
            "expected": self.expected,
            "studies": list(self.studies),
        }


def of_optimizers(study: StudyFields, optimizers: Sequence[str]) -> dict[str, Study]:
    """One study an optimizer, each with its own default search space for ``study.trials``.

    ``study`` is that of any one of them; fixed hyperparameters must be the schedule's, the
    clipping's or the workload's, which all share.
    """
    for name in optimizers:
        if name not in OPTIMIZERS:
            raise unknown_name("optimizer", name, OPTIMIZERS)
    return {
        name: as_typed(study, name=f"{study.name}-{name}", optimizer=name, space=None)
        for name in optimizers
    }
