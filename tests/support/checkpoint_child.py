"""A study whose trials are saved every few hundredths of a second, in a process to be killed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from experiments.runner import coordinator
from experiments.runner import study as run
from experiments.runner.executors import threads
from experiments.spec.trial import TrialResult
from experiments.training.checkpoint import named
from support.engine_factory import Watched, tiny_study

SECONDS = 0.05


def long_study():
    """Two trials, each for a worker; adam has a state of two trees."""
    return tiny_study(
        optimizer="adam",
        batch_sizes=(16,),
        step_budget=6000,
        example_budget=6000,
        trials=2,
        space={"learning_rate": {"low": 1e-4, "high": 1e-2, "scale": "log"}},
        record_norms="every",
    )


@contextlib.contextmanager
def watched(ends: Path) -> Iterator[None]:
    """Writes into ``ends`` each trial's last state, and, after a population's first chunk, the
    step at which it had begun (``begun``, a line each)."""
    ends.mkdir(exist_ok=True)

    class Told(Watched):
        told = False

        def _fetch(self) -> list[TrialResult]:
            ((_, _, before),) = self._flights[0].running
            found = super()._fetch()
            if not self.told:
                with open(ends / "begun", "a") as file:
                    file.write(f"{before}\n")
            self.told = True
            return found

        def _retire(self, i: int) -> None:
            index = self._slots[i].trial.index
            super()._retire(i)
            np.savez(ends / f"{index}.npz", **named("", self.last[index]))

    with mock.patch.object(threads, "Population", Told):
        yield


def run_long_study(
    folder: Path,
    finished: Event | None = None,
    checkpoint_minutes: float = SECONDS / 60,
    **options: Any,
) -> None:
    """Run it, or finish it, into ``study`` and ``ends`` of ``folder``."""
    coordinator.COMMIT_SECONDS = 0.0
    with watched(folder / "ends"):
        run.run_study(
            long_study(),
            folder / "study",
            execution="scan",
            checkpoint_minutes=checkpoint_minutes,
            **options,
        )
    if finished is not None:
        finished.set()


def steps_in(folder):
    """The steps of the checkpoints there."""
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def wait_for_a_chunk(child, folder):
    """Until the child has trained a little, or ended."""
    while child.is_alive() and not (folder / "ends" / "begun").exists():
        time.sleep(0.002)


def begun_in(folder):
    """The steps from which the last process's populations went on; none where all was recorded."""
    path = folder / "ends" / "begun"
    steps = [int(line) for line in path.read_text().split()] if path.exists() else []
    path.unlink(missing_ok=True)
    return steps
