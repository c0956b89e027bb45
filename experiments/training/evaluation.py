"""Evaluation: (sum, count) of every metric on validation and on a fixed training subset."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from experiments.spec.trial import TrialConfig
from experiments.training.sharding import PyTree
from experiments.training.state import (
    Batch,
    Hyperparameters,
    LearningTask,
    Measurements,
    TrainState,
    key_of,
    make_task,
    to_evaluate,
)
from optimizers import OPTIMIZERS
from optimizers.second_order import function_evaluations

EVALUATION_BATCH = 1024
"""The most examples of one evaluation batch."""
SPLITS = ("validation", "train")


def evaluation_data(
    splits: Mapping[str, Mapping[str, np.ndarray]],
    train_examples: int,
    batch: int = EVALUATION_BATCH,
) -> dict[str, np.ndarray]:
    """Validation and the first ``train_examples`` training examples, cut into equal batches of at
    most ``batch``.

    Returns ``inputs, targets`` [batches, E, ...], ``weights`` [batches, E] and ``split`` [batches,
    E, 2] (one-hot of `SPLITS`); padded examples have weight zero.
    """
    parts = [splits["validation"], {k: v[:train_examples] for k, v in splits["train"].items()}]
    roles = {k: np.concatenate([part[k] for part in parts]) for k in ("inputs", "targets")}
    sizes = [len(part["inputs"]) for part in parts]
    roles["split"] = np.repeat(np.eye(2, dtype=np.float32), sizes, axis=0)
    roles["weights"] = np.ones(sum(sizes), np.float32)
    batches = math.ceil(sum(sizes) / batch)
    size = math.ceil(sum(sizes) / batches)

    def cut(array: np.ndarray) -> np.ndarray:
        padding = [(0, batches * size - len(array))] + [(0, 0)] * (array.ndim - 1)
        return np.pad(array, padding).reshape(batches, size, *array.shape[1:])

    return {role: cut(array) for role, array in roles.items()}


def make_evaluation(
    config: TrialConfig,
) -> Callable[..., Measurements]:
    """``evaluate(state, hyperparameters, data, *, axis_name=None)``.

    Returns ``{"split/metric": [sum, count], "finite": bool}``; where ``axis_name`` is given,
    ``data`` are a device's examples and sums those of all. Evaluated is what
    `experiments.training.state.to_evaluate` says: averages where there is an averaging. Dropout
    is off and batch statistics are the running ones. ``finite`` is false where a metric is not
    (parameters and the optimizer's state are looked at with the steps). Second-order rules add
    ``function_evaluations``, all that they have made so far. With ``objective`` the trained
    objective (label smoothing included) is the one metric.
    """
    task = make_task(config)
    second_order = OPTIMIZERS[config.optimizer].needs_value_fn

    def evaluate(
        state: TrainState,
        hyperparameters: Hyperparameters,
        data: Batch,
        *,
        axis_name: str | None = None,
    ) -> Measurements:
        evaluated = to_evaluate(config, state, hyperparameters)
        one = functools.partial(_measured, task, evaluated, key_of(state.key), hyperparameters)
        weights = data["weights"]
        places = jnp.broadcast_to(jnp.arange(weights.shape[1]), weights.shape)
        data = {**data, "position": places}
        with jax.default_matmul_precision(config.precision.matmul):
            if weights.shape[0] == 1:
                results = one(jax.tree.map(lambda x: x[0], data))
            else:
                results = jax.tree.map(lambda x: x.sum(0), jax.lax.map(one, data))
        if axis_name is not None:
            results = jax.lax.psum(results, axis_name)
        finite = jnp.all(jnp.isfinite(jnp.stack([pair[0] for pair in results.values()])))
        if second_order:
            counted = function_evaluations(state.opt_state)
            results["function_evaluations"] = counted.astype(jnp.float32)
        return {**results, "finite": finite}

    return evaluate


def _measured(
    task: LearningTask,
    evaluated: tuple[PyTree, PyTree],
    key: jax.Array,
    hyperparameters: Hyperparameters,
    batch: Batch,
) -> Measurements:
    """``{"split/metric": [sum, count]}`` of one evaluation batch, arrays [E, ...];
    ``evaluated`` as `to_evaluate` returns it."""
    params, model_state = evaluated
    prepared = task.preprocess(batch, key, False)
    outputs, _ = task.model.apply(
        params, model_state, prepared, key=key, train=False, hyperparameters=hyperparameters
    )
    shares = batch["split"].T * batch["weights"][None, :]  # [splits, E]
    results = {}
    for metric, (sums, counts) in task.losses.metrics(outputs, prepared).items():
        for name, share in zip(SPLITS, shares, strict=True):
            # A share of zero must silence a padded example whatever its loss.
            kept = jnp.where(share > 0, share * sums, 0.0)
            total = jnp.stack([jnp.sum(kept), jnp.sum(share * counts)])
            wide = jnp.promote_types(total.dtype, jnp.float32)
            results[f"{name}/{metric}"] = total.astype(wide)
    return results
