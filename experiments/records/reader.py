"""A study's record as readers see it: tables that are verified and read when they are asked for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.records import tables
from experiments.records.files import RecordError
from experiments.records.groups import RecordsFolder
from experiments.records.schema import OLD_VERSION, RECORDS_FOLDER, REPEATS_FOLDER, STUDY_FILE
from experiments.records.snapshot import Snapshot, missing_part
from experiments.records.study_file import read_study
from experiments.spec.trial import Status

if TYPE_CHECKING:
    import polars as pl

_ATTEMPTS = 20


class Record:
    """A study as recorded; tables as in schema.py, columns in a fixed order.

    Attributes:
      study: content of study.json.
      trials: one row a trial, whatever its status, sorted by key.
    """

    def __init__(self, folder: Path, study: dict[str, Any]) -> None:
        """Of the committed groups in ``folder`` now."""
        self.study = study
        self._home = folder
        version = study["schema_version"]
        self._folder = RecordsFolder(folder / RECORDS_FOLDER, study.get("identity"), version)
        self._snapshot = self._first = Snapshot.take(self._folder)
        rows = self._snapshot.trials
        rows = tables.trials_table([]) if rows is None else rows
        hyperparameters = study.get("hyperparameters", ())
        self.trials: pl.DataFrame = (
            tables.as_read(rows.lazy(), hyperparameters).sort(tables.TRIAL_KEY).collect()
        )
        if version == OLD_VERSION:
            self._require_measurements(folder)

    def scan(self, table: str, of: pl.DataFrame | None = None) -> pl.LazyFrame | None:
        """The rows of ``evaluations``, ``norms`` or ``layers``, unsorted, read when collected.

        Each part is verified before it is decoded. None where no trial recorded the table;
        ``evaluations`` without rows where none is recorded.

        Args:
          table: its name.
          of: keys of trials; only their rows, and no part is read that holds none of them.

        Raises:
          RecordError: a part is missing or damaged.
        """
        rows = self._found(table, of)
        if rows is None and table != "evaluations":
            return None
        return tables.as_read(tables.measurements_table([], []).lazy() if rows is None else rows)

    @functools.cached_property
    def evaluations(self) -> pl.DataFrame:
        """One row a measurement, sorted by key: the whole table in memory."""
        found = self._sorted("evaluations")
        assert found is not None, "a record always has the table"
        return found

    @functools.cached_property
    def norms(self) -> pl.DataFrame | None:
        """One row a step, sorted by key; None where no trial recorded them at every step."""
        return self._sorted("norms")

    @functools.cached_property
    def layers(self) -> pl.DataFrame | None:
        """One row an evaluation and layer, sorted by key; None where not asked for."""
        return self._sorted("layers")

    @functools.cached_property
    def repeats(self) -> Record | None:
        """The record of its best configurations trained again; None where none has begun."""
        folder = self._home / REPEATS_FOLDER
        return read(folder) if (folder / STUDY_FILE).is_file() else None

    def verify(self) -> None:
        """Check the checksum of every part; RecordError naming one that is damaged or missing."""
        self._again(Snapshot.verify)

    def _sorted(self, table: str) -> pl.DataFrame | None:
        rows = self.scan(table)
        return None if rows is None else tables.ordered(rows.collect())

    def _found(self, table: str, of: pl.DataFrame | None) -> pl.LazyFrame | None:
        rows: pl.LazyFrame | None = self._again(lambda snapshot: snapshot.scan(table, of))
        if rows is None or self._snapshot is self._first:
            return rows
        # No trial committed since, nor one that was INCOMPLETE, without measurements, and is made.
        measured = self.trials.lazy().remove(status=Status.INCOMPLETE.value)
        known = measured.select(tables.TRIAL_KEY)
        return tables.as_read(rows).join(known, on=tables.TRIAL_KEY, how="semi")

    def _require_measurements(self, folder: Path) -> None:
        """Refuse an old record where a COMPLETE trial has none; newer ones have checksums."""
        complete = self.trials.filter(status=Status.COMPLETE.value).select(tables.TRIAL_KEY)
        measured = self.scan("evaluations")
        assert measured is not None, "a record always has the table"
        measured = measured.select(tables.TRIAL_KEY).unique()
        lost = complete.lazy().join(measured, on=tables.TRIAL_KEY, how="anti").collect()
        if len(lost):
            raise RecordError(
                f"the record {folder} is damaged (trial {lost.sort(tables.TRIAL_KEY).row(0)} is "
                "COMPLETE and has no measurement)"
            )

    def _again(self, read: Callable[[Snapshot], Any]) -> Any:
        """``read`` of the snapshot; of a new one where a compaction has removed a part of it."""
        for _ in range(_ATTEMPTS):
            try:
                return read(self._snapshot)
            except FileNotFoundError as error:
                missing = error
            self._snapshot = Snapshot.take(self._folder)
        raise missing_part(self._folder, missing)


def read(folder: Path | str) -> Record:
    """The committed record in ``folder``, also while a writer is at work or after its death.

    Raises:
      RecordError: there is no record, its study.json or a trials part is damaged or missing, or its
        schema version is unknown. Damage to another part is found when its table is scanned.
    """
    folder = Path(folder)
    return Record(folder, read_study(folder))
