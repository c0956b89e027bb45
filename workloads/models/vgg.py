"""Stacks of 3x3 convolutions with pooling between, and the large-batch nets of Keskar et al.

VGG-11 is configuration A of Simonyan and Zisserman 2014; F1, F2, C1-C4 are those of Keskar et
al. 2016 with the strides of the authors' code (convolutions stride 1, pooling stride 2).
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from workloads.models.convolution import Convolution, max_pool_2x2
from workloads.models.fully_connected import FullyConnected
from workloads.models.linen import Context, Dropout, LinenModel
from workloads.models.normalization import GHOST_SIZE, Normalization, NormalizationName
from workloads.models.residual import HE_NORMAL
from workloads.registry import unknown_name


class ConvolutionStacks(nn.Module):
    """(convolution -> norm -> ReLU) per filter count, a pool after each stack, dense layers.

    Attributes:
      stacks: filters of each convolution, by stack.
      kernel: side of the square SAME convolutions.
      pool: side of the max pool after each stack, stride 2 (2 is VALID, 3 is SAME).
      dense: units of the hidden dense layers, dropout after each.
      classes: number of logits.
      normalization, ghost_size: after every convolution and hidden dense layer.
      dtype, param_dtype: number formats of activations and of parameters.
    """

    stacks: tuple[tuple[int, ...], ...]
    kernel: int
    pool: Literal[2, 3]
    dense: tuple[int, ...]
    classes: int
    normalization: NormalizationName = "none"
    ghost_size: int | None = GHOST_SIZE
    dtype: str = "float32"
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, inputs: jax.Array, context: Context) -> jax.Array:
        x = inputs
        for stack in self.stacks:
            for filters in stack:
                x = Convolution(
                    filters,
                    (self.kernel, self.kernel),
                    kernel_init=HE_NORMAL,
                    dtype=self.dtype,
                    param_dtype=self.param_dtype,
                )(x)
                x = nn.relu(self._norm()(x, context))
            x = max_pool_2x2(x) if self.pool == 2 else nn.max_pool(x, (3, 3), (2, 2), "SAME")
        x = x.reshape(x.shape[0], -1)
        for units in self.dense:
            x = nn.relu(self._norm()(self._dense(units)(x), context))
            x = Dropout()(x, context)
        return self._dense(self.classes)(x)

    def _norm(self) -> Normalization:
        return Normalization(
            self.normalization, self.ghost_size, dtype=self.dtype, param_dtype=self.param_dtype
        )

    def _dense(self, size: int) -> nn.Dense:
        return nn.Dense(size, dtype=jnp.dtype(self.dtype), param_dtype=jnp.dtype(self.param_dtype))


def vgg11(
    classes: int = 1000,
    width: int = 64,
    units: int = 4096,
    *,
    normalization: NormalizationName = "none",
    ghost_size: int | None = GHOST_SIZE,
    dtype: str = "float32",
    param_dtype: str = "float32",
) -> LinenModel:
    """VGG-11: eight convolutions in five stacks, two dense layers with dropout.

    132,863,336 parameters on 224x224x3 with 1,000 classes.
    """
    w = width
    stacks = ((w,), (2 * w,), (4 * w, 4 * w), (8 * w, 8 * w), (8 * w, 8 * w))
    return LinenModel(
        ConvolutionStacks(
            stacks,
            3,
            2,
            (units, units),
            classes,
            normalization,
            ghost_size,
            dtype,
            param_dtype,
        )
    )


def keskar(
    net: Literal["F1", "F2", "C1", "C2", "C3", "C4"],
    ghost_size: int | None = None,
    width: int | None = None,
    *,
    dtype: str = "float32",
    param_dtype: str = "float32",
) -> LinenModel:
    """F1, F2, C1-C4 of Keskar et al. 2016, batch norm everywhere.

    F1: 784 -> 5 x 512 -> 10. F2: 360 -> 7 x 512 -> 1973. C1 and C3 (10 and 100 classes): 64
    filters of 5x5 twice, 3x3 pooling, dense 384 and 192. C2 and C4 (10 and 100): 3x3
    convolutions 2 x 64, 2 x 128, 3 x 256, 3 x 512, 3 x 512, dense 512. Dropout (the
    hyperparameter ``dropout_rate``, 0.5 there) acts after dense layers.

    Args:
      net: which.
      ghost_size: None, as theirs, normalises over the whole batch.
      width: replaces 512 units of F1, F2 and 64 filters of C1-C4, for tests.
      dtype, param_dtype: number formats.

    Raises:
      UnknownNameError: a net that is none of the six.
    """
    formats: tuple[NormalizationName, int | None, str, str] = (
        "batch",
        ghost_size,
        dtype,
        param_dtype,
    )
    if net in ("F1", "F2"):
        layers, classes = (5, 10) if net == "F1" else (7, 1973)
        return LinenModel(FullyConnected((width or 512,) * layers, classes, *formats))
    w = width or 64
    if net in ("C1", "C3"):
        stacks: tuple[tuple[int, ...], ...] = ((w,), (w,))
        classes = 10 if net == "C1" else 100
        return LinenModel(ConvolutionStacks(stacks, 5, 3, (6 * w, 3 * w), classes, *formats))
    if net in ("C2", "C4"):
        stacks = ((w,) * 2, (2 * w,) * 2, (4 * w,) * 3, (8 * w,) * 3, (8 * w,) * 3)
        classes = 10 if net == "C2" else 100
        return LinenModel(ConvolutionStacks(stacks, 3, 2, (8 * w,), classes, *formats))
    raise unknown_name("net", net, ("F1", "F2", "C1", "C2", "C3", "C4"))
