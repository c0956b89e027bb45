"""A running trial's place on the host, what is under way of it, and what it has measured so far."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments.spec.trial import (
    MEASURED,
    Reason,
    Status,
    Trial,
    TrialResult,
    out_of_patience,
)
from experiments.training.order import ExampleOrder
from experiments.training.pytrees import ChunkInputs, ChunkResults
from experiments.training.sharding import Leaf
from experiments.training.state import Measurements, TrainState
from schedules.batch_size import Stretch, examples_after
from workloads.base import Goal

Table = Mapping[str, np.ndarray]


class End(NamedTuple):
    """The end of a trial: its last step, status and reason."""

    steps: int
    status: Status
    reason: Reason


@dataclasses.dataclass(eq=False)
class Slot:
    """A running trial's place on the host: its order, its grid, what it has returned so far."""

    trial: Trial
    order: ExampleOrder
    grid: np.ndarray
    following: np.ndarray  # int32 [B], the next step's examples
    parts: Sequence[Stretch]  # of its steps, each at one batch size
    step: int = 0  # steps that were dispatched; ahead of the tables while a chunk is under way
    seconds: float = 0.0  # wall-clock, the chunk's time shared by the trials in it
    evaluations: list[dict[str, np.ndarray]] = dataclasses.field(default_factory=list)
    norms: list[dict[str, np.ndarray]] = dataclasses.field(default_factory=list)
    ran: float = 0.0  # wall-clock seconds in the slot, those before a resume included
    saved_at: float = 0.0  # ``ran`` at the newest checkpoint
    saved_step: int = 0
    ended: bool = False  # its result is known; what is under way of it is not read
    put_aside: TrainState | None = None  # its state on the host, where it pauses

    @property
    def evaluated(self) -> bool:
        """Tell whether the newest evaluation was made after the newest step."""
        return bool(self.evaluations) and int(self.evaluations[-1]["step"][-1]) == self.step

    @property
    def pauses_here(self) -> bool:
        """Tell whether the trial is put aside after the newest step."""
        return self.trial.pauses and self.step == self.trial.most_steps

    @property
    def at_evaluation(self) -> bool:
        """Tell whether the newest step is on the evaluation grid."""
        return bool(np.any(self.grid == self.step))

    @property
    def next_evaluation(self) -> int:
        """The next step of the grid."""
        return int(self.grid[np.searchsorted(self.grid, self.step + 1)])

    def end(self, last: int, diverged: int | None, goal: Goal | None) -> End | None:
        """Return the end of the trial, None where it goes on after ``last`` steps.

        Where it stops depends on its own measurements and its bound, not on where a chunk ended:
        what was measured beyond is thrown away.

        Args:
          last: steps whose results are known.
          diverged: the step among them that diverged, if one did.
          goal: of the study.
        """
        trial = self.trial
        if trial.stops and goal is not None and self.evaluations:
            newest = self.evaluations[-1]
            passed = newest["step"][goal.better(newest[goal.column])]
            before = diverged or trial.train_steps  # at its full length it is COMPLETE
            if len(passed) and passed[0] < before:
                return End(int(passed[0]), Status.STOPPED, "goal")
        if trial.patience is not None and goal is not None and self.evaluations:
            pieces = [(piece["step"], piece[goal.column]) for piece in self.evaluations]
            measured = (pair for piece in pieces for pair in zip(*piece, strict=True))
            tired = out_of_patience(measured, trial.patience, trial.min_delta, goal.sign)
            if tired is not None and tired < (diverged or trial.train_steps):
                return End(tired, Status.STOPPED, "patience")
        if diverged:
            return End(diverged, Status.INFEASIBLE, "")
        if last < trial.most_steps:
            return None
        if last < trial.train_steps:
            return End(last, Status.STOPPED, "pruned" if trial.pauses else "race")
        return End(last, Status.COMPLETE, "")

    def result(self, end: End, plan: int, clipped: int | None) -> TrialResult:
        """Return the trial's result; ``clipped`` counts its steps with a clipped gradient (None
        without a clipping)."""
        steps, status, reason = end
        self.ended = True
        if status == Status.STOPPED:
            clipped = None  # it counts the steps beyond too
        return TrialResult(
            self.trial,
            status,
            steps,
            joined(self.evaluations, steps, status == Status.INFEASIBLE),
            joined(self.norms, steps, False) if self.norms else None,
            self.seconds,
            plan,
            clipped_share=None if clipped is None else min(clipped, steps) / steps,
            reason=reason,
        )


class Chunk(NamedTuple):
    """One call: what it is given, as NumPy arrays, and the steps that it makes."""

    inputs: ChunkInputs
    steps: int


class LoopResults(NamedTuple):
    """The measurements of a chunk whose steps and evaluations were dispatched one by one."""

    evaluations: list[tuple[int, Measurements]]  # (segment, column -> [slots, ...])
    steps: list[Measurements]  # column -> [slots]
    diverged_at: Leaf  # int32 [slots]
    clipped_steps: Leaf  # int32 [slots]; () where nothing is clipped


class Flight(NamedTuple):
    """A chunk that was dispatched and whose results have not been fetched."""

    chunk: Chunk
    running: Sequence[tuple[int, Slot, int]]  # (slot, its trial, the trial's step before)
    results: ChunkResults | LoopResults  # arrays on the device
    began: float  # by `time.perf_counter`

    @property
    def trial_steps(self) -> int:
        """Steps of all trials whose end is not known."""
        return self.chunk.steps * sum(not slot.ended for _, slot, _ in self.running)


def collect(slot: Slot, i: int, first: int, chunk: Chunk, results: ChunkResults) -> None:
    """Append what slot ``i`` measured in a chunk, from its trial's step ``first`` on."""
    inputs, evaluations = chunk.inputs, results.evaluations
    rows = np.flatnonzero(inputs.evaluation_mask[: int(inputs.segments), i])
    if len(rows):
        steps = first + inputs.ends[rows].astype(np.int64)
        kept = {"step": steps, "examples": examples_after(slot.parts, steps)}
        for name in evaluations.keys() - {"finite"}:
            found = np.asarray(evaluations[name])[rows, i].astype(np.float64)
            if name.startswith(MEASURED) and found.ndim == 2:
                kept |= {f"{name}/{k}": column for k, column in enumerate(found.T)}
            else:  # the one place where (sum, count) becomes a mean
                kept[name] = found[:, 0] / found[:, 1] if found.ndim == 2 else found
        slot.evaluations.append(kept)
    if results.norms:
        steps = np.arange(first + 1, first + chunk.steps + 1)
        counted = {"step": steps, "examples": examples_after(slot.parts, steps)}
        found = {k: np.asarray(v)[: chunk.steps, i] for k, v in results.norms.items()}
        slot.norms.append({**counted, **found})


def keep(
    flight: Flight, results: ChunkResults, seconds: float, goal: Goal | None
) -> Iterator[tuple[int, Slot, End]]:
    """Keep what the trials of a chunk measured; yields (slot, its trial, end) of those that ended.

    Args:
      flight: the chunk.
      results: as fetched.
      seconds: that the chunk took, shared by the trials in it.
      goal: of the study.
    """
    for i, slot, first in flight.running:
        if slot.ended:  # in the chunk before
            continue
        collect(slot, i, first, flight.chunk, results)
        slot.seconds += seconds / len(flight.running)
        slot.ran += seconds
        diverged, last = int(results.diverged_at[i]), first + flight.chunk.steps
        end = slot.end(last, diverged or None, goal)
        if end is not None:
            yield i, slot, end


def clipped_by(i: int, results: ChunkResults) -> int | None:
    """The steps of slot ``i`` with a clipped gradient; None where nothing is clipped."""
    return int(results.clipped_steps[i]) if len(results.clipped_steps) else None


def joined(
    pieces: Sequence[dict[str, np.ndarray]], last: int, before: bool
) -> dict[str, np.ndarray]:
    """Pieces end to end, up to step ``last`` (excluded where ``before``)."""
    if not pieces:
        return {}
    table = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    keep = table["step"] < last if before else table["step"] <= last
    return {name: values[keep] for name, values in table.items()}
