"""Checkpoints of running trials: when they are saved, what they hold, where a trial goes on.

A trial is saved once it has run for ``seconds``, every so many seconds after that, and after each
evaluation that is its best so far, the last as long as all saving costs at most `BEST_SHARE` of
the time: evaluations lie at most 5 % apart, so a handful follow each other in a long run. A
trial shorter than that is never saved, except when the process is told to end (SIGTERM).

Where checkpoints fall depends on the clock; what a trial returns does not. Of several processes
the first saves what all of them have, and tells the others where a trial goes on.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.runtime import hosts
from experiments.spec.errors import first_line
from experiments.spec.trial import Status, Trial
from experiments.training import checkpoint
from experiments.training.checkpoint import CheckpointError, Saved, Warn, filled, named
from experiments.training.slots import Slot, Table, joined
from experiments.training.state import TrainState
from workloads.base import Goal

CHECKPOINTS_FOLDER = "checkpoints"
DEFAULT_MINUTES = 5.0
BEST_SHARE = 0.02
_TABLES = ("evaluations", "norms")
_NUMBERS = ("step", "seconds", "ran")


@dataclasses.dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of a study's trials; of several processes the first has the folder.

    Attributes:
      folder: of the study's record.
      goal: its metric, on its split, says which evaluation is the best.
      seconds: wall-clock seconds before a trial is first saved, and between two checkpoints.
      warn: takes one line where a checkpoint cannot be used or written.
    """

    folder: Path
    goal: Goal
    seconds: float
    warn: Warn

    def of(self, trial: Trial) -> Path:
        """The folder of a trial's checkpoints: ``checkpoints/<batch size>/<seed>-<index>``."""
        name = f"{trial.seed}-{trial.index}"
        return self.folder / CHECKPOINTS_FOLDER / str(trial.batch_size) / name

    def ranks(self, evaluations: Sequence[Table]) -> np.ndarray:
        """The goal's metric at every evaluation so far, smaller is better, infinite where NaN."""
        found = [piece[self.goal.column] for piece in evaluations]
        values = self.goal.sign * np.concatenate([np.zeros(0), *found])
        return np.where(np.isfinite(values), values, np.inf)

    def save(
        self,
        trial: Trial,
        arrays: Mapping[str, np.ndarray],
        about: Mapping[str, Any],
        rank: float | None,
    ) -> None:
        """Save a trial at ``about["step"]``; a disk that fails does not end its training.

        Process 0 alone may call this.
        """
        folder = self.of(trial)
        try:
            checkpoint.save(
                folder, about["step"], arrays, {**about, "identity": trial.identity}, rank
            )
            checkpoint.drop_aside(folder)
        except Exception as error:  # noqa: BLE001 (Orbax raises a disk's errors under many names)
            self.warn(f"no checkpoint in {folder} at step {about['step']} ({first_line(error)})")

    def newest(self, trial: Trial, how: str, most: float = math.inf) -> Saved | None:
        """The checkpoint ``trial`` goes on from, None where it starts: the same in every process.

        Executed otherwise than ``how`` it was, its bits would be others, so it starts again; what
        an older plan that was executed so has left aside is taken up again.
        """
        return hosts.from_first(lambda: self._newest(trial, how, most))

    def _newest(self, trial: Trial, how: str, most: float) -> Saved | None:
        other = ""
        for folder in (self.of(trial), checkpoint.aside(self.of(trial))):
            saved = checkpoint.newest(folder, self.warn, most)
            if saved is None:
                continue
            self._check_identity(trial, saved.about["identity"])
            if saved.about["how"] == how or saved.step >= most:  # none is trained from ``most`` on
                return saved
            other = other or saved.about["how"]
        if other:
            self.warn(
                f"{self.of(trial)} was saved under another plan ({other}, now {how}): the trial "
                "starts again, and what was saved stays until the new plan's first checkpoint"
            )
        return None

    def go_on(self, trial: Trial, step: int) -> None:
        """Training goes on from ``step``: what was saved after it will be saved again.

        What is not gone on with is set aside, and goes once the first new checkpoint is on disk.
        """
        folder = self.of(trial)
        if not hosts.first():
            return
        if step == 0:
            checkpoint.set_aside(folder)
        elif not (folder / str(step)).is_dir():
            checkpoint.bring_back(folder)
        if folder.is_dir():
            checkpoint.forget_after(folder, step)

    def check(self, trial: Trial) -> None:
        """CheckpointError where the folder of ``trial`` holds another configuration's.

        Process 0 alone may call this.
        """
        for folder in (self.of(trial), checkpoint.aside(self.of(trial))):
            about = checkpoint.newest_about(folder) if folder.is_dir() else None
            if about is not None:
                self._check_identity(trial, about["identity"])

    def _check_identity(self, trial: Trial, identity: str) -> None:
        if identity != trial.identity:
            raise CheckpointError(
                f"{self.of(trial)} holds checkpoints of another configuration (identity "
                f"{identity}, this trial's is {trial.identity}): move it away or remove it"
            )

    def end(self, trial: Trial, status: Status) -> None:
        """Once ``trial`` is recorded: its best checkpoint stays, nothing of an INFEASIBLE one.

        What an exception ended (INCOMPLETE) will go on where it was.
        """
        if not hosts.first():
            return
        if status in (Status.COMPLETE, Status.STOPPED):
            checkpoint.keep_best(self.of(trial))
        elif status == Status.INFEASIBLE:
            checkpoint.remove(self.of(trial))


def packed(slot: Slot, state: TrainState) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(arrays, JSON values): all that a running trial is."""
    arrays = {**named("state", state), "following": slot.following}
    for table in _TABLES:
        pieces = getattr(slot, table)
        if pieces:
            whole = joined(pieces, slot.step, False)
            arrays |= {f"{table}/{column}": values for column, values in whole.items()}
    about = {name: getattr(slot, name) for name in _NUMBERS}
    return arrays, {**about, "epoch": slot.order.epoch, "offset": slot.order.offset}


def restored(slot: Slot, saved: Saved, shapes: TrainState) -> TrainState:
    """Put into a fresh ``slot`` what `packed` found; returns the state, like ``shapes``.

    Raises CheckpointError, and changes nothing, where the state has another structure.
    """
    state = filled("state", shapes, saved.arrays)
    slot.following = saved.arrays["following"]
    slot.order.move(saved.about["epoch"], saved.about["offset"])
    for table in _TABLES:
        head = f"{table}/"
        found = {k.removeprefix(head): v for k, v in saved.arrays.items() if k.startswith(head)}
        getattr(slot, table)[:] = [found] if found else []
    for name in _NUMBERS:
        setattr(slot, name, saved.about[name])
    slot.saved_step, slot.saved_at = slot.step, slot.ran
    return state
