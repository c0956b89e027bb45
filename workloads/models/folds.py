"""One net a fold of cross-validation, side by side in one module."""

from __future__ import annotations

import jax
from flax import linen as nn

from workloads.models.linen import Context


class Folds(nn.Module):
    """N nets of one architecture, each with parameters of its own: logits [B, N, K].

    Parameters of ``net`` have a leading axis N, initialised independently. Dropout masks are drawn
    alike for all of them: they never meet in one prediction while training.

    Attributes:
      net: called as ``net(inputs, context)``, logits [B, K].
      count: N.
    """

    net: nn.Module
    count: int

    @nn.compact
    def __call__(self, inputs: jax.Array, context: Context) -> jax.Array:
        def of_one(net: nn.Module, x: jax.Array) -> jax.Array:
            return net(x, context)

        stacked = nn.vmap(
            of_one,
            in_axes=None,
            out_axes=1,
            axis_size=self.count,
            variable_axes={"params": 0, "batch_stats": 0},
            split_rngs={"params": True},
        )
        return stacked(self.net, inputs)
