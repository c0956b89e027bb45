"""The step: one pure function for jit, scan, vmap, pmap and shard_map."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.spec.trial import LAYER_NORMS, LAYERS, TrialConfig
from experiments.training.sharding import ShardAssignment
from optimizers import AVERAGINGS, CLIPPINGS, OPTIMIZERS
from optimizers.accumulation import accumulated_gradient
from optimizers.norms import all_finite, norm_of
from schedules import MOMENTUM_SCHEDULES, SCHEDULES
from schedules.plateau import PlateauState
from schedules.plateau import start as start_plateau
from workloads.base import Losses, Model
from workloads.registry import resolve

PHASE_RATE = "phase_rate_multiplier"
"""What a growing batch leaves of the rate, among the hyperparameters of a trial that has one."""
Hyperparameters = Mapping[str, jax.Array]
Measurements = dict[str, jax.Array]
Batch = Mapping[str, jax.Array]
Sums = Callable[[Any, Batch], tuple[jax.Array, jax.Array, Any]]


class ClipCounter(NamedTuple):
    """The state of a clipping, and a count of the steps that it clipped."""

    state: Any  # optimizers.clipping.ClipState
    steps: jax.Array  # int32 [], steps clipped, up to the first that diverged


class TrainState(NamedTuple):
    """Everything a trial carries from step to step; a pack has a leading axis [slots]."""

    params: Any
    model_state: Any
    opt_state: Any
    step: jax.Array  # int32 [], updates made
    train_steps: jax.Array  # int32 [], the trial's length
    key: jax.Array  # uint32 [2], key data of the dropout role
    loss_limit: jax.Array  # float32 [], a larger loss is a divergence
    diverged_at: jax.Array  # int32 [], first step that diverged; 0 while none has
    clips: ClipCounter | tuple[()] = ()  # () where nothing is clipped
    plateau: PlateauState | tuple[()] = ()  # () where the schedule does not watch
    average: Any = ()  # of (parameters, model state) over steps; () where nothing is averaged


class Task(NamedTuple):
    """The functions behind a configuration."""

    model: Model
    losses: Losses
    preprocess: Callable[..., Any]


def make_task(config: TrialConfig) -> Task:
    """Resolve a configuration's model, losses and preprocessing."""
    workload = config.workload
    model = resolve(workload.model)(
        **workload.model_options,
        dtype=config.precision.compute,
        param_dtype=config.precision.parameters,
    )
    preprocess = resolve(workload.preprocess) if workload.preprocess else _unchanged
    return Task(model, resolve(workload.losses), preprocess)


def key_of(data: jax.Array) -> jax.Array:
    """The key of recorded key data, uint32 [2]; whatever jax's default generator is."""
    return jax.random.wrap_key_data(data, impl="threefry2x32")


def _unchanged(batch: Any, key: Any, train: bool) -> Any:
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


def make_step(
    config: TrialConfig, norms: bool | None = None, *, checked: bool = True
) -> Callable[..., tuple[TrainState, Measurements]]:
    """``step(state, hyperparameters, batch, *, axis_name=None) -> (state, measurements)``.

    The gradient is sum_i w_i grad(l_i) / sum_i w_i c_i over the *global* batch (l_i, c_i: the
    objective's sum and count of example i): over the devices of ``axis_name``, and over the
    micro-batches of a batch whose arrays have a leading axis [micro-batches, rows, ...]. Its
    unclipped norm is measured, then it is clipped, transformed and applied. A model's new state
    (running statistics of batch norm) is the mean over these pieces, weighted by their examples.
    Measurements: ``loss``, ``learning_rate``, ``clipped`` (0 or 1) where
    there is a clipping and, with ``norms`` (by default where ``record_norms`` is "every"),
    ``gradient_norm`` (unclipped), ``update_norm`` and ``parameter_norm`` (after the update). With
    ``norms`` True and ``norms_per_layer`` also these three of every array of the parameters, as
    ``layers/PATH/NORM``.

    Divergence is data: a loss that is not finite or above ``state.loss_limit``, or a step that
    leaves a parameter or a number of the optimizer's state not finite, sets ``diverged_at``,
    whatever norms are measured; nothing is raised and nothing else changes. An entry of the
    gradient that is not finite leaves such a mark at once and for ever in every first-order rule
    (a test holds it); rules with a line search may reject such a step, so their gradient is looked
    at. Without ``checked`` the marks of first-order rules are left to the caller, who may find
    them later: looking at every number at every step takes as long as the step at small batches.
    """
    task = make_task(config)
    optimizer, averaging = OPTIMIZERS[config.optimizer], AVERAGINGS[config.averaging]
    per_layer = config.norms_per_layer and norms is True
    measure_norms = config.record_norms == "every" if norms is None else norms

    def step(
        state: TrainState,
        hyperparameters: Hyperparameters,
        batch: Batch,
        *,
        axis_name: str | None = None,
    ) -> tuple[TrainState, Measurements]:
        with jax.default_matmul_precision(config.precision.matmul):
            key = jax.random.fold_in(key_of(state.key), state.step)
            sums = _sums(task, state.model_state, hyperparameters, key)
            whole = axis_name is None and batch["weights"].ndim == 1
            gradient = _gradient if whole else functools.partial(_divided_gradient, axis_name)
            loss, grads, model_state = gradient(sums, state.params, batch)
            model_state = optax.tree.cast_like(model_state, state.model_state)
            now = scheduled(config, state, hyperparameters)
            rule = optimizer.transformation(now)
            used, clips, clipped = _clip(config, state, hyperparameters, grads)
            extra = {"value_fn": _value(sums, batch, whole)} if optimizer.needs_value_fn else {}
            updates, opt_state = optax.with_extra_args_support(rule).update(
                used, state.opt_state, state.params, value=loss, **extra
            )
            params = optax.apply_updates(state.params, updates)
            iterate = optimizer.parameters_to_evaluate(opt_state, params), model_state
            average = averaging.functions(hyperparameters).update(state.average, iterate)
        measurements = {"loss": loss, "learning_rate": now["learning_rate"], **clipped}
        bad = ~jnp.isfinite(loss) | (loss > state.loss_limit)
        if optimizer.needs_value_fn:
            bad |= ~all_finite((grads, params, opt_state))
        elif checked:
            bad |= ~all_finite((params, opt_state))
        if measure_norms:
            measurements |= {
                "gradient_norm": norm_of(grads),
                "update_norm": norm_of(updates),
                "parameter_norm": norm_of(params),
            }
        if per_layer:
            trees = zip(LAYER_NORMS, (grads, updates, params), strict=True)
            measurements |= {n: x for name, tree in trees for n, x in _layer_norms(name, tree)}
        new = state._replace(
            params=params,
            model_state=model_state,
            opt_state=opt_state,
            step=state.step + 1,
            diverged_at=first_divergence(state.diverged_at, bad, state.step + 1),
            clips=clips,
            average=average,
        )
        return new, measurements

    return step


def _layer_norms(name: str, tree: Any) -> Iterator[tuple[str, jax.Array]]:
    """(column, norm) of every leaf."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        layer = jax.tree_util.keystr(path, simple=True, separator="/")
        yield f"{LAYERS}{layer}/{name}", norm_of(leaf)


def scheduled(
    config: TrialConfig, state: TrainState, hyperparameters: Hyperparameters
) -> Hyperparameters:
    """The hyperparameters of the step that ``state`` makes next: the rate, and the momentum where
    it has a schedule, at that step."""
    at = state.step, state.train_steps
    grows = config.batch_size_schedule != "constant"
    # The schedule's shape says where the batch grows; what is left of it are warmup and phases.
    schedule = SCHEDULES["constant" if grows else config.schedule]
    multiplier = schedule.multiplier(*at, hyperparameters)
    if grows:
        multiplier = multiplier * hyperparameters[PHASE_RATE]
    if isinstance(state.plateau, PlateauState):
        multiplier = multiplier * state.plateau.multiplier
    now = {**hyperparameters, "learning_rate": hyperparameters["learning_rate"] * multiplier}
    name = OPTIMIZERS[config.optimizer].momentum
    if name and config.momentum_schedule != "constant":
        rule = MOMENTUM_SCHEDULES[config.momentum_schedule]
        now[name] = rule.momentum(*at, hyperparameters[name], hyperparameters)
    return now


def _sums(task: Task, model_state: Any, hyperparameters: Hyperparameters, key: jax.Array) -> Sums:
    """(params, batch) -> (sum of w_i l_i, sum of w_i c_i, new model state), in training."""

    def sums(params: Any, batch: Batch) -> tuple[jax.Array, jax.Array, Any]:
        prepared = task.preprocess(batch, key, True)
        outputs, new = task.model.apply(
            params, model_state, prepared, key=key, train=True, hyperparameters=hyperparameters
        )
        losses, counts = task.losses.objective(outputs, prepared, hyperparameters)
        weights = batch["weights"]
        count = jax.lax.stop_gradient(jnp.sum(weights * counts))
        return jnp.sum(weights * losses), count, new

    return sums


def sums_of_next_step(
    config: TrialConfig, state: TrainState, hyperparameters: Hyperparameters
) -> Sums:
    """``(params, batch) -> (sum of w_i l_i, sum of w_i c_i, new model state)`` of the step that
    ``state`` makes next, with its dropout masks; ``batch`` may be any part of its batch."""
    key = jax.random.fold_in(key_of(state.key), state.step)
    return _sums(make_task(config), state.model_state, hyperparameters, key)


def initial_loss(
    config: TrialConfig, state: TrainState, hyperparameters: Hyperparameters, batch: Batch
) -> jax.Array:
    """The mean objective on ``batch`` before the first step, one micro-batch after the other where
    its arrays have a leading axis [micro-batches, rows, ...]."""
    key = key_of(state.key)
    sums = _sums(make_task(config), state.model_state, hyperparameters, key)
    with jax.default_matmul_precision(config.precision.matmul):
        if batch["weights"].ndim == 1:
            return _mean(sums, state.params, batch)[0]
        totals, counts = jax.lax.map(lambda piece: sums(state.params, piece)[:2], batch)
        return jnp.sum(totals) / jnp.sum(counts)


def _mean(sums: Sums, params: Any, batch: Batch) -> tuple[jax.Array, Any]:
    """(mean loss, new model state) of a whole batch."""
    total, count, model_state = sums(params, batch)
    return total / count, model_state


def _gradient(sums: Sums, params: Any, batch: Batch) -> tuple[jax.Array, Any, Any]:
    """(mean loss, its gradient, new model state) of a whole batch."""
    differentiate = jax.value_and_grad(functools.partial(_mean, sums), has_aux=True)
    (loss, model_state), grads = differentiate(params, batch)
    return loss, grads, model_state


def _divided_gradient(
    axis_name: str | None, sums: Sums, params: Any, batch: Batch
) -> tuple[jax.Array, Any, Any]:
    """`_gradient` of the global batch of which this is a device's part, or micro-batches."""
    if batch["weights"].ndim == 1:
        batch = jax.tree.map(lambda x: x[None], batch)

    def weighted_sum(params: Any, piece: Batch) -> Any:
        total, count, model_state = sums(params, piece)
        examples = jnp.sum(piece["weights"])
        shares = jax.tree.map(lambda s: s * examples.astype(s.dtype), model_state)
        return total, (count, (examples, shares))

    loss, grads, (examples, shares) = accumulated_gradient(weighted_sum, params, batch, axis_name)
    return loss, grads, jax.tree.map(lambda s: s / examples.astype(s.dtype), shares)


def _value(sums: Sums, batch: Batch, whole: bool) -> Callable[[Any], jax.Array]:
    """params -> the mean loss, which rules with a line search or a Hessian differentiate."""
    if not whole:
        raise ValueError("rules that need the loss (second order) take every batch whole")
    return lambda params: _mean(sums, params, batch)[0]


def _clip(
    config: TrialConfig, state: TrainState, hyperparameters: Hyperparameters, grads: Any
) -> tuple[Any, ClipCounter | tuple[()], Measurements]:
    """(gradient to use, new ``state.clips``, ``{"clipped": 0 or 1}`` where there is a clipping)."""
    if not isinstance(state.clips, ClipCounter):
        return grads, (), {}
    rule = CLIPPINGS[config.clipping].transformation(hyperparameters)
    used, new = rule.update(grads, state.clips.state, state.params)
    steps = state.clips.steps + (new.clipped & (state.diverged_at == 0)).astype(jnp.int32)
    return used, ClipCounter(new, steps), {"clipped": new.clipped.astype(jnp.float32)}


def parameter_count(config: TrialConfig, examples: Mapping[str, np.ndarray]) -> int:
    """Numbers in the parameters of the configuration's model; nothing is computed."""
    task, one = make_task(config), {role: array[:1] for role, array in examples.items()}

    def init() -> Any:
        key = jax.random.key(0)
        batch = gather(jax.tree.map(jnp.asarray, one), jnp.zeros(1, jnp.int32))
        return task.model.init(key, task.preprocess(batch, key, False))[0]

    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(jax.eval_shape(init)))


def first_divergence(before: jax.Array, bad: jax.Array, step: jax.Array) -> jax.Array:
    """``step`` where this is the first divergence, else what was there."""
    return jnp.where((before == 0) & bad, step, before)


def divergence_limit(factor: float, initial: jax.Array, scale: float) -> jax.Array:
    """The loss above which a trial has diverged, float32 []:

        L_0 + (factor - 1) max(|L_0|, scale)

    L_0 = ``initial``, the trial's loss before its first step; ``scale`` is the workload's
    ``loss_scale``. ``factor`` times L_0 where L_0 is positive and at least the scale.
    """
    initial = jnp.asarray(initial, jnp.float32)
    return initial + (factor - 1.0) * jnp.maximum(jnp.abs(initial), scale)


def to_evaluate(
    config: TrialConfig, state: TrainState, hyperparameters: Hyperparameters
) -> tuple[Any, Any]:
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
