"""Compaction: many small groups become few large ones, and a byte is written a few times.

Groups are sorted by size into tiers. Once a tier holds more than `MOST_SMALL_GROUPS`, its groups,
oldest first, are merged until the merged one is as large as the last tier's bound. A group beyond
that bound is never rewritten. With commits of 2 kB a byte is written about 4 times in all, with
200 kB about 3 times; at most three tiers of groups are small at any time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from experiments.records.groups import Group, RecordsFolder
from experiments.records.schema import TABLES
from experiments.records.snapshot import Snapshot
from experiments.records.tables import TRIAL_KEY, ordered
from experiments.spec.trial import Status

if TYPE_CHECKING:
    import polars as pl

TIERS = (64 * 2**10, 2**20, 32 * 2**20)
"""Upper bounds of the tiers in bytes."""
MOST_SMALL_GROUPS = 24

Key = tuple[int, int, int]


def choose(sizes: Sequence[int]) -> list[int]:
    """Positions among groups of these ``sizes`` (oldest first) that are to be merged now."""
    low = 0
    for bound in TIERS:
        tier = [i for i, size in enumerate(sizes) if low <= size < bound]
        low = bound
        if len(tier) > max(1, MOST_SMALL_GROUPS):
            chosen, total = [], 0
            for position in tier:
                chosen.append(position)
                total += sizes[position]
                if total >= TIERS[-1] and len(chosen) > 1:
                    break
            return chosen
    return []


def merged(
    folder: RecordsFolder, groups: Sequence[Group], incomplete: Mapping[Key, int]
) -> dict[str, pl.DataFrame]:
    """The tables of ``groups`` as one group's, without rows that a newer group supersedes.

    Args:
      incomplete: INCOMPLETE trials -> number of the newest group that holds them. Only an
        INCOMPLETE trial is ever superseded.

    Raises:
      FileNotFoundError, RecordError: a part is missing or damaged.
    """
    import polars as pl

    found = [folder.read_group(group.number) for group in groups]
    stale = {}
    for group, rows in found:
        failed = rows.filter(pl.col("status") == Status.INCOMPLETE.value).select(TRIAL_KEY)
        old = [key for key in failed.iter_rows() if incomplete.get(key) != group.number]
        if old:
            stale[group.number] = pl.DataFrame(old, schema=failed.schema, orient="row")
    snapshot = Snapshot(folder, found, stale)
    scans = {table: snapshot.scan(table) for table in TABLES[:-1]}
    tables = {table: ordered(rows.collect()) for table, rows in scans.items() if rows is not None}
    assert snapshot.trials is not None, "there are groups to merge"
    return {**tables, "trials": ordered(snapshot.trials)}
