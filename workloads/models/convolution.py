"""Convolution with gradients in canonical form, and max pooling: fast inside a loop on a CPU.

XLA's CPU compiler hands a convolution to its fast kernel only in the layout
``b01f_01io->b01f``. It rewrites the two gradients of a convolution into that layout at the top
level of a program, not inside a loop's body, where they fall to a naive kernel ten to twenty
times slower (jax-ml/jax#12868). Here, on a CPU, both gradients are written in that layout from the
start; other devices get the usual ones.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

Pair = tuple[int, int]
Pads = tuple[Pair, Pair]
Padding = Literal["SAME", "VALID"] | Sequence[Sequence[int]]

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def _canonical(
    x: jax.Array,
    kernel: jax.Array,
    strides: Pair = (1, 1),
    padding: Pads = ((0, 0), (0, 0)),
    kernel_dilation: Pair = (1, 1),
) -> jax.Array:
    """The one form every convolution of this module takes; negative padding crops."""
    return lax.conv_general_dilated(
        x, kernel, strides, padding, rhs_dilation=kernel_dilation, dimension_numbers=_LAYOUT
    )


def _dilated(x: jax.Array, strides: Pair) -> jax.Array:
    """[B, h, w, C] -> [B, (h - 1) s + 1, ...]: zeros between the pixels."""
    if strides == (1, 1):
        return x
    interior = [(0, 0, 0), *((0, 0, stride - 1) for stride in strides), (0, 0, 0)]
    return lax.pad(x, jnp.zeros((), x.dtype), interior)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(x: jax.Array, kernel: jax.Array, strides: Pair, padding: Pads) -> jax.Array:
    return _canonical(x, kernel, strides, padding)


def _forward(
    x: jax.Array, kernel: jax.Array, strides: Pair, padding: Pads
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _canonical(x, kernel, strides, padding), (x, kernel)


def _input_gradient(
    kernel: jax.Array, gradient: jax.Array, strides: Pair, padding: Pads, sizes: Pair
) -> jax.Array:
    """dx: the dilated output gradient, convolved with the kernel reversed in space and with
    its channels swapped. Padding low = k - 1 - low, high = what makes the size ``sizes``."""
    spread = _dilated(gradient, strides)
    pads = []
    for axis in (0, 1):
        low = kernel.shape[axis] - 1 - padding[axis][0]
        high = sizes[axis] - spread.shape[axis + 1] + kernel.shape[axis] - 1 - low
        pads.append((low, high))
    return _convolve(spread, kernel[::-1, ::-1].swapaxes(2, 3), (1, 1), (pads[0], pads[1]))


def _kernel_gradient(
    x: jax.Array, gradient: jax.Array, strides: Pair, padding: Pads, sizes: Pair
) -> jax.Array:
    """dk: x as (C, H, W, B) convolved with the dilated output gradient as (h, w, B, D); the
    result (C, kh, kw, D) is turned back into (kh, kw, C, D)."""
    spread = _dilated(gradient, strides)
    pads = []
    for axis in (0, 1):
        low = padding[axis][0]
        high = sizes[axis] - 1 + spread.shape[axis + 1] - x.shape[axis + 1] - low
        pads.append((low, high))
    images, filters = x.transpose(3, 1, 2, 0), spread.transpose(1, 2, 0, 3)
    return _convolve(images, filters, (1, 1), (pads[0], pads[1])).transpose(1, 2, 0, 3)


def _backward(
    strides: Pair, padding: Pads, saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    def canonical(
        x: jax.Array, kernel: jax.Array, gradient: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        image_size, kernel_size = (x.shape[1], x.shape[2]), (kernel.shape[0], kernel.shape[1])
        return (
            _input_gradient(kernel, gradient, strides, padding, image_size),
            _kernel_gradient(x, gradient, strides, padding, kernel_size),
        )

    def by_the_compiler(
        x: jax.Array, kernel: jax.Array, gradient: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        _, pull = jax.vjp(lambda x, kernel: _canonical(x, kernel, strides, padding), x, kernel)
        return pull(gradient)

    x, kernel = saved
    # Accelerators have kernels of their own for both gradients, found by their usual form.
    return lax.platform_dependent(x, kernel, gradient, cpu=canonical, default=by_the_compiler)


_convolve.defvjp(_forward, _backward)


def explicit_padding(padding: Padding, sizes: Pair, kernel: Pair, strides: Pair) -> Pads:
    """``"SAME"``, ``"VALID"`` or ((low, high), (low, high)) as pixels per side."""
    if isinstance(padding, str):
        pads = lax.padtype_to_pads(sizes, kernel, strides, padding)
    else:
        pads = [(int(low), int(high)) for low, high in padding]
    return (pads[0], pads[1])


def convolve(
    x: jax.Array, kernel: jax.Array, strides: Pair = (1, 1), padding: Padding = "SAME"
) -> jax.Array:
    """y[b, p, q, d] = sum_{i, j, c} x[b, p s + i - low, q s + j - low, c] kernel[i, j, c, d].

    Equal to ``lax.conv_general_dilated``, its gradients too, up to the order of summation.
    Differentiable backwards any number of times (a Hessian-vector product is the gradient of
    <gradient, v>); forward mode is refused, as for any ``jax.custom_vjp``.

    Args:
      x: [B, H, W, C].
      kernel: [kh, kw, C, D].
      strides: pixels per output, down and across.
      padding: ``"SAME"``, ``"VALID"``, or pixels ((low, high), (low, high)).

    Returns:
      [B, H', W', D].
    """
    _, height, width, _ = x.shape
    kernel_size = (kernel.shape[0], kernel.shape[1])
    pads = explicit_padding(padding, (height, width), kernel_size, strides)
    return _convolve(x, kernel, (strides[0], strides[1]), pads)


class Convolution(nn.Module):
    """`convolve` with a kernel [kh, kw, C, features] and a bias [features].

    Attributes:
      features: output channels.
      kernel_size, strides, padding: as in `convolve`.
      use_bias: False where a normalisation follows.
      kernel_init: initialiser of the kernel; LeCun's normal unless given.
      dtype, param_dtype: number formats of activations and of parameters.
    """

    features: int
    kernel_size: Pair
    strides: Pair = (1, 1)
    padding: Padding = "SAME"
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    dtype: str = "float32"
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        dtype, param_dtype = jnp.dtype(self.dtype), jnp.dtype(self.param_dtype)
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, param_dtype)
        y = convolve(x.astype(dtype), kernel.astype(dtype), self.strides, self.padding)
        if not self.use_bias:
            return y
        bias = self.param("bias", nn.initializers.zeros, (self.features,), param_dtype)
        return y + bias.astype(dtype).reshape(1, 1, 1, -1)


def max_pool_2x2(x: jax.Array) -> jax.Array:
    """The maximum of every 2x2 block, [B, H, W, C] -> [B, H // 2, W // 2, C].

    An odd last row or column is left out (VALID). Pairwise maxima of strided slices: their
    gradient is elementwise, where ``reduce_window``'s is a scatter (half again as slow on a
    CPU). Where the values of a block tie, the gradient is shared between them.
    """
    height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    x = x[:, :height, :width]
    rows = jnp.maximum(x[:, 0::2], x[:, 1::2])
    return jnp.maximum(rows[:, :, 0::2], rows[:, :, 1::2])
