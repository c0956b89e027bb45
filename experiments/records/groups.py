"""Groups of Parquet parts: what is committed, what replaces what, what is missing.

A group is ``evaluations-N``, perhaps ``norms-N`` and ``layers-N``, and ``trials-N``, written in
that order; the rename of ``trials-N`` commits it. Every part carries a checksum (seal.py), the
study's identity, its table and its group's number. The trials part names besides the checksums of
the group's other parts, the groups it ``replaces`` (so that one rename commits a compaction, and no
row is seen twice or missed) and the other ``groups`` committed by then. A group that it names and
nobody replaces must be there. ``committed.json``, written after every commit, names the newest
group, which no other part can; it may lag by the one group whose commit was cut short after the
rename. Numbers grow and are never used again once committed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from experiments.records.files import TEMPORARY_SUFFIX, RecordError, sync_folder, write_whole
from experiments.records.schema import COMMITTED_FILE, OLD_VERSION, SCHEMA_VERSION
from experiments.records.seal import (
    METADATA_KEY,
    check_version,
    damaged,
    open_part,
    read_json,
    sealed_json,
    sealed_part,
)
from experiments.spec.errors import first_line

if TYPE_CHECKING:
    import polars as pl

_PART = re.compile(r"(evaluations|norms|layers|trials)-(\d+)\.parquet")


@dataclasses.dataclass(frozen=True)
class Group:
    """A committed group.

    Attributes:
      number: in its parts' names.
      parts: table -> checksum of its part ("" in the old version), ``trials`` last.
      replaces: numbers of the groups whose rows it holds instead.
      others: numbers of the other groups committed when it was.
      size: bytes of its parts.
    """

    number: int
    parts: Mapping[str, str]
    replaces: tuple[int, ...]
    others: tuple[int, ...]
    size: int


@dataclasses.dataclass(frozen=True)
class RecordsFolder:
    """The folder of a record's parts: its path, its study's identity, its schema version."""

    path: Path
    identity: Any
    version: int = SCHEMA_VERSION

    def part(self, table: str, number: int) -> Path:
        """Path of a part."""
        return self.path / f"{table}-{number:06d}.parquet"

    def numbers(self, *tables: str) -> list[int]:
        """Numbers in use by the parts there are of ``tables`` (none: of any), ascending."""
        return sorted({n for table, n in self._listing() if not tables or table in tables})

    def write_group(
        self,
        number: int,
        tables: Mapping[str, pl.DataFrame],
        others: Iterable[int] = (),
        replaces: Iterable[int] = (),
    ) -> Group:
        """Write the parts of ``tables`` in their order, ``trials`` last; its rename commits.

        Raises OSError; unless the commit itself had happened, the parts written are removed.
        """
        assert list(tables)[-1] == "trials", "the trials part is the commit"
        about = {"schema_version": SCHEMA_VERSION, "study": self.identity, "group": number}
        parts: dict[str, str] = {}
        size = 0
        group = Group(number, parts, tuple(replaces), tuple(others), 0)
        try:
            for table, frame in tables.items():
                more = {"parts": parts, "replaces": group.replaces, "groups": group.others}
                if table == "trials":
                    sync_folder(self.path)  # the other parts are durable before the commit
                    about |= {**more, "bytes": size}
                data, parts[table] = sealed_part(frame, {**about, "table": table})
                size += len(data)
                write_whole(self.part(table, number), data, sync=table == "trials")
        except OSError:
            if not self.part("trials", number).exists():
                with contextlib.suppress(OSError):
                    for table in tables:
                        self.part(table, number).unlink(missing_ok=True)
            raise
        self.write_newest(number)
        return dataclasses.replace(group, size=size)

    def read_group(self, number: int) -> tuple[Group, pl.DataFrame]:
        """A committed group and its rows of the trials table, all of them.

        Raises FileNotFoundError where a part is missing, RecordError where one is damaged.
        """
        import polars as pl

        path = self.part("trials", number)
        file, about = self.open("trials", number)
        with file:
            try:
                if self.version == OLD_VERSION:
                    about = _old_metadata(file, path)
                rows = pl.read_parquet(file)
                parts = dict.fromkeys(about["tables"], "") if "tables" in about else about["parts"]
                replaces, others = tuple(about["replaces"]), tuple(about.get("groups", ()))
            except (KeyError, TypeError, ValueError, pl.exceptions.PolarsError) as error:
                raise damaged(path, first_line(error)) from error
            size = int(about.get("bytes", 0)) + os.fstat(file.fileno()).st_size
        for table in parts:
            self.part(table, number).stat()
        return Group(number, {**parts, "trials": about.get("checksum", "")}, replaces, others,
                     size), rows  # fmt: skip

    def open(self, table: str, number: int, checksum: str = "") -> tuple[IO[bytes], dict[str, Any]]:
        """The open file of a part, verified, and its metadata; the old version has none to verify.

        ``checksum``: what the group's trials part says of it.
        """
        path = self.part(table, number)
        if self.version == OLD_VERSION:
            return open(path, "rb"), {}
        file, about = open_part(path)
        try:
            check_version(about.get("schema_version"), path)
            if about.get("study") != self.identity:
                raise RecordError(f"{path} is of another study than the study.json beside it")
            if (about.get("table"), about.get("group")) != (table, number):
                raise damaged(path, f"it is {about.get('table')} of group {about.get('group')}")
            if checksum and about["checksum"] != checksum:
                raise damaged(path, "it is not the one its group was committed with")
        except RecordError:
            file.close()
            raise
        return file, about

    def committed(self) -> list[tuple[Group, pl.DataFrame]]:
        """The groups that count and their trials, oldest first.

        Raises FileNotFoundError where a part is missing: a compaction may have removed it since
        the folder was listed.
        """
        newest = self.newest()
        found = {number: self.read_group(number) for number in self.numbers("trials")}
        groups = [group for group, _ in found.values()]
        replaced = {number for group in groups for number in group.replaces}
        expected = {newest, *(groups[-1].others if groups else ())} - {0}
        for number in sorted(expected - found.keys() - replaced):
            raise FileNotFoundError(f"{self.part('trials', number)} is missing")
        return [found[group.number] for group in groups if group.number not in replaced]

    def write_newest(self, number: int) -> None:
        """Say in `COMMITTED_FILE` that group ``number`` is committed; 0: none is."""
        content = {"schema_version": SCHEMA_VERSION, "study": self.identity, "newest": number}
        write_whole(self.path / COMMITTED_FILE, sealed_json(content), sync=False)

    def newest(self) -> int:
        """The newest group by `COMMITTED_FILE`; 0 if none, and in the old version."""
        if self.version == OLD_VERSION:
            return 0
        path = self.path / COMMITTED_FILE
        try:
            content = read_json(path, "committed groups")
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(f"{path} is missing") from None
        if content.get("study") != self.identity:
            raise RecordError(f"{path} is of another study than the study.json beside it")
        return int(content["newest"])

    def remove(self, group: Group) -> None:
        """Delete a group that another replaces, its commit first: it is never there in part."""
        for table in reversed([*group.parts]):
            self.part(table, group.number).unlink(missing_ok=True)

    def remove_strays(self, live: Sequence[Group]) -> None:
        """Delete temporary files and parts of no ``live`` group, replaced or never committed.

        For the writer alone, which holds the lock and has just listed what is committed.
        """
        keep = {(table, group.number) for group in live for table in group.parts}
        strays = [self.part(t, n) for t, n in self._listing() if (t, n) not in keep]
        strays.sort(key=lambda path: not path.name.startswith("trials"))
        strays += self.path.glob(f"*{TEMPORARY_SUFFIX}")
        for path in strays:
            path.unlink(missing_ok=True)
        if strays:
            sync_folder(self.path)

    def _listing(self) -> list[tuple[str, int]]:
        names = os.listdir(self.path) if self.path.is_dir() else []
        return sorted((m[1], int(m[2])) for m in map(_PART.fullmatch, names) if m)


def _old_metadata(file: IO[bytes], path: Path) -> dict[str, Any]:
    import polars as pl

    about = json.loads(pl.read_parquet_metadata(file)[METADATA_KEY])
    version = check_version(about["schema_version"], path)
    if version != OLD_VERSION:
        raise RecordError(
            f"{path} has schema version {version}, the study.json beside it {OLD_VERSION}"
        )
    file.seek(0)
    return dict(about)
