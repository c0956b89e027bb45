"""The inputs of a pack's chunks: which examples, how many steps, which evaluations."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from experiments.spec.trial import Trial
from experiments.training.feed import Feed
from experiments.training.order import ExampleOrder
from experiments.training.pace import ChunkPace
from experiments.training.program import Numbers, Program
from experiments.training.pytrees import ChunkInputs, Pack
from experiments.training.sharding import ShardAssignment
from experiments.training.slots import Chunk, Slot
from experiments.training.step import PHASE_RATE
from schedules.batch_size import Stretch, examples_after, stretch_at


class ChunkSource:
    """Makes the chunks of a pack, at the batch size that its trials have come to.

    What a chunk is given depends on the counters of the slots alone, so it may be made while the
    chunk before is under way.

    Args:
      program: the compiled programs, on the layout of the pack.
      stretches: of the trials' steps, each at one batch size.
      slots: N.

    Attributes:
      part: the stretch that the trials are in.
      pace: how many steps a chunk makes there.
    """

    part: Stretch
    pace: ChunkPace
    _assignment: ShardAssignment | None
    _feed: Feed

    def __init__(self, program: Program, stretches: Sequence[Stretch], slots: int):
        self._program, self._stretches, self._count = program, stretches, slots
        self._open = contextlib.ExitStack()
        self._enter(stretches[0])

    @property
    def grows(self) -> bool:
        """Tell whether the batch size changes: trials then run as cohorts."""
        return len(self._stretches) > 1

    @property
    def window_bytes(self) -> int:
        """Return the bytes of one chunk's window of streamed examples; 0 if nothing is streamed."""
        return self._feed.window_bytes

    def close(self) -> None:
        """End the threads that read ahead."""
        self._open.close()

    def _enter(self, part: Stretch) -> None:
        """Change to the batch size of ``part``."""
        self.part, self.pace = part, ChunkPace()
        program, size = self._program, part.batch_size
        self._assignment = program.assignment(size)
        self._open.close()  # a larger batch is read ahead anew
        feed = Feed(program.train, program.stored, size, self._count, program.place)
        self._feed = self._open.enter_context(feed)

    def begin(self, trial: Trial, grid: np.ndarray) -> Slot:
        """Return the place of a trial at its first step, evaluated after the steps of ``grid``."""
        first = self._stretches[0]
        if self.part is not first:
            self._enter(first)  # the first of a cohort
        order = ExampleOrder(trial.seed, trial.index, self._program.examples)
        return Slot(trial, order, grid, order.take(first.batch_size), self._stretches)

    def follow(self, running: Sequence[Slot], pack: Pack) -> Pack:
        """Change to the batch size and the rate that the running trials have come to; the pack,
        with that rate."""
        if not self.grows:
            return pack
        steps = {slot.step for slot in running}
        part = stretch_at(self._stretches, max(steps))
        if part is self.part:
            return pack
        assert len(steps) == 1, "the trials of a cohort are at one step"
        self._enter(part)
        consumed = int(examples_after(self._stretches, max(steps)))
        for slot in running:  # what was to follow is taken again, at the new size
            slot.order.move(*divmod(consumed, self._program.examples))
            slot.following = slot.order.take(part.batch_size)
        rate = jnp.full_like(pack.hyperparameters[PHASE_RATE], part.rate_multiplier)
        return pack._replace(hyperparameters={**pack.hyperparameters, PHASE_RATE: rate})

    def values(self, hyperparameters: Numbers) -> Numbers:
        """Return the numbers that a trial's programs read: its hyperparameters and, if its batch
        grows, the rate's multiplier of the phase."""
        grows = self._program.config.batch_size_schedule != "constant"
        phase = {PHASE_RATE: self.part.rate_multiplier} if grows else {}
        return self._program.numbers({**hyperparameters, **phase})

    def length(self, running: Sequence[Slot]) -> int:
        """Return the steps of the next chunk: by the pace, never past a trial's end or a change of
        the batch size."""
        ends = [self._steps_to_border(slot) for slot in running]
        return max(1, min(self._feed.most_steps, self.pace.steps, *ends))

    def _steps_to_border(self, slot: Slot) -> int:
        borders = [part.step for part in self._stretches if part.step > self.part.step][:1]
        return min([slot.trial.most_steps, *borders]) - slot.step

    def chunk(self, slots: Sequence[Slot | None], steps: int, evaluation_batch: int) -> Chunk:
        """Make the inputs of the next ``steps`` steps and move the trials' orders on.

        Args:
          slots: of the pack, None where one is idle.
          steps: at most those of `length`.
          evaluation_batch: examples that are evaluated at a time.
        """
        most, size, count = self._feed.most_steps, self.part.batch_size, steps
        stream = np.zeros((most + 1, len(slots), size), np.int32)
        evaluated = np.zeros((count, len(slots)), bool)
        for i, slot in enumerate(slots):
            if slot is None:
                continue
            stream[0, i] = slot.following
            stream[1 : count + 1, i] = slot.order.take(count * size).reshape(count, size)
            slot.following = stream[count, i].copy()
            low, high = np.searchsorted(slot.grid, [slot.step + 1, slot.step + count + 1])
            evaluated[slot.grid[low:high] - slot.step - 1, i] = True
        # A segment ends where any slot is evaluated, and with the chunk.
        stops = np.union1d(np.flatnonzero(evaluated.any(axis=1)), [count - 1])
        ends = np.zeros(most, np.int32)
        ends[: len(stops)] = stops + 1
        mask = np.zeros((most, len(slots)), bool)
        mask[: len(stops)] = evaluated[stops]
        orders = [None if slot is None else slot.order for slot in slots]
        train, stream = self._feed.window(stream, orders, count)
        if self._assignment is not None:
            stream = stream[..., self._assignment.position.ravel()]
        marks = ends, mask, np.any(mask, axis=1), np.int32(len(stops))
        evaluation = self._program.evaluation(evaluation_batch)
        return Chunk(ChunkInputs(train, stream, self._assignment, *marks, evaluation), count)
