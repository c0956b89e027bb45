"""LSTM language model with projections (Sak et al. 2014; sizes after Shallue et al. 2019)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from workloads.models.linen import Context, Dropout, LinenModel


class LSTM(nn.Module):
    """One layer over a sequence, [B, T, D] -> [B, T, P].

    gates i, f, o and candidate z are affine in (x_t, r_{t-1});
    c_t = f c_{t-1} + i tanh(z), h_t = o tanh(c_t), r_t = h_t projected.

    Attributes:
      units: H, size of the cell.
      projection: P, size of the recurrent output.
      dtype, param_dtype: number formats.
    """

    units: int
    projection: int
    dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        dtype = jnp.dtype(self.dtype)
        gates = 4 * self.units
        # All inputs at once: one large product instead of one per step.
        driven = self._dense(gates, True, "input")(x)
        recurrent = self._matrix("recurrent", (self.projection, gates))
        project = self._matrix("project", (self.units, self.projection))

        def step(
            carry: tuple[jax.Array, jax.Array], drive: jax.Array
        ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
            cell, output = carry
            opened = drive + output @ recurrent
            i, f, o, z = jnp.split(opened, 4, axis=-1)
            # The forget gate starts open (a bias of 1; Jozefowicz et al. 2015).
            cell = jax.nn.sigmoid(f + 1.0) * cell + jax.nn.sigmoid(i) * jnp.tanh(z)
            output = (jax.nn.sigmoid(o) * jnp.tanh(cell)) @ project
            return (cell, output), output

        start = (
            jnp.zeros((x.shape[0], self.units), dtype),
            jnp.zeros((x.shape[0], self.projection), dtype),
        )
        _, outputs = lax.scan(step, start, driven.swapaxes(0, 1))
        return outputs.swapaxes(0, 1)

    def _matrix(self, name: str, shape: tuple[int, int]) -> jax.Array:
        matrix = self.param(
            name, nn.initializers.lecun_normal(), shape, jnp.dtype(self.param_dtype)
        )
        return matrix.astype(jnp.dtype(self.dtype))

    def _dense(self, size: int, use_bias: bool, name: str) -> nn.Dense:
        return nn.Dense(
            size,
            use_bias=use_bias,
            dtype=jnp.dtype(self.dtype),
            param_dtype=jnp.dtype(self.param_dtype),
            name=name,
        )


class LstmLM(nn.Module):
    """tokens [B, T] integers -> logits [B, T, vocabulary] of the next token at each place.

    Attributes:
      vocabulary: number of tokens.
      layers: number of LSTM layers.
      embedding: size of a token's vector.
      units, projection: as in `LSTM`.
      dtype, param_dtype: number formats.
    """

    vocabulary: int
    layers: int
    embedding: int
    units: int
    projection: int
    dtype: str = "float32"
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, inputs: jax.Array, context: Context) -> jax.Array:
        dtype, param_dtype = jnp.dtype(self.dtype), jnp.dtype(self.param_dtype)
        table = self.param(
            "embedding", nn.initializers.normal(1.0), (self.vocabulary, self.embedding), param_dtype
        )
        x = Dropout()(table.astype(dtype)[inputs.astype(jnp.int32)], context)
        for _ in range(self.layers):
            x = LSTM(self.units, self.projection, self.dtype, self.param_dtype)(x)
            x = Dropout()(x, context)
        return nn.Dense(self.vocabulary, dtype=dtype, param_dtype=param_dtype)(x)


def lstm_lm(
    vocabulary: int,
    layers: int = 2,
    embedding: int = 512,
    units: int = 2048,
    projection: int = 512,
    *,
    dtype: str = "float32",
    param_dtype: str = "float32",
) -> LinenModel:
    """Two layers of 2048 cells projected to 512 (ours, after the paper's 512 with projection).

    Raises:
      ValueError: a size that is not a positive whole number.
    """
    sizes = {
        "vocabulary": vocabulary,
        "layers": layers,
        "embedding": embedding,
        "units": units,
        "projection": projection,
    }
    for name, value in sizes.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a positive whole number, got {value!r}")
    return LinenModel(LstmLM(vocabulary, layers, embedding, units, projection, dtype, param_dtype))
