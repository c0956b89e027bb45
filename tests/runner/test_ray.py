"""Ray tasks in place of threads: the same record, bit for bit, whatever is killed meanwhile."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
import types

import pytest
from support import architecture_child, pruned_child
from support.comparing import assert_same_record
from support.engine_factory import TINY, same_bits, tiny_study, tiny_trial
from support.pruned_child import one_bracket
from support.ray_cluster import simulated

from experiments.cli import main
from experiments.records.store import Writer, read
from experiments.runner.executors import Job
from experiments.runner.executors.ray import Cluster, _pack
from experiments.runner.executors.searches import SearchSetting
from experiments.runner.executors.task import PackOutcome, StudySetting, portable, train_pack
from experiments.runner.search import run_search
from experiments.runner.study import run_study
from experiments.spec.errors import StudyError
from experiments.spec.loading import load_file
from experiments.spec.space import Real
from experiments.spec.user_search import UserSearch
from experiments.training.layout import SCAN, Execution
from experiments.training.saving import Saving
from workloads import datasets

USERS_FILE = """
from flax import linen as nn

class Net(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dense(self.classes)(x.reshape(len(x), -1))

def net(classes, example):
    return Net(classes)
"""


def study(**changes):
    """Two searches in rounds, of which one races: the next round waits for results."""
    return tiny_study(
        step_budget=40, example_budget=320, trials=4, seeds=(0, 1), sampler="rounds",
        stop="race", **changes,
    )  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The record that threads make."""
    return run_study(study(), tmp_path_factory.mktemp("threads") / "s", execution="packed")


@pytest.fixture(scope="module")
def cluster():
    """A cluster of two nodes that studies join and leave."""
    environment = {name: os.environ.get(name) for name in ("PYTHONPATH",)}
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:2])
    with simulated() as child:
        child.address = child.stdout.readline().strip()
        yield child
    for name, value in environment.items():
        os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def worker_processes():
    """Processes of Ray that train a pack now."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                name = file.read()
        except OSError:
            continue
        if b"ray::train_pack" in name:
            found.append(int(pid))
    return found


def test_killed_workers_and_a_lost_node_change_no_bit_and_the_cluster_stays(
    undisturbed, cluster, tmp_path
):
    killed, over = [], threading.Event()

    def kill():
        while not over.is_set() and len(killed) < 2:
            for pid in worker_processes()[:1]:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
                if len(killed) == 2:
                    cluster.stdin.write("remove\n")
                    cluster.stdin.flush()
            time.sleep(0.3)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        folder = run_study(
            study(), tmp_path / "s", execution="packed", cluster=Cluster(cluster.address)
        )
    finally:
        over.set()
        killer.join()
    assert len(killed) == 2
    assert_same_record(folder, undisturbed)
    assert cluster.poll() is None  # what it did not start, it did not end


def test_a_killed_coordinator_and_a_pruner_change_no_bit(cluster, tmp_path):
    """The child starts a cluster of its own, which ends with it; the study goes on in another."""
    command = [sys.executable, pruned_child.__file__, str(tmp_path / "killed"), "7", "ray"]
    path = os.pathsep.join(filter(None, sys.path))
    child = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path})
    assert child.wait() == -signal.SIGKILL
    where = Cluster(cluster.address)
    run_study(one_bracket(), tmp_path / "killed", execution="scan", cluster=where)
    threads = run_study(one_bracket(), tmp_path / "threads", execution="scan")
    assert_same_record(tmp_path / "killed", threads)


@pytest.mark.parametrize("make", ["cells", "stacks"])
def test_a_search_for_an_architecture_makes_the_same_record(cluster, tmp_path, make):
    """Cells in packs of two; stacks, of which the last begins with the weights of another."""
    asked = architecture_child.asked if make == "cells" else architecture_child.inheriting
    search = asked(trials=3, budget=1)
    threads = run_search(search, tmp_path / "threads", show=False)
    where = Cluster(cluster.address)
    ours = run_search(search, tmp_path / "ray", show=False, cluster=where)
    for one, other in ((ours.table.drop("seconds"), threads.table.drop("seconds")),
                       (ours.searched.curves, threads.searched.curves)):  # fmt: skip
        assert one.equals(other, null_equal=True)
    mine, theirs = (
        found.searched.record.scan("evaluations").sort("trial", "step").collect()
        for found in (ours, threads)
    )
    assert mine.equals(theirs, null_equal=True)


def test_what_no_task_can_be_told_of_is_refused_with_nothing_on_disk(tmp_path):
    objective = UserSearch({"rate": Real(0.1, 1.0)}, objective=lambda h, budget, report: 1.0)
    with pytest.raises(ValueError, match="--executor ray serves searches of build"):
        run_search(objective, tmp_path / "s", show=False, cluster=Cluster("127.0.0.1:1"))
    local = dataclasses.replace(architecture_child.asked(), build=lambda values: None)
    with pytest.raises(ValueError, match="needs functions that a module defines"):
        SearchSetting.of(local, "")
    assert not (tmp_path / "s").exists()


def test_a_pack_carries_the_text_of_a_users_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(USERS_FILE)
    module = load_file(path)
    asked = tiny_study(
        trials=1, step_budget=6, example_budget=48,
        workload=dataclasses.replace(TINY, model=module.net, model_options={"classes": 10}),
    )  # fmt: skip
    setting = StudySetting.of(asked, datasets.load("digits").checksum, **HOW)
    assert [name for name, _ in setting.files] == ["mine.py"]
    path.write_text("raise SystemExit")
    with pytest.raises(ValueError, match="mine.py has changed since it was loaded"):
        StudySetting.of(asked, "", **HOW)


RAISING = """
import sys
from workloads.models.fully_connected import fully_connected

def net(**options):
    if "default_worker" in sys.argv[0]:
        raise ArithmeticError("only in a task")
    return fully_connected(**options)
"""


@pytest.mark.parametrize("keep_going", [False, True])
def test_what_a_model_raises_in_a_task_is_a_failure_of_its_trials(cluster, tmp_path, keep_going):
    path = tmp_path / "mine.py"
    path.write_text(RAISING)
    asked = tiny_study(
        trials=2, step_budget=6, example_budget=48,
        workload=dataclasses.replace(TINY, model=load_file(path).net),
    )  # fmt: skip
    ending = contextlib.nullcontext() if keep_going else pytest.raises(StudyError)
    with ending as caught:
        run_study(asked, tmp_path / "s", execution="scan", keep_going=keep_going,
                  cluster=Cluster(cluster.address))  # fmt: skip
    trials = read(tmp_path / "s").trials
    assert set(trials["status"]) == {"INCOMPLETE"}
    assert set(trials["message"]) == {"ArithmeticError: only in a task"}
    assert keep_going or "only in a task" in str(caught.value)


HOW = {
    "record_norms": "off", "data_dir": None, "stream": None, "record": ("/nowhere", ""),
    "checkpoint_seconds": 1e-9,
}  # fmt: skip


@pytest.fixture
def begun(monkeypatch):
    """The steps from which trials begin, filled as they do."""
    steps, begin = [], Saving.begin
    monkeypatch.setattr(
        Saving,
        "begin",
        lambda self, trial, step: (steps.append(step), begin(self, trial, step))[1],
    )
    return steps


def test_a_trial_that_is_put_aside_goes_on_in_another_task(begun):
    asked = tiny_study()
    trial = asked.trial(8, 0, 0, {"learning_rate": 0.5, "momentum": 0.5}, "")
    setting = StudySetting.of(asked, datasets.load("digits").checksum, **HOW)
    whole = train_pack(setting, Job(8, SCAN, 0), [trial])
    paused = train_pack(setting, Job(8, SCAN, 0), [dataclasses.replace(trial, pause=20)])
    (held,) = paused.aside.values()
    assert paused.results[0].reason == "pruned" and held.step == 20 and not whole.aside
    again = train_pack(setting, Job(8, SCAN, 0), [trial], paused.aside)
    assert begun == [0, 0, 20] and not again.aside
    assert same_bits(again.results[0].evaluations, whole.results[0].evaluations)


def test_a_worker_saves_long_trials_where_it_sees_the_record(begun, tmp_path):
    asked = tiny_study()
    trial = asked.trial(8, 0, 0, {"learning_rate": 0.5, "momentum": 0.5}, "")
    checksum = datasets.load("digits").checksum
    with Writer.open(tmp_path, {"identity": "a", "study": {"name": "tiny"}}):
        pass
    steps = {}
    for identity in ("another", "a"):
        record = (str(tmp_path), identity)
        setting = StudySetting.of(asked, checksum, **{**HOW, "record": record})
        for _ in range(2):
            outcome = train_pack(setting, Job(8, SCAN, 0), [trial])
            assert outcome.results[0].steps == trial.train_steps and not outcome.warnings
        steps[identity] = begun[-2:]
    assert steps["another"] == [0, 0]
    assert steps["a"][0] == 0 < steps["a"][1]


def test_a_task_takes_more_short_trials_and_no_more_long_ones():
    """1,000 steps: 8 slots of 60 steps hold them by 17 trials."""
    trials = iter([tiny_trial(i) for i in range(100)])
    jobs = types.SimpleNamespace(next_trial=lambda job: next(trials, None))
    job = Job(8, Execution("packed", 8), 0)
    assert [len(_pack(job, jobs, steps)) for steps in (0, 480, 1000, 1e9)] == [8, 8, 17, 67]


def test_a_task_refuses_other_data_and_returns_what_its_model_raised():
    asked = tiny_study()
    trial = asked.trial(8, 0, 0, {"learning_rate": 0.5, "momentum": 0.5}, "")
    setting = StudySetting.of(asked, "another", **HOW)
    outcome = train_pack(setting, Job(8, SCAN, 0), [trial])
    assert isinstance(outcome, PackOutcome) and not outcome.results
    assert "is another than the study's" in str(outcome.error)


class Unreadable(Exception):
    """Cannot be made again from what pickle keeps."""

    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


def test_an_exception_that_no_other_process_can_read_becomes_one_line():
    assert isinstance(portable(Unreadable("a", "b")), StudyError)
    assert str(portable(Unreadable("a", "b"))) == "Unreadable: a b"
    assert isinstance(portable(ValueError("x")), ValueError)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--task", "gpus=1"], "--ray-address and --task are for --executor ray"),
        (["--executor", "ray", "--task", "gpu=1"], "a task's resources are cpus, gpus, tpus"),
        (["--executor", "ray", "--task", "cpus=-1"], "each a number of at least 0, got cpus=-1"),
        (["--executor", "ray", "--ray-address", "127.0.0.1:1"],
         "--ray-address 127.0.0.1:1 does not answer"),
        (["--executor", "ray", "--ray-address", "head"], "it must be HOST:PORT, or auto"),
    ],
)  # fmt: skip
def test_what_no_cluster_can_do_is_refused_with_nothing_on_disk(words, line, tmp_path, capsys):
    assert main(["run", "quickstart", "--smoke", *words, "--out", str(tmp_path / "s")]) == 2
    assert line in capsys.readouterr().err and not (tmp_path / "s").exists()
