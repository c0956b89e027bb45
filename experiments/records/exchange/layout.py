"""The layout of the archive published with Shallue et al. (2019): where files lie, what they hold.

    dataset/model/optimizer/batch_size/study.json
    dataset/model/optimizer/batch_size/trial_id/metadata.json
    dataset/model/optimizer/batch_size/trial_id/measurements.csv

A workload is the folder of an optimizer, a study that of a batch size. Here the files are found and
checked; measurements.py reads the tables. An error is one line that names the file.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.records.files import RecordError
from experiments.spec.values import CONTROLS, MOST_EXAMPLES, MOST_STEPS

STUDY = "study.json"
METADATA = "metadata.json"
MEASUREMENTS = "measurements.csv"
NAMES = ("dataset", "model", "optimizer")
STUDY_FIELDS = (*NAMES, "batch_size", "early_stopping", "parameter_configs", "train_steps")
TRIAL_FIELDS = ("parameters", "status", "steps", "trial_id")
INTERNAL = {"_internal_study_name": str, "_internal_trial_id": int}
"""Fields of metadata.json that the authors say to ignore; kept as they are."""
STATUSES = ("COMPLETE", "INCOMPLETE", "INFEASIBLE")
LARGEST_TRIAL = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class ArchiveStudy:
    """One batch size of a workload: its folder and its study.json as it stands."""

    folder: Path
    content: Mapping[str, Any]

    @property
    def batch_size(self) -> int:
        """Examples per step."""
        return int(self.content["batch_size"])

    @property
    def train_steps(self) -> int:
        """Steps a COMPLETE trial has made at least; 0: the trials had a time budget."""
        return int(self.content["train_steps"])


@dataclasses.dataclass(frozen=True)
class ArchiveTrial:
    """One metadata.json.

    Attributes:
      folder: of the trial.
      trial_id, status, steps: as they stand.
      parameters: hyperparameter -> number.
      internal: the fields of `INTERNAL` that are there.
    """

    folder: Path
    trial_id: int
    status: str
    steps: int
    parameters: Mapping[str, float]
    internal: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class ArchiveWorkload:
    """Studies of one dataset, model and optimizer, by ascending batch size.

    Attributes:
      path: below the archive, or as study.json names its parts where the archive is this workload.
    """

    path: str
    studies: tuple[ArchiveStudy, ...]


def find_workloads(source: Path) -> list[ArchiveWorkload]:
    """The workloads below ``source``, by path; ``source`` itself may be one.

    Raises:
      RecordError: there is none, a study.json is missing or is not one, or what belongs together
        does not.
    """
    if not source.is_dir():
        raise RecordError(f"{source} is no folder: give the archive, unpacked")
    if (source / STUDY).is_file():
        raise RecordError(f"{source} is one batch size of a workload: give the folder above it")
    found: dict[Path, list[Path]] = {}
    for name, folders, files in os.walk(source):
        folder = Path(name)
        folders.sort()
        if STUDY in files:
            found.setdefault(folder.parent, []).append(folder)
            folders.clear()
        elif METADATA in files or MEASUREMENTS in files:
            raise RecordError(f"{folder.parent / STUDY} is missing")
    if not found:
        raise RecordError(f"{source} does not have the batch_science layout (no {STUDY} below it)")
    return [_workload(folder, source, studies) for folder, studies in sorted(found.items())]


def _workload(folder: Path, source: Path, folders: list[Path]) -> ArchiveWorkload:
    studies = sorted((read_study_file(each) for each in folders), key=lambda s: s.batch_size)
    first = studies[0]
    for before, study in itertools.pairwise(studies):
        if study.batch_size == before.batch_size:
            raise RecordError(
                f"{study.folder / STUDY} has the batch size {study.batch_size} of "
                f"{before.folder / STUDY}"
            )
    for study in studies:
        for field in NAMES:
            if study.content[field] != first.content[field]:
                raise RecordError(
                    f"{study.folder / STUDY} has the {field} {study.content[field]!r}, "
                    f"{first.folder / STUDY} beside it {first.content[field]!r}"
                )
    for each in sorted(folder.iterdir()):
        if each.is_dir() and each not in folders and not each.name.startswith("."):
            raise RecordError(f"{each / STUDY} is missing")
    alone = folder == source
    path = "/".join(str(first.content[name]) for name in NAMES)
    return ArchiveWorkload(path if alone else folder.relative_to(source).as_posix(), tuple(studies))


def read_study_file(folder: Path) -> ArchiveStudy:
    """The study.json in ``folder``, whose name is the batch size."""
    path = folder / STUDY
    content = _json(path)
    _fields(path, content, STUDY_FIELDS)
    for name in NAMES:
        if not isinstance(content[name], str) or not content[name]:
            raise _wrong(path, name, "a name", content[name])
        _inert(path, name, content[name])
    _whole(path, "batch_size", content["batch_size"], 1, MOST_EXAMPLES)
    _whole(path, "train_steps", content["train_steps"], 0, MOST_STEPS)
    if not isinstance(content["early_stopping"], bool):
        raise _wrong(path, "early_stopping", "true or false", content["early_stopping"])
    if not isinstance(content["parameter_configs"], dict):
        raise _wrong(path, "parameter_configs", "an object", content["parameter_configs"])
    for name in content["parameter_configs"]:
        _inert(path, "a parameter", name)
    if not _is_number(folder.name) or int(folder.name) != content["batch_size"]:
        raise RecordError(
            f"{path} has the batch size {content['batch_size']}, its folder the name {folder.name}"
        )
    return ArchiveStudy(folder, content)


def trials_of(study: ArchiveStudy) -> Iterator[ArchiveTrial]:
    """The trials of a study by ascending integer id, as the authors take them."""
    with os.scandir(study.folder) as entries:
        names = [e.name for e in entries if e.is_dir() and not e.name.startswith(".")]
    for name in names:
        if not _is_number(name):
            raise RecordError(f"{study.folder / name} is no trial (its name is no whole number)")
    if not names:
        raise RecordError(f"{study.folder} holds no trial")
    last = -1
    for name in sorted(names, key=lambda name: (int(name), name)):
        trial = _read_trial(study.folder / name)
        if trial.trial_id == last:
            raise RecordError(f"{trial.folder / METADATA} is of trial {last}, as is another")
        if trial.trial_id != int(name):
            raise RecordError(
                f"{trial.folder / METADATA} has the trial_id {trial.trial_id}, its folder the "
                f"name {name}"
            )
        last = trial.trial_id
        yield trial


def _read_trial(folder: Path) -> ArchiveTrial:
    path = folder / METADATA
    content = _json(path)
    _fields(path, content, TRIAL_FIELDS, INTERNAL)
    trial_id = _whole(path, "trial_id", content["trial_id"], 0, LARGEST_TRIAL)
    steps = _whole(path, "steps", content["steps"], 0, MOST_STEPS)
    if content["status"] not in STATUSES:
        raise _wrong(path, "status", f"one of {', '.join(STATUSES)}", content["status"])
    if not isinstance(content["parameters"], dict):
        raise _wrong(path, "parameters", "an object", content["parameters"])
    for name in content["parameters"]:
        _inert(path, "a parameter", name)
    parameters = {
        name: _number(path, f"parameter {name}", value)
        for name, value in content["parameters"].items()
    }
    internal = {name: content[name] for name in INTERNAL if name in content}
    for name, value in internal.items():
        if not isinstance(value, INTERNAL[name]) or isinstance(value, bool):
            raise _wrong(path, name, f"of type {INTERNAL[name].__name__}", value)
    return ArchiveTrial(folder, trial_id, content["status"], steps, parameters, internal)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise RecordError(f"{path} is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RecordError(f"{path} cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise RecordError(f"{path} must hold an object")
    return content


def _fields(
    path: Path,
    content: Mapping[str, Any],
    required: tuple[str, ...],
    others: Mapping[str, type] | None = None,
) -> None:
    for name in required:
        if name not in content:
            raise RecordError(f"{path} lacks the field {name!r}")
    for name in content:
        if name not in required and name not in (others or {}):
            known = ", ".join(sorted((*required, *(others or {}))))
            raise RecordError(f"{path} has the unknown field {name!r} (known: {known})")


def _inert(path: Path, field: str, name: str) -> None:
    if CONTROLS.search(name):
        raise _wrong(path, field, "a name without control characters", name)


def _whole(path: Path, field: str, value: object, low: int, high: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise _wrong(path, field, f"a whole number in {low}..{high}", value)
    return value


def _number(path: Path, field: str, value: object) -> float:
    """A number that the record's float64 holds exactly."""
    plain = isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool))
    if plain and abs(value) <= sys.float_info.max and float(value) == value:  # type: ignore
        return float(value)
    raise _wrong(path, field, "a finite number that float64 holds exactly", value)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20


def _wrong(path: Path, field: str, allowed: str, value: object) -> RecordError:
    shown = repr(value)
    return RecordError(f"{path}: {field} must be {allowed}, got {shown[:80]}")
