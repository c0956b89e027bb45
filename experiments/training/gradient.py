"""The gradient of a step's loss, over a whole batch or over pieces of one."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from experiments.spec.trial import TrialConfig
from experiments.training.sharding import PyTree
from experiments.training.state import Batch, Hyperparameters, TrainState, key_of, make_task
from optimizers.accumulation import accumulated_gradient

Sums = Callable[[PyTree, Batch], tuple[jax.Array, jax.Array, PyTree]]
"""(params, batch) -> (sum of w_i l_i, sum of w_i c_i, new model state), in training."""


def sums_of_next_step(
    config: TrialConfig, state: TrainState, hyperparameters: Hyperparameters
) -> Sums:
    """``(params, batch) -> (sum of w_i l_i, sum of w_i c_i, new model state)`` of the step that
    ``state`` makes next, with its dropout masks; ``batch`` may be any part of its batch."""
    key = jax.random.fold_in(key_of(state.key), state.step)
    return _sums(config, state, hyperparameters, key)


def _sums(
    config: TrialConfig, state: TrainState, hyperparameters: Hyperparameters, key: jax.Array
) -> Sums:
    """The sums of a training step from ``state`` with the dropout masks of ``key``."""
    task = make_task(config)

    def sums(params: PyTree, batch: Batch) -> tuple[jax.Array, jax.Array, PyTree]:
        prepared = task.preprocess(batch, key, True)
        outputs, new = task.model.apply(
            params,
            state.model_state,
            prepared,
            key=key,
            train=True,
            hyperparameters=hyperparameters,
        )
        losses, counts = task.losses.objective(outputs, prepared, hyperparameters)
        weights = batch["weights"]
        count = jax.lax.stop_gradient(jnp.sum(weights * counts))
        return jnp.sum(weights * losses), count, new

    return sums


def initial_loss(
    config: TrialConfig, state: TrainState, hyperparameters: Hyperparameters, batch: Batch
) -> jax.Array:
    """The mean objective on ``batch`` before the first step, one micro-batch after the other where
    its arrays have a leading axis [micro-batches, rows, ...]."""
    key = key_of(state.key)
    sums = _sums(config, state, hyperparameters, key)
    with jax.default_matmul_precision(config.precision.matmul):
        if batch["weights"].ndim == 1:
            return mean_loss(sums, state.params, batch)[0]
        totals, counts = jax.lax.map(lambda piece: sums(state.params, piece)[:2], batch)
        return jnp.sum(totals) / jnp.sum(counts)


def is_whole(batch: Batch, axis_name: str | None) -> bool:
    """Tell whether ``batch`` is all that a step learns from, and in one piece."""
    return axis_name is None and batch["weights"].ndim == 1


def gradient(
    sums: Sums, params: PyTree, batch: Batch, axis_name: str | None
) -> tuple[jax.Array, PyTree, PyTree]:
    """(mean loss, its gradient, new model state) of the global batch: see `make_step`."""
    if not is_whole(batch, axis_name):
        return _divided_gradient(axis_name, sums, params, batch)
    differentiate = jax.value_and_grad(functools.partial(mean_loss, sums), has_aux=True)
    (loss, model_state), grads = differentiate(params, batch)
    return loss, grads, model_state


def mean_loss(sums: Sums, params: PyTree, batch: Batch) -> tuple[jax.Array, PyTree]:
    """(mean loss, new model state) of a whole batch."""
    total, count, model_state = sums(params, batch)
    return total / count, model_state


def _divided_gradient(
    axis_name: str | None, sums: Sums, params: PyTree, batch: Batch
) -> tuple[jax.Array, PyTree, PyTree]:
    """`gradient` of the global batch of which this is a device's part, or micro-batches."""
    if batch["weights"].ndim == 1:
        batch = jax.tree.map(lambda x: x[None], batch)

    def weighted_sum(params: PyTree, piece: Batch) -> tuple[jax.Array, PyTree]:
        total, count, model_state = sums(params, piece)
        examples = jnp.sum(piece["weights"])
        shares = jax.tree.map(lambda s: s * examples.astype(s.dtype), model_state)
        return total, (count, (examples, shares))

    loss, grads, (examples, shares) = accumulated_gradient(weighted_sum, params, batch, axis_name)
    return loss, grads, jax.tree.map(lambda s: s / examples.astype(s.dtype), shares)
