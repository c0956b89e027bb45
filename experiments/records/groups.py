"""Groups of Parquet parts: what is committed, who replaces whom, how small ones are merged.

A group is ``evaluations-N``, perhaps ``norms-N`` and ``layers-N``, and ``trials-N``, written in
that order; the rename of ``trials-N`` commits it. The metadata of the trials part names the group's
other parts and the groups it replaces, so that the same rename commits a compaction: from that
moment readers pass over the replaced groups, deleted or not, and no row is seen twice or missed.
Numbers grow and are never used again once committed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.records.files import TEMPORARY_SUFFIX, RecordError, sync_folder, write_whole
from experiments.records.schema import SCHEMA_VERSION, TABLES
from experiments.records.tables import TRIAL_KEY, ordered

if TYPE_CHECKING:
    import polars as pl

METADATA_KEY = "batchscale"
SMALL_BYTES = 32 * 2**20
"""Groups below this size are merged; larger ones stay, so a byte is rewritten a few times."""
MOST_SMALL_GROUPS = 24
_PART = re.compile(r"(evaluations|norms|layers|trials)-(\d+)\.parquet")
_ATTEMPTS = 20


@dataclasses.dataclass(frozen=True)
class Group:
    """A committed group: its number, its parts (trials last), what it replaces, its bytes."""

    number: int
    tables: tuple[str, ...]
    replaces: tuple[int, ...]
    size: int


def part(records: Path, table: str, number: int) -> Path:
    """Path of a part."""
    return records / f"{table}-{number:06d}.parquet"


def check_version(version: object, where: Path) -> None:
    """Refuses a schema version that this code does not know, by name."""
    if version != SCHEMA_VERSION:
        raise RecordError(
            f"{where} has schema version {version!r}, which is unknown (known: {SCHEMA_VERSION})"
        )


def write_group(
    records: Path, number: int, tables: dict[str, pl.DataFrame], replaces: Sequence[int] = ()
) -> Group:
    """Writes the parts of ``tables`` in their order, ``trials`` last; its rename commits.

    Raises OSError; unless the commit itself had happened, the parts written are removed.
    """
    assert list(tables)[-1] == "trials", "the trials part is the commit"
    about = {"schema_version": SCHEMA_VERSION, "tables": list(tables), "replaces": list(replaces)}
    size = 0
    try:
        for table, frame in tables.items():
            buffer = io.BytesIO()
            metadata = {METADATA_KEY: json.dumps(about)} if table == "trials" else None
            frame.write_parquet(buffer, metadata=metadata)
            write_whole(part(records, table, number), buffer.getbuffer())
            size += buffer.tell()
    except OSError:
        if not part(records, "trials", number).exists():
            with contextlib.suppress(OSError):
                for table in tables:
                    part(records, table, number).unlink(missing_ok=True)
        raise
    return Group(number, tuple(tables), tuple(replaces), size)


def committed(records: Path) -> list[Group]:
    """The groups that count, oldest first. FileNotFoundError if a part is not there."""
    numbers = [number for table, number in _stable_listing(records) if table == "trials"]
    groups = [_describe(records, number) for number in sorted(numbers)]
    replaced = {number for group in groups for number in group.replaces}
    return [group for group in groups if group.number not in replaced]


def newest_number(records: Path) -> int:
    """The highest number in use, 0 if none."""
    return max((number for _, number in _listing(records)), default=0)


def remove_strays(records: Path, live: Sequence[Group]) -> None:
    """Deletes what is not of the ``live`` groups: temporary, uncommitted and replaced parts.

    Replaced trials parts go first, so that a group is at no time without its other parts.
    For the writer alone, which holds the lock.
    """
    keep = {(table, group.number) for group in live for table in group.tables}
    strays = [part(records, t, n) for t, n in _listing(records) if (t, n) not in keep]
    strays.sort(key=lambda path: not path.name.startswith("trials"))
    strays += records.glob(f"*{TEMPORARY_SUFFIX}")
    for path in strays:
        path.unlink(missing_ok=True)
    if strays:
        sync_folder(records)


def read_committed(records: Path, tables: Sequence[str]) -> dict[str, pl.DataFrame]:
    """The rows of ``tables`` that count, in no stated order; a table nobody wrote is left out.

    A writer may commit or compact meanwhile: a part that vanishes starts the reading again.
    """
    for _ in range(_ATTEMPTS):
        try:
            groups = committed(records)
            return gather(records, groups, groups, tables)
        except FileNotFoundError as error:
            missing = error
        except OSError as error:
            raise RecordError(f"the record {records.parent} cannot be read ({error})") from error
    raise RecordError(f"the record {records.parent} is damaged ({missing})")


def gather(
    records: Path, groups: Sequence[Group], among: Sequence[Group], tables: Sequence[str]
) -> dict[str, pl.DataFrame]:
    """Rows of ``groups``, less those of trials that a newer group ``among`` all holds again."""
    import polars as pl

    trials = {g.number: read_part(part(records, "trials", g.number)) for g in among}
    superseded = _superseded(trials)
    gathered = {}
    for table in tables:
        frames = []
        for group in (group for group in groups if table in group.tables):
            here = part(records, table, group.number)
            frame = trials[group.number] if table == "trials" else read_part(here)
            if group.number in superseded:
                frame = frame.join(superseded[group.number], on=TRIAL_KEY, how="anti")
            frames.append(frame)
        if frames:
            gathered[table] = pl.concat(frames, how="diagonal")
    return gathered


def needs_compaction(groups: Sequence[Group]) -> bool:
    """Whether the small groups have become many."""
    return sum(group.size < SMALL_BYTES for group in groups) > MOST_SMALL_GROUPS


def compact(records: Path, groups: Sequence[Group], number: int) -> list[Group]:
    """Merges the small groups into group ``number``; the groups that then live.

    Superseded rows are dropped, so that the merged group may count as the newest.
    """
    small = [group for group in groups if group.size < SMALL_BYTES]
    merged = {
        table: ordered(rows) for table, rows in gather(records, small, groups, TABLES).items()
    }
    written = write_group(records, number, merged, [group.number for group in small])
    live = [*(group for group in groups if group not in small), written]
    remove_strays(records, live)
    return live


def read_part(path: Path) -> pl.DataFrame:
    """A part's rows. FileNotFoundError where it is not there, RecordError where damaged."""
    import polars as pl

    try:
        return pl.read_parquet(path, glob=False, hive_partitioning=False)
    except pl.exceptions.PolarsError as error:
        raise RecordError(f"the part {path} is damaged ({_first_line(error)})") from error


def _superseded(trials: dict[int, pl.DataFrame]) -> dict[int, pl.DataFrame]:
    """Group number -> keys of those of its trials that a newer group holds too."""
    import polars as pl

    if not trials:
        return {}
    keys = pl.concat(
        [frame.select(*TRIAL_KEY, group=pl.lit(number)) for number, frame in trials.items()]
    )
    lost = keys.filter(pl.col("group") < pl.col("group").max().over(TRIAL_KEY))
    return {rows["group"][0]: rows.drop("group") for rows in lost.partition_by("group")}


def _describe(records: Path, number: int) -> Group:
    import polars as pl

    path = part(records, "trials", number)
    try:
        with open(path, "rb") as file:
            about = json.loads(pl.read_parquet_metadata(file)[METADATA_KEY])
    except (pl.exceptions.PolarsError, KeyError, ValueError) as error:
        raise RecordError(f"the part {path} is damaged ({_first_line(error)})") from error
    check_version(about.get("schema_version"), path)
    size = sum(part(records, table, number).stat().st_size for table in about["tables"])
    return Group(number, tuple(about["tables"]), tuple(about["replaces"]), size)


def _listing(records: Path) -> list[tuple[str, int]]:
    names = os.listdir(records) if records.is_dir() else []
    return sorted((m[1], int(m[2])) for m in map(_PART.fullmatch, names) if m)


def _stable_listing(records: Path) -> list[tuple[str, int]]:
    """A listing that no compaction can have slipped through.

    The system may list a folder while it changes, and so show neither a replaced part (already
    deleted) nor its replacement (not yet there). The replacement comes first, so a second
    listing shows it: two that agree are whole.
    """
    last = _listing(records)
    for _ in range(_ATTEMPTS):
        again = _listing(records)
        if again == last:
            return again
        last = again
    raise RecordError(f"the record {records.parent} changes too fast to be read; try again")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
