"""Records with other content, as a writer would have left them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl

from experiments.analysis.question import StudyRecord
from experiments.records.groups import RecordsFolder
from experiments.records.schema import SCHEMA_VERSION
from experiments.records.store import read_study
from experiments.records.study_file import write_study


def on_disk(folder: Path, record: StudyRecord) -> Path:
    """A record that was in memory, as one group."""
    study = {**record.study, "schema_version": SCHEMA_VERSION}
    records = RecordsFolder(folder / "records", study["identity"])
    records.path.mkdir(parents=True)
    write_study(folder, study)
    evaluations = record.scan("evaluations").collect()
    records.write_group(1, {"evaluations": evaluations, "trials": record.trials})
    return folder


def rewrite(folder: Path, table: str, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    """Every part of ``table`` through ``change``, with checksums that fit."""
    records = RecordsFolder(folder / "records", read_study(folder)["identity"])
    for group, trials in records.committed():
        names = [name for name in group.parts if name != "trials"]
        tables = {name: pl.read_parquet(records.part(name, group.number)) for name in names}
        tables["trials"] = trials
        tables[table] = change(tables[table])
        records.write_group(group.number, tables, group.others, group.replaces)
