"""The committed groups at one moment, as tables that are read when they are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Self

from experiments.records.files import RecordError
from experiments.records.groups import Group, RecordsFolder
from experiments.records.seal import damaged
from experiments.records.tables import TRIAL_KEY
from experiments.spec.trial import Status

if TYPE_CHECKING:
    import polars as pl

_ATTEMPTS = 20


class Snapshot:
    """Groups of a record; rows of a trial that a newer group holds again are left out."""

    def __init__(
        self,
        folder: RecordsFolder,
        found: Sequence[tuple[Group, pl.DataFrame]],
        stale: Mapping[int, pl.DataFrame] | None = None,
    ) -> None:
        """Of groups and their trials; ``stale``: group -> keys superseded, found if None."""
        import polars as pl

        self.folder = folder
        self.groups = [group for group, _ in found]
        self._stale = _superseded(folder, found) if stale is None else stale
        frames = [self._current(group, rows.lazy()) for group, rows in found]
        # Of a choice among words a group in which it never exists holds nulls of another type.
        self.trials = pl.concat(frames, how="diagonal_relaxed").collect() if frames else None

    @classmethod
    def take(cls, folder: RecordsFolder) -> Self:
        """Take what is committed now, while a writer may be at work.

        A compaction may remove a part between the listing and the reading: then all starts again.

        Raises:
          RecordError: a part is missing, damaged or another study's.
        """
        for _ in range(_ATTEMPTS):
            try:
                return cls(folder, folder.committed())
            except FileNotFoundError as error:
                missing = error
            except OSError as error:
                raise RecordError(f"the record {folder.path.parent} cannot be read ({error})") \
                    from error  # fmt: skip
        raise missing_part(folder, missing)

    def scan(self, table: str) -> pl.LazyFrame | None:
        """The rows of a measurements table, verified now and read when collected.

        In no stated order; None where no group holds the table. The frame keeps its files open,
        so that a compaction cannot take them away.

        Raises:
          FileNotFoundError: a part was removed since the snapshot.
          RecordError: a part is damaged.
        """
        import polars as pl

        frames = []
        for group in self.groups:
            if table in group.parts:
                file, _ = self.folder.open(table, group.number, group.parts[table])
                with file:
                    try:
                        rows = pl.scan_parquet(file)
                        rows.collect_schema()
                    except pl.exceptions.PolarsError as error:
                        path = self.folder.part(table, group.number)
                        raise damaged(path, str(error).partition("\n")[0]) from error
                frames.append(self._current(group, rows))
        return pl.concat(frames, how="diagonal") if frames else None

    def verify(self) -> None:
        """Check the checksums of all parts; errors as `scan`."""
        for group in self.groups:
            for table, checksum in group.parts.items():
                self.folder.open(table, group.number, checksum)[0].close()

    def _current(self, group: Group, rows: pl.LazyFrame) -> pl.LazyFrame:
        if group.number not in self._stale:
            return rows
        return rows.join(self._stale[group.number].lazy(), on=TRIAL_KEY, how="anti")


def missing_part(folder: RecordsFolder, error: OSError) -> RecordError:
    """The error of a part that stays missing."""
    path = error.filename or str(error).removesuffix(" is missing")
    return RecordError(f"the record {folder.path.parent} is damaged ({path} is missing)")


def _superseded(
    folder: RecordsFolder, found: Sequence[tuple[Group, pl.DataFrame]]
) -> dict[int, pl.DataFrame]:
    """group -> keys of its INCOMPLETE trials that a newer group holds again."""
    import polars as pl

    if not found:
        return {}
    rows = pl.concat(
        [
            trials.select(*TRIAL_KEY, "status").with_columns(group=pl.lit(group.number))
            for group, trials in found
        ]
    )
    old = rows.filter(pl.col("group") < pl.col("group").max().over(TRIAL_KEY))
    final = old.filter(pl.col("status") != Status.INCOMPLETE.value)
    if len(final):
        *key, _, group = final.row(0)
        raise damaged(folder.part("trials", group), f"trial {tuple(key)} is recorded twice")
    parts = old.partition_by("group", as_dict=True)
    return {int(group): keys.select(TRIAL_KEY) for (group,), keys in parts.items()}
