"""Ray tasks in place of threads: the same record, bit for bit, whatever is killed meanwhile."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
import types
from ipaddress import ip_address

import pytest
from support import architecture_child, killed_builds, pruned_child
from support.comparing import assert_same_record
from support.engine_factory import TINY, tiny_study
from support.pruned_child import one_bracket
from support.ray_cluster import read_token, simulated, with_token

from experiments.cli import main
from experiments.records.store import read
from experiments.runner.executors.cluster import Cluster, connected
from experiments.runner.executors.searches import SearchSetting
from experiments.runner.search import run_search
from experiments.runner.search_driver import Driver
from experiments.runner.study import run_study
from experiments.spec.errors import StudyError
from experiments.spec.loading import load_file
from experiments.spec.space import Real
from experiments.spec.user_search import UserSearch


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
def cluster(tmp_path_factory):
    """A cluster of two nodes behind a token, which studies join and leave.

    ``builds`` is the folder that `killed_builds.build` writes to in its workers.
    """
    token, builds = tmp_path_factory.mktemp("token") / "token", tmp_path_factory.mktemp("builds")
    token.write_text(secrets.token_hex(32))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path[:2]))
        patch.setenv("BUILDS", str(builds))
        with_token(patch, token)
        with simulated() as child:
            child.address, child.builds = child.stdout.readline().strip(), builds
            yield child
    read_token()


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
    """The child starts a cluster of its own, which ends with it and listens on this machine alone;
    the study goes on in another."""
    command = [sys.executable, pruned_child.__file__, str(tmp_path / "killed"), "7", "ray"]
    ours = {k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")}
    path = os.pathsep.join(filter(None, sys.path))
    child = subprocess.Popen(command, env={**ours, "PYTHONPATH": path})
    assert child.wait() == -signal.SIGKILL
    heard = (tmp_path / "killed.listens").read_text().split()
    assert heard and all(ip_address(address).is_loopback for address in heard)
    where = Cluster(cluster.address)
    run_study(one_bracket(), tmp_path / "killed", execution="scan", cluster=where)
    threads = run_study(one_bracket(), tmp_path / "threads", execution="scan")
    assert_same_record(tmp_path / "killed", threads)


@pytest.mark.parametrize("token", ["another", None])
def test_a_driver_without_the_clusters_token_is_refused_in_one_line(
    cluster, tmp_path, capfd, token
):
    path = token and tmp_path / "token"
    if path:
        path.write_text(secrets.token_hex(32))
    words = ["run", "quickstart", "--smoke", "--executor", "ray", "--ray-address", cluster.address]
    try:
        with pytest.MonkeyPatch.context() as patch:
            with_token(patch, path)
            assert main([*words, "--out", str(tmp_path / "s")]) == 2
    finally:
        read_token()
    said = capfd.readouterr().err  # what C++ prints is there too
    assert said.count("\n") == 1 and f"--ray-address {cluster.address} refuses" in said
    assert "RAY_AUTH_TOKEN_PATH" in said and not (tmp_path / "s").exists()


@pytest.mark.parametrize("token", ["another", None])
def test_a_machine_without_the_clusters_token_does_not_join(cluster, tmp_path, token):
    """Ray itself refuses it, here at its first attempt of twenty."""
    path = tmp_path / "token"
    path.write_text(secrets.token_hex(32))
    ours = {"RAY_AUTH_MODE": "token" if token else "disabled", "RAY_AUTH_TOKEN_PATH": str(path)}
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--address", cluster.address]
    done = subprocess.run(
        command, env={**os.environ, **ours, "RAY_NUM_REDIS_GET_RETRIES": "1"}, text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Authentication token is missing or incorrect" in done.stderr


def test_a_file_without_a_token_is_refused_before_ray_ends_the_process(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    with pytest.raises(ValueError, match="RAY_AUTH_TOKEN_PATH cannot be read: .*No such file"):
        connected(Cluster("127.0.0.1:1")).__enter__()
    (tmp_path / "token").write_text("\n")
    with pytest.raises(ValueError, match="must be a file with a token, got the empty"):
        connected(Cluster("127.0.0.1:1")).__enter__()


def test_a_cluster_of_our_own_is_refused_where_ray_has_no_token_any_more(monkeypatch):
    """Ray reads the variables once; one that it has read without a token begins no cluster."""
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setitem(sys.modules, "ray", types.ModuleType("ray"))
    with pytest.raises(ValueError, match="starts a cluster with a token, and Ray was imported"):
        connected(Cluster()).__enter__()


def test_a_worker_killed_in_a_search_over_modules_costs_the_trial_it_began_alone(
    cluster, tmp_path, monkeypatch
):
    """Its first rung is under way; promoted trials go on from their states in the next worker."""
    asked = UserSearch(
        {"learning_rate": Real(1e-3, 3e-2, "log")},
        build=killed_builds.build, workload="digits_fc", batch_size=64, trials=4, budget=2, eta=2,
        pruner="successive_halving",
    )  # fmt: skip
    threads = run_search(asked, tmp_path / "threads", show=False)
    (cluster.builds / "builds").unlink()
    taken, take = [], Driver._take

    def counted(self, result):
        if not taken:
            (cluster.builds / "kill").touch()
        taken.append((result.trial.index, result.steps))
        return take(self, result)

    monkeypatch.setattr(Driver, "_take", counted)
    where = Cluster(cluster.address)
    ours = run_search(asked, tmp_path / "ray", show=False, cluster=where)
    assert not (cluster.builds / "kill").exists()
    assert len(set(taken)) == len(taken) == 4 + 2  # none came twice
    builds = (cluster.builds / "builds").read_text().split()
    assert len(builds) == len(taken) + 1 and len(set(builds)) >= 2
    assert_same_record(ours.folder, threads.folder)


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
    with pytest.raises(ValueError, match="--ray-address 127.0.0.1:1 does not answer"):
        run_search(
            architecture_child.asked(), tmp_path / "s", show=False, cluster=Cluster("127.0.0.1:1")
        )
    local = dataclasses.replace(architecture_child.asked(), build=lambda values: None)
    with pytest.raises(ValueError, match="needs functions that a module defines"):
        SearchSetting.of(local, "")
    assert not (tmp_path / "s").exists()


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
