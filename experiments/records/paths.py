"""The record of paths on surfaces, under the rules of a study's record.

A folder holds::

    paths.json               the question, schema_version, parts (table -> file, checksum), checksum
    paths-000001.parquet     surface, optimizer, learning_rate, step, x, y, value: one row a step of
                             a path
    surfaces-000001.parquet  surface, x, x2, y, y2, value: one row a cell of a surface's picture
    lock                     held (flock) by the process that writes

A value is the height above the surface's minimum. The parts are written under a new number, then
paths.json, whose rename commits them; only then are older parts deleted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.records.comparisons import check_kind
from experiments.records.files import (
    TEMPORARY_SUFFIX,
    Lock,
    RecordError,
    check_writable,
    disk_errors,
    sync_folder,
    write_whole,
)
from experiments.records.schema import OLD_VERSION, PATHS_FILE, SCHEMA_VERSION
from experiments.records.seal import damaged, open_part, read_json, sealed_json, sealed_part

if TYPE_CHECKING:
    import polars as pl

TABLES = ("paths", "surfaces")
_PART = re.compile(r"(?:paths|surfaces)(?:-(\d+))?\.parquet")


def is_paths(folder: Path | str) -> bool:
    """Tell whether ``folder`` holds a record of paths."""
    return (Path(folder) / PATHS_FILE).is_file()


class PathsWriter:
    """Writes a record of paths once; `open_paths` makes it."""

    def __init__(self, folder: Path, described: Mapping[str, Any]) -> None:
        self._folder = folder
        self._described = described

    def write(self, tables: Mapping[str, pl.DataFrame]) -> None:
        """Replace what is recorded by ``tables`` (`TABLES`); RecordError where it cannot be."""
        folder = self._folder
        with disk_errors(folder):
            found = [m for m in map(_PART.fullmatch, (p.name for p in folder.iterdir())) if m]
            number = 1 + max((int(m[1] or 0) for m in found), default=0)
            parts = {}
            for table in TABLES:
                file = f"{table}-{number:06d}.parquet"
                about = {"schema_version": SCHEMA_VERSION, "table": table}
                data, checksum = sealed_part(tables[table], about)
                write_whole(folder / file, data)
                parts[table] = {"file": file, "checksum": checksum}
            content = {**self._described, "schema_version": SCHEMA_VERSION, "parts": parts}
            write_whole(folder / PATHS_FILE, sealed_json(content))
            for old in found:
                (folder / old[0]).unlink()
            for stray in folder.glob(f"*{TEMPORARY_SUFFIX}"):
                stray.unlink()
            sync_folder(folder)


@contextmanager
def open_paths(
    folder: Path | str, described: Mapping[str, Any], resume: bool = True
) -> Iterator[PathsWriter]:
    """Hold the lock of ``folder`` to record paths there; made where it does not exist.

    Args:
      folder: one that holds no record, or one of the paths of the same name, which are replaced.
      described: the question; ``name`` at least.
      resume: False refuses a folder that holds any record.

    Raises:
      RecordError: the folder cannot be written, another process writes there, or it holds another
        record; nothing is changed then.
    """
    folder = Path(folder)
    check_writable(folder)
    check_kind(folder, PATHS_FILE)
    if is_paths(folder):
        stored = _read_question(folder)["name"]
        if not resume:
            raise RecordError(f"the folder {folder} already holds the paths {stored!r}")
        if stored != described["name"]:
            raise RecordError(
                f"the folder {folder} holds the paths {stored!r}, not {described['name']!r}: "
                "choose another folder"
            )
    with disk_errors(folder):
        if not folder.exists():
            folder.mkdir(parents=True, exist_ok=True)
            sync_folder(folder.parent)
        lock = Lock(folder)
    try:
        yield PathsWriter(folder, json.loads(json.dumps(dict(described))))
    finally:
        lock.release()


def read_paths(folder: Path | str) -> tuple[dict[str, Any], pl.DataFrame, pl.DataFrame]:
    """(the question, its paths, its surfaces).

    Raises:
      RecordError: there are none, or a file is missing, damaged or of an unknown schema version.
    """
    folder = Path(folder)
    question = _read_question(folder)
    paths, surfaces = (_read_part(folder, question, table) for table in TABLES)
    return question, paths, surfaces


def _read_question(folder: Path) -> dict[str, Any]:
    path = folder / PATHS_FILE
    try:
        question = read_json(path, "paths")
    except OSError as error:
        raise RecordError(f"the record in {folder} cannot be read ({error})") from error
    for field in ("name", "surfaces", "optimizers"):
        if field not in question:
            raise RecordError(f"{path} is not the record of paths (it lacks {field!r})")
    return question


def _read_part(folder: Path, question: Mapping[str, Any], table: str) -> pl.DataFrame:
    import polars as pl

    old = question["schema_version"] == OLD_VERSION
    path = folder / (f"{table}.parquet" if old else question["parts"][table]["file"])
    try:
        if old:
            return pl.read_parquet(path)
        file, about = open_part(path)
        with file:
            if about["checksum"] != question["parts"][table]["checksum"]:
                raise damaged(path, f"it is not the one {PATHS_FILE} names")
            return pl.read_parquet(file)
    except OSError as error:
        raise RecordError(f"the record in {folder} cannot be read ({error})") from error
    except pl.exceptions.PolarsError as error:
        raise damaged(path, str(error).partition("\n")[0]) from error
