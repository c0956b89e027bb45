"""The frame of a procedure: studies in stages, a budget, a verdict that is written whole.

A procedure's folder holds::

    procedure.json      schema_version, procedure, asked (all that determines its stages), checksum
    verdict.json        the newest verdict (`ProcedureOutcome.to_json`) and its checksum
    lock                held (flock) by the one process that works here
    01-sweep/ ...       the record of each stage's study (records/schema.py)
    report/             index.html, figures/*.png|pdf, data/*.csv

Each stage is a study that the runner trains: durable, resumable, packed like any other. What a
later stage asks follows from the records of earlier ones alone, so the same command goes on where a
procedure was interrupted, and repeats nothing that is recorded.

    with Procedure("diagnose", folder, asked) as procedure:
        record = procedure.train("sweep", study)
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from experiments.procedures.budget import NO_BUDGET, Budget, BudgetEnds, ProcedureCost
from experiments.records.comparisons import check_kind
from experiments.records.files import (
    Lock,
    RecordError,
    check_writable,
    disk_errors,
    sync_folder,
    write_whole,
)
from experiments.records.reader import Record
from experiments.records.schema import PROCEDURE_FILE, SCHEMA_VERSION, STUDY_FILE
from experiments.records.seal import read_json, sealed_json
from experiments.records.store import read
from experiments.runner.coordinator import Observer
from experiments.runner.study import run_study
from experiments.spec.fields import StudyFields
from experiments.spec.study import resolve

VERDICT_FILE = "verdict.json"
Shown = Callable[[StudyFields], contextlib.AbstractContextManager[Observer]]
Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Running:
    """The way a procedure trains and what it may cost; none of it changes what is asked.

    Attributes:
      budget: bound on what all stages cost together.
      train: keyword arguments of `run_study` (execution, data_dir, workers, ...).
      shown: study -> a context that gives its observer.
      say: takes a line now and then.
    """

    budget: Budget = NO_BUDGET
    train: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    shown: Shown = lambda study: contextlib.nullcontext(lambda progress: None)
    say: Say = lambda line: None


FIRST_STAGE = ProcedureCost(2, 40)
"""Every procedure begins with a pilot."""
PLAIN = Running()
"""No budget, the defaults of `run_study`, and silence."""


class Procedure:
    """A procedure at work in its folder. A context manager that holds the folder's lock.

    Args:
      kind: its name, as of the command.
      folder: made where it does not exist.
      asked: all that determines its stages, as JSON values.
      running: how it trains.

    Raises:
      ValueError: a budget that does not hold the first stage, of two trials and 40 steps.
      RecordError: the folder holds another procedure, the same one asked something else, or
        another kind of record; or another process works there. Nothing is changed then.
    """

    def __init__(
        self, kind: str, folder: Path | str, asked: Mapping[str, Any], running: Running = PLAIN
    ):
        self.kind, self.folder, self.running = kind, Path(folder), running
        self._asked = json.loads(json.dumps(dict(asked)))
        self._stages: list[str] = []
        self.made = ProcedureCost()
        try:
            running.budget.check(FIRST_STAGE, "the first stage")
        except BudgetEnds as error:
            raise ValueError(str(error)) from error
        self._refuse_others()

    def __enter__(self) -> Self:
        with disk_errors(self.folder):
            check_writable(self.folder)
            if not self.folder.exists():
                self.folder.mkdir(parents=True, exist_ok=True)
                sync_folder(self.folder.parent)
            self._lock = Lock(self.folder)
            try:
                self._refuse_others()
                content = {
                    "schema_version": SCHEMA_VERSION,
                    "procedure": self.kind,
                    "asked": self._asked,
                }
                if not (self.folder / PROCEDURE_FILE).exists():
                    write_whole(self.folder / PROCEDURE_FILE, sealed_json(content))
            except BaseException:
                self._lock.release()
                raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock.release()

    def _refuse_others(self) -> None:
        check_kind(self.folder, PROCEDURE_FILE)
        if not (self.folder / PROCEDURE_FILE).exists():
            return
        held = read_json(self.folder / PROCEDURE_FILE, "a procedure")
        if held.get("procedure") != self.kind:
            raise RecordError(
                f"the folder {self.folder} holds the procedure {held.get('procedure')!r}, not "
                f"{self.kind!r}: choose another folder with --out"
            )
        before = held.get("asked", {})
        changed = [
            name for name in {**before, **self._asked} if before.get(name) != self._asked.get(name)
        ]
        if changed:
            raise RecordError(
                f"the folder {self.folder} holds a {self.kind} that differs in "
                f"{', '.join(changed)}: choose another folder with --out"
            )

    def state_cost(self, most: ProcedureCost) -> None:
        """Say what all stages cost at most, before the first of them."""
        bound = f", bounded by --budget {self.running.budget}" if self.running.budget else ""
        self.running.say(f"cost: at most {most}{bound}")

    def state_time(self, most: ProcedureCost, seconds_per_step: float, each_stage: float) -> None:
        """Say how long that takes, once a step was timed and a stage begun."""
        self.running.say(
            f"time: at most about {in_words(most.steps * seconds_per_step)} of training "
            f"({1e3 * seconds_per_step:.3g} ms a step, measured), and some "
            f"{in_words(each_stage)} to compile and begin each stage"
        )

    def train(self, stage: str, study: StudyFields, **options: Any) -> Record:
        """The record of a stage's study, trained as far as it is not there yet.

        ``options`` of `run_study` go before those of ``running``.

        Raises:
          BudgetEnds: the budget does not hold what this stage may still cost; nothing is begun.
          As `run_study`.
        """
        folder = self.stage(stage)
        before = cost_of(read(folder)) if (folder / STUDY_FILE).exists() else ProcedureCost()
        whole = planned(study)
        if before.trials < whole.trials:
            self.running.budget.check(self.made + whole, stage)
            self.running.say(f"{stage}: {whole}")
        with self.running.shown(study) as observe:
            run_study(study, folder, observe=observe, **{**self.running.train, **options})
        record = read(folder)
        self.made = self.made + cost_of(record)
        return record

    def stage(self, name: str) -> Path:
        """The folder of the next stage, whose record another than `train` makes."""
        self._stages.append(name)
        return self.folder / self.stages[-1]

    @property
    def stages(self) -> Sequence[str]:
        """Folders of the stages trained or asked for so far."""
        return [f"{i + 1:02d}-{name}" for i, name in enumerate(self._stages)]

    def write(self, verdict: Mapping[str, Any]) -> Path:
        """Replace verdict.json; its path."""
        path = self.folder / VERDICT_FILE
        with disk_errors(self.folder):
            write_whole(path, sealed_json({"schema_version": SCHEMA_VERSION, **verdict}))
        return path


def planned(study: StudyFields) -> ProcedureCost:
    """The cost of a study where every trial trains to its length."""
    complete = resolve(study)
    each = complete.trials * len(complete.seeds)
    steps = sum(each * complete.length(b) for b in complete.batch_sizes)
    return ProcedureCost(each * len(complete.batch_sizes), steps)


def cost_of(record: Record) -> ProcedureCost:
    """The cost of the trials of a record."""
    trials = record.trials
    return ProcedureCost(len(trials), int(trials["steps"].sum()), float(trials["seconds"].sum()))


def is_procedure(folder: Path | str) -> bool:
    """True where ``folder`` holds a procedure."""
    return (Path(folder) / PROCEDURE_FILE).is_file()


def in_words(seconds: float) -> str:
    """'12 s', '3 min' or '1.5 h'."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


__all__ = ["BudgetEnds", "Procedure", "Running", "cost_of", "is_procedure", "planned"]
