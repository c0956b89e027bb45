"""The record of a study: one writer that cannot leave it broken, and readers that need no lock.

    with Writer.open(folder, study) as writer:      # study: the content of study.json
        plan = writer.add_plan({...})
        writer.commit(results)                      # many trials at once; all of them or none
    record = read(folder)                           # polars tables, read when asked for

What is on disk: schema.py. How a group of parts is committed: groups.py. What a reader sees:
reader.py. What study.json holds and how it grows: study_file.py. Imports no jax; polars is imported
when tables are first touched. Every error is a `RecordError` of one line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from experiments.records import compaction, tables
from experiments.records.files import (
    TEMPORARY_SUFFIX,
    Lock,
    RecordError,
    check_writable,
    disk_errors,
    sync_folder,
)
from experiments.records.groups import Group, RecordsFolder
from experiments.records.reader import Record, read
from experiments.records.schema import RECORDS_FOLDER, STUDY_FILE
from experiments.records.snapshot import Snapshot, missing_part
from experiments.records.state import Key, RecordState, TrialStates
from experiments.records.study_file import (
    merged_study,
    read_study,
    require_current,
    write_study,
)
from experiments.spec.trial import Status, TrialResult

__all__ = ["Record", "RecordError", "Writer", "read", "read_study", "require_current"]


class Writer(RecordState):
    """The one coordinator's hand on a record. `Writer.open` makes it; a context manager.

    What it keeps of the trials is a byte each (`TrialStates`), and of the study nothing, so that
    neither its memory nor the time of a commit grows with a study. A commit that was interrupted,
    at any line, leaves ``_settled`` false: the next one first reads from disk what was committed.
    """

    def __init__(self, folder: Path, study: dict[str, Any], lock: Lock) -> None:
        """For `open`, which has taken the lock and merged the study."""
        self.folder = folder
        self._records = RecordsFolder(folder / RECORDS_FOLDER, study.get("identity"))
        self._lock = lock
        self._groups: list[Group] = []
        self._states = TrialStates()
        self._number = 0
        self._settled = False
        self._settle()

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
            record of another study (another ``identity``), a damaged one, or an old or unknown
            schema version; it holds parts and no study.json. Nothing on disk is changed then.
        """
        folder = Path(folder)
        with disk_errors(folder):
            check_writable(folder)
            check_writable(folder / RECORDS_FOLDER)
            merged_study(folder, study, resume)  # refuses before anything is made
            if (folder / STUDY_FILE).exists():
                read(folder).verify()
            if not folder.exists():
                folder.mkdir(parents=True, exist_ok=True)
                sync_folder(folder.parent)
            lock = Lock(folder)
        try:
            with disk_errors(folder):
                merged, changed = merged_study(folder, study, resume)  # again, now that it is ours
                if not (folder / STUDY_FILE).exists():
                    (folder / RECORDS_FOLDER).mkdir(exist_ok=True)
                    RecordsFolder(folder / RECORDS_FOLDER, merged.get("identity")).write_newest(0)
                writer = cls(folder, merged, lock)
                if changed:
                    write_study(folder, merged)
                return writer
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

    @property
    def study(self) -> dict[str, Any]:
        """The content of study.json now; nobody else writes it."""
        return read_study(self.folder)

    def recorded(self) -> dict[Key, tuple[Status, str]]:
        """(batch size, seed, index) -> (status, identity) of every committed trial, from disk."""
        trials = Snapshot.take(self._records).trials
        if trials is None:
            return {}
        rows = trials.select(*tables.TRIAL_KEY, "status", "identity").iter_rows()
        return {(b, seed, index): (Status(s), i) for b, seed, index, s, i in rows}

    def status(self, key: Key) -> Status | None:
        """Status of a trial, None if it is not recorded."""
        return self._states.get(key)

    def commit(self, results: Sequence[TrialResult]) -> None:
        """Records these trials as one group: after a return they survive anything.

        A trial recorded COMPLETE, INFEASIBLE or STOPPED under the same identity is left as it was;
        an INCOMPLETE one is superseded. Raises RecordError where the folder is full or fails (the
        record stays readable and resumes), where a recorded trial comes with another identity,
        where a COMPLETE one holds no measurement, and where a result's columns are not of one
        length.
        """
        with disk_errors(self.folder):
            if not self._settled:
                self._settle()
            fresh = self._fresh(results)
            if not fresh:
                return
            parts = tables.group_tables(fresh)
            self._settled = False
            number = self._next_number()
            others = [group.number for group in self._groups]
            self._groups.append(self._records.write_group(number, parts, others))
            self._states.add(((r.trial.key, r.status) for r in fresh), number)
            for _ in compaction.TIERS:
                if chosen := compaction.choose([group.size for group in self._groups]):
                    self._compact([self._groups[i] for i in chosen])
            self._settled = True

    def _compact(self, small: Sequence[Group]) -> None:
        """Replace ``small`` groups by one."""
        number = self._next_number()
        merged = compaction.merged(self._records, small, self._states.incomplete)
        gone = [group.number for group in small]
        kept = [group for group in self._groups if group.number not in gone]
        others = [group.number for group in kept]
        self._groups = [*kept, self._records.write_group(number, merged, others, gone)]
        self._states.merged(gone, number)
        for group in small:
            self._records.remove(group)

    def _settle(self) -> None:
        """Take from disk what is committed, and delete what is not."""
        self._settled = False
        with disk_errors(self.folder):
            try:
                found = self._records.committed()
            except FileNotFoundError as error:
                raise missing_part(self._records, error) from error
            self._number = max([self._number, *self._records.numbers()])
            self._groups = [group for group, _ in found]
            self._records.remove_strays(self._groups)
            for stray in self.folder.glob(f"{STUDY_FILE}{TEMPORARY_SUFFIX}"):
                stray.unlink()
            if self._groups and self._records.newest() != self._groups[-1].number:
                self._records.write_newest(self._groups[-1].number)
        self._states = TrialStates()
        for group, rows in found:
            keys = rows.select(*tables.TRIAL_KEY, "status").iter_rows()
            self._states.add(
                (((b, s, i), Status(status)) for b, s, i, status in keys), group.number
            )
        self._settled = True

    def _keep(self, grown: dict[str, Any]) -> None:
        with disk_errors(self.folder):
            write_study(self.folder, grown)

    def _next_number(self) -> int:
        # Taken before the writing: a number whose writing failed is not used again.
        self._number += 1
        return self._number

    def _fresh(self, results: Sequence[TrialResult]) -> list[TrialResult]:
        """The results to record; checks those that were recorded before against the disk."""
        again = [r for r in results if self._states.get(r.trial.key) is not None]
        known = self.recorded() if again else {}
        for result in again:
            identity = known[result.trial.key][1]
            if identity != result.trial.identity:
                raise RecordError(
                    f"trial {result.trial.key} is recorded in {self.folder} with identity "
                    f"{identity}, got {result.trial.identity}"
                )
        return list(
            {
                result.trial.key: result
                for result in results
                if self._states.get(result.trial.key) in (None, Status.INCOMPLETE)
            }.values()
        )
