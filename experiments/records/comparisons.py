"""The record of a comparison: a folder of studies' records, and what they were run for.

A comparison's folder holds::

    comparison.json     schema_version, name, question, expected, studies (labels, in order)
    LABEL/              the record of one study (schema.py), for each label
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.records import groups
from experiments.records.files import RecordError, check_writable, disk_errors, write_whole
from experiments.records.schema import SCHEMA_VERSION, STUDY_FILE

COMPARISON_FILE = "comparison.json"


def is_comparison(folder: Path | str) -> bool:
    """Whether ``folder`` holds a comparison."""
    return (Path(folder) / COMPARISON_FILE).is_file()


def read_comparison(folder: Path | str) -> dict[str, Any]:
    """The content of comparison.json; RecordError if it is not there, not ours, of another age."""
    path = Path(folder) / COMPARISON_FILE
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RecordError(f"{path} cannot be read ({error})") from error
    if not isinstance(found, dict) or not {"schema_version", "studies"} <= found.keys():
        raise RecordError(f"{path} is not the record of a comparison")
    groups.check_version(found["schema_version"], path)
    return found


def open_comparison(folder: Path | str, described: Mapping[str, Any], resume: bool = True) -> None:
    """Makes the folder, or grows the list of studies of the one that is there.

    Raises:
      RecordError: it holds another comparison or a study, or any record and ``resume`` is false,
        or it cannot be written; nothing is changed then.
    """
    folder = Path(folder)
    check_writable(folder)
    if (folder / STUDY_FILE).exists():
        raise RecordError(f"the folder {folder} holds the record of a study: choose another folder")
    new = {"schema_version": SCHEMA_VERSION, **described}
    if is_comparison(folder):
        stored = read_comparison(folder)
        if not resume:
            raise RecordError(f"the folder {folder} already holds comparison {stored['name']!r}")
        if stored["name"] != new["name"]:
            raise RecordError(
                f"the folder {folder} holds comparison {stored['name']!r}, not {new['name']!r}: "
                "choose another folder"
            )
        new["studies"] = list(dict.fromkeys([*stored["studies"], *new["studies"]]))
        if new == stored:
            return
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / COMPARISON_FILE, (json.dumps(new, indent=2) + "\n").encode())
