"""Several processes on this host train as one, end together, and go on from what is recorded."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from test_training_parallel import SIMULATED

from experiments.cli import main
from experiments.records.store import read

HERE = Path(__file__).parent
END_SECONDS = 30
"""Stated in the README: processes end so soon after one of them died."""
STUDY = """
from parallel_factory import MIXED
from experiments.study import Study

STUDY = Study(
    name="together", question="Do two train as one?", workload=MIXED, batch_sizes=(27,),
    step_budget=150, example_budget=512, trials=5, record_norms="off",
)
"""
ALONE = """
import sys
from experiments.run import run_study
from experiments.studies import get
from experiments.training.parallel import Layout

run_study(get(sys.argv[1]), sys.argv[2], execution="scan", layout=Layout("shard_map", data=2))
"""


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def start(study, out, index, port, *more):
    """One of two processes, each with one device."""
    command = [sys.executable, "-W", "error", "-m", "experiments", "run", str(study)]
    command += ["--out", str(out), "--execution", "scan", "--coordinator", f"127.0.0.1:{port}"]
    command += ["--processes", "2", "--process-id", str(index), *more]
    return subprocess.Popen(
        command, env=devices(1), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def devices(count):
    """The environment of a process with so many simulated devices."""
    flags = SIMULATED["XLA_FLAGS"].replace("count=8", f"count={count}")
    return {**os.environ, **SIMULATED, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}


def training_child(parent):
    """Process id of what a watching parent started."""
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    assert len(children) == 1
    return int(children[0])


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    path = tmp_path_factory.mktemp("hosts") / "together.py"
    path.write_text(STUDY)
    return path


def test_two_processes_train_as_one_and_go_on_after_one_was_killed(study, tmp_path):
    out, port = tmp_path / "two", free_port()
    both = [start(study, out, i, port) for i in (1, 0)]
    while not list((out / "records").glob("trials-*")):  # a trial is recorded: mid-training
        assert all(process.poll() is None for process in both), both[1].communicate()
        time.sleep(0.01)
    os.kill(training_child(both[0]), signal.SIGKILL)
    began = time.perf_counter()
    errors = [process.communicate()[1] for process in both]
    assert time.perf_counter() - began < END_SECONDS
    assert [process.returncode for process in both] == [1, 1]
    assert "process 1 of 2 was ended by SIGKILL" in errors[0].splitlines()[-1]
    assert errors[1].splitlines()[-1].startswith("batchscale: error: ")
    begun = read(out).trials
    assert 1 <= begun.height < 5

    port = free_port()
    both = [start(study, out, i, port) for i in (1, 0)]
    outputs = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    record = read(out)
    assert record.trials.filter(record.trials["trial"].is_in(begun["trial"].to_list())).equals(
        begun
    )
    (plan,) = record.study["plans"]
    assert plan["executions"]["27"]["layout"] == {"how": "shard_map", "data": 2}

    alone = tmp_path / "alone"
    command = [sys.executable, "-c", ALONE, str(study), str(alone)]
    subprocess.run(command, check=True, env=devices(2))
    one = read(alone)
    assert one.trials.drop("seconds", "plan").equals(record.trials.drop("seconds", "plan"))
    # Sums over the network may round otherwise than in one process, and training amplifies that.
    early = [table.filter(table["step"] <= 30) for table in (one.evaluations, record.evaluations)]
    for split in ("validation", "train"):
        found, expected = (table[f"{split}/cross_entropy"] for table in early)
        np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("index", [0, 1])
def test_processes_that_do_not_come_are_reported_in_one_line(study, tmp_path, index):
    lonely = start(study, tmp_path / "none", index, free_port(), "--join-seconds", "2")
    _, errors = lonely.communicate(timeout=END_SECONDS)
    assert lonely.returncode == 1
    assert errors.count("\n") == 1
    assert f"process {index} of 2 did not meet the others at 127.0.0.1:" in errors
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--processes", "2"], "--coordinator, --processes and --process-id go together"),
        (["--process-id", "2"], "must be below --processes 2, got 2"),
        (["--coordinator", "here"], "--coordinator must be HOST:PORT, got 'here'"),
        (["--parallel", "pmap"], "no place for --parallel pmap or --mesh"),
    ],
)
def test_bad_input_is_one_line(arguments, message, capsys):
    whole = {"--coordinator": "127.0.0.1:1", "--processes": "2", "--process-id": "0"}
    given = dict(zip(arguments[::2], arguments[1::2], strict=True))
    if "--processes" not in given:
        given = {**whole, **given}
    command = ["run", "quickstart", "--smoke", *(word for pair in given.items() for word in pair)]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
