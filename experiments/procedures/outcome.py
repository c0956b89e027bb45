"""The end of a procedure: a verdict file, a page, and what to print."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.procedures.procedure import Procedure, in_words
from experiments.records.files import disk_errors, write_whole
from experiments.report.procedure import Said, write_procedure_report


@dataclasses.dataclass(frozen=True)
class ProcedureOutcome:
    """The end of a procedure.

    Attributes:
      folder: where its records, verdict.json and report/ are.
      complete: False where the budget ended it before its last stage.
      values: what it decided, by name, JSON values with their evidence.
      said: what is shown.
      page: the report.
    """

    folder: Path
    complete: bool
    values: Mapping[str, Any]
    said: Said
    page: Path


def conclude(
    procedure: Procedure,
    said: Said,
    values: Mapping[str, Any],
    complete: bool = True,
    files: Mapping[str, str] | None = None,
) -> ProcedureOutcome:
    """Write the verdict, the report and the study files of a procedure."""
    for name, text in (files or {}).items():
        with disk_errors(procedure.folder):
            write_whole(procedure.folder / name, text.encode())
    made = procedure.made
    cost = {"trials": made.trials, "steps": made.steps, "seconds": round(made.seconds, 3)}
    spent = f"{made}, {in_words(made.seconds)} of training"
    said = dataclasses.replace(
        said,
        facts={**said.facts, "Cost": spent, "Stages": ", ".join(procedure.stages)},
    )
    step = said.next
    procedure.write(
        {
            "procedure": procedure.kind,
            "complete": complete,
            "title": said.title,
            "answer": said.answer,
            "values": dict(values),
            "findings": [dataclasses.asdict(noted) for noted in said.noted],
            "next": {
                "command": step.command,
                "reason": step.reason,
                "file_name": step.file_name,
                "file_text": step.file_text,
            },
            "cost": cost,
            "stages": list(procedure.stages),
        }
    )
    page = write_procedure_report(procedure.folder, said)
    return ProcedureOutcome(procedure.folder, complete, values, said, page)
