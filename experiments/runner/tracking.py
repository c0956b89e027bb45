"""Recorded trials passed on to TensorBoard or Weights & Biases while a study runs.

The record stays the one source: a tracker is told of a trial after it was recorded, in a thread of
its own, and nothing that goes wrong there reaches the study. One run a trial: every finite column
of its evaluations against the step, its hyperparameters, how it ended.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import math
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from experiments.spec.errors import first_line
from experiments.spec.trial import TrialResult
from workloads.registry import unknown_name

MODULES = {"tensorboard": "tensorboardX", "wandb": "wandb"}
"""Name of a tracker -> the module that it needs."""
TRACKING_FOLDER = "tracking"


def check_tracker(kind: str) -> None:
    """Refuse a tracker that is unknown or not installed.

    Raises:
      ValueError: one line, with what to install.
    """
    if kind not in MODULES:
        raise unknown_name("tracker", kind, MODULES)
    if importlib.util.find_spec(MODULES[kind]) is None:
        raise ValueError(
            f"--track {kind} needs {MODULES[kind]}: pip install 'batchscale[tracking]'"
        )


class Sink(Protocol):
    """A place to which trials go."""

    def write(self, trial: TrackerRun) -> None:
        """Everything of one trial."""


@dataclasses.dataclass(frozen=True)
class TrackerRun:
    """A trial as trackers know one.

    Attributes:
      study: its name.
      key: "B-SEED-INDEX".
      settings: batch size, seed, index and hyperparameters.
      outcome: status with its reason, steps made.
      steps: [evaluations].
      scalars: column -> [evaluations].
    """

    study: str
    key: str
    settings: dict[str, Any]
    outcome: dict[str, Any]
    steps: Sequence[int]
    scalars: dict[str, np.ndarray]

    @classmethod
    def of(cls, study: str, result: TrialResult) -> TrackerRun:
        """Of what was recorded."""
        trial, columns = result.trial, result.evaluations
        place = {"batch_size": trial.batch_size, "seed": trial.seed, "trial": trial.index}
        ending = f" ({result.reason})" if result.reason else ""
        return cls(
            study=study,
            key="-".join(str(number) for number in place.values()),
            settings={**place, **trial.hyperparameters},
            outcome={"status": f"{result.status.value}{ending}", "steps": int(result.steps)},
            steps=[int(step) for step in columns.get("step", ())],  # none where it raised
            scalars={name: column for name, column in columns.items()
                     if name != "step" and np.ndim(column) == 1},
        )  # fmt: skip

    def rows(self) -> Iterator[tuple[int, dict[str, float]]]:
        """(step, the finite numbers measured there)."""
        for place, step in enumerate(self.steps):
            found = {name: float(column[place]) for name, column in self.scalars.items()}
            yield step, {name: value for name, value in found.items() if math.isfinite(value)}


class TensorBoard:
    """Event files, a folder a trial: ``tensorboard --logdir DIR/tracking``."""

    def __init__(self, folder: Path) -> None:
        """Below ``folder``, the study's record."""
        self._folder = folder / TRACKING_FOLDER

    def write(self, trial: TrackerRun) -> None:
        """The scalars, and settings and outcome as text."""
        from tensorboardX import SummaryWriter

        with SummaryWriter(str(self._folder / trial.key), write_to_disk=True) as writer:
            for step, values in trial.rows():
                for name, value in values.items():
                    writer.add_scalar(name, value, step)
            facts = {**trial.settings, **trial.outcome}
            rows = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
            writer.add_text("trial", f"| | |\n|---|---|\n{rows}", 0)


class WeightsAndBiases:
    """Runs of one group, the study; where they go is for wandb's own settings (WANDB_MODE)."""

    def __init__(self, folder: Path) -> None:
        """Its local files lie below ``folder``, the study's record."""
        self._folder = folder / TRACKING_FOLDER
        self._folder.mkdir(exist_ok=True)

    def write(self, trial: TrackerRun) -> None:
        """One run, begun and finished."""
        import wandb

        run = wandb.init(
            project="batchscale",
            group=trial.study,
            name=f"{trial.study}/{trial.key}",
            config=trial.settings,
            dir=str(self._folder),
            reinit="create_new",
            settings=wandb.Settings(console="off", silent=True, disable_git=True, save_code=False),
        )
        for step, values in trial.rows():
            run.log(values, step=step)
        run.summary.update(trial.outcome)
        run.finish()


SINKS: dict[str, Callable[[Path], Sink]] = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases}


@contextlib.contextmanager
def tracking(
    kind: str, study: str, folder: Path, warn: Callable[[str], None]
) -> Iterator[Callable[[Sequence[TrialResult]], None]]:
    """Yields what takes recorded results; on leaving, what was taken has been passed on.

    The first thing that goes wrong in the tracker is said once through ``warn`` and ends tracking,
    not the study.
    """
    waiting: queue.SimpleQueue[TrialResult | None] = queue.SimpleQueue()

    def work() -> None:
        sink: Sink | None = None
        failed = False
        while (result := waiting.get()) is not None:
            if failed:
                continue
            try:
                sink = sink or SINKS[kind](folder)
                sink.write(TrackerRun.of(study, result))
            except Exception as error:  # noqa: BLE001 (whatever a tracker raises)
                failed = True
                warn(f"--track {kind} ended, the study goes on: {first_line(error)}")

    def take(results: Sequence[TrialResult]) -> None:
        for result in results:
            waiting.put(result)

    thread = threading.Thread(target=work, name=f"track-{kind}", daemon=True)
    thread.start()
    try:
        yield take
    finally:
        waiting.put(None)
        thread.join()
