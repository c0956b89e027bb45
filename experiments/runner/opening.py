"""A study's record as it is found, begun or taken up: what it holds, and who may write it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.records.follower import Follower, broadcast
from experiments.records.schema import STUDY_FILE
from experiments.records.store import RecordError, Writer, read_study
from experiments.records.study_file import refuse_imported
from experiments.runtime import hosts
from experiments.runtime.environment import environment
from experiments.spec.resolved import ResolvedStudy
from workloads.datasets.base import Dataset


def begun(folder: Path) -> dict[str, Any]:
    """The content of the study.json in ``folder``; nothing where it holds no record."""
    if not (folder / STUDY_FILE).exists():
        return {}
    study = read_study(folder)
    refuse_imported(study, folder)
    return study


def header(study: ResolvedStudy, dataset: Dataset) -> dict[str, Any]:
    """Return the content of study.json for a study on a dataset."""
    described = dataset.describe()
    return {
        "identity": study.identity(described["checksum"]),
        "study": study.describe(),
        "dataset": described,
        "hyperparameters": sorted(study.hyperparameters),
        "environment": environment(),
    }


def opened(folder: Path, content: dict[str, Any], resume: bool) -> Writer | Follower:
    """The record: process 0 holds it, the others hear what it holds, or why it cannot be had."""
    if not hosts.several():
        return Writer.open(folder, content, resume=resume)
    writer, error, heard = None, None, b""
    if hosts.first():
        try:
            writer = Writer.open(folder, content, resume=resume)
        except Exception as failed:  # noqa: BLE001 (the others must hear of any)
            error = failed
    heard = hosts.agreed(broadcast(writer) if writer else b"")
    if error:
        raise error
    if not heard:
        raise RecordError("process 0 cannot have the record; it says why")
    follower = Follower(heard)
    same = follower.study["identity"] == content["identity"]
    if not hosts.all_true(same):
        if writer:
            writer.close()
        raise RecordError("the processes were not started with the same study and options")
    return writer or follower
