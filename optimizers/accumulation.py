"""A gradient summed over micro-batches that equals the gradient of the whole batch.

The loss of a batch is sum_i w_i l_i / sum_i w_i. Summing numerators and denominators apart and
dividing once keeps that for micro-batches of any, even unequal, weight; a mean of the
micro-batches' means does not. Clipping and the update rule follow, once a step.

Dropout equals the big batch's where a mask is a function of the example's position in the global
batch (carry the positions in the batch); batch norm does where ghost batches are cut at
micro-batch borders, since its statistics are then the same groups of examples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

WeightedSum = Callable[[Any, Any], tuple[jax.Array, jax.Array]]


def accumulated_gradient(
    weighted_sum: WeightedSum, params: Any, micro_batches: Any, axis_name: str | None = None
) -> tuple[jax.Array, Any]:
    """(loss, gradient) of the batch that the micro-batches make together.

        L = sum_i w_i l_i,  W = sum_i w_i over micro-batches (and devices)
        loss = L / W,  gradient = (sum of dL/dparams) / W

    Args:
      weighted_sum: ``(params, micro_batch) -> (sum of w_i l_i, sum of w_i)``, both scalars; W
        must not depend on the parameters.
      params: tree of parameters.
      micro_batches: tree of arrays with a leading axis [micro-batches]; examples of weight zero
        pad uneven ones. Memory is that of one micro-batch (a scan).
      axis_name: where given, sums run over the devices of that axis too.

    Returns:
      The loss, shape (), and a tree like ``params``. Both NaN where W is zero: no examples.
    """
    differentiate = jax.value_and_grad(weighted_sum, has_aux=True)

    def add(carry: Any, micro_batch: Any) -> tuple[Any, None]:
        (loss, weight), gradient = differentiate(params, micro_batch)
        return jax.tree.map(jnp.add, carry, (loss, weight, gradient)), None

    first = jax.tree.map(lambda array: array[0], micro_batches)
    (loss, weight), gradient = jax.eval_shape(differentiate, params, first)
    zero = jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), (loss, weight, gradient))
    sums, _ = jax.lax.scan(add, zero, micro_batches)
    if axis_name is not None:
        sums = jax.lax.psum(sums, axis_name)
    loss, weight, gradient = sums
    return loss / weight, jax.tree.map(lambda g: g / weight.astype(g.dtype), gradient)


def split(batch: Any, micro_batches: int) -> Any:
    """A batch [B, ...] as [micro_batches, ceil(B / micro_batches), ...], padded with zeros.

    The examples stay in order. A batch must carry its weights, so that a padded example, being
    zero in every array, has weight zero.
    """

    def of(array: jax.Array) -> jax.Array:
        size = -(-array.shape[0] // micro_batches)
        missing = size * micro_batches - array.shape[0]
        padded = jnp.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1))
        return padded.reshape(micro_batches, size, *array.shape[1:])

    return jax.tree.map(of, batch)
