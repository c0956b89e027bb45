"""Averages of weights: the mean of several sets of parameters, batch norm measured again.

Batch norm's running statistics belong to the parameters they were measured with, so the mean of
the parameters needs new ones (Izmailov et al. 2018, arXiv 1803.05407, section 3.2): one pass over
training examples in training mode, in which every batch counts by its examples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.diagnostics.problem import Params, in_chunks
from experiments.spec.trial import TrialConfig
from experiments.training.state import key_of, make_task


def mean_parameters(members: Iterable[Params]) -> Params:
    """The mean of trees of parameters, taken one at a time, in the parameters' own dtype.

        a <- a + (theta_k - a) / k

    Raises:
      ValueError: no member, or members of different shapes.
    """
    mean: Params = None
    dtypes: Params = None
    for k, params in enumerate(members, start=1):
        wide = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
        if mean is None:
            mean, dtypes = wide, jax.tree.map(lambda x: x.dtype, params)
            continue
        _require_alike(mean, wide, k)
        mean = jax.tree.map(lambda a, p, k=k: a + (p - a) / k, mean, wide)
    if mean is None:
        raise ValueError("an average needs at least one member, got none")
    return jax.tree.map(lambda a, dtype: jnp.asarray(a.astype(dtype)), mean, dtypes)


def _require_alike(mean: Params, params: Params, k: int) -> None:
    shapes = [jax.tree.map(np.shape, tree) for tree in (mean, params)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"members of an average must have the same arrays, member {k} differs")


def recomputed_statistics(
    config: TrialConfig,
    params: Params,
    model_state: Any,
    hyperparameters: Mapping[str, Any],
    examples: Mapping[str, np.ndarray],
    *,
    rows: int,
    key: jax.Array | None = None,
) -> Any:
    """The model state that training batches of ``rows`` examples give at fixed ``params``.

    Every batch starts from the state zero; the running sums are linear in a batch's statistics,
    so the mean of the new states, weighted by their examples, holds the mean statistics of all
    batches and ghost batches. Training mode as in the step: dropout and augmentation included,
    from ``key``.

    Args:
      config, hyperparameters: of the trial.
      params, model_state: of the model; the state gives shapes alone.
      examples: ``inputs`` and ``targets`` [n, ...] of the training split.
      rows: the most examples of a batch.
      key: of dropout and augmentation; key 0 unless given.

    Returns:
      A tree like ``model_state``; the empty one of a model without batch norm unchanged.

    Raises:
      ValueError: no example, fewer than one row.
    """
    if not jax.tree.leaves(model_state):
        return model_state
    task = make_task(config)
    first = key_of(jnp.zeros(2, jnp.uint32)) if key is None else key
    zero = jax.tree.map(jnp.zeros_like, model_state)
    chunks = jax.tree.map(jnp.asarray, in_chunks(examples, rows))
    numbers = jnp.arange(chunks["weights"].shape[0])

    def add(total: Any, numbered: tuple[jax.Array, Mapping[str, jax.Array]]) -> tuple[Any, None]:
        number, chunk = numbered
        now = jax.random.fold_in(first, number)
        places = jnp.arange(chunk["weights"].shape[0], dtype=jnp.int32)
        batch = task.preprocess({**chunk, "position": places}, now, True)
        with jax.default_matmul_precision(config.precision.matmul):
            _, state = task.model.apply(
                params, zero, batch, key=now, train=True, hyperparameters=hyperparameters
            )
        share = jnp.sum(chunk["weights"])
        return jax.tree.map(lambda t, s: t + s * share.astype(s.dtype), total, state), None

    total = jax.jit(lambda data: jax.lax.scan(add, zero, data)[0])((numbers, chunks))
    count = jnp.sum(chunks["weights"])
    return jax.tree.map(lambda t: t / count.astype(t.dtype), total)
