"""Operations of architectures as modules: name -> module; each is called as ``module(x, context)``.

A row is a linen module class (or a partial of one) with the field ``width``: features or channels
of its output, None for those of its input. What it costs is a row of
`experiments.search.architecture.operations.OPERATIONS`; a test holds the two tables equal.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from workloads.models.convolution import Convolution, max_pool_2x2
from workloads.models.linen import Context
from workloads.models.normalization import BatchNorm, Normalization
from workloads.models.transformer import Attention, sinusoids

EXPANSION = 4
"""Hidden features of a Transformer's feed-forward block over those of its input."""


class Function(nn.Module):
    """A function without parameters.

    Attributes:
      function: [B, ...] -> [B, ...].
      width: not used.
    """

    function: Callable[[jax.Array], jax.Array]
    width: int | None = None

    @nn.compact
    def __call__(self, x: jax.Array, context: Context) -> jax.Array:
        del context
        return self.function(x)


class Dense(nn.Module):
    """relu(W x + b) of all values of an example; affine alone where ``logits``."""

    width: int | None = None
    logits: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, context: Context) -> jax.Array:
        del context
        x = flat(x)
        y = nn.Dense(x.shape[-1] if self.width is None else self.width, name="affine")(x)
        return y if self.logits else nn.relu(y)


class PlainConvolution(nn.Module):
    """relu of a convolution with a bias that keeps the image's size, or halves it."""

    kernel: int
    width: int | None = None
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, context: Context) -> jax.Array:
        del context
        return nn.relu(_convolution(self, x))


class NormalisedConvolution(nn.Module):
    """Batch norm of a convolution of relu(x), as NAS-Bench-201's cells have it."""

    kernel: int
    width: int | None = None
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, context: Context) -> jax.Array:
        y = _convolution(self, nn.relu(x), use_bias=False)
        return BatchNorm(dtype=y.dtype.name, name="norm")(y, context)


def _convolution(module: PlainConvolution | NormalisedConvolution, x: jax.Array, *,
                 use_bias: bool = True) -> jax.Array:  # fmt: skip
    """Every stride-th point of the convolution with zeros around the image, from the first."""
    width, stride = x.shape[-1] if module.width is None else module.width, module.stride
    size, margin = (module.kernel, module.kernel), module.kernel // 2
    return Convolution(
        width, size, (stride, stride), ((margin, margin),) * 2, use_bias=use_bias,
        dtype=x.dtype.name, name="convolution",
    )(x if stride == 1 else even(x))  # fmt: skip


class SelfAttention(nn.Module):
    """x + attention(layer norm(x)) over the tokens [B, T, D], each of which sees all."""

    heads: int
    width: int | None = None

    @nn.compact
    def __call__(self, x: jax.Array, context: Context) -> jax.Array:
        y = Normalization("layer", name="norm")(x, context)
        attention = Attention(self.heads, "float32", "float32", causal=False, name="attention")
        return x + attention(y)


class FeedForward(nn.Module):
    """x + W2 relu(W1 layer norm(x)) at every token [B, T, D], `EXPANSION` D features between."""

    width: int | None = None

    @nn.compact
    def __call__(self, x: jax.Array, context: Context) -> jax.Array:
        y = Normalization("layer", name="norm")(x, context)
        y = nn.relu(nn.Dense(EXPANSION * x.shape[-1], name="wide")(y))
        return x + nn.Dense(x.shape[-1], name="narrow")(y)


class WeightedSkip(nn.Module):
    """The input times one trained number, 1 at first."""

    width: int | None = None

    @nn.compact
    def __call__(self, x: jax.Array, context: Context) -> jax.Array:
        del context
        return self.param("weight", nn.initializers.ones, ()).astype(x.dtype) * x


class Rows(nn.Module):
    """The rows of an image [B, H, W, C] as tokens [B, H, width]: affine, plus sinusoids of H."""

    width: int | None = None

    @nn.compact
    def __call__(self, x: jax.Array, context: Context) -> jax.Array:
        del context
        x = x.reshape(*x.shape[:2], -1)
        width = x.shape[-1] if self.width is None else self.width
        return nn.Dense(width, name="affine")(x) + sinusoids(x.shape[1], width)[None]


def flat(x: jax.Array) -> jax.Array:
    """[B, ...] -> [B, values]."""
    return x.reshape(x.shape[0], -1)


def even(x: jax.Array) -> jax.Array:
    """An image [B, H, W, C] without the last of an odd number of rows or columns."""
    return x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]


def halved(x: jax.Array) -> jax.Array:
    """[B, H, W, C] -> [B, H // 2, W // 2, C]: means of 2 x 2 points."""
    x = even(x)
    rows = (x[:, 0::2] + x[:, 1::2]) / 2
    return (rows[:, :, 0::2] + rows[:, :, 1::2]) / 2


def average_3x3_halved(x: jax.Array) -> jax.Array:
    """Every second mean of `average_3x3`, down and across: [B, H // 2, W // 2, C]."""
    return average_3x3(even(x))[:, ::2, ::2]


def average_3x3(x: jax.Array) -> jax.Array:
    """The mean over 3 x 3 points of [B, H, W, C], of those inside the image.

    Sums of shifted slices: their gradient is elementwise, as `max_pool_2x2`'s is.
    """
    for axis in (1, 2):
        pads = [(0, 0)] * 4
        pads[axis] = (1, 1)
        size = x.shape[axis]
        wide = jnp.pad(x, pads)
        total = sum(jax.lax.slice_in_dim(wide, k, k + size, axis=axis) for k in range(3))
        inside = 3 - (jnp.arange(size) == 0) - (jnp.arange(size) == size - 1)
        shape = [1] * 4
        shape[axis] = size
        x = total / inside.astype(x.dtype).reshape(shape)
    return x


MODULES: dict[str, Callable[..., nn.Module]] = {
    "skip": functools.partial(Function, lambda x: x),
    "weighted_skip": WeightedSkip,
    "relu": functools.partial(Function, nn.relu),
    "flatten": functools.partial(Function, flat),
    "dense": Dense,
    "affine": functools.partial(Dense, logits=True),
    "conv1x1": functools.partial(PlainConvolution, 1),
    "conv3x3": functools.partial(PlainConvolution, 3),
    "conv5x5": functools.partial(PlainConvolution, 5),
    "bn_conv1x1": functools.partial(NormalisedConvolution, 1),
    "bn_conv3x3": functools.partial(NormalisedConvolution, 3),
    "avg_pool3x3": functools.partial(Function, average_3x3),
    "max_pool2x2": functools.partial(Function, max_pool_2x2),
    "rows": Rows,
    "attention1": functools.partial(SelfAttention, 1),
    "attention2": functools.partial(SelfAttention, 2),
    "attention4": functools.partial(SelfAttention, 4),
    "feed_forward": FeedForward,
    "skip_s2": functools.partial(Function, halved),
    "avg_pool3x3_s2": functools.partial(Function, average_3x3_halved),
    "conv1x1_s2": functools.partial(PlainConvolution, 1, stride=2),
    "conv3x3_s2": functools.partial(PlainConvolution, 3, stride=2),
    "conv5x5_s2": functools.partial(PlainConvolution, 5, stride=2),
    "bn_conv1x1_s2": functools.partial(NormalisedConvolution, 1, stride=2),
    "bn_conv3x3_s2": functools.partial(NormalisedConvolution, 3, stride=2),
}
