"""A pack where it lies on devices: what its slots are given, what is dispatched and fetched."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import numpy as np

from experiments.spec.trial import Trial
from experiments.training.layout import Execution
from experiments.training.loop import dispatch_loop, loop_results
from experiments.training.order import trial_keys
from experiments.training.program import Numbers, Program
from experiments.training.pytrees import ChunkResults, Pack, PutInputs
from experiments.training.slots import Chunk, LoopResults, Slot
from experiments.training.state import TrainState


class DevicePack:
    """The arrays of a pack, idle at first, and the programs that change them.

    Args:
      program: the compiled programs, on the layout of the pack.
      execution: mode, slots and layout.
      batch_size: B, of the first step.
      values: hyperparameters of a trial, see `ChunkSource.values`: all have these names.

    Attributes:
      pack: the arrays.
      evaluation_batch: examples that are evaluated at a time.
    """

    def __init__(self, program: Program, execution: Execution, batch_size: int, values: Numbers):
        self._program, self._mode, self._slots = program, execution.mode, execution.slots
        batch = program.planned(execution, batch_size, values).evaluation_batch
        assert batch is not None, "it is known once a trial is"
        self.evaluation_batch = batch
        self._initial_batch = max(1, batch // execution.layout.data)
        self.pack: Pack = program.empty_pack(execution.slots, values)

    @property
    def states(self) -> TrainState:
        """The states of all slots."""
        return self.pack.states

    def state(self, i: int) -> TrainState:
        """The state in slot ``i``, without the axis of slots."""
        return jax.tree.map(lambda x: x[i], self.pack.states)

    def start(
        self,
        i: int,
        trial: Trial,
        values: Numbers,
        begin: Callable[[TrainState], TrainState] | None = None,
    ) -> None:
        """Put a fresh trial into slot ``i``; ``begin`` makes another first state of its own."""
        keys, batch = trial_keys(trial.seed, trial.index), self._initial_batch
        inputs = self._program.start_inputs(values, keys, trial.train_steps, slot=i, batch=batch)
        self.pack = self._program.start((self._slots, self.evaluation_batch), self.pack, inputs)
        if begin is not None:
            self.put(i, begin(self.state(i)), values)

    def put(self, i: int, state: TrainState, values: Numbers) -> None:
        """Put a trial that goes on from ``state`` into slot ``i``."""
        inputs = PutInputs(np.int32(i), state, values)
        self.pack = self._program.put(self._slots, self.pack, inputs)

    def put_aside(self, running: Sequence[tuple[int, Slot, int]]) -> None:
        """Keep on the host the states of the trials that pause here: their slots take others."""
        pausing = [(i, slot) for i, slot, _ in running if slot.pauses_here]
        if pausing:
            states = jax.device_get(self.pack.states)
            for i, slot in pausing:
                slot.put_aside = jax.tree.map(lambda x, i=i: x[i], states)

    def dispatch(self, chunk: Chunk) -> ChunkResults | LoopResults:
        """Begin a chunk; what it will have measured."""
        shapes = *chunk.inputs.stream.shape, self.evaluation_batch
        if self._mode == "loop":
            self.pack, steps = dispatch_loop(self._program, shapes, self.pack, chunk)
            return steps
        self.pack, results = self._program.chunk(shapes, self.pack, chunk.inputs)
        return results

    def fetch(self, chunk: Chunk, dispatched: ChunkResults | LoopResults) -> ChunkResults:
        """Wait for the results of a chunk."""
        results = jax.device_get(dispatched)
        if isinstance(results, LoopResults):
            return loop_results(self._program, chunk, results)
        return results
