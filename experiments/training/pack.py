"""A pack: trials of one batch size trained side by side, as a pytree and pure functions of it.

`start` and `put` fill a slot, `step` makes a step of every slot and `evaluate` an evaluation. What
bounds a small trial is dispatch (about 0.2 ms a call on a CPU, more than the arithmetic of a step),
which is why advance.py makes many steps and their evaluations in one call.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from experiments.spec.trial import LAYERS, MEASURED
from experiments.training.computation import Computation, Measurement
from experiments.training.evaluation import make_evaluation
from experiments.training.gradient import initial_loss
from experiments.training.pytrees import (
    EVALUATION_SPECS,
    PACK_SPECS,
    SLOTS,
    STEP_SPECS,
    EvaluationInputs,
    Pack,
    PutInputs,
    SlotMap,
    StartInputs,
    StepInputs,
    without_single_slot_axis,
)
from experiments.training.sharding import TRIALS, PyTree, ShardAssignment
from experiments.training.state import (
    Batch,
    Hyperparameters,
    Measurements,
    TrainState,
    gather,
    init_state,
)
from experiments.training.step import divergence_limit, first_divergence, make_step
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


def step_slots(
    computation: Computation,
    over_slots: SlotMap,
    pack: Pack,
    inputs: StepInputs,
    *,
    checked: bool = True,
) -> tuple[Pack, Measurements]:
    """One step of every slot, ``checked`` as in `make_step`."""
    make = make_step(computation.config, checked=checked)

    def one(
        state: TrainState, values: Hyperparameters, index: jax.Array, train: Batch
    ) -> tuple[TrainState, Measurements]:
        batch = gather(train, index, inputs.assignment)
        return make(state, values, batch, axis_name=computation.axis_name)

    step = over_slots(one, (0, 0, 0, None))
    states, measured = step(pack.states, pack.hyperparameters, inputs.indices, inputs.train)
    return pack._replace(states=states), measured


def measure_slots(
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
    evaluate, axis = make_evaluation(computation.config), computation.axis_name

    def one(
        state: TrainState,
        values: Hyperparameters,
        index: jax.Array,
        train: Batch,
        evaluation: Batch,
    ) -> Measurements:
        results = evaluate(state, values, evaluation, axis_name=axis)
        batch = gather(train, index, inputs.assignment)
        return results | _norms_of_next_step(computation, state, values, batch)

    given = pack.states, pack.hyperparameters, inputs.indices, inputs.train, evaluation
    results = over_slots(one, (0, 0, 0, None, None))(*given)
    for measurement in computation.measurements:
        found = _injected(computation, over_slots, measurement, given, assignment=inputs.assignment)
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
    return jax.lax.cond(on_any_device(computation, due), of_slots, nothing, *given)


def on_any_device(computation: Computation, found: jax.Array) -> jax.Array:
    """Tell whether ``found`` [] holds in any group of devices: all call the same collectives."""
    if computation.groups == 1:
        return found
    return jax.lax.pmax(found.astype(jnp.int32), TRIALS) > 0


def _norms_of_next_step(
    computation: Computation, state: TrainState, values: Hyperparameters, batch: Batch
) -> Measurements:
    """The norms that are recorded with every evaluation; the step itself is thrown away."""
    config = computation.config
    recorded = computation.norms if config.record_norms == "evaluations" else ()
    if not recorded and not config.norms_per_layer:
        return {}
    step = make_step(config, norms=True)
    _, found = step(state, values, batch, axis_name=computation.axis_name)
    layers = [name for name in found if name.startswith(LAYERS)]
    return {name: found[name] for name in (*recorded, *layers)}


def note_divergence(pack: Pack, bad: jax.Array) -> Pack:
    """Note the slots that diverged with their last step, ``bad`` bool [slots] or []."""
    states = pack.states
    at = first_divergence(states.diverged_at, bad, states.step)
    return pack._replace(states=states._replace(diverged_at=at))


def observe_slots(
    computation: Computation, pack: Pack, mask: jax.Array, results: Measurements
) -> Pack:
    """Note what an evaluation changes in the slots that were evaluated, [slots] or []: divergences
    that it found, and what a metric-driven schedule remembers."""
    pack = note_divergence(pack, mask & ~results["finite"])
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
    return step_slots(computation, over_slots, pack, inputs)


@without_single_slot_axis(EVALUATION_SPECS, (PACK_SPECS, SLOTS))
def evaluate(
    computation: Computation, over_slots: SlotMap, pack: Pack, inputs: EvaluationInputs
) -> tuple[Pack, Measurements]:
    """One evaluation of every slot: (pack, column -> [slots, ...])."""
    results = measure_slots(computation, over_slots, pack, inputs.step, inputs.evaluation)
    return observe_slots(computation, pack, inputs.mask, results), results


def clipped_steps(pack: Pack) -> jax.Array | tuple[()]:
    """The steps whose gradient was clipped, int32 [slots]; () where nothing is clipped."""
    return pack.states.clips.steps if pack.states.clips else ()
