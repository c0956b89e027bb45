"""A dense layer, dropout and a classifier: the net whose width courses on tuning search first."""

from __future__ import annotations

import jax
from flax import linen as nn


class DenseNet(nn.Module):
    """Flattened inputs -> dense, ReLU, dropout -> logits.

    Attributes:
      units: of the dense layer.
      dropout: share of its outputs that are dropped in training.
      classes: number of logits.
    """

    units: int
    dropout: float = 0.2
    classes: int = 10

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
        """Logits [B, classes] of inputs [B, ...]."""
        x = inputs.reshape(len(inputs), -1)
        x = nn.relu(nn.Dense(self.units)(x))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.classes)(x)
