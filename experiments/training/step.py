"""The step: one pure function for jit, scan, vmap, pmap and shard_map."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from experiments.spec.trial import LAYER_NORMS, LAYERS, TrialConfig
from experiments.training.gradient import Sums, gradient, is_whole, mean_loss, sums_of_next_step
from experiments.training.sharding import PyTree
from experiments.training.state import (
    Batch,
    ClipCounter,
    Hyperparameters,
    Measurements,
    TrainState,
)
from optimizers import AVERAGINGS, CLIPPINGS, OPTIMIZERS
from optimizers.norms import all_finite, norm_of
from schedules import MOMENTUM_SCHEDULES, SCHEDULES
from schedules.plateau import PlateauState

PHASE_RATE = "phase_rate_multiplier"
"""What a growing batch leaves of the rate, among the hyperparameters of a trial that has one."""


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
    optimizer, averaging = OPTIMIZERS[config.optimizer], AVERAGINGS[config.averaging]
    measure_norms = config.record_norms == "every" if norms is None else norms
    per_layer = config.norms_per_layer and norms is True

    def step(
        state: TrainState,
        hyperparameters: Hyperparameters,
        batch: Batch,
        *,
        axis_name: str | None = None,
    ) -> tuple[TrainState, Measurements]:
        with jax.default_matmul_precision(config.precision.matmul):
            sums = sums_of_next_step(config, state, hyperparameters)
            loss, grads, model_state = gradient(sums, state.params, batch, axis_name)
            model_state = optax.tree.cast_like(model_state, state.model_state)
            now = scheduled(config, state, hyperparameters)
            rule = optax.with_extra_args_support(optimizer.transformation(now))
            used, clips, clipped = _clip(config, state, hyperparameters, grads)
            extra = _value(sums, batch, axis_name) if optimizer.needs_value_fn else {}
            updates, opt_state = rule.update(
                used, state.opt_state, state.params, value=loss, **extra
            )
            params = optax.apply_updates(state.params, updates)
            iterate = optimizer.parameters_to_evaluate(opt_state, params), model_state
            average = averaging.functions(hyperparameters).update(state.average, iterate)
        measurements = {"loss": loss, "learning_rate": now["learning_rate"], **clipped}
        measured = grads, updates, params
        if measure_norms:
            measurements |= {n: norm_of(x) for n, x in zip(LAYER_NORMS, measured, strict=True)}
        if per_layer:
            measurements |= _layer_norms(measured)
        bad = ~jnp.isfinite(loss) | (loss > state.loss_limit)
        if optimizer.needs_value_fn:
            bad |= ~all_finite((grads, params, opt_state))
        elif checked:
            bad |= ~all_finite((params, opt_state))
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


def _layer_norms(measured: tuple[PyTree, PyTree, PyTree]) -> Measurements:
    """`LAYER_NORMS` of every array of (gradient, update, parameters)."""
    norms = {}
    for name, tree in zip(LAYER_NORMS, measured, strict=True):
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
            layer = jax.tree_util.keystr(path, simple=True, separator="/")
            norms[f"{LAYERS}{layer}/{name}"] = norm_of(leaf)
    return norms


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


def _value(
    sums: Sums, batch: Batch, axis_name: str | None
) -> dict[str, Callable[[PyTree], jax.Array]]:
    """params -> the mean loss, which rules with a line search or a Hessian differentiate."""
    if not is_whole(batch, axis_name):
        raise ValueError("rules that need the loss (second order) take every batch whole")
    return {"value_fn": lambda params: mean_loss(sums, params, batch)[0]}


def _clip(
    config: TrialConfig, state: TrainState, hyperparameters: Hyperparameters, grads: PyTree
) -> tuple[PyTree, ClipCounter | tuple[()], Measurements]:
    """(gradient to use, new ``state.clips``, ``{"clipped": 0 or 1}`` where there is a clipping)."""
    if not isinstance(state.clips, ClipCounter):
        return grads, (), {}
    rule = CLIPPINGS[config.clipping].transformation(hyperparameters)
    used, new = rule.update(grads, state.clips.state, state.params)
    steps = state.clips.steps + (new.clipped & (state.diverged_at == 0)).astype(jnp.int32)
    return used, ClipCounter(new, steps), {"clipped": new.clipped.astype(jnp.float32)}


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
