"""State that a trial carries from step to step, and what a step is given: batch, task."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.spec.trial import TrialConfig
from experiments.training.sharding import PyTree, ShardAssignment
from optimizers import AVERAGINGS, CLIPPINGS, OPTIMIZERS
from optimizers.clipping import ClipState
from schedules import SCHEDULES
from schedules.plateau import PlateauState
from schedules.plateau import start as start_plateau
from workloads.base import Losses, Model
from workloads.registry import resolve

Hyperparameters = Mapping[str, jax.Array]
Measurements = dict[str, jax.Array]
Batch = Mapping[str, jax.Array]


class ClipCounter(NamedTuple):
    """The state of a clipping, and a count of the steps that it clipped."""

    state: ClipState
    steps: jax.Array  # int32 [], steps clipped, up to the first that diverged


class TrainState(NamedTuple):
    """Everything a trial carries from step to step; a pack has a leading axis [slots]."""

    params: PyTree
    model_state: PyTree
    opt_state: PyTree
    step: jax.Array  # int32 [], updates made
    train_steps: jax.Array  # int32 [], the trial's length
    key: jax.Array  # uint32 [2], key data of the dropout role
    loss_limit: jax.Array  # float32 [], a larger loss is a divergence
    diverged_at: jax.Array  # int32 [], first step that diverged; 0 while none has
    clips: ClipCounter | tuple[()] = ()  # () where nothing is clipped
    plateau: PlateauState | tuple[()] = ()  # () where the schedule does not watch
    average: PyTree = ()  # of (parameters, model state) over steps; () where nothing is averaged


class LearningTask(NamedTuple):
    """The functions behind a configuration."""

    model: Model
    losses: Losses
    preprocess: Callable[[Batch, jax.Array, bool], Batch]


def make_task(config: TrialConfig) -> LearningTask:
    """Resolve a configuration's model, losses and preprocessing."""
    workload = config.workload
    model = resolve(workload.model)(
        **workload.model_options,
        dtype=config.precision.compute,
        param_dtype=config.precision.parameters,
    )
    preprocess = resolve(workload.preprocess) if workload.preprocess else _unchanged
    return LearningTask(model, resolve(workload.losses), preprocess)


def key_of(data: jax.Array) -> jax.Array:
    """The key of recorded key data, uint32 [2]; whatever jax's default generator is."""
    return jax.random.wrap_key_data(data, impl="threefry2x32")


def _unchanged(batch: Batch, key: jax.Array, train: bool) -> Batch:
    del key, train
    return batch


def gather(
    data: Mapping[str, jax.Array], indices: jax.Array, assignment: ShardAssignment | None = None
) -> dict[str, jax.Array]:
    """The batch of these example numbers [B] (all of them in range), every weight one.

    With ``assignment`` [pieces, rows] the rows' own, cut into micro-batches where the pieces are
    several.
    """
    if assignment is not None:
        indices = indices.reshape(assignment.position.shape)
        if len(indices) == 1:
            indices, assignment = indices[0], ShardAssignment(*(x[0] for x in assignment))
    # The default would compare every index with the bounds, at every step.
    batch = {k: x.at[indices].get(mode="promise_in_bounds") for k, x in data.items()}
    if assignment is None:
        assignment = ShardAssignment(
            jnp.arange(indices.size, dtype=jnp.int32), jnp.ones(indices.shape, jnp.float32)
        )
    return {**batch, "weights": assignment.weights, "position": assignment.position}


def init_state(
    config: TrialConfig,
    keys: jax.Array,
    hyperparameters: Hyperparameters,
    train_steps: jax.Array,
    example: Mapping[str, jax.Array],
) -> TrainState:
    """The state before the first step; ``keys`` as `randomness.trial_keys`, one example's batch."""
    task = make_task(config)
    key = key_of(keys[0])
    prepared = task.preprocess(example, key, False)
    params, model_state = task.model.init(key, prepared)
    optimizer = OPTIMIZERS[config.optimizer]
    opt_state = optimizer.transformation(hyperparameters).init(params)
    averaging = AVERAGINGS[config.averaging].functions(hyperparameters)
    iterate = optimizer.parameters_to_evaluate(opt_state, params), model_state
    zero = jnp.zeros([], jnp.int32)
    clips: ClipCounter | tuple[()] = ()
    if config.clipping != "none":
        clipping = CLIPPINGS[config.clipping].transformation(hyperparameters)
        clips = ClipCounter(clipping.init(params), zero)
    return TrainState(
        params=params,
        model_state=model_state,
        opt_state=opt_state,
        step=zero,
        train_steps=jnp.asarray(train_steps, jnp.int32),
        key=keys[1],
        loss_limit=jnp.asarray(np.inf, jnp.float32),
        diverged_at=zero,
        clips=clips,
        plateau=start_plateau() if SCHEDULES[config.schedule].metric_driven else (),
        average=averaging.init(iterate),
    )


def to_evaluate(
    config: TrialConfig, state: TrainState, hyperparameters: Hyperparameters
) -> tuple[PyTree, PyTree]:
    """(parameters, model state) to evaluate.

    The parameters are the rule's own where it has others than those it trains (schedule-free).
    An averaging is of those, and of the model state with the same weights: batch norm's running
    sums are linear in the batches' statistics, so the averaged ones are theirs too, weighted as
    the parameters that made them (as ``use_buffers`` of PyTorch's ``AveragedModel``).
    """
    params = OPTIMIZERS[config.optimizer].parameters_to_evaluate(state.opt_state, state.params)
    averaging = AVERAGINGS[config.averaging].functions(hyperparameters)
    params, model_state = averaging.value(state.average, (params, state.model_state))
    return params, model_state


def parameter_count(config: TrialConfig, examples: Mapping[str, np.ndarray]) -> int:
    """Numbers in the parameters of the configuration's model; nothing is computed."""
    task, one = make_task(config), {role: array[:1] for role, array in examples.items()}

    def init() -> PyTree:
        key = jax.random.key(0)
        batch = gather(jax.tree.map(jnp.asarray, one), jnp.zeros(1, jnp.int32))
        return task.model.init(key, task.preprocess(batch, key, False))[0]

    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(jax.eval_shape(init)))
