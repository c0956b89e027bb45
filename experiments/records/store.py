"""The record of a study: one writer that cannot leave it broken, and readers that need no lock.

    with Writer.open(folder, study) as writer:      # study: the content of study.json
        plan = writer.add_plan({...})
        writer.commit(results)                      # many trials at once; all of them or none
    record = read(folder)                           # polars tables, sorted

What is on disk: schema.py. How a group of parts is committed: groups.py. Imports no jax; polars
is imported when tables are first touched. Every error is a `RecordError` of one line.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from experiments.records import groups, tables
from experiments.records.files import (
    TEMPORARY_SUFFIX,
    Lock,
    RecordError,
    check_writable,
    disk_errors,
    sync_folder,
    write_whole,
)
from experiments.records.schema import RECORDS_FOLDER, SCHEMA_VERSION, STUDY_FILE, TABLES
from experiments.spec.fields import MAY_CHANGE
from experiments.spec.trial import Status, TrialResult

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Record", "RecordError", "Writer", "read", "read_study"]

Key = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Record:
    """A study as recorded; tables as in schema.py, sorted by key, columns in a fixed order.

    Attributes:
      study: content of study.json.
      trials: one row a trial, whatever its status.
      evaluations: one row a measurement.
      norms: one row a step, None where no trial recorded them at every step.
      layers: one row an evaluation and layer, None where the study did not ask for them.
    """

    study: dict[str, Any]
    trials: pl.DataFrame
    evaluations: pl.DataFrame
    norms: pl.DataFrame | None
    layers: pl.DataFrame | None = None


def read(folder: Path | str) -> Record:
    """The committed record in ``folder``, also while a writer is at work or after its death.

    Raises RecordError if there is no record, it is damaged, or its schema version is unknown.
    """
    folder = Path(folder)
    study = read_study(folder)
    found = groups.read_committed(folder / RECORDS_FOLDER, TABLES)
    trials = found.get("trials", tables.trials_table([]))
    evaluations = found.get("evaluations", tables.measurements_table([], []))
    norms, layers = found.get("norms"), found.get("layers")
    return Record(
        study=study,
        trials=tables.ordered(trials, study.get("hyperparameters", ())),
        evaluations=tables.ordered(tables.with_examples(evaluations)),
        norms=None if norms is None else tables.ordered(tables.with_examples(norms)),
        layers=None if layers is None else tables.ordered(layers),
    )


def read_study(folder: Path | str) -> dict[str, Any]:
    """The content of study.json; RecordError if it is not there, not ours, or of another age."""
    path = Path(folder) / STUDY_FILE
    try:
        study = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise RecordError(f"the folder {folder} holds no record ({path} is missing)") from None
    except (OSError, ValueError) as error:
        raise RecordError(f"{path} cannot be read ({error})") from error
    if not isinstance(study, dict) or "schema_version" not in study:
        raise RecordError(f"{path} is not the record of a study (it has no schema_version)")
    groups.check_version(study["schema_version"], path)
    return study


class Held:
    """What a process that trains knows of a record: its study, its plans, its trials."""

    _study: dict[str, Any]
    _recorded: dict[Key, tuple[Status, str]]

    @property
    def study(self) -> dict[str, Any]:
        """What study.json holds now (a copy)."""
        return copy.deepcopy(self._study)

    def recorded(self) -> dict[Key, tuple[Status, str]]:
        """(batch size, seed, index) -> (status, identity) of every committed trial."""
        return dict(self._recorded)

    def add_plan(self, plan: Mapping[str, Any]) -> int:
        """Index of ``plan`` (JSON values) among the recorded plans, appended where it is new."""
        plain = json.loads(json.dumps(dict(plan)))
        if plain not in self._study["plans"]:
            grown = {**self._study, "plans": [*self._study["plans"], plain]}
            self._keep(grown)
            self._study = grown
        return int(self._study["plans"].index(plain))

    def _keep(self, grown: dict[str, Any]) -> None:
        """Put the grown study on disk, where that is this process's part."""


class Writer(Held):
    """The one coordinator's hand on a record. `Writer.open` makes it; a context manager."""

    def __init__(self, folder: Path, study: dict[str, Any], lock: Lock) -> None:
        """For `open`, which has taken the lock and merged the study."""
        self.folder = folder
        self._records = folder / RECORDS_FOLDER
        self._study = study
        self._lock = lock
        try:
            self._groups = groups.committed(self._records)
        except FileNotFoundError as error:
            raise RecordError(f"the record {folder} is damaged ({error})") from error
        self._number = groups.newest_number(self._records)
        groups.remove_strays(self._records, self._groups)
        for stray in folder.glob(f"{STUDY_FILE}{TEMPORARY_SUFFIX}"):
            stray.unlink()
        self._recorded = self._read_recorded()

    @classmethod
    def open(cls, folder: Path | str, study: Mapping[str, Any], *, resume: bool = True) -> Writer:
        """Opens or creates the record of ``study`` in ``folder``, and holds its lock.

        Args:
          folder: created where it does not exist, with its parents.
          study: content of study.json (schema.py); ``identity`` and ``study.name`` at least.
            Trials, seeds, batch sizes, their lengths and plans of an existing record grow.
          resume: False refuses a folder that holds a record.

        Raises:
          RecordError: another process writes there; the folder cannot be written; it holds the
            record of another study (another ``identity``) or an unknown schema version; it
            holds parts and no study.json. Nothing on disk is changed then.
        """
        folder = Path(folder)
        with disk_errors(folder):
            check_writable(folder)
            check_writable(folder / RECORDS_FOLDER)
            _merged(folder, study, resume)  # refuses before anything is made
            if not folder.exists():
                folder.mkdir(parents=True, exist_ok=True)
                sync_folder(folder.parent)
            lock = Lock(folder)
        try:
            with disk_errors(folder):
                merged, changed = _merged(folder, study, resume)  # again, now that it is ours
                (folder / RECORDS_FOLDER).mkdir(exist_ok=True)
                if changed:
                    _write_study(folder, merged)
                return cls(folder, merged, lock)
        except BaseException:
            lock.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Gives the lock back; harmless when repeated."""
        self._lock.release()

    def _keep(self, grown: dict[str, Any]) -> None:
        with disk_errors(self.folder):
            _write_study(self.folder, grown)

    def commit(self, results: Sequence[TrialResult]) -> None:
        """Records these trials as one group: after a return they survive anything.

        A trial recorded COMPLETE or INFEASIBLE under the same identity is left as it was; an
        INCOMPLETE one is superseded. Raises RecordError where the folder is full or fails (the
        record stays readable and resumes), where a recorded trial comes with another identity,
        and where a result's columns are not of one length.
        """
        fresh = self._fresh(results)
        if not fresh:
            return
        parts = {
            "evaluations": tables.with_examples(
                tables.measurements_table(fresh, [tables.without_layers(r) for r in fresh])
            )
        }
        stepped = [r for r in fresh if r.norms is not None]
        if stepped:
            parts["norms"] = tables.with_examples(
                tables.measurements_table(stepped, [r.norms or {} for r in stepped])
            )
        if layers := tables.layers_of(fresh):
            parts["layers"] = tables.layers_table(fresh, layers)
        parts["trials"] = tables.trials_table(fresh)
        with disk_errors(self.folder):
            self._groups.append(groups.write_group(self._records, self._next_number(), parts))
        self._recorded |= {r.trial.key: (r.status, r.trial.identity) for r in fresh}
        if groups.needs_compaction(self._groups):
            with disk_errors(self.folder):
                self._groups = groups.compact(self._records, self._groups, self._next_number())

    def _next_number(self) -> int:
        # Taken before the writing: a number whose writing failed is not used again.
        self._number += 1
        return self._number

    def _fresh(self, results: Sequence[TrialResult]) -> list[TrialResult]:
        fresh = {}
        for result in results:
            status, identity = self._recorded.get(result.trial.key, (Status.INCOMPLETE, None))
            if identity not in (None, result.trial.identity):
                raise RecordError(
                    f"trial {result.trial.key} is recorded in {self.folder} with identity "
                    f"{identity}, got {result.trial.identity}"
                )
            if status == Status.INCOMPLETE:
                fresh[result.trial.key] = result
        return list(fresh.values())

    def _read_recorded(self) -> dict[Key, tuple[Status, str]]:
        found = groups.gather(self._records, self._groups, self._groups, ("trials",))
        if not found:
            return {}
        rows = found["trials"].select(*tables.TRIAL_KEY, "status", "identity").iter_rows()
        return {(b, seed, index): (Status(s), i) for b, seed, index, s, i in rows}


def _merged(folder: Path, study: Mapping[str, Any], resume: bool) -> tuple[dict[str, Any], bool]:
    """What study.json should hold, and whether that differs from what it holds."""
    new = {"plans": [], **json.loads(json.dumps(dict(study))), "schema_version": SCHEMA_VERSION}
    if not (folder / STUDY_FILE).exists():
        if any((folder / RECORDS_FOLDER).glob("trials-*.parquet")):
            raise RecordError(f"the folder {folder} holds records but no {STUDY_FILE}")
        return _grown(new, new), True
    stored = read_study(folder)
    if not resume:
        raise RecordError(f"the folder {folder} already holds a record of study {_name(stored)!r}")
    if stored.get("identity") != new.get("identity"):
        raise RecordError(
            f"the folder {folder} holds the record of study {_name(stored)!r}, which differs "
            f"from study {_name(new)!r} in {_differences(stored, new)}: choose another folder"
        )
    merged = _grown(stored, new)
    return merged, merged != stored


def _differences(stored: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The fields that make two studies two, in words."""
    old, asked = stored.get("study", {}), new.get("study", {})
    fields = [
        k for k in {**old, **asked} if k not in (*MAY_CHANGE, "code") and old.get(k) != asked.get(k)
    ]
    if stored.get("dataset", {}).get("checksum") != new.get("dataset", {}).get("checksum"):
        fields.append("the dataset's checksum")
    return ", ".join(fields) or "train_steps, the user's code or the version of this code"


def _grown(stored: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """``stored`` with what ``new`` adds; nothing that was recorded is lost."""
    old, asked = stored.get("study", {}), new.get("study", {})
    lengths = {**asked.get("train_steps", {}), **old.get("train_steps", {})}
    question = {
        **old,
        **asked,
        "trials": max(old.get("trials", 0), asked.get("trials", 0)),
        "seeds": _union(old.get("seeds", []), asked.get("seeds", [])),
        "batch_sizes": sorted({*old.get("batch_sizes", []), *asked.get("batch_sizes", [])}),
        "train_steps": dict(sorted(lengths.items(), key=lambda item: int(item[0]))),
    }
    grown = {**stored, **new, "study": question}
    grown["plans"] = _union(stored.get("plans", []), new["plans"])
    if "environment" in stored:
        grown["environment"] = stored["environment"]
        known = stored.get("environments", [stored["environment"]])
        grown["environments"] = _union(known, [new.get("environment", stored["environment"])])
    return grown


def _union(first: Sequence[Any], second: Sequence[Any]) -> list[Any]:
    return [*first, *(value for value in second if value not in first)]


def _name(study: Mapping[str, Any]) -> str:
    return str(study.get("study", {}).get("name", "unnamed"))


def _write_study(folder: Path, study: Mapping[str, Any]) -> None:
    write_whole(folder / STUDY_FILE, (json.dumps(study, indent=2) + "\n").encode())
