"""The pytrees of the engine and how their arrays lie on devices.

Every array of a pack has a leading axis [slots]. A function of a pack is written once, over
``over_slots``: `jax.vmap`, or nothing for a single slot, whose arrays then have no such axis.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from experiments.training.computation import Computation
from experiments.training.sharding import (
    DATA,
    TRIALS,
    Leaf,
    P,
    PyTree,
    ShardAssignment,
    Specs,
    axis_of,
    map_by_spec,
)
from experiments.training.state import TrainState

SlotMap = Callable[[Callable[..., PyTree], tuple[int | None, ...]], Callable[..., PyTree]]
"""(function of one slot, in_axes) -> the function of all slots."""


class Pack(NamedTuple):
    """The trials in the slots: arrays [slots, ...]."""

    states: TrainState
    hyperparameters: PyTree  # number [slots] each


class StartInputs(NamedTuple):
    """A trial that is to start in a slot."""

    train: PyTree  # role -> [n, ...]; its first rows give the initial loss
    assignment: ShardAssignment | None  # of those rows, cut into micro-batches; None: one batch
    slot: Leaf  # int32 []
    keys: Leaf  # uint32 [2, 2], see `order.trial_keys`
    hyperparameters: PyTree  # number [] each
    train_steps: Leaf  # int32 []


class PutInputs(NamedTuple):
    """A trial that is to go on in a slot."""

    slot: Leaf  # int32 []
    state: TrainState  # without the axis of slots
    hyperparameters: PyTree  # number [] each


class StepInputs(NamedTuple):
    """The examples of one step."""

    train: PyTree  # role -> [n, ...]
    indices: Leaf  # int32 [slots, B], rows of ``train``; a device's own where B is cut
    assignment: ShardAssignment | None  # of these rows in the batch; None where it is whole


class ChunkInputs(NamedTuple):
    """The inputs of `advance`: ``segments`` runs of steps, an evaluation after each but, perhaps,
    the last. ``steps`` is the most that one call can make; rows beyond those made are not read."""

    train: PyTree  # role -> [n, ...]
    stream: Leaf  # int32 [steps + 1, slots, B], rows of ``train``, the step after too
    assignment: ShardAssignment | None  # of these rows in each batch; None where it is whole
    ends: Leaf  # int32 [steps]; segment j makes the steps ends[j - 1] .. ends[j] - 1
    evaluation_mask: Leaf  # bool [steps, slots], the slots evaluated after a segment
    evaluated_anywhere: Leaf  # bool [steps]; on any device: all call the same collectives
    segments: Leaf  # int32 []
    evaluation: PyTree  # role -> [batches, E, ...], see `evaluation.evaluation_data`

    def step(self, i: Leaf) -> StepInputs:
        """The inputs of step ``i`` of the chunk."""
        return StepInputs(self.train, self.stream[i], self.assignment)


class EvaluationInputs(NamedTuple):
    """The inputs of one evaluation."""

    step: StepInputs  # of the step that follows, whose norms may be measured
    mask: Leaf  # bool [slots], the slots that are evaluated
    evaluation: PyTree  # role -> [batches, E, ...]


class ChunkResults(NamedTuple):
    """The measurements of a chunk, in arrays of their own: the pack may be donated at once."""

    evaluations: PyTree  # column -> [steps, slots, ...], a row a segment, zeros where none was due
    norms: PyTree  # column -> [steps, slots], empty unless recorded at every step
    diverged_at: Leaf  # int32 [slots], as in `TrainState`
    clipped_steps: Leaf  # int32 [slots]; () where nothing is clipped


# How the arrays lie on devices; no other place says it. The axis of slots is cut over TRIALS; the
# examples of a step and of an evaluation are cut over DATA.
WHOLE, SLOTS, ROWS = P(), P(TRIALS), P(None, TRIALS)
PACK_SPECS = Pack(SLOTS, SLOTS)  # type: ignore[arg-type]
START_SPECS = StartInputs(WHOLE, WHOLE, WHOLE, WHOLE, WHOLE, WHOLE)  # type: ignore[arg-type]
PUT_SPECS = PutInputs(WHOLE, WHOLE, WHOLE)  # type: ignore[arg-type]
STEP_SPECS = StepInputs(WHOLE, P(TRIALS, DATA), P(DATA))  # type: ignore[arg-type]
EVALUATION_DATA_SPEC = P(None, DATA)
EVALUATION_SPECS = EvaluationInputs(STEP_SPECS, SLOTS, EVALUATION_DATA_SPEC)
CHUNK_SPECS = ChunkInputs(
    train=WHOLE,
    stream=P(None, TRIALS, DATA),
    assignment=P(DATA),  # type: ignore[arg-type]
    ends=WHOLE,
    evaluation_mask=ROWS,
    evaluated_anywhere=WHOLE,
    segments=WHOLE,
    evaluation=EVALUATION_DATA_SPEC,
)
RESULTS_SPECS = ChunkResults(ROWS, ROWS, SLOTS, SLOTS)


def without_single_slot_axis(inputs: Specs, outputs: Specs) -> Callable[..., Callable[..., PyTree]]:
    """Make ``function(computation, over_slots, pack, inputs)`` one of (computation, pack, inputs).

    A single slot is traced without its axis: an axis of one costs a copy of every parameter at
    every step. The specs say which axis that is.
    """

    def decorate(function: Callable[..., PyTree]) -> Callable[..., PyTree]:
        @functools.wraps(function)
        def decided(computation: Computation, pack: Pack, given: PyTree) -> PyTree:
            if len(pack.states.step) > 1:
                return function(computation, _mapped, pack, given)
            pack = map_by_spec(_squeezed, pack, PACK_SPECS)
            results = function(computation, _same, pack, map_by_spec(_squeezed, given, inputs))
            return map_by_spec(_expanded, results, outputs)

        return decided

    return decorate


def _mapped(function: Callable[..., PyTree], in_axes: tuple[int | None, ...]) -> Callable:
    return jax.vmap(function, in_axes=in_axes)


def _same(function: Callable[..., PyTree], in_axes: tuple[int | None, ...]) -> Callable:
    del in_axes
    return function


def _squeezed(x: jax.Array, spec: P) -> jax.Array:
    axis = axis_of(TRIALS, spec)
    return x if axis is None else jnp.squeeze(x, axis)


def _expanded(x: jax.Array, spec: P) -> jax.Array:
    axis = axis_of(TRIALS, spec)
    return x if axis is None else jnp.expand_dims(x, axis)
