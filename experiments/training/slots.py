"""A running trial's place on the host, and what it has measured so far."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.spec.trial import Trial
from experiments.training.order import ExampleOrder
from schedules.batch_size import Stretch, examples_after

Table = Mapping[str, np.ndarray]


@dataclasses.dataclass
class Slot:
    """A running trial's place on the host: its order, its grid, what it has returned so far."""

    trial: Trial
    order: ExampleOrder
    grid: np.ndarray
    following: np.ndarray  # int32 [B], the next step's examples
    parts: Sequence[Stretch]  # of its steps, each at one batch size
    step: int = 0
    seconds: float = 0.0  # wall-clock, the chunk's time shared by the trials in it
    evaluations: list[dict[str, np.ndarray]] = dataclasses.field(default_factory=list)
    norms: list[dict[str, np.ndarray]] = dataclasses.field(default_factory=list)
    ran: float = 0.0  # wall-clock seconds in the slot, those before a resume included
    saved_at: float = 0.0  # ``ran`` at the newest checkpoint
    saved_step: int = 0

    @property
    def evaluated(self) -> bool:
        """Whether the newest evaluation is of this very step."""
        return bool(self.evaluations) and int(self.evaluations[-1]["step"][-1]) == self.step

    @property
    def next_evaluation(self) -> int:
        """The next step of the grid."""
        return int(self.grid[np.searchsorted(self.grid, self.step + 1)])


class Chunk(NamedTuple):
    """What one call is given: see `Program.chunk`."""

    train: Mapping[str, Any]  # role -> [n, ...], training examples
    stream: np.ndarray  # int32 [steps + 1, N, B], rows of ``train``
    ends: np.ndarray  # int32 [steps]
    due: np.ndarray  # bool [steps, N]
    anywhere: np.ndarray  # bool [steps]
    segments: int
    steps: int  # made by the call


def collect(
    slot: Slot, i: int, chunk: Chunk, evaluations: Table, norms: Table, diverged_at: int
) -> None:
    """What slot ``i`` measured in a chunk, appended to its tables; its step moved on."""
    rows = np.flatnonzero(chunk.due[: chunk.segments, i])
    if len(rows):
        steps = slot.step + chunk.ends[rows].astype(np.int64)
        kept = {"step": steps, "examples": examples_after(slot.parts, steps)}
        for name in evaluations.keys() - {"finite"}:
            found = evaluations[name][rows, i].astype(np.float64)
            # The one place where (sum, count) becomes a mean.
            kept[name] = found[:, 0] / found[:, 1] if found.ndim == 2 else found
        slot.evaluations.append(kept)
    if norms:
        steps = np.arange(slot.step + 1, slot.step + chunk.steps + 1)
        counted = {"step": steps, "examples": examples_after(slot.parts, steps)}
        slot.norms.append({**counted, **{k: v[: chunk.steps, i] for k, v in norms.items()}})
    slot.step = diverged_at or slot.step + chunk.steps


def joined(
    pieces: Sequence[dict[str, np.ndarray]], last: int, before: bool
) -> dict[str, np.ndarray]:
    """Pieces end to end, up to step ``last`` (excluded where ``before``)."""
    table = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    keep = table["step"] < last if before else table["step"] <= last
    return {name: values[keep] for name, values in table.items()}
