"""``study.json``: what it holds, which study it admits, how it grows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.records.files import RecordError, write_whole
from experiments.records.schema import (
    OLD_VERSION,
    RECORDS_FOLDER,
    SCHEMA_VERSION,
    STUDY_FILE,
)
from experiments.records.seal import read_json, sealed_json
from experiments.spec.fields import MAY_CHANGE


def read_study(folder: Path | str) -> dict[str, Any]:
    """The content of study.json.

    Raises:
      RecordError: it is missing, not a study's record, damaged, or of an unknown schema version.
    """
    path = Path(folder) / STUDY_FILE
    try:
        study = read_json(path, "a study")
    except (FileNotFoundError, NotADirectoryError):
        raise RecordError(f"the folder {folder} holds no record ({path} is missing)") from None
    for field in ("study", "identity", "plans"):
        if field not in study:
            raise RecordError(f"{path} lacks the field {field!r}")
    if not isinstance(study["study"], dict):
        raise RecordError(f"{path}: the field 'study' must be an object, got {study['study']!r}")
    return study


def refuse_imported(study: Mapping[str, Any], folder: Path | str) -> None:
    """Refuse to train in a record whose trials come from elsewhere."""
    if "imported" in study:
        raise RecordError(
            f"the record {folder} was imported: it can be read and drawn, nothing can be trained "
            "in it (choose another folder)"
        )


def require_current(study: Mapping[str, Any], folder: Path | str) -> None:
    """Refuse to train on from a record of the old schema version, or an imported one."""
    refuse_imported(study, folder)
    if study["schema_version"] == OLD_VERSION:
        raise RecordError(
            f"the record {folder} has schema version {OLD_VERSION}, from before the order of "
            "examples changed: it can be read and drawn, its trials cannot be continued or trained "
            "again (choose another folder)"
        )


def write_study(folder: Path, study: Mapping[str, Any]) -> None:
    """Replace study.json; raises OSError."""
    write_whole(folder / STUDY_FILE, sealed_json(study))


def merged_study(
    folder: Path, study: Mapping[str, Any], resume: bool
) -> tuple[dict[str, Any], bool]:
    """The content that study.json should hold, and whether it differs from what it holds.

    Raises:
      RecordError: the folder holds the record of another study, or of this one in the old schema
        version, or any record and ``resume`` is false, or parts without study.json.
    """
    new = {
        "plans": [],
        "identity": None,
        **json.loads(json.dumps(dict(study))),
        "schema_version": SCHEMA_VERSION,
    }
    if not (folder / STUDY_FILE).exists():
        if any((folder / RECORDS_FOLDER).glob("trials-*.parquet")):
            raise RecordError(f"the folder {folder} holds records but no {STUDY_FILE}")
        return _grown(new, new), True
    stored = read_study(folder)
    if not resume:
        raise RecordError(f"the folder {folder} already holds a record of study {_name(stored)!r}")
    require_current(stored, folder)
    if stored.get("identity") != new.get("identity"):
        raise RecordError(
            f"the folder {folder} holds the record of study {_name(stored)!r}, which differs "
            f"from study {_name(new)!r} in {_differences(stored, new)}: choose another folder"
        )
    merged = _grown(stored, new)
    return merged, merged != stored


def _differences(stored: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The fields that make two studies two, in words."""
    old, asked = stored.get("study", {}), new.get("study", {})
    fields = [
        k for k in {**old, **asked} if k not in (*MAY_CHANGE, "code") and old.get(k) != asked.get(k)
    ]
    if stored.get("dataset", {}).get("checksum") != new.get("dataset", {}).get("checksum"):
        fields.append("the dataset's checksum")
    return ", ".join(fields) or "train_steps, the user's code or the version of this code"


def _grown(stored: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """``stored`` with what ``new`` adds; nothing that was recorded is lost."""
    old, asked = stored.get("study", {}), new.get("study", {})
    lengths = {**asked.get("train_steps", {}), **old.get("train_steps", {})}
    question = {
        **old,
        **asked,
        "trials": max(old.get("trials", 0), asked.get("trials", 0)),
        "seeds": _union(old.get("seeds", []), asked.get("seeds", [])),
        "batch_sizes": sorted({*old.get("batch_sizes", []), *asked.get("batch_sizes", [])}),
        "train_steps": dict(sorted(lengths.items(), key=lambda item: int(item[0]))),
    }
    grown = {**stored, **new, "study": question}
    if "rounds" in stored:
        grown["rounds"] = stored["rounds"]
    grown["plans"] = _union(stored.get("plans", []), new["plans"])
    if "environment" in stored:
        grown["environment"] = stored["environment"]
        known = stored.get("environments", [stored["environment"]])
        grown["environments"] = _union(known, [new.get("environment", stored["environment"])])
    return grown


def _union(first: Sequence[Any], second: Sequence[Any]) -> list[Any]:
    return [*first, *(value for value in second if value not in first)]


def _name(study: Mapping[str, Any]) -> str:
    return str(study.get("study", {}).get("name", "unnamed"))
