"""The committed groups at one moment, as tables that are read when they are asked for."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, TYPE_CHECKING, Self

from experiments.records.files import RecordError
from experiments.records.groups import Group, RecordsFolder
from experiments.records.schema import TABLES
from experiments.records.seal import damaged
from experiments.records.tables import TRIAL_KEY
from experiments.spec.trial import Status

if TYPE_CHECKING:
    import polars as pl

_ATTEMPTS = 20
_GROUP = "group of the record"
_THREADS = min(8, os.cpu_count() or 1)


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
        frames = [
            self._current(group, rows.lazy()).with_columns(pl.lit(group.number).alias(_GROUP))
            for group, rows in found
        ]
        # Of a choice among words a group in which it never exists holds nulls of another type.
        rows = pl.concat(frames, how="diagonal_relaxed").collect() if frames else None
        self._places = None if rows is None else rows.select(*TRIAL_KEY, _GROUP)
        self.trials = None if rows is None else rows.drop(_GROUP)

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

    def scan(self, table: str, of: pl.DataFrame | None = None) -> pl.LazyFrame | None:
        """The rows of a measurements table, verified now and read when collected.

        In no stated order; None where no group holds the table. The frame keeps its files open,
        so that a compaction cannot take them away.

        Args:
          table: its name.
          of: keys of trials; rows of others are left out, and a group that holds none of them is
            neither verified nor read.

        Raises:
          FileNotFoundError: a part was removed since the snapshot.
          RecordError: a part is damaged.
        """
        import polars as pl

        groups = [group for group in self.groups if table in group.parts]
        if not groups:
            return None
        whole = self._held(of)
        read = [group for group in groups if group.number in whole] or groups[:1]
        frames = []
        with contextlib.ExitStack() as opened:
            files = [opened.enter_context(file) for file in self._open(table, read)]
            for group, file in zip(read, files, strict=True):
                try:
                    rows = pl.scan_parquet(file)
                    rows.collect_schema()
                except pl.exceptions.PolarsError as error:
                    path = self.folder.part(table, group.number)
                    raise damaged(path, str(error).partition("\n")[0]) from error
                rows = self._current(group, rows)
                if of is not None and not whole.get(group.number):
                    keys = of.lazy().select(TRIAL_KEY).cast(_key_types(rows))
                    rows = rows.join(keys, on=TRIAL_KEY, how="semi")
                frames.append(rows)
        return pl.concat(frames, how="diagonal")

    def verify(self) -> None:
        """Check the checksums of all parts; errors as `scan`."""
        for table in TABLES:
            for file in self._open(table, [group for group in self.groups if table in group.parts]):
                file.close()

    def _open(self, table: str, groups: Sequence[Group]) -> list[IO[bytes]]:
        """The open parts of ``table``, verified; hashing lets other threads work."""

        def opened(group: Group) -> IO[bytes]:
            return self.folder.open(table, group.number, group.parts[table])[0]

        with ThreadPoolExecutor(_THREADS) as pool:
            asked = [pool.submit(opened, group) for group in groups]
        if any(each.exception() for each in asked):
            for each in asked:
                if each.exception() is None:
                    each.result().close()
        return [each.result() for each in asked]

    def _held(self, of: pl.DataFrame | None) -> dict[int, bool]:
        """group -> whether all its trials are among ``of``, of the groups that hold any."""
        import polars as pl

        if of is None or self._places is None:
            return {group.number: True for group in self.groups}
        keys = of.lazy().select(TRIAL_KEY).cast(_key_types(self._places.lazy()))
        rows = self._places.lazy().join(keys.with_columns(held=True), on=TRIAL_KEY, how="left")
        held = pl.col("held").fill_null(False)
        rows = rows.group_by(_GROUP).agg(held.any().alias("any"), held.all().alias("all"))
        found = rows.filter("any").select(_GROUP, "all").collect()
        return {int(group): bool(every) for group, every in found.iter_rows()}

    def _current(self, group: Group, rows: pl.LazyFrame) -> pl.LazyFrame:
        if group.number not in self._stale:
            return rows
        return rows.join(self._stale[group.number].lazy(), on=TRIAL_KEY, how="anti")


def _key_types(rows: pl.LazyFrame) -> pl.Schema:
    """The types of a trial's key in ``rows``."""
    import polars as pl

    schema = rows.collect_schema()
    return pl.Schema({name: schema[name] for name in TRIAL_KEY})


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
    if old.is_empty():
        return {}
    parts = old.partition_by("group", as_dict=True)
    return {int(group): keys.select(TRIAL_KEY) for (group,), keys in parts.items()}
