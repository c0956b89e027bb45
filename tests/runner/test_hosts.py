"""Several processes on this host train as one, end together, and go on where they were saved."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from support.checkpoint_child import begun_in, steps_in, wait_for_a_chunk
from support.comparing import assert_same_record
from support.engine_factory import same_bits
from support.hosts_child import pair_study, run_member
from support.parallel_factory import SIMULATED, STRICT
from support.run_child import PRELOADED
from support.tolerances import FLOAT32_SOLVES

from experiments.cli import main
from experiments.records.store import read
from experiments.runner.study import run_study
from experiments.studies import get

HERE = Path(__file__).parents[1]
END_SECONDS = 30
"""Stated in the README: processes end so soon after one of them died."""
VICTIMS = ((1,), (0,))
"""Of kill -9, each time at a random moment."""
STUDY = """
from support.mixed import MIXED
from experiments.spec.study import Study

STUDY = Study(
    name="together", question="Do two train as one?", workload=MIXED, batch_sizes=(27,),
    step_budget=150, example_budget=512, trials=5, record_norms="off",
)
"""
ALONE = """
import dataclasses
import sys
from experiments.runner.study import run_study
from experiments.studies import get
from experiments.training.layout import Layout

study = dataclasses.replace(get(sys.argv[1]), trials=int(sys.argv[3]))
run_study(study, sys.argv[2], execution="scan", layout=Layout("shard_map", data=2))
"""


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def start(study, out, index, port, *more):
    """One of two processes, each with one device."""
    command = [sys.executable, *STRICT, "-m", "experiments", "run", str(study)]
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


def test_two_processes_train_as_one_and_end_together_when_one_is_killed(study, tmp_path):
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
    record = read(out)
    assert 1 <= record.trials.height < 5
    (plan,) = record.study["plans"]
    assert plan["executions"]["27"]["layout"] == {"how": "shard_map", "data": 2}

    alone = tmp_path / "alone"
    command = [sys.executable, "-c", ALONE, str(study), str(alone), str(record.trials.height)]
    subprocess.run(command, check=True, env=devices(2))
    one = read(alone)
    assert one.trials.drop("seconds", "plan").equals(record.trials.drop("seconds", "plan"))
    # Sums over the network may round otherwise than in one process, and training amplifies that.
    early = [table.filter(table["step"] <= 30) for table in (one.evaluations, record.evaluations)]
    for split in ("validation", "train"):
        found, expected = (table[f"{split}/cross_entropy"] for table in early)
        np.testing.assert_allclose(found, expected, rtol=FLOAT32_SOLVES)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Runs the study of `hosts_child` by two processes: (exit codes, step at which they began)."""
    study = tmp_path_factory.mktemp("pair") / "pair.py"
    study.write_text("from support.hosts_child import pair_study\n\nSTUDY = pair_study()\n")
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(PRELOADED)

    def run(folder, seconds, disturb=lambda both: None):
        command = ["run", str(study), "--out", str(folder / "study"), "--execution", "scan"]
        command += ["--coordinator", f"127.0.0.1:{free_port()}", "--processes", "2"]
        command += ["--checkpoint-minutes", str(seconds / 60)]
        both = [
            server.Process(target=run_member, args=(folder, i, command, devices(1))) for i in (0, 1)
        ]
        for process in both:
            process.start()
        for i, process in enumerate(both):
            wait_for_a_chunk(process, folder / str(i))
        disturb(both)
        for process in both:
            process.join(END_SECONDS * 4)
        begun = [begun_in(folder / str(i)) for i in (0, 1)]
        assert begun[0] == begun[1], "both go on from the same step"
        return [process.exitcode for process in both], sum(begun[0])

    return run


def saved_in(folder):
    """The step at which the same commands must go on: the newest saved of the trial that runs."""
    recorded = set(read(folder / "study").trials["trial"])
    for index in sorted({0, 1} - recorded):
        place = folder / "study" / "checkpoints" / "16" / f"0-{index}"
        steps = steps_in(place) if place.exists() else []
        # A trial saved at its very end has no chunk left to begin.
        if not steps or steps[-1] < pair_study().length(16):
            return max(steps, default=0)
    return 0


def assert_same_pair(folder, undisturbed):
    """Measurements, and both processes' last parameters and optimizer states, to the bit."""
    assert_same_record(folder / "study", undisturbed / "study")
    for name in ("0.npz", "1.npz"):
        with np.load(undisturbed / "0" / "ends" / name) as expected:
            for process in ("0", "1"):
                with np.load(folder / process / "ends" / name) as found:
                    assert same_bits(dict(found), dict(expected)), (process, name)


def test_a_preemption_and_kills_of_two_processes_leave_every_bit(pair, tmp_path):
    """SIGTERM to one, then kill -9 at moments drawn from seed 5, the same commands after each.

    Five starts of two processes cost about 35 s of processor time.
    """
    undisturbed, folder = tmp_path / "undisturbed", tmp_path / "0"
    assert pair(undisturbed, float("inf")) == ([0, 0], 0)
    assert pair(folder, 3600, lambda both: both[1].terminate()) == ([75, 75], 0)
    for process in ("0", "1"):
        assert "told to end; running trials are saved" in (folder / process / "stderr").read_text()
    saved = saved_in(folder)
    assert saved > 0

    chance, kills = random.Random(5), 0

    def kill(both):
        time.sleep(chance.uniform(0.0, 0.6))
        for i in VICTIMS[kills]:
            both[i].kill()

    while kills < len(VICTIMS):
        codes, begun = pair(folder, 0.05, kill)
        assert begun == saved
        assert "warning" not in (folder / "0" / "stderr").read_text()
        if codes == [0, 0]:
            assert_same_pair(folder, undisturbed)
            folder, saved = tmp_path / str(kills + 1), 0
        else:
            assert 0 not in codes, "one does not go on alone"
            kills, saved = kills + 1, saved_in(folder)
    assert pair(folder, float("inf")) == ([0, 0], saved)
    assert_same_pair(folder, undisturbed)


@pytest.mark.parametrize(
    ("study", "reasons"), [("raced_study", {"goal", "race"}), ("bracket_study", {"pruned"})]
)
def test_races_and_brackets_are_the_same_in_two_processes_as_in_one(tmp_path, study, reasons):
    """Points, stops and promotions follow from results, which every process has."""
    path = tmp_path / "stopped.py"
    path.write_text(f"from support import hosts_child\n\nSTUDY = hosts_child.{study}()\n")
    command = ["run", str(path), "--out", str(tmp_path / "two"), "--execution", "scan"]
    command += ["--coordinator", f"127.0.0.1:{free_port()}", "--processes", "2"]
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(PRELOADED)
    shown = study == "bracket_study"
    both = [
        server.Process(target=run_member, args=(tmp_path, i, command, devices(1), shown))
        for i in (0, 1)
    ]
    for process in both:
        process.start()
    alone = read(run_study(get(str(path)), tmp_path / "one", execution="scan"))
    for process in both:
        process.join(END_SECONDS * 4)
    assert [process.exitcode for process in both] == [0, 0], (tmp_path / "0" / "stderr").read_text()
    assert (tmp_path / "two" / "report" / "index.html").exists() == shown
    together = read(tmp_path / "two")
    order = ("batch_size", "seed", "trial")
    one, two = (r.trials.sort(order).drop("seconds", "plan") for r in (alone, together))
    assert two.equals(one) and set(two["reason"].drop_nulls()) >= reasons
    rounds = [
        sorted(r.study["rounds"], key=lambda found: (found["seed"], found["round"]))
        for r in (alone, together)
    ]
    assert rounds[0] == rounds[1]


def test_processes_that_do_not_come_are_reported_in_one_line(study, tmp_path):
    """The first of two and the second, each alone at its own port; they wait at the same time."""
    options = ("--join-seconds", "1")
    lonely = [start(study, tmp_path / "none", i, free_port(), *options) for i in (0, 1)]
    for index, process in enumerate(lonely):
        _, errors = process.communicate(timeout=END_SECONDS)
        assert process.returncode == 1
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
        (["--executor", "ray"], "no place for --executor ray"),
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
