"""Simple CNN (Shallue et al. 2019; sizes as commonly reproduced): two convolutions, one dense.

conv 5x5 -> ReLU -> max pool 2x2, twice, then dense -> ReLU -> dropout -> dense to the classes.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from workloads.models.convolution import Convolution, max_pool_2x2
from workloads.models.linen import Context, Dropout, LinenModel
from workloads.registry import unknown_name

WIDTHS = {
    "narrow": ((16, 32), 512),
    "base": ((32, 64), 1024),
    "wide": ((64, 128), 2048),
}
"""Width -> (filters of the two convolutions, units of the dense layer)."""


class SimpleCNN(nn.Module):
    """The network; `simple_cnn` names its published widths.

    Attributes:
      filters: output channels of each 5x5 SAME convolution.
      units: size of the dense layer.
      classes: number of logits.
      dtype, param_dtype: number formats of activations and of parameters.
    """

    filters: tuple[int, ...]
    units: int
    classes: int
    dtype: str = "float32"
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, inputs: jax.Array, context: Context) -> jax.Array:
        x = inputs
        for filters in self.filters:
            x = Convolution(filters, (5, 5), dtype=self.dtype, param_dtype=self.param_dtype)(x)
            # ReLU after pooling: the same function (both are monotone), a quarter of the work.
            x = nn.relu(max_pool_2x2(x))
        x = x.reshape(x.shape[0], -1)
        x = nn.relu(self._dense(self.units)(x))
        x = Dropout()(x, context)
        return self._dense(self.classes)(x)

    def _dense(self, size: int) -> nn.Dense:
        return nn.Dense(size, dtype=jnp.dtype(self.dtype), param_dtype=jnp.dtype(self.param_dtype))


def simple_cnn(
    width: Literal["narrow", "base", "wide"] = "base",
    classes: int = 10,
    *,
    dtype: str = "float32",
    param_dtype: str = "float32",
) -> LinenModel:
    """The Simple CNN as a `Model`; inputs [B, H, W, C] float.

    base on 28x28x1 with 10 classes has 3,274,634 parameters.

    Raises:
      UnknownNameError: a width that is not narrow, base or wide.
    """
    if width not in WIDTHS:
        raise unknown_name("width", width, WIDTHS)
    filters, units = WIDTHS[width]
    return LinenModel(SimpleCNN(filters, units, classes, dtype, param_dtype))
