"""Studies killed with kill -9 again and again: a few times in the suite, often in ``make soak``."""

from __future__ import annotations

import multiprocessing
import random
import shutil
import time
from multiprocessing.context import ForkServerContext
from pathlib import Path

import numpy as np

from experiments.records.store import read
from experiments.runner.study import run_study
from support.checkpoint_child import begun_in, run_long_study, wait_for_a_chunk
from support.comparing import WALL_CLOCK, assert_same_record
from support.engine_factory import same_bits
from support.run_child import PRELOADED, killed_study, run_killed_study


def server() -> ForkServerContext:
    """Forks children from a process that has imported jax and not yet used it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def killed_while_recording(folder: Path, kills: int, seed: int) -> list[float]:
    """Kill a study that commits at every turn, at random moments, the same command after each.

    Nothing recorded is lost or changed. Returns the moments, in seconds after a write; ``folder``
    then holds a study that may be unfinished.
    """
    chance, context = random.Random(seed), server()
    recorded: dict[tuple, tuple] = {}
    moments: list[float] = []
    while len(moments) < kills:
        finished = context.Event()
        child = context.Process(target=run_killed_study, args=(str(folder), finished))
        child.start()
        _wait_for_a_write(child, folder)
        delay = chance.uniform(0.0, 0.2)
        time.sleep(delay)
        child.kill()
        child.join()
        if (folder / "study.json").exists():
            now = {row[:3]: row for row in read(folder).trials.drop(*WALL_CLOCK).iter_rows()}
            assert recorded.items() <= now.items(), moments
            recorded = now
        if finished.is_set():  # start over: more kills are wanted
            shutil.rmtree(folder)
            recorded = {}
        else:
            moments.append(round(delay, 3))
    return moments


def assert_equals_its_twin(folder: Path, twin: Path) -> None:
    """The study that was killed, once finished, is the one that never was."""
    for where in (folder, twin):
        run_study(killed_study(), where, execution="scan")
    assert_same_record(folder, twin)
    assert "INFEASIBLE" in set(read(twin).trials["status"])


def _wait_for_a_write(child: multiprocessing.process.BaseProcess, folder: Path) -> None:
    """Until this process has changed the records, or ended: before that a kill tests nothing."""
    records = folder / "records"
    names = set(records.iterdir()) if records.exists() else set()
    while child.is_alive():
        if records.exists() and set(records.iterdir()) != names:
            return
        time.sleep(0.002)


def killed_while_training(folder: Path, undisturbed: Path, kills: int, seed: int) -> int:
    """Kill a study whose trials are saved every 0.05 s; how often a trial went on where it was.

    ``undisturbed`` holds the same study, never killed: measurements, last parameters and last
    optimizer states are equal to the bit.
    """
    chance, context, resumed, killed = random.Random(seed), server(), 0, 0
    place = folder / "0"
    while killed < kills:
        place.mkdir(exist_ok=True)
        finished = context.Event()
        child = context.Process(target=run_long_study, args=(place, finished))
        child.start()
        wait_for_a_chunk(child, place)
        time.sleep(chance.uniform(0.0, 0.5))
        child.kill()
        child.join()
        resumed += sum(step > 0 for step in begun_in(place))
        if finished.is_set():
            assert_same_study(place, undisturbed)
            place = folder / str(killed + 1)
        else:
            killed += 1
    place.mkdir(exist_ok=True)
    run_long_study(place)
    resumed += sum(step > 0 for step in begun_in(place))
    assert_same_study(place, undisturbed)
    return resumed


def assert_same_study(folder: Path, undisturbed: Path) -> None:
    """Measurements, last parameters and last optimizer states, to the bit."""
    assert_same_record(folder / "study", undisturbed / "study")
    for name in ("0.npz", "1.npz"):
        with (
            np.load(folder / "ends" / name) as mine,
            np.load(undisturbed / "ends" / name) as theirs,
        ):
            assert same_bits(dict(mine), dict(theirs)), name
