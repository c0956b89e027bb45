"""Out of memory during a study: XLA's own RESOURCE_EXHAUSTED, brought about by a limit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.engine_factory import tiny_study

from experiments.records.store import read, read_study
from experiments.runner.study import run_study
from experiments.spec.errors import StudyError
from experiments.training.program import Program

# A chunk's temporaries are one allocation (B = 1024, width 8192: 540 MB for eight slots, 270 MB for
# four), far larger than the scratch of a kernel, whose std::bad_alloc would end the process. The
# limit, in MB above what the process holds, is set after the first batch size has been recorded;
# 500 to 600 were found to be between the two.
STUDY = """
import dataclasses, json, resource, sys
from support.engine_factory import TINY, tiny_study
from experiments.runner.study import run_study
from experiments.spec.errors import StudyError
from experiments.runtime.platform import process_bytes

folder, execution = sys.argv[1:3]
width, megabytes, workers = map(int, sys.argv[3:])
wide = dataclasses.replace(TINY, model_options={"hidden_sizes": [width], "classes": 10})
study = tiny_study(workload=wide, batch_sizes=(8,), step_budget=2, example_budget=8, trials=4)
run_study(study, folder, execution=execution, workers=1)
limit = process_bytes("data") + megabytes * 2**20
resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.RLIM_INFINITY))
study = dataclasses.replace(study, batch_sizes=(8, 1024))
try:
    run_study(study, folder, execution=execution, workers=workers)
except StudyError as error:
    print(json.dumps(str(error)))
"""


def run(folder, execution, *numbers):
    """The record of a study under a limit, and its error, if any."""
    here = str(Path(__file__).parents[1])
    path = os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", STUDY, str(folder), execution, *map(str, numbers)]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr
    return read(folder), json.loads(done.stdout) if done.stdout else None


def test_a_pack_that_does_not_fit_is_halved_under_a_new_recorded_plan(tmp_path):
    record, error = run(tmp_path / "study", "packed", 8192, 560, 1)
    assert error is None
    plans = record.study["plans"]
    slots = [plan["executions"].get("1024", {}).get("slots") for plan in plans]
    assert slots == [None, 8, 4, 2, 1][: len(slots)] and len(slots) >= 3
    assert all(plan["reason"].startswith("out of memory at batch size 1024") for plan in plans[2:])
    # Nothing recorded is lost, and what had not finished was trained again under the last plan.
    assert set(record.trials["status"]) == {"COMPLETE"}
    by_size = record.trials.group_by("batch_size").len().sort("batch_size")
    assert by_size.rows() == [(8, 4), (1024, 4)]
    large = record.trials.filter(record.trials["batch_size"] == 1024)
    assert set(large["plan"]) == {len(plans) - 1}
    assert set(record.trials.filter(record.trials["batch_size"] == 8)["plan"]) == {0}


def test_one_trial_that_does_not_fit_ends_the_study_clearly(tmp_path):
    record, error = run(tmp_path / "study", "scan", 32768, 300, 2)
    assert "batch size 1024" in error and "RESOURCE_EXHAUSTED" in error
    assert "batchscale plan" in error and "--micro-batch" in error
    assert [plan["workers"] for plan in record.study["plans"]] == [1, 2, 1]
    small = record.trials.filter(record.trials["batch_size"] == 8)
    assert small["status"].to_list() == ["COMPLETE"] * 4


def test_with_one_slot_left_fewer_examples_are_evaluated_at_a_time(tmp_path, monkeypatch):
    evaluation, fits = Program.evaluation, 100

    def limited(self, batch):
        if batch > fits:
            raise MemoryError
        return evaluation(self, batch)

    monkeypatch.setattr(Program, "evaluation", limited)
    study = tiny_study(batch_sizes=(8,), trials=2, step_budget=3, example_budget=8)
    folder = run_study(study, tmp_path / "study", execution="scan", workers=1)
    record = read(folder)
    assert set(record.trials["status"]) == {"COMPLETE"}
    plans = [plan["executions"]["8"] for plan in record.study["plans"]]
    assert [plan["evaluation_batch"] for plan in plans] == [1024, 512, 256, 128, 64]
    assert set(record.trials["plan"]) == {len(plans) - 1}
    assert {plan["slots"] for plan in plans} == {1}


def test_no_fewer_are_evaluated_than_a_step_takes(tmp_path, monkeypatch):
    def full(self, batch):
        raise MemoryError

    monkeypatch.setattr(Program, "evaluation", full)
    study = tiny_study(batch_sizes=(64,), trials=2, step_budget=3, example_budget=64)
    with pytest.raises(StudyError, match="one trial at a time needs more memory"):
        run_study(study, tmp_path / "study", execution="scan", workers=1)
    last = read_study(tmp_path / "study")["plans"][-1]["executions"]["64"]
    assert last["evaluation_batch"] == 64
