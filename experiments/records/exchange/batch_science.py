"""From the layout of the published archive to records: one record a workload, streamed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.records.exchange import published
from experiments.records.exchange.layout import (
    INTERNAL,
    STUDY,
    ArchiveStudy,
    ArchiveTrial,
    ArchiveWorkload,
    find_workloads,
    trials_of,
)
from experiments.records.exchange.measurements import RawTable, ours, parse, read_raw
from experiments.records.exchange.parameters import space_of
from experiments.records.exchange.staging import new_folder
from experiments.records.files import RecordError
from experiments.records.groups import RecordsFolder
from experiments.records.schema import (
    OPTIONAL_TRIAL_COLUMNS,
    RECORDS_FOLDER,
    SCHEMA_VERSION,
    TRIAL_COLUMNS,
)
from experiments.records.study_file import write_study
from experiments.records.tables import in_order
from experiments.spec import space as spaces
from experiments.spec.values import LONGEST_NAME
from workloads.base import Goal, Workload

if TYPE_CHECKING:
    import polars as pl

FORMAT = "batch_science"
GROUP_BYTES = 16 << 20
"""Of measurements.csv, held before a group is written, of trials that may count and of others each:
what bounds the memory."""
_OPTIMIZERS = {"nesterov_momentum": "nesterov"}
_Trial = tuple[ArchiveStudy, ArchiveTrial, RawTable]
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_.+=,%-]")


@dataclasses.dataclass(frozen=True)
class ImportRequest:
    """Facts that the archive does not say.

    Attributes:
      goals: workload -> goal; the workload "" stands for all that are not named.
      trials: N, COMPLETE trials counted at a batch size; default: that of the authors, or the
        fewest that any batch size has.
      sampler: how the points of its searches were drawn; Shallue et al. drew quasi-random ones.
    """

    goals: Mapping[str, Goal] = dataclasses.field(default_factory=dict)
    trials: int | None = None
    sampler: str = "not stated"

    def goal(self, path: str) -> Goal:
        """The goal of a workload: as asked for, else as published.

        Raises:
          RecordError: there is none.
        """
        for goal in (self.goals.get(path), self.goals.get(""), published.GOALS.get(path)):
            if goal is not None:
                return goal
        raise RecordError(
            f"no goal of {path} is published: give one (--goal METRIC=VALUE, for it alone "
            f"--goal {path}:METRIC=VALUE)"
        )


def import_archive(
    source: Path,
    out: Path,
    asked: ImportRequest,
    progress: Callable[[str], None] = lambda workload: None,
) -> list[Path]:
    """Write a record of every workload below ``source``.

    Args:
      source: the unpacked archive, a part of it, or one workload (a folder of batch sizes).
      out: the record of that one workload, else a folder of records named as in the archive.
      asked: goals and N.
      progress: takes the name of every workload, before it is read.

    Returns:
      The records' folders.

    Raises:
      RecordError: one line that names the file; ``out`` is not made then.
    """
    workloads = find_workloads(source)
    unknown = sorted({*asked.goals} - {w.path for w in workloads} - {""})
    if unknown:
        raise RecordError(f"{source} holds no workload {unknown[0]}, for which a goal was given")
    goals = {workload.path: asked.goal(workload.path) for workload in workloads}
    alone = len(workloads) == 1 and workloads[0].studies[0].folder.parent == source
    with new_folder(out) as building:
        for workload in workloads:
            progress(workload.path)
            folder = building if alone else building / workload.path
            _Import(folder, workload, goals[workload.path]).run(asked)
    return [out if alone else out / workload.path for workload in workloads]


class _Held:
    """Trials of the group that is to be written next, all of one header."""

    def __init__(self) -> None:
        self.trials: list[_Trial] = []
        self.bytes = 0

    def add(self, trial: _Trial) -> None:
        self.trials.append(trial)
        self.bytes += len(trial[2].rows)

    def clear(self) -> None:
        self.trials, self.bytes = [], 0


class _Import:
    """One workload on its way into a record.

    Holds the trials of two groups that are to be written next, those that may count among the
    first N and the others, so that an answer need not read the others at all; of what was written
    the steps of those that are COMPLETE, a batch size each.
    """

    def __init__(self, folder: Path, workload: ArchiveWorkload, goal: Goal) -> None:
        self.folder = folder
        self.workload = workload
        self.goal = goal
        self.spaces = space_of(
            {s.folder / STUDY: s.content["parameter_configs"] for s in workload.studies}
        )
        contents = {str(s.batch_size): dict(s.content) for s in workload.studies}
        self.imported: dict[str, Any] = {
            "format": FORMAT, "path": workload.path, "studies": contents, "columns": {},
        }  # fmt: skip
        text = json.dumps(self.imported, sort_keys=True)
        self.identity = hashlib.sha256(text.encode()).hexdigest()[:32]
        self.records = RecordsFolder(folder / RECORDS_FOLDER, self.identity)
        self.groups: list[int] = []
        self.hyperparameters: dict[str, None] = dict.fromkeys(self.spaces)
        self.complete: dict[int, list[int]] = {}
        self.longest: dict[int, int] = {}
        self.first, self.others = _Held(), _Held()

    def run(self, asked: ImportRequest) -> None:
        """Write the record."""
        most = asked.trials or published.FEWER_TRIALS.get(self.workload.path, published.TRIALS)
        self.records.path.mkdir(parents=True)
        self.records.write_newest(0)
        for study in self.workload.studies:
            self._study(study, most)
        for held in (self.first, self.others):
            if held.trials:
                self._write(held)
        write_study(self.folder, self._header(asked))

    def _study(self, study: ArchiveStudy, most: int) -> None:
        size, steps = study.batch_size, self.complete.setdefault(study.batch_size, [])
        header = None
        for trial in trials_of(study):
            table = read_raw(trial.folder)
            self._check(trial, table, header)
            counts = trial.status == "COMPLETE" and len(steps) < most
            held = self.first if counts else self.others
            if held.trials and held.trials[-1][2].header != table.header:
                self._write(held)
            header = table.header
            if trial.status == "COMPLETE":
                steps.append(trial.steps)
            self.longest[size] = max(self.longest.get(size, 1), trial.steps)
            self.hyperparameters.update(dict.fromkeys(trial.parameters))
            held.add((study, trial, table))
            if held.bytes >= GROUP_BYTES:
                self._write(held)
        self.imported["columns"][str(size)] = list(header or ())

    def _check(self, trial: ArchiveTrial, table: RawTable, header: tuple[str, ...] | None) -> None:
        if header is not None and table.header != header:
            raise RecordError(
                f"{table.path} has the columns {', '.join(table.header)}, other trials of the "
                f"study {', '.join(header)}"
            )
        if header is None and self.goal.column not in map(ours, table.header[1:]):
            raise RecordError(f"{table.path} has no column of the goal's {self.goal.column}")
        if trial.status == "COMPLETE" and not table.count:
            raise RecordError(f"{table.path} holds no measurement of a COMPLETE trial")
        for name in trial.parameters:
            if name in (*TRIAL_COLUMNS, *OPTIONAL_TRIAL_COLUMNS, *INTERNAL):
                raise RecordError(f"{trial.folder}: parameter {name!r} is the name of a column")

    def _write(self, held: _Held) -> None:
        """Commit what is held as one group."""
        number = len(self.groups) + 1
        tables = {
            "evaluations": _evaluations(held.trials),
            "trials": _trials(held.trials, self.identity),
        }
        self.records.write_group(number, tables, self.groups)
        self.groups.append(number)
        held.clear()

    def _header(self, asked: ImportRequest) -> dict[str, Any]:
        """study.json: the question in words of ours, and every study.json of the archive."""
        path, studies = self.workload.path, self.workload.studies
        first = studies[0].content
        lengths = {s.batch_size: s.train_steps or self.longest[s.batch_size] for s in studies}
        sure = {
            s.batch_size: s.train_steps or min(self.complete[s.batch_size], default=1) or 1
            for s in studies
        }
        wanted = published.FEWER_TRIALS.get(path, published.TRIALS)
        fewest = min(len(steps) for steps in self.complete.values())
        workload = Workload(
            path, first["dataset"], first["model"], "not stated", self.goal,
        )  # fmt: skip
        study = {
            "name": _NOT_IN_A_NAME.sub("_", path.replace("/", "-"))[-LONGEST_NAME:].lstrip("."),
            "question": f"What does the archive of measurements say of {path}?",
            "workload": workload.describe(),
            "batch_sizes": [s.batch_size for s in studies],
            "step_budget": min(sure.values()),
            "example_budget": min(size * steps for size, steps in sure.items()),
            "optimizer": _OPTIMIZERS.get(first["optimizer"], first["optimizer"]),
            "space": {name: spaces.to_json(found) for name, found in self.spaces.items()},
            "fixed": {},
            "train_steps": {str(size): steps for size, steps in lengths.items()},
            "sampler": asked.sampler,
            "trials": asked.trials or max(1, min(wanted, fewest)),
            "seeds": [0],
            "goal": dataclasses.asdict(self.goal),
            "train_size": published.train_size(path),
        }
        return {
            "schema_version": SCHEMA_VERSION, "identity": self.identity, "study": study,
            "hyperparameters": [*self.hyperparameters], "plans": [], "imported": self.imported,
        }  # fmt: skip


def _evaluations(held: Sequence[_Trial]) -> pl.DataFrame:
    """One row a measurement, sorted by key; equal steps keep the order of the file."""
    import polars as pl

    rows = parse([table for _, _, table in held])
    counts = [table.count for _, _, table in held]
    sizes = np.array([study.batch_size for study, _, _ in held], np.int64)
    ids = np.array([trial.trial_id for _, trial, _ in held], np.int32)
    size = pl.Series("batch_size", np.repeat(sizes, counts))
    rows = rows.with_columns(
        size,
        pl.Series("trial", np.repeat(ids, counts)),
        seed=pl.lit(0, dtype=pl.Int64),
        examples=pl.col("step").cast(pl.Int64) * size,
    )
    key = ("batch_size", "trial", "step")
    if not rows.select(pl.struct(key).is_sorted()).item():
        rows = rows.sort(key, maintain_order=True)
    return rows.select(in_order(rows.columns))


def _trials(held: Sequence[_Trial], identity: str) -> pl.DataFrame:
    """One row a trial; ``train_steps`` of a time budget are the steps the trial made."""
    import polars as pl

    n = len(held)
    trials = [trial for _, trial, _ in held]
    sizes = [study.batch_size for study, _, _ in held]
    ids = [trial.trial_id for trial in trials]
    steps = [trial.steps for trial in trials]
    lengths = [study.train_steps or max(1, trial.steps) for study, trial, _ in held]
    columns = {
        "batch_size": pl.Series(sizes, dtype=pl.Int64),
        "seed": pl.Series([0] * n, dtype=pl.Int64),
        "trial": pl.Series(ids, dtype=pl.Int32),
        "identity": pl.Series(
            [f"{identity}/{size}/{each}" for size, each in zip(sizes, ids, strict=True)]
        ),
        "status": pl.Series([trial.status for trial in trials]),
        "train_steps": pl.Series(lengths, dtype=pl.Int32),
        "steps": pl.Series(steps, dtype=pl.Int32),
        "seconds": pl.Series([None] * n, dtype=pl.Float64),
        "plan": pl.Series([None] * n, dtype=pl.Int32),
        "message": pl.Series([""] * n, dtype=pl.String),
    }
    for name in dict.fromkeys(name for trial in trials for name in trial.parameters):
        values = [trial.parameters.get(name) for trial in trials]
        columns[name] = pl.Series(values, dtype=pl.Float64)
    for name, kind in INTERNAL.items():
        kept = [trial.internal.get(name) for trial in trials]
        columns[name] = pl.Series(kept, dtype=pl.String if kind is str else pl.Int64)
    return pl.DataFrame(columns)
