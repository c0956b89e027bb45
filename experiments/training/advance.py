"""Many steps of a pack and the evaluations between them, in one program.

The steps run in segments, each followed by an evaluation. Within one, only the loss of a step is
looked at; whether a parameter or the optimizer's state is finite is looked at once, after the last
step (looking at every number at every step takes as long as the step at small batches). A number
that is not finite stays so: where one is found, the segment is run again from its start, this time
looking at every step. The same steps from the same start are the same to the bit.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.training.computation import Computation
from experiments.training.pack import (
    clipped_steps,
    measure_slots,
    note_divergence,
    observe_slots,
    on_any_device,
    step_slots,
)
from experiments.training.pytrees import (
    CHUNK_SPECS,
    PACK_SPECS,
    RESULTS_SPECS,
    ChunkInputs,
    ChunkResults,
    Pack,
    SlotMap,
    StepInputs,
    without_single_slot_axis,
)
from experiments.training.state import Measurements
from optimizers.norms import all_finite


@without_single_slot_axis(CHUNK_SPECS, (PACK_SPECS, RESULTS_SPECS))
def advance(
    computation: Computation, over_slots: SlotMap, pack: Pack, inputs: ChunkInputs
) -> tuple[Pack, ChunkResults]:
    """Many steps of every slot and the evaluations between them, without leaving the device."""
    chunk, steps = _Chunk(computation, over_slots, inputs), len(inputs.ends)
    shapes = jax.eval_shape(chunk.measure, pack, inputs.step(np.int32(0)))
    evaluations = {k: jnp.zeros((steps, *v.shape), v.dtype) for k, v in shapes.items()}
    recorded = computation.norms if computation.config.record_norms == "every" else ()
    rows = steps, *inputs.stream.shape[1:-1]
    norms = {name: jnp.zeros(rows, computation.number) for name in recorded}
    pack, evaluations, norms = jax.lax.fori_loop(
        0, inputs.segments, chunk.segment, (pack, evaluations, norms)
    )
    return pack, ChunkResults(evaluations, norms, pack.states.diverged_at, clipped_steps(pack))


class _Run(NamedTuple):
    """A segment's steps while they are made."""

    step: jax.Array  # int32 [], the next
    pack: Pack
    norms: Measurements  # column -> [steps, slots]
    bad: jax.Array  # bool [slots], not finite when last looked at


class _Attempt(NamedTuple):
    """A segment's steps, made once or twice."""

    run: _Run
    checked: jax.Array  # bool [], whether the next attempt looks at every step
    wanted: jax.Array  # bool [], whether there is a next attempt


@dataclasses.dataclass(frozen=True)
class _Chunk:
    """The bodies of the loops of a chunk; ``segment`` is the outermost."""

    computation: Computation
    over_slots: SlotMap
    inputs: ChunkInputs

    def segment(
        self, j: jax.Array, carry: tuple[Pack, Measurements, Measurements]
    ) -> tuple[Pack, Measurements, Measurements]:
        """The steps and the evaluation of segment ``j``: (pack, evaluations, norms)."""
        pack, evaluations, norms = carry
        inputs = self.inputs
        first = jnp.where(j > 0, inputs.ends[j - 1], 0)
        pack, norms = self._steps(first, inputs.ends[j], pack, norms)
        following = inputs.step(inputs.ends[j])

        def skip(pack: Pack, following: StepInputs) -> Measurements:
            del pack, following
            return {name: jnp.zeros_like(rows[0]) for name, rows in evaluations.items()}

        wanted = inputs.evaluated_anywhere[j]
        results = jax.lax.cond(wanted, self.measure, skip, pack, following)
        pack = observe_slots(self.computation, pack, inputs.evaluation_mask[j], results)
        return pack, {k: v.at[j].set(results[k]) for k, v in evaluations.items()}, norms

    def measure(self, pack: Pack, following: StepInputs) -> Measurements:
        """Measure every slot before the step ``following``."""
        evaluation = self.inputs.evaluation
        return measure_slots(self.computation, self.over_slots, pack, following, evaluation)

    def _steps(
        self, first: jax.Array, end: jax.Array, start: Pack, norms: Measurements
    ) -> tuple[Pack, Measurements]:
        """Make the steps ``first`` .. ``end`` - 1; again, looking at each, if a slot that was
        finite at their start is not at their end."""

        nothing = jnp.zeros(start.states.step.shape, bool)

        def attempt(before: _Attempt) -> _Attempt:
            # The same loops serve both attempts: a second copy of the step would be compiled too,
            # and a branch at every step costs a microsecond or more.
            apart = jnp.where(before.checked, 1, end - first)
            run = jax.lax.while_loop(
                lambda run: run.step < end,
                lambda run: self._look(run, run.step + apart),
                _Run(first, start, before.run.norms, nothing),
            )
            new = jnp.any(run.bad & (start.states.diverged_at == 0))
            again = ~before.checked & on_any_device(self.computation, new)
            return _Attempt(run, jnp.ones([], bool), again)

        carry = _Attempt(
            _Run(first, start, norms, nothing), jnp.zeros([], bool), jnp.ones([], bool)
        )
        made = jax.lax.while_loop(lambda attempts: attempts.wanted, attempt, carry).run
        return made.pack, made.norms

    def _look(self, run: _Run, end: jax.Array) -> _Run:
        """Make the steps before ``end``, then look for numbers that are not finite."""
        pack, norms = jax.lax.fori_loop(run.step, end, self._step, (run.pack, run.norms))
        bad = ~self.over_slots(all_finite, (0,))((pack.states.params, pack.states.opt_state))
        return _Run(end, note_divergence(pack, bad), norms, bad)

    def _step(self, i: jax.Array, carry: tuple[Pack, Measurements]) -> tuple[Pack, Measurements]:
        """Make step ``i``: (pack, norms)."""
        pack, norms = carry
        given = self.computation, self.over_slots, pack, self.inputs.step(i)
        pack, measured = step_slots(*given, checked=False)
        return pack, {name: rows.at[i].set(measured[name]) for name, rows in norms.items()}
