"""A record of schema version 1 is read, analysed and drawn, and never trained on.

``support/data/record_version_1`` is what ``batchscale run quickstart --smoke`` left before version
2: 64-bit keys, no checksums, no committed.json.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from experiments.analysis.steps_to_result import steps_to_result
from experiments.cli import main
from experiments.records.schema import OLD_VERSION
from experiments.records.store import RecordError, Writer, read
from experiments.spec.trial import Status, Trial, TrialResult

OLD = Path(__file__).parents[1] / "support/data/record_version_1"
REFUSED = "schema version 1, from before the order of examples changed"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def old(tmp_path):
    return shutil.copytree(OLD, tmp_path / "old")


def test_it_is_read_and_analysed():
    record = read(OLD)
    assert record.study["schema_version"] == OLD_VERSION
    assert record.trials.height == 12 and record.evaluations.height == 828
    assert record.trials.columns[:3] == record.evaluations.columns[:3]
    assert record.evaluations.columns[3:5] == ["step", "examples"]
    found = steps_to_result(record, 0.15).select("batch_size", "steps_to_result", "censored_at")
    assert found.rows() == [(4, 256, None), (64, 17, None), (1024, 15, None)]


def test_it_is_drawn(old, capsys):
    assert main(["report", str(old), "--pictures"]) == 0
    assert f"report: {old}/report/index.html" in capsys.readouterr().out
    csv = pl.read_csv(old / "report/data/steps_to_result.csv").select("batch_size", "censored_at")
    assert csv.rows() == [(4, 256), (64, 100), (1024, 100)]


def test_it_is_not_continued_or_trained_again(old):
    from experiments.runner.evaluate import evaluate_trial

    before = contents(old)
    with pytest.raises(RecordError, match=REFUSED):
        Writer.open(old, read(old).study)
    with pytest.raises(RecordError, match=REFUSED):
        evaluate_trial(old, 64, 0)
    assert contents(old) == before


@pytest.mark.parametrize(
    "damage", [lambda p: p.unlink(), lambda p: p.write_bytes(p.read_bytes()[:99])]
)
def test_a_missing_or_truncated_part_is_named(old, damage):
    path = old / "records/evaluations-000002.parquet"
    damage(path)
    with pytest.raises(RecordError, match=path.name):
        read(old).scan("evaluations")


def test_a_complete_trial_without_measurements_is_refused(old):
    shutil.copy(
        old / "records/evaluations-000001.parquet", old / "records/evaluations-000002.parquet"
    )
    with pytest.raises(RecordError, match="COMPLETE and has no measurement"):
        read(old)


def test_a_study_file_of_version_1_beside_parts_of_version_2_is_refused(old, tmp_path):
    written(tmp_path / "new", read(OLD).study)
    shutil.copy(old / "study.json", tmp_path / "new/study.json")
    with pytest.raises(RecordError, match=r"trials-000001.parquet has schema version 2"):
        read(tmp_path / "new")


def written(folder: Path, study: dict) -> None:
    """A record of this version with one trial."""
    trial = Trial(4, 0, 0, 1, {}, "")
    with Writer.open(folder, study) as writer:
        writer.commit([TrialResult(trial, Status.COMPLETE, 1, {"step": np.array([1])})])
