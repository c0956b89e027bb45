"""Archives in the layout of Shallue et al. (2019), written as the authors' code would."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CONFIGS: dict[str, Any] = {
    "learning_rate": {
        "max_value": 10.0, "min_value": 0.0001, "scale": "LOG_SCALE", "type": "DOUBLE",
    },
    "momentum": {
        "max_value": 0.999, "min_value": 0.9, "scale": "REVERSE_LOG_SCALE", "type": "DOUBLE",
    },
    "learning_rate_decay_steps": {
        "max_value": 600, "min_value": 300, "scale": "", "type": "INTEGER",
    },
    "label_smoothing": {"feasible_points": [0.0, 0.01, 0.1], "type": "DISCRETE"},
}  # fmt: skip
HEADER = ("step", "train/cross_entropy_error", "val/classification_error")
WORKLOAD = "mnist/simple_cnn_base/nesterov_momentum"


def study(batch_size: int, **changes: Any) -> dict[str, Any]:
    """A study.json."""
    return {
        "batch_size": batch_size, "dataset": "mnist", "early_stopping": False,
        "model": "simple_cnn_base", "optimizer": "nesterov_momentum",
        "parameter_configs": CONFIGS, "train_steps": 100, **changes,
    }  # fmt: skip


def metadata(trial_id: int, status: str = "COMPLETE", **changes: Any) -> dict[str, Any]:
    """A metadata.json."""
    return {
        "_internal_study_name": "smooth", "_internal_trial_id": trial_id + 7,
        "parameters": {
            "learning_rate": 0.1, "momentum": 0.95, "learning_rate_decay_steps": 400,
            "label_smoothing": 0.0,
        },
        "status": status, "steps": 100, "trial_id": trial_id, **changes,
    }  # fmt: skip


def write_trial(
    folder: Path,
    about: Mapping[str, Any],
    rows: Sequence[Sequence[float | None]],
    header: Sequence[str] = HEADER,
) -> None:
    """The two files of a trial in ``folder/trial_id``."""
    here = folder / str(about["trial_id"])
    here.mkdir(parents=True)
    (here / "metadata.json").write_text(json.dumps(about, indent=2, sort_keys=True))
    lines = [",".join("" if v is None else repr(v) for v in row) for row in rows]
    (here / "measurements.csv").write_text("\n".join([",".join(header), *lines]) + "\n")


def write_study(workload: Path, about: Mapping[str, Any]) -> Path:
    """The folder of a batch size with its study.json."""
    folder = workload / str(about["batch_size"])
    folder.mkdir(parents=True)
    (folder / "study.json").write_text(json.dumps(about, indent=2, sort_keys=True))
    return folder


def small_archive(folder: Path) -> Path:
    """Two batch sizes of one workload whose steps to an error of 0.01 are 20 and 10."""
    workload = folder / WORKLOAD
    for batch_size, first in ((4, 20), (16, 10)):
        here = write_study(workload, study(batch_size))
        curves = {10: [(0, 2.3, 0.9), (first, 0.1, 0.01), (100, 0.1, 0.008)],
                  2: [(0, 2.3, 0.9), (first, 0.2, 0.009), (100, 0.1, 0.005)],
                  3: [(0, 2.3, 0.9), (first, 0.2, 0.009), (100, 0.1, 0.002)]}  # fmt: skip
        for trial_id, rows in curves.items():
            write_trial(here, metadata(trial_id), rows)
        write_trial(here, metadata(1, "INFEASIBLE", steps=5), [(0, 2.3, 0.9), (5, 9e9, 0.001)])
        write_trial(here, metadata(4, "INCOMPLETE", steps=0), [])
    return folder


def contents(folder: Path) -> dict[str, Any]:
    """Path -> what an archive's file says: JSON values, or a header and rows of numbers."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".json":
            found[name] = json.loads(path.read_text())
        elif path.suffix == ".csv":
            header, *lines = path.read_text().splitlines()
            rows = [[repr(float(v)) if v else None for v in line.split(",")] for line in lines]
            found[name] = (header, rows)
    return found
