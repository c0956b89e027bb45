"""Decoder-only Transformer language model, with the normalisation in one of three places.

Vaswani et al. 2017, without an encoder; sizes after Shallue et al. 2019.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

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
from workloads.registry import unknown_name

Placement = Literal["pre", "post", "post_branch"]
SIZES = {
    "base": {"layers": 6, "width": 512, "feed_forward": 2048, "heads": 8},
    "shallow": {"layers": 2, "width": 512, "feed_forward": 2048, "heads": 8},
    "narrow_and_shallow": {"layers": 2, "width": 256, "feed_forward": 1024, "heads": 4},
    "wide": {"layers": 6, "width": 1024, "feed_forward": 4096, "heads": 16},
}
"""base as Vaswani et al. 2017; the others differ in the direction their names say, by amounts
that are ours."""


def sinusoids(length: int, width: int) -> jax.Array:
    """[length, width] fixed positions: sin and cos of t / 10000^(2 i / width)."""
    half = (width + 1) // 2
    rates = 10_000.0 ** (-jnp.arange(half) / half)
    angles = jnp.arange(length)[:, None] * rates[None, :]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)[:, :width]


class Attention(nn.Module):
    """Multi-head self-attention, [B, T, D] -> [B, T, D]; no biases.

    Attributes:
      heads: D must be a multiple of it.
      dtype, param_dtype: number formats; the softmax is computed in at least float32.
      causal: whether a token sees none after it.
    """

    heads: int
    dtype: str
    param_dtype: str
    causal: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        batch, length, width = x.shape
        head = width // self.heads
        parts = self._dense(3 * width)(x).reshape(batch, length, 3, self.heads, head)
        query, key, value = parts[:, :, 0], parts[:, :, 1], parts[:, :, 2]
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) * head**-0.5
        scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
        if self.causal:
            seen = jnp.tril(jnp.ones((length, length), bool))[None, None]
            scores = jnp.where(seen, scores, -jnp.inf)
        shares = jax.nn.softmax(scores, axis=-1)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", shares.astype(x.dtype), value)
        return self._dense(width)(mixed.reshape(batch, length, width))

    def _dense(self, size: int) -> nn.Dense:
        return nn.Dense(
            size,
            use_bias=False,
            dtype=jnp.dtype(self.dtype),
            param_dtype=jnp.dtype(self.param_dtype),
        )


class TransformerLM(nn.Module):
    """tokens [B, T] integers -> logits [B, T, vocabulary] of the next token at each place.

    Attributes:
      vocabulary: number of tokens.
      layers, width, feed_forward, heads: sizes.
      placement: pre x + f(N(x)) with one more N at the end, post N(x + f(x)), post_branch
        x + N(f(x)) with one more N at the end.
      normalization, ghost_size: as in `Normalization`; batch norm takes its statistics over
        examples and places.
      residual_start: ``"rezero"`` multiplies each branch by a trained scalar, zero at first.
      dtype, param_dtype: number formats of activations and of parameters.
    """

    vocabulary: int
    layers: int
    width: int
    feed_forward: int
    heads: int
    placement: Placement = "pre"
    normalization: NormalizationName = "layer"
    ghost_size: int | None = GHOST_SIZE
    residual_start: Literal["standard", "rezero"] = "standard"
    dtype: str = "float32"
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, inputs: jax.Array, context: Context) -> jax.Array:
        dtype, param_dtype = jnp.dtype(self.dtype), jnp.dtype(self.param_dtype)
        embedding = self.param(
            "embedding", nn.initializers.normal(1.0), (self.vocabulary, self.width), param_dtype
        )
        x = embedding.astype(dtype)[inputs.astype(jnp.int32)]
        x = x + sinusoids(inputs.shape[1], self.width).astype(dtype)[None]
        x = Dropout()(x, context)
        for layer in range(self.layers):
            attention = Attention(self.heads, self.dtype, self.param_dtype)
            x = self._residual(x, attention, f"attention_{layer}", context)
            x = self._residual(x, self._feed_forward, f"feed_forward_{layer}", context)
        if self.placement != "post":
            x = self._norm("final_norm")(x, context)
        # Logits start small, so that the loss starts at ln(vocabulary). Input and output
        # matrices are not shared: shared ones start by predicting the input itself.
        small = nn.initializers.variance_scaling(0.1, "fan_in", "truncated_normal")
        return nn.Dense(
            self.vocabulary, dtype=dtype, param_dtype=param_dtype, kernel_init=small, name="output"
        )(x)

    def _residual(
        self, x: jax.Array, branch: Callable[[jax.Array], jax.Array], name: str, context: Context
    ) -> jax.Array:
        """One residual branch with its normalisation where ``placement`` puts it."""
        norm = self._norm(f"{name}_norm")
        y = branch(norm(x, context) if self.placement == "pre" else x)
        if self.placement == "post_branch":
            y = norm(y, context)
        y = Dropout()(y, context)
        if self.residual_start == "rezero":
            alpha = self.param(
                f"{name}_alpha", nn.initializers.zeros, (), jnp.dtype(self.param_dtype)
            )
            y = alpha.astype(y.dtype) * y
        return norm(x + y, context) if self.placement == "post" else x + y

    def _feed_forward(self, x: jax.Array) -> jax.Array:
        return self._dense(self.width)(nn.relu(self._dense(self.feed_forward)(x)))

    def _dense(self, size: int) -> nn.Dense:
        return nn.Dense(size, dtype=jnp.dtype(self.dtype), param_dtype=jnp.dtype(self.param_dtype))

    def _norm(self, name: str) -> Normalization:
        return Normalization(
            self.normalization,
            self.ghost_size,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=name,
        )


def transformer_lm(
    vocabulary: int,
    size: str = "base",
    *,
    layers: int | None = None,
    width: int | None = None,
    feed_forward: int | None = None,
    heads: int | None = None,
    placement: Placement = "pre",
    normalization: NormalizationName = "layer",
    ghost_size: int | None = GHOST_SIZE,
    residual_start: Literal["standard", "rezero"] = "standard",
    dtype: str = "float32",
    param_dtype: str = "float32",
) -> LinenModel:
    """The language model as a `Model`; a size name, and numbers that replace its own.

    Raises:
      UnknownNameError: a size, placement or normalization that does not exist.
      ValueError: a width that is no multiple of heads, or another residual_start.
    """
    if size not in SIZES:
        raise unknown_name("size", size, SIZES)
    if placement not in get_args(Placement):
        raise unknown_name("placement", placement, get_args(Placement))
    if residual_start not in ("standard", "rezero"):
        raise ValueError(f"residual_start must be standard or rezero, got {residual_start!r}")
    check_normalization(normalization, ghost_size)
    given = {"layers": layers, "width": width, "feed_forward": feed_forward, "heads": heads}
    sizes = {**SIZES[size], **{name: value for name, value in given.items() if value is not None}}
    if sizes["width"] % sizes["heads"]:
        raise ValueError(
            f"width must be a multiple of heads, got {sizes['width']} and {sizes['heads']}"
        )
    return LinenModel(
        TransformerLM(
            vocabulary,
            layers=sizes["layers"],
            width=sizes["width"],
            feed_forward=sizes["feed_forward"],
            heads=sizes["heads"],
            placement=placement,
            normalization=normalization,
            ghost_size=ghost_size,
            residual_start=residual_start,
            dtype=dtype,
            param_dtype=param_dtype,
        )
    )
