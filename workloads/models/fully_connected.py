"""Fully connected nets: ReLU hidden layers of given sizes (Shallue et al. 2019, FC family)."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from workloads.models.linen import Context, Dropout, LinenModel
from workloads.models.normalization import (
    GHOST_SIZE,
    Normalization,
    NormalizationName,
    check_normalization,
)


class FullyConnected(nn.Module):
    """flatten -> (dense -> norm -> ReLU -> dropout) per hidden size -> dense to the classes.

    Attributes:
      hidden_sizes: units of each hidden layer; may be empty (a linear classifier).
      classes: number of logits.
      normalization, ghost_size: as in `Normalization`.
      dtype, param_dtype: number formats of activations and of parameters.
    """

    hidden_sizes: tuple[int, ...]
    classes: int
    normalization: NormalizationName = "none"
    ghost_size: int | None = GHOST_SIZE
    dtype: str = "float32"
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, inputs: jax.Array, context: Context) -> jax.Array:
        x = inputs.reshape(inputs.shape[0], -1).astype(jnp.dtype(self.dtype))
        for size in self.hidden_sizes:
            x = self._dense(size)(x)
            x = Normalization(
                self.normalization,
                self.ghost_size,
                dtype=self.dtype,
                param_dtype=self.param_dtype,
            )(x, context)
            x = Dropout()(nn.relu(x), context)
        return self._dense(self.classes)(x)

    def _dense(self, size: int) -> nn.Dense:
        return nn.Dense(size, dtype=jnp.dtype(self.dtype), param_dtype=jnp.dtype(self.param_dtype))


def fully_connected(
    hidden_sizes: Sequence[int],
    classes: int = 10,
    *,
    normalization: NormalizationName = "none",
    ghost_size: int | None = GHOST_SIZE,
    dtype: str = "float32",
    param_dtype: str = "float32",
) -> LinenModel:
    """The family as a `Model`; inputs [B, ...] are flattened.

    Parameters without normalisation: sum over layers of (fan_in + 1) * units.

    Raises:
      ValueError: a size that is not a positive whole number, or an unknown normalization.
    """
    for size in (*hidden_sizes, classes):
        if not isinstance(size, int) or size < 1:
            raise ValueError(
                f"hidden_sizes and classes must be positive whole numbers, got {size!r}"
            )
    check_normalization(normalization, ghost_size)
    return LinenModel(
        FullyConnected(tuple(hidden_sizes), classes, normalization, ghost_size, dtype, param_dtype)
    )
