"""Residual networks: ResNet v1 and v2, ResNet-8 without batch norm, WideResNet, ResNet-50.

One module covers them; the functions at the end name the members of the family.
He et al. 2015 (v1: ReLU after the sum), He et al. 2016 (v2: normalisation and ReLU before each
convolution), Zagoruyko and Komodakis 2016 (WideResNet).
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from workloads.models.convolution import Convolution
from workloads.models.linen import Context, Dropout
from workloads.models.normalization import (
    GHOST_SIZE,
    Normalization,
    NormalizationName,
    check_normalization,
)

HE_NORMAL = nn.initializers.variance_scaling(2.0, "fan_in", "truncated_normal")


@dataclasses.dataclass(frozen=True)
class Layers:
    """Settings that all layers of a net share.

    Attributes:
      preactivation: v2 (True) or v1.
      bottleneck: 1x1, 3x3, 1x1 with four times the filters at the end, or two 3x3.
      normalization, ghost_size: as in `Normalization`.
      residual_start: ``"standard"``; ``"zero_scale"`` starts the branch's last normalisation
        at scale zero; ``"rezero"`` multiplies the branch by a trained scalar that starts at zero.
      dtype, param_dtype: number formats of activations and of parameters.
    """

    preactivation: bool = True
    bottleneck: bool = False
    normalization: NormalizationName = "batch"
    ghost_size: int | None = GHOST_SIZE
    residual_start: Literal["standard", "zero_scale", "rezero"] = "standard"
    dtype: str = "float32"
    param_dtype: str = "float32"

    def __post_init__(self) -> None:
        check_normalization(self.normalization, self.ghost_size)
        if self.residual_start not in ("standard", "zero_scale", "rezero"):
            raise ValueError(
                "residual_start must be standard, zero_scale or rezero, "
                f"got {self.residual_start!r}"
            )
        if self.residual_start == "zero_scale" and (
            self.normalization == "none" or self.preactivation
        ):
            raise ValueError(
                "residual_start zero_scale needs a normalization at the end of the branch "
                "(preactivation False, normalization batch or layer)"
            )

    def convolution(self, filters: int, size: int, stride: int = 1) -> Convolution:
        """SAME; biased only where no normalisation follows."""
        return Convolution(
            filters,
            (size, size),
            (stride, stride),
            use_bias=self.normalization == "none",
            kernel_init=HE_NORMAL,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
        )

    def norm(self, scale_init: float = 1.0) -> Normalization:
        """The normalisation of these options."""
        return Normalization(
            self.normalization, self.ghost_size, scale_init, self.dtype, self.param_dtype
        )


class Block(nn.Module):
    """shortcut(x) + branch(x); the shortcut is a 1x1 convolution where shapes differ.

    Attributes:
      layers: what all layers share.
      filters: of the 3x3 convolutions.
      stride: of the first 3x3 convolution and of the shortcut.
    """

    layers: Layers
    filters: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, context: Context) -> jax.Array:
        outputs = self.filters * (4 if self.layers.bottleneck else 1)
        if self.layers.preactivation:
            opened = nn.relu(self.layers.norm()(x, context))
            shortcut = self._shortcut(x, opened, outputs, context)
            return shortcut + self._started(self._branch(opened, context))
        shortcut = self._shortcut(x, x, outputs, context)
        return nn.relu(shortcut + self._started(self._branch(x, context)))

    def _shortcut(
        self, x: jax.Array, source: jax.Array, outputs: int, context: Context
    ) -> jax.Array:
        if self.stride == 1 and x.shape[-1] == outputs:
            return x
        projected = self.layers.convolution(outputs, 1, self.stride)(source)
        return projected if self.layers.preactivation else self.layers.norm()(projected, context)

    def _branch(self, x: jax.Array, context: Context) -> jax.Array:
        """Convolutions with normalisation and ReLU between them; v1 also ends in one."""
        plan = [(self.filters, 3, self.stride), (self.filters, 3, 1)]
        if self.layers.bottleneck:
            plan = [(self.filters, 1, 1), plan[0], (4 * self.filters, 1, 1)]
        for place, (filters, size, stride) in enumerate(plan):
            if place > 0:
                x = nn.relu(self.layers.norm()(x, context))
                x = Dropout()(x, context)
            x = self.layers.convolution(filters, size, stride)(x)
        if self.layers.preactivation:
            return x
        last = 0.0 if self.layers.residual_start == "zero_scale" else 1.0
        return self.layers.norm(last)(x, context)

    def _started(self, branch: jax.Array) -> jax.Array:
        if self.layers.residual_start != "rezero":
            return branch
        alpha = self.param("alpha", nn.initializers.zeros, (), jnp.dtype(self.layers.param_dtype))
        return alpha.astype(branch.dtype) * branch


class ResNet(nn.Module):
    """stem -> stages of blocks -> mean over places -> dense to the classes.

    Attributes:
      layers: what all layers share.
      filters: of each stage.
      blocks: of each stage.
      strides: of each stage's first block.
      classes: number of logits.
      stem_filters: of the first convolution.
      large_stem: 7x7 stride 2 and a 3x3 max pool of stride 2 (ImageNet), or one 3x3 (CIFAR).
    """

    layers: Layers
    filters: tuple[int, ...]
    blocks: tuple[int, ...]
    strides: tuple[int, ...]
    classes: int
    stem_filters: int = 16
    large_stem: bool = False

    @nn.compact
    def __call__(self, inputs: jax.Array, context: Context) -> jax.Array:
        layers = self.layers
        size, stride = (7, 2) if self.large_stem else (3, 1)
        x = layers.convolution(self.stem_filters, size, stride)(inputs)
        if not layers.preactivation:
            x = nn.relu(layers.norm()(x, context))
        if self.large_stem:
            x = nn.max_pool(x, (3, 3), (2, 2), "SAME")
        for filters, blocks, first_stride in zip(
            self.filters, self.blocks, self.strides, strict=True
        ):
            for place in range(blocks):
                x = Block(layers, filters, first_stride if place == 0 else 1)(x, context)
        if layers.preactivation:
            x = nn.relu(layers.norm()(x, context))
        x = x.mean(axis=(1, 2))
        return nn.Dense(
            self.classes, dtype=jnp.dtype(layers.dtype), param_dtype=jnp.dtype(layers.param_dtype)
        )(x)
