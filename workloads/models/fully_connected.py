"""Fully connected nets: ReLU hidden layers of given sizes (Shallue et al. 2019, FC family)."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from workloads.models.linen import Context, Dropout, LinenModel


class FullyConnected(nn.Module):
    """flatten -> (dense -> ReLU -> dropout) per hidden size -> dense to the classes.

    Attributes:
      hidden_sizes: units of each hidden layer; may be empty (a linear classifier).
      classes: number of logits.
      dtype, param_dtype: number formats of activations and of parameters.
    """

    hidden_sizes: tuple[int, ...]
    classes: int
    dtype: str = "float32"
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, inputs: jax.Array, context: Context) -> jax.Array:
        x = inputs.reshape(inputs.shape[0], -1).astype(jnp.dtype(self.dtype))
        for size in self.hidden_sizes:
            x = nn.relu(self._dense(size)(x))
            x = Dropout()(x, context)
        return self._dense(self.classes)(x)

    def _dense(self, size: int) -> nn.Dense:
        return nn.Dense(size, dtype=jnp.dtype(self.dtype), param_dtype=jnp.dtype(self.param_dtype))


def fully_connected(
    hidden_sizes: Sequence[int],
    classes: int = 10,
    *,
    dtype: str = "float32",
    param_dtype: str = "float32",
) -> LinenModel:
    """The family as a `Model`; inputs [B, ...] are flattened.

    Parameters: sum over layers of (fan_in + 1) * units.

    Raises:
      ValueError: a size that is not a positive whole number.
    """
    for size in (*hidden_sizes, classes):
        if not isinstance(size, int) or size < 1:
            raise ValueError(
                f"hidden_sizes and classes must be positive whole numbers, got {size!r}"
            )
    return LinenModel(FullyConnected(tuple(hidden_sizes), classes, dtype, param_dtype))
