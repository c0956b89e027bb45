"""Losses and metrics per example, as (sum [B], count [B]) in float32 or wider."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from workloads.base import Batch, Losses, SumAndCount


def _at_least_float32(outputs: jax.Array) -> jax.Array:
    """Losses are summed in float32 even where a model computes in bfloat16."""
    return outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32))


def _counted(values: jax.Array) -> SumAndCount:
    return values, jnp.ones_like(values)


def softmax_cross_entropy(
    logits: jax.Array, labels: jax.Array, label_smoothing: jax.Array | float | None = None
) -> jax.Array:
    """-sum_k q_k log softmax(logits)_k with q = (1 - s) onehot(label) + s / K.

    Args:
      logits: [..., K].
      labels: [...] integers in 0..K-1.
      label_smoothing: s in [0, 1], may be traced; None leaves the term out.

    Returns:
      [...] losses in nats.

    >>> logits = jnp.log(jnp.array([[0.25, 0.75]]))
    >>> print(np.asarray(softmax_cross_entropy(logits, jnp.array([1]))).round(4))  # -log 0.75
    [0.2877]
    """
    log_probabilities = jax.nn.log_softmax(logits, axis=-1)
    # A one-hot product rather than a gather: its gradient is dense arithmetic, where a
    # gather's is a scatter, slow on CPUs and under vmap.
    onehot = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    of_label = -jnp.sum(onehot * log_probabilities, axis=-1)
    if label_smoothing is None:
        return of_label
    of_uniform = -jnp.mean(log_probabilities, axis=-1)
    return (1.0 - label_smoothing) * of_label + label_smoothing * of_uniform


def _classification_objective(
    outputs: Any, batch: Batch, hyperparameters: Mapping[str, Any]
) -> SumAndCount:
    logits = _at_least_float32(outputs)
    smoothing = hyperparameters.get("label_smoothing")
    return _counted(softmax_cross_entropy(logits, batch["targets"], smoothing))


def _classification_metrics(outputs: Any, batch: Batch) -> Mapping[str, SumAndCount]:
    logits = _at_least_float32(outputs)
    wrong = jnp.argmax(logits, axis=-1) != batch["targets"]
    return {
        "cross_entropy": _counted(softmax_cross_entropy(logits, batch["targets"])),
        "classification_error": _counted(wrong.astype(logits.dtype)),
    }


CLASSIFICATION = Losses(_classification_objective, _classification_metrics)
"""Softmax cross entropy over logits [B, K] and labels [B]; the objective is smoothed by
``hyperparameters["label_smoothing"]`` where the workload has one, the metrics never are."""


def _nets(outputs: Any, batch: Batch) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(logits [B, N, K], labels [B, N], membership [B, N])."""
    logits = _at_least_float32(outputs)
    labels = jnp.broadcast_to(batch["targets"][:, :1], logits.shape[:2])
    return logits, labels, batch["targets"][:, 1:].astype(logits.dtype)


def _folded_objective(
    outputs: Any, batch: Batch, hyperparameters: Mapping[str, Any]
) -> SumAndCount:
    logits, labels, mine = _nets(outputs, batch)
    smoothing = hyperparameters.get("label_smoothing")
    losses = softmax_cross_entropy(logits, labels, smoothing)
    # N times the mean over an example's nets: every net has the gradient it would have alone.
    return _counted(mine.shape[1] * jnp.sum(mine * losses, axis=1) / jnp.sum(mine, axis=1))


def _folded_metrics(outputs: Any, batch: Batch) -> Mapping[str, SumAndCount]:
    logits, labels, mine = _nets(outputs, batch)
    wrong = (jnp.argmax(logits, axis=-1) != labels).astype(logits.dtype)
    return {
        "cross_entropy": _per_example(softmax_cross_entropy(logits, labels), mine),
        "classification_error": _per_example(wrong, mine),
    }


FOLDED = Losses(_folded_objective, _folded_metrics)
"""N nets side by side, logits [B, N, K], of examples that belong to some of them: targets
[B, 1 + N] are the label, then 1 for each net that the example belongs to and 0 for the others.
A training example belongs to all nets but its fold's, a validation example to that one alone.
Per example the objective is N / |M| sum_{n in M} loss_n over its nets M, a metric (sum over M,
|M|)."""


def _per_example(values: jax.Array, counted: jax.Array) -> SumAndCount:
    """Sums over all but the first axis: [B, ...] of tokens -> [B]."""
    axes = tuple(range(1, values.ndim))
    counted = counted.astype(values.dtype)
    return jnp.sum(values * counted, axis=axes), jnp.sum(counted, axis=axes)


def _language_objective(
    outputs: Any, batch: Batch, hyperparameters: Mapping[str, Any]
) -> SumAndCount:
    logits, tokens = _at_least_float32(outputs), batch["targets"]
    smoothing = hyperparameters.get("label_smoothing")
    return _per_example(softmax_cross_entropy(logits, tokens, smoothing), tokens >= 0)


def _language_metrics(outputs: Any, batch: Batch) -> Mapping[str, SumAndCount]:
    logits, tokens = _at_least_float32(outputs), batch["targets"]
    wrong = (jnp.argmax(logits, axis=-1) != tokens).astype(logits.dtype)
    return {
        "cross_entropy": _per_example(softmax_cross_entropy(logits, tokens), tokens >= 0),
        "classification_error": _per_example(wrong, tokens >= 0),
    }


LANGUAGE_MODEL = Losses(_language_objective, _language_metrics)
"""Softmax cross entropy (nats per token) over logits [B, T, V] and tokens [B, T]; a negative
token is padding and counts nowhere. Per example: (sum over its tokens, number of tokens)."""


def _own_loss(outputs: Any, batch: Batch, hyperparameters: Mapping[str, Any]) -> SumAndCount:
    del batch, hyperparameters
    return _counted(_at_least_float32(outputs))


def _own_loss_metrics(outputs: Any, batch: Batch) -> Mapping[str, SumAndCount]:
    return {"loss": _own_loss(outputs, batch, {})}


OWN_LOSS = Losses(_own_loss, _own_loss_metrics)
"""For a model whose outputs [B] are its losses, such as the noisy quadratic model."""
