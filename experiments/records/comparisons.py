"""The record of a comparison: a folder of studies' records, and what they were run for.

A comparison's folder holds::

    comparison.json     schema_version, name, question, expected, studies (labels, in order),
                        checksum
    lock                held (flock) by the one process that writes comparison.json
    LABEL/              the record of one study (schema.py), for each label
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.records.files import (
    Lock,
    RecordError,
    check_writable,
    disk_errors,
    sync_folder,
    write_whole,
)
from experiments.records.schema import (
    COMPARISON_FILE,
    PATHS_FILE,
    PROCEDURE_FILE,
    SCHEMA_VERSION,
    STUDY_FILE,
)
from experiments.records.seal import read_json, sealed_json

KINDS = {
    STUDY_FILE: "a study",
    COMPARISON_FILE: "a comparison",
    PATHS_FILE: "paths",
    PROCEDURE_FILE: "a procedure",
}
"""The file that makes a folder a record -> of what."""


def is_comparison(folder: Path | str) -> bool:
    """Tell whether ``folder`` holds a comparison."""
    return (Path(folder) / COMPARISON_FILE).is_file()


def read_comparison(folder: Path | str) -> dict[str, Any]:
    """The content of comparison.json.

    Raises:
      RecordError: it is missing, not a comparison's, damaged, or of an unknown schema version.
    """
    path = Path(folder) / COMPARISON_FILE
    try:
        found = read_json(path, "a comparison")
    except OSError as error:
        raise RecordError(f"{path} cannot be read ({error})") from error
    for field in ("name", "question", "expected", "studies"):
        if field not in found:
            raise RecordError(f"{path} is not the record of a comparison (it lacks {field!r})")
    return found


def check_kind(folder: Path, file: str) -> None:
    """Refuse a folder that holds another kind of record than ``file``'s."""
    for other, kind in KINDS.items():
        if other != file and (folder / other).exists():
            raise RecordError(
                f"the folder {folder} holds the record of {kind}: choose another folder"
            )


def open_comparison(folder: Path | str, described: Mapping[str, Any], resume: bool = True) -> None:
    """Makes the folder, or grows the list of studies of the one that is there.

    Raises:
      RecordError: it holds another comparison or another kind of record, or any record and
        ``resume`` is false, or another process writes there, or it cannot be written; nothing is
        changed then.
    """
    folder = Path(folder)
    check_writable(folder)
    check_kind(folder, COMPARISON_FILE)
    if _grown(folder, described, resume) is None:
        return
    with disk_errors(folder):
        if not folder.exists():
            folder.mkdir(parents=True, exist_ok=True)
            sync_folder(folder.parent)
        lock = Lock(folder)
        try:
            grown = _grown(folder, described, resume)  # again, now that it is ours
            if grown is not None:
                write_whole(folder / COMPARISON_FILE, sealed_json(grown))
        finally:
            lock.release()


def _grown(folder: Path, described: Mapping[str, Any], resume: bool) -> dict[str, Any] | None:
    """The content that comparison.json should hold; None where it holds that already."""
    new = {**described, "schema_version": SCHEMA_VERSION}
    if not is_comparison(folder):
        return new
    stored = read_comparison(folder)
    if not resume:
        raise RecordError(f"the folder {folder} already holds comparison {stored['name']!r}")
    if stored["name"] != new["name"]:
        raise RecordError(
            f"the folder {folder} holds comparison {stored['name']!r}, not {new['name']!r}: "
            "choose another folder"
        )
    new["studies"] = list(dict.fromkeys([*stored["studies"], *new["studies"]]))
    return None if new == stored else new
