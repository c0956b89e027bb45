"""The checks made so far, on disk: an interrupted `check` goes on after the last that was made.

The file lies in the procedure's folder until its verdict is written. A finished check leaves none:
the same command then makes every check anew, since something was mended in between.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.analysis.sanity import Check
from experiments.procedures.bench import BenchRequest
from experiments.records.files import disk_errors, write_whole
from experiments.records.schema import SCHEMA_VERSION
from experiments.records.seal import read_json, sealed_json
from experiments.spec.loading import code_of
from workloads.base import Workload

MADE_FILE = "made.json"


def question_of(workload: Workload, asked: BenchRequest) -> dict[str, Any]:
    """All that determines a check, as JSON values; which checks are wanted is none of it."""
    settings = dataclasses.asdict(dataclasses.replace(asked, only=(), source=""))
    settings.pop("only")
    return {
        "workload": workload.describe(),
        "settings": settings,
        "code": code_of(workload, asked.source),
    }


class MadeChecks:
    """Checks by name, written whole after each.

    Args:
      folder: of the procedure, its lock held.
      question: `question_of`; what was made for another one is forgotten.

    Attributes:
      seconds: that those made so far took.

    Raises:
      RecordError: the file is damaged.
    """

    def __init__(self, folder: Path, question: Mapping[str, Any]):
        self._path, self._question = folder / MADE_FILE, dict(question)
        self._made: dict[str, dict[str, Any]] = {}
        self.seconds = 0.0
        if self._path.exists():
            held = read_json(self._path, "a check")
            if held["question"] == self._question:
                self._made, self.seconds = held["checks"], held["seconds"]

    def get(self, name: str) -> Check | None:
        """The check of that name, None where it is still to be made."""
        return Check(**self._made[name]) if name in self._made else None

    def keep(self, name: str, check: Mapping[str, Any], seconds: float) -> None:
        """Record a check, its fields as JSON values, and the seconds it took."""
        self._made[name] = dict(check)
        self.seconds += seconds
        content = {"schema_version": SCHEMA_VERSION, "question": self._question,
                   "checks": self._made, "seconds": self.seconds}  # fmt: skip
        with disk_errors(self._path.parent):
            write_whole(self._path, sealed_json(content))

    def drop(self) -> None:
        """Forget them: their verdict is written."""
        self._path.unlink(missing_ok=True)
