"""A gradient summed over micro-batches that equals the gradient of the whole batch.

The loss of a batch is sum_i w_i l_i / sum_i w_i. Summing numerators and denominators apart and
dividing once keeps that for micro-batches of any, even unequal, weight; a mean of the
micro-batches' means does not. Clipping and the update rule follow, once a step.

Dropout equals the big batch's where a mask is a function of the example's position in the global
batch (carry the positions in the batch); batch norm does where micro-batches are cut at ghost
borders, since its statistics are then of the same groups of examples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from optimizers.leafwise import cast

WeightedSum = Callable[[Any, Any], tuple[jax.Array, tuple[jax.Array, Any]]]


def accumulated_gradient(
    weighted_sum: WeightedSum, params: Any, micro_batches: Any, axis_name: str | None = None
) -> tuple[jax.Array, Any, Any]:
    """(loss, gradient, other sums) of the batch that the micro-batches make together.

        L = sum_i w_i l_i,  W = sum_i w_i over micro-batches (and devices)
        loss = L / W,  gradient = (sum of dL/dparams) / W

    Args:
      weighted_sum: ``(params, micro_batch) -> (sum of w_i l_i, (sum of w_i, others))``, the two
        sums scalars; W must not depend on the parameters. ``others`` is a tree of arrays that
        are summed like W, () where there are none.
      params: tree of parameters.
      micro_batches: tree of arrays with a leading axis [micro-batches]; examples of weight zero
        pad uneven ones. Memory is that of one micro-batch (a scan).
      axis_name: where given, sums run over the devices of that axis too.

    Returns:
      The loss, shape (), a tree like ``params``, both NaN where W is zero (no examples), and
      the sum of ``others``. All sums run in float32 or wider, and so are the loss and
      ``others``: in bfloat16 the 257th of equal terms is lost. The gradient is rounded to the
      parameters' dtype once, after the division.
    """
    of_one = jax.value_and_grad(weighted_sum, has_aux=True)

    def differentiate(params: Any, micro_batch: Any) -> Any:
        return cast(of_one(params, micro_batch), _wide)

    def add(carry: Any, micro_batch: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, carry, differentiate(params, micro_batch)), None

    first = jax.tree.map(lambda array: array[0], micro_batches)
    if all(array.shape[0] == 1 for array in jax.tree.leaves(micro_batches)):
        sums = differentiate(params, first)
    else:
        like = jax.eval_shape(differentiate, params, first)
        zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
        sums, _ = jax.lax.scan(add, zero, micro_batches)
    if axis_name is not None:
        sums = jax.lax.psum(sums, axis_name)
    (loss, (weight, others)), gradient = sums
    gradient = jax.tree.map(lambda g: g / weight.astype(g.dtype), gradient)
    gradient = jax.tree.map(lambda g, p: g.astype(jnp.asarray(p).dtype), gradient, params)
    return loss / weight, gradient, others


def _wide(array: jax.Array) -> Any:
    """float32 or wider for what is added up; whole numbers stay what they are."""
    inexact = jnp.issubdtype(array.dtype, jnp.inexact)
    return jnp.promote_types(array.dtype, jnp.float32) if inexact else array.dtype
