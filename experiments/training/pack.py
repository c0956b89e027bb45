"""A pack: trials of one batch size trained side by side, as a pytree and pure functions of it.

`start` and `put` fill a slot, `advance` makes many steps with their evaluations in one call, `step`
and `evaluate` make one of each. What bounds a small trial is dispatch (about 0.2 ms a call on a
CPU, more than the arithmetic of a step), which is why `advance` loops on the device.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.spec.trial import LAYERS, MEASURED
from experiments.training.computation import Computation, Measurement
from experiments.training.evaluation import make_evaluation
from experiments.training.pytrees import (
    CHUNK_SPECS,
    EVALUATION_SPECS,
    PACK_SPECS,
    RESULTS_SPECS,
    SLOTS,
    STEP_SPECS,
    ChunkInputs,
    ChunkResults,
    EvaluationInputs,
    Pack,
    PutInputs,
    SlotMap,
    StartInputs,
    StepInputs,
    without_single_slot_axis,
)
from experiments.training.sharding import TRIALS, PyTree, ShardAssignment
from experiments.training.step import (
    Batch,
    Hyperparameters,
    Measurements,
    TrainState,
    divergence_limit,
    first_divergence,
    gather,
    init_state,
    initial_loss,
    make_step,
)
from optimizers.norms import all_finite
from schedules import PLATEAU
from schedules.plateau import PlateauState, observe

# A trial in a slot.


def initial_state(computation: Computation, inputs: StartInputs) -> TrainState:
    """A trial's state before its first step, without the axis of slots."""
    given = computation.config, inputs.keys, inputs.hyperparameters, inputs.train_steps
    rows = jnp.arange(computation.initial_examples)
    state = init_state(*given, gather(inputs.train, rows))
    if inputs.assignment is not None:
        rows = inputs.assignment.position
    first = gather(inputs.train, rows, inputs.assignment)
    loss = initial_loss(computation.config, state, inputs.hyperparameters, first)
    scale = computation.config.workload.loss_scale
    limit = divergence_limit(computation.divergence_factor, loss, scale)
    return state._replace(loss_limit=limit)


def start(computation: Computation, pack: Pack, inputs: StartInputs) -> Pack:
    """Put a fresh trial into a slot; the others are untouched."""
    state = initial_state(computation, inputs)
    return put(computation, pack, PutInputs(inputs.slot, state, inputs.hyperparameters))


def put(computation: Computation, pack: Pack, inputs: PutInputs) -> Pack:
    """Put a trial's state into a slot; the others are untouched."""
    slot = inputs.slot
    if computation.groups > 1:  # a slot of other devices is out of range here: dropped
        slots = len(pack.states.step)
        mine = slot - jax.lax.axis_index(TRIALS) * slots
        slot = jnp.where(mine < 0, slots, mine)
    fresh = Pack(inputs.state, inputs.hyperparameters)
    return jax.tree.map(lambda many, one: many.at[slot].set(one, mode="drop"), pack, fresh)


# Steps and evaluations.


def _stepped(
    computation: Computation,
    over_slots: SlotMap,
    pack: Pack,
    inputs: StepInputs,
    *,
    checked: bool = True,
) -> tuple[Pack, Measurements]:
    make = make_step(computation.config, checked=checked)

    def one(
        state: TrainState, values: Hyperparameters, index: jax.Array, train: Batch
    ) -> tuple[TrainState, Measurements]:
        batch = gather(train, index, inputs.assignment)
        return make(state, values, batch, axis_name=computation.axis_name)

    step = over_slots(one, (0, 0, 0, None))
    states, measured = step(pack.states, pack.hyperparameters, inputs.indices, inputs.train)
    return pack._replace(states=states), measured


def _evaluated(
    computation: Computation,
    over_slots: SlotMap,
    pack: Pack,
    inputs: StepInputs,
    evaluation: Batch,
) -> Measurements:
    """Measure every slot: its metrics and, where asked for, the norms of its next step and what
    the injected measurements find.

    ``record_norms = "evaluations"`` and ``norms_per_layer`` measure at the evaluated parameters:
    the gradient is that of the batch which the next step takes.
    """
    axis = computation.axis_name
    evaluate = over_slots(
        functools.partial(make_evaluation(computation.config), axis_name=axis), (0, 0, None)
    )
    results = evaluate(pack.states, pack.hyperparameters, evaluation)
    recorded = computation.norms if computation.config.record_norms == "evaluations" else ()
    given = pack.states, pack.hyperparameters, inputs.indices, inputs.train
    if recorded or computation.config.norms_per_layer:
        measured = make_step(computation.config, norms=True)

        def norms(
            state: TrainState, values: Hyperparameters, index: jax.Array, train: Batch
        ) -> Measurements:
            batch = gather(train, index, inputs.assignment)
            _, found = measured(state, values, batch, axis_name=axis)
            layers = [name for name in found if name.startswith(LAYERS)]
            return {name: found[name] for name in (*recorded, *layers)}

        found = over_slots(norms, (0, 0, 0, None))(*given)
        results |= found
    for measurement in computation.measurements:
        of_all = *given, evaluation
        found = _injected(
            computation, over_slots, measurement, of_all, assignment=inputs.assignment
        )
        results |= {f"{MEASURED}{measurement.name}/{k}": v for k, v in found.items()}
    return results


def _injected(
    computation: Computation,
    over_slots: SlotMap,
    measurement: Measurement,
    given: tuple[PyTree, ...],
    *,
    assignment: ShardAssignment | None,
) -> Measurements:
    """The columns of a measurement for every slot that is due, NaN for the others; ``given`` are
    the states, hyperparameters, example numbers, training and evaluation examples."""

    def of_slot(
        state: TrainState,
        values: Hyperparameters,
        index: jax.Array,
        train: Batch,
        evaluation: Batch,
    ) -> Measurements:
        batch = measurement.data == "batch"
        data = gather(train, index, assignment) if batch else evaluation
        found = measurement.function(state, values, data, axis_name=computation.axis_name)
        if measurement.due is None:
            return found
        due = measurement.due(state)
        return {name: jnp.where(due, value, jnp.nan) for name, value in found.items()}

    of_slots = over_slots(of_slot, (0, 0, 0, None, None))
    if measurement.due is None:
        return of_slots(*given)
    shapes = jax.eval_shape(of_slots, *given)

    def nothing(*_: PyTree) -> Measurements:
        return jax.tree.map(lambda x: jnp.full(x.shape, jnp.nan, x.dtype), shapes)

    # Of the whole pack, so that it stays a branch: under vmap both sides would be computed.
    due = jnp.any(over_slots(measurement.due, (0,))(given[0]))
    return jax.lax.cond(_on_any_device(computation, due), of_slots, nothing, *given)


def _diverged(pack: Pack, bad: jax.Array) -> Pack:
    """Note the slots that diverged with their last step, ``bad`` bool [slots] or []."""
    states = pack.states
    at = first_divergence(states.diverged_at, bad, states.step)
    return pack._replace(states=states._replace(diverged_at=at))


def _on_any_device(computation: Computation, found: jax.Array) -> jax.Array:
    """Whether ``found`` [] holds in any group of devices: all make the same collective calls."""
    if computation.groups == 1:
        return found
    return jax.lax.pmax(found.astype(jnp.int32), TRIALS) > 0


def _observed(computation: Computation, pack: Pack, mask: jax.Array, results: Measurements) -> Pack:
    """Note what an evaluation changes in the slots that were evaluated, [slots] or []: divergences
    that it found, and what a metric-driven schedule remembers."""
    pack = _diverged(pack, mask & ~results["finite"])
    states = pack.states
    if not isinstance(states.plateau, PlateauState):
        return pack
    goal = computation.config.goal
    assert goal is not None, "a metric-driven schedule needs a goal"
    pair = results[f"validation/{goal.metric}"]
    settings = {row.name: pack.hyperparameters[row.name] for row in PLATEAU}
    value = pair[..., 0] / pair[..., 1]
    seen = observe(states.plateau, states.step, value, goal.sign, **settings)
    kept = jax.tree.map(
        lambda new, old: jnp.where(mask, new.astype(old.dtype), old), seen, states.plateau
    )
    return pack._replace(states=states._replace(plateau=kept))


@without_single_slot_axis(STEP_SPECS, (PACK_SPECS, SLOTS))
def step(
    computation: Computation, over_slots: SlotMap, pack: Pack, inputs: StepInputs
) -> tuple[Pack, Measurements]:
    """One step of every slot: (pack, column -> [slots])."""
    return _stepped(computation, over_slots, pack, inputs)


@without_single_slot_axis(EVALUATION_SPECS, (PACK_SPECS, SLOTS))
def evaluate(
    computation: Computation, over_slots: SlotMap, pack: Pack, inputs: EvaluationInputs
) -> tuple[Pack, Measurements]:
    """One evaluation of every slot: (pack, column -> [slots, ...])."""
    results = _evaluated(computation, over_slots, pack, inputs.step, inputs.evaluation)
    return _observed(computation, pack, inputs.mask, results), results


@without_single_slot_axis(CHUNK_SPECS, (PACK_SPECS, RESULTS_SPECS))
def advance(
    computation: Computation, over_slots: SlotMap, pack: Pack, inputs: ChunkInputs
) -> tuple[Pack, ChunkResults]:
    """Many steps of every slot and the evaluations between them, without leaving the device."""
    steps = len(inputs.ends)

    def measure(pack: Pack, following: StepInputs) -> Measurements:
        return _evaluated(computation, over_slots, pack, following, inputs.evaluation)

    shapes = jax.eval_shape(measure, pack, inputs.step(np.int32(0)))

    def skip(pack: Pack, following: StepInputs) -> Measurements:
        del pack, following
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    def marked(pack: Pack) -> jax.Array:
        """The slots in which a number is not finite: bool [slots] or []."""
        kept = pack.states.params, pack.states.opt_state
        return ~over_slots(all_finite, (0,))(kept)

    def one_step(
        checked: jax.Array, i: jax.Array, carry: tuple[Pack, Measurements]
    ) -> tuple[Pack, Measurements]:
        pack, norms = carry
        pack, measured = _stepped(computation, over_slots, pack, inputs.step(i), checked=False)
        # Of a whole pack, so that it stays a branch: under vmap both sides would be computed.
        bad = jax.lax.cond(checked, marked, lambda p: jnp.zeros(p.states.step.shape, bool), pack)
        return _diverged(pack, bad), {k: v.at[i].set(measured[k]) for k, v in norms.items()}

    def run(first: jax.Array, end: jax.Array, start: Pack, norms: Measurements) -> PyTree:
        """The steps ``first`` .. ``end`` - 1; once more, looking at every step, if one left a mark.

        A mark stays, so it is enough to look for it at the end, and only a trial that diverges
        pays for finding its step: the same steps from the same start are the same to the bit.
        """

        def attempt(carry: PyTree) -> PyTree:
            _, norms, checked, _ = carry
            pack, norms = jax.lax.fori_loop(
                first, end, functools.partial(one_step, checked), (start, norms)
            )
            new = marked(pack) & (start.states.diverged_at == 0)
            again = ~checked & _on_any_device(computation, jnp.any(new))
            return pack, norms, jnp.ones([], bool), again

        carry = start, norms, jnp.zeros([], bool), jnp.ones([], bool)
        return jax.lax.while_loop(lambda carry: carry[-1], attempt, carry)[:2]

    def segment(j: jax.Array, carry: tuple[Pack, Measurements, Measurements]) -> PyTree:
        pack, evaluations, norms = carry
        first = jnp.where(j > 0, inputs.ends[j - 1], 0)
        pack, norms = run(first, inputs.ends[j], pack, norms)
        following = inputs.step(inputs.ends[j])
        results = jax.lax.cond(inputs.evaluated_anywhere[j], measure, skip, pack, following)
        pack = _observed(computation, pack, inputs.evaluation_mask[j], results)
        return pack, {k: v.at[j].set(results[k]) for k, v in evaluations.items()}, norms

    evaluations = {k: jnp.zeros((steps, *v.shape), v.dtype) for k, v in shapes.items()}
    recorded = computation.norms if computation.config.record_norms == "every" else ()
    rows = steps, *inputs.stream.shape[1:-1]
    norms = {name: jnp.zeros(rows, computation.number) for name in recorded}
    pack, evaluations, norms = jax.lax.fori_loop(
        0, inputs.segments, segment, (pack, evaluations, norms)
    )
    return pack, ChunkResults(evaluations, norms, pack.states.diverged_at, clipped_steps(pack))


def clipped_steps(pack: Pack) -> jax.Array | tuple[()]:
    """The steps whose gradient was clipped, int32 [slots]; () where nothing is clipped."""
    return pack.states.clips.steps if pack.states.clips else ()
