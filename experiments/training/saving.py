"""Trials of a pack that are saved now, and where a trial goes on: the rules are in resume.py."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, MutableMapping, Sequence

import jax
import numpy as np

from experiments.runtime import hosts
from experiments.spec.trial import Trial
from experiments.training.checkpoint import CheckpointError, Saved
from experiments.training.layout import Execution
from experiments.training.program import Program
from experiments.training.resume import BEST_SHARE, Checkpoints, packed, restored
from experiments.training.slots import Slot
from experiments.training.state import TrainState

Key = tuple[int, int, int]
SavedTrials = MutableMapping[Key, Saved]
"""Key of a trial -> where it was put aside, in the host's memory."""
MOST_HELD = 2**30


class HeldStates(MutableMapping[Key, Saved]):
    """Trials put aside, at most so many bytes of them: the oldest go first, and train again.

    Threads may share it, as long as a trial is in one place.

    Args:
      most: bytes.
    """

    def __init__(self, most: int = MOST_HELD):
        self._most, self._bytes = most, 0
        self._saved: dict[Key, Saved] = {}
        self._lock = threading.Lock()

    def __getitem__(self, key: Key) -> Saved:
        return self._saved[key]

    def __setitem__(self, key: Key, saved: Saved) -> None:
        with self._lock:
            self._drop(key)
            self._saved[key] = saved
            self._bytes += _size(saved)
            while self._bytes > self._most:
                self._drop(next(iter(self._saved)))

    def __delitem__(self, key: Key) -> None:
        with self._lock:
            self._drop(key)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._saved)

    def __len__(self) -> int:
        return len(self._saved)

    def _drop(self, key: Key) -> None:
        saved = self._saved.pop(key, None)
        self._bytes -= 0 if saved is None else _size(saved)


def _size(saved: Saved) -> int:
    return sum(array.nbytes for array in saved.arrays.values())


def executed_how(execution: Execution, program: Program) -> str:
    """Say in words what must be the same for a saved trial to go on to the bit."""
    processes = f"{hosts.count()} processes" if hosts.several() else ""
    norms = f"norms {program.config.record_norms}"
    mode = f"{execution.mode} x {execution.slots}"
    batch = execution.evaluation_batch  # planned once for a study; halved where memory was full
    evaluated = "" if batch is None else f"evaluation batch {batch}"
    device = jax.local_devices()[0].device_kind
    parts = (mode, str(execution.layout), processes, norms, evaluated, device)
    return ", ".join(filter(None, parts))


class Saving:
    """The checkpoints of one pack; without ``checkpoints`` nothing is saved or found on disk.

    Args:
      checkpoints: of the study.
      execution, program: how the pack runs: a trial goes on only where it is executed alike.
      held: trials that were put aside, which a disk need not know.
    """

    def __init__(
        self,
        checkpoints: Checkpoints | None,
        execution: Execution,
        program: Program,
        held: SavedTrials | None = None,
    ):
        self._checkpoints, self._how = checkpoints, executed_how(execution, program)
        self._held: SavedTrials = {} if held is None else held
        self._trained = self._saving = 0.0  # seconds

    def trained(self, seconds: float) -> None:
        """Count the time that a chunk took."""
        self._trained += seconds

    def restore(
        self, slot: Slot, trial: Trial, shapes: Callable[[], TrainState], most: float = math.inf
    ) -> TrainState | None:
        """Put into ``slot`` where ``trial`` was saved, at most ``most`` steps in; its state.

        None, and the slot as it was, where there is no checkpoint that can be used. ``shapes``
        is traced, and so called only where there is one.
        """
        held = self._held.pop(trial.key, None)
        if held is not None and held.about["how"] == self._how and held.step <= most:
            return restored(slot, held, shapes())
        if self._checkpoints is None:
            return None
        saved = self._checkpoints.newest(trial, self._how, most)
        if saved is None:
            return None
        try:
            return restored(slot, saved, shapes())
        except CheckpointError as error:
            self._checkpoints.warn(f"{self._checkpoints.of(trial)} is not used: {error}")
            return None

    def hold(self, slot: Slot) -> None:
        """Keep a trial that is put aside until it goes on; a long one on disk too."""
        assert slot.put_aside is not None, "the state of a trial that pauses is on the host"
        arrays, about = packed(slot, slot.put_aside)
        about["how"] = self._how
        self._held[slot.trial.key] = Saved(slot.step, arrays, about)
        slot.put_aside = None
        if self._checkpoints is not None and self.is_long(slot) and hosts.first():
            ranks = self._checkpoints.ranks(slot.evaluations)
            rank = float(ranks[-1]) if slot.evaluated else None
            if slot.step > slot.saved_step:
                self._checkpoints.save(slot.trial, arrays, about, rank)

    def begin(self, trial: Trial, step: int) -> None:
        """Training of ``trial`` goes on from ``step``."""
        if self._checkpoints:
            self._checkpoints.go_on(trial, step)

    def is_long(self, slot: Slot, more: float = 0.0) -> bool:
        """Tell whether a trial may be saved ``more`` seconds after ``slot.ran``."""
        return self._checkpoints is not None and slot.ran + more >= self._checkpoints.seconds

    def possible(self, slots: Sequence[Slot], more: float) -> bool:
        """Tell whether one of these may be due once the chunk under way, begun ``more`` seconds
        ago, has ended; the same in every process."""
        if self._checkpoints is None:
            return False
        seconds = self._checkpoints.seconds
        wanted = any(
            self.is_long(slot, more)
            and (slot.at_evaluation or slot.ran + more - slot.saved_at >= seconds)
            for slot in slots
        )
        return bool(hosts.agreed_number(wanted))

    def due(self, slot: Slot) -> bool:
        """Tell whether a trial is to be saved now."""
        if self._checkpoints is None or not self.is_long(slot):
            return False
        if slot.ran - slot.saved_at >= self._checkpoints.seconds:
            return True
        if not slot.evaluated or self._saving > BEST_SHARE * self._trained:
            return False
        ranks = self._checkpoints.ranks(slot.evaluations)
        return bool(ranks[-1] < np.min(ranks[:-1], initial=np.inf))

    def save(
        self, slots: Sequence[Slot | None], states: TrainState, wanted: Callable[[Slot], bool]
    ) -> None:
        """Save the ``wanted`` trials, where that has not been done; of several processes the first
        does: every one has the whole state.

        Args:
          slots: of the pack, None where one is idle.
          states: of the pack, at the steps of ``slots``.
          wanted: says which.
        """
        if self._checkpoints is None or not hosts.first():
            return
        chosen = [
            (i, slot)
            for i, slot in enumerate(slots)
            if slot is not None and slot.step > slot.saved_step and wanted(slot)
        ]
        if not chosen:
            return
        began = time.perf_counter()
        states = jax.device_get(states)
        for i, slot in chosen:
            slot.saved_step, slot.saved_at = slot.step, slot.ran
            arrays, about = packed(slot, jax.tree.map(lambda x, i=i: x[i], states))
            ranks = self._checkpoints.ranks(slot.evaluations)
            rank = float(ranks[-1]) if slot.evaluated else None
            self._checkpoints.save(slot.trial, arrays, {**about, "how": self._how}, rank)
        self._saving += time.perf_counter() - began
