"""Normalisation layers; batch norm whose statistics size is its own, not the batch size's.

A *ghost batch* (Hoffer et al. 2017) is G consecutive examples of the global batch. Its mean
and variance normalise its examples, so that neither the batch size nor the number of devices
changes what an example sees, as long as shards and micro-batches are cut at ghost borders.

Any batch size is legal. Of B examples there are max(1, B // G) ghost batches: the last one
takes the remainder too (G to 2G - 1 examples), and where B < G the whole batch is the one
ghost batch.
"""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

import jax
import jax.numpy as jnp
from flax import linen as nn

from workloads.models.linen import Context
from workloads.registry import unknown_name

NormalizationName = Literal["none", "batch", "layer"]
GHOST_SIZE = 64
EPSILON = 1e-5


def ghost_sizes(examples: int, ghost_size: int | None) -> tuple[int, int]:
    """(n, last): n ghost batches of ``ghost_size``, then one of ``last`` examples (at least
    one example, fewer than twice the ghost size). No ghost size means one of all examples."""
    if ghost_size is None or examples < 2 * ghost_size:
        return 0, examples
    count = examples // ghost_size - 1
    return count, examples - count * ghost_size


def _moments(x: jax.Array, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Weighted mean and variance of ghost batches [n, G, ..., C] -> two of [n, 1, ..., 1, C].

    Examples of weight zero (padding) do not count. The variance is the biased one, from
    deviations, which does not cancel as the mean of squares does.
    """
    axes = tuple(range(1, x.ndim - 1))
    # A ghost batch of padding alone is normalised as if it counted: it must stay finite.
    weights = jnp.where(weights.sum(axis=1, keepdims=True) > 0, weights, 1.0)
    weights = weights.reshape(*weights.shape, *(1,) * (x.ndim - 2)).astype(x.dtype)
    places = x.size // (x.shape[0] * x.shape[1] * x.shape[-1])
    total = jnp.maximum(places * weights.sum(axis=1, keepdims=True), jnp.finfo(x.dtype).tiny)
    mean = jnp.sum(weights * x, axis=axes, keepdims=True) / total
    variance = jnp.sum(weights * (x - mean) ** 2, axis=axes, keepdims=True) / total
    return mean, variance


class BatchNorm(nn.Module):
    """y = scale (x - mean) / sqrt(variance + epsilon) + bias, per channel.

    In training mean and variance are those of the example's ghost batch (over examples and
    image places). In evaluation they are running averages, so that an example's output does
    not depend on the others'.

    The running averages are exponential with ``decay`` per step, of the mean over ghost
    batches of their means and variances, and are corrected for their start at zero. The new
    state is m * old + (1 - m) * (statistics of this batch): linear in the statistics, so the
    mean of the states that micro-batches or devices return *from the same old state*, weighted
    by their examples, is the state of the whole batch.

    State ("batch_stats"): mean, variance [C]; weight [] (1 - decay^steps), all float32.

    Attributes:
      ghost_size: G; None normalises over the whole batch.
      decay: of the running averages.
      scale_init: 0 starts a residual branch as the zero function.
      dtype, param_dtype: number formats; statistics are computed in at least float32.
    """

    mixes_examples: ClassVar[bool] = True  # what `LinenModel.ghost_batch_size` looks for

    ghost_size: int | None = GHOST_SIZE
    decay: float = 0.9
    scale_init: float = 1.0
    dtype: str = "float32"
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array, context: Context) -> jax.Array:
        channels, param_dtype = x.shape[-1], jnp.dtype(self.param_dtype)
        scale = self.param(
            "scale", nn.initializers.constant(self.scale_init), (channels,), param_dtype
        )
        bias = self.param("bias", nn.initializers.zeros, (channels,), param_dtype)
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        if context.train:
            normalised = self._by_ghost_batches(wide, context.weights)
        else:
            normalised = self._by_running_averages(wide)
        shape = (1,) * (x.ndim - 1) + (channels,)
        y = normalised * scale.reshape(shape) + bias.reshape(shape)
        return y.astype(jnp.dtype(self.dtype))

    def _running(self, channels: int) -> tuple[nn.Variable, nn.Variable, nn.Variable]:
        return (
            self.variable("batch_stats", "mean", jnp.zeros, (channels,)),
            self.variable("batch_stats", "variance", jnp.zeros, (channels,)),
            self.variable("batch_stats", "weight", jnp.zeros, ()),
        )

    def _by_ghost_batches(self, x: jax.Array, weights: jax.Array) -> jax.Array:
        count, last = ghost_sizes(x.shape[0], self.ghost_size)
        border = x.shape[0] - last
        outputs, means, variances, shares = [], [], [], []
        for part, weight, groups in (
            (x[:border], weights[:border], count),
            (x[border:], weights[border:], 1),
        ):
            if groups == 0:
                continue
            ghosts = part.reshape(groups, -1, *x.shape[1:])
            ghost_weights = weight.reshape(groups, -1)
            mean, variance = _moments(ghosts, ghost_weights)
            normalised = (ghosts - mean) * jax.lax.rsqrt(variance + EPSILON)
            outputs.append(normalised.reshape(part.shape))
            means.append(mean.reshape(groups, -1))
            variances.append(variance.reshape(groups, -1))
            shares.append(ghost_weights.sum(axis=1))
        self._update(jnp.concatenate(means), jnp.concatenate(variances), jnp.concatenate(shares))
        return jnp.concatenate(outputs)

    def _update(self, means: jax.Array, variances: jax.Array, shares: jax.Array) -> None:
        """Move the running averages by the ghost batches' statistics, [n, C] each, weighted by
        how many examples ([n]) they hold."""
        running = self._running(means.shape[-1])
        if not self.is_mutable_collection("batch_stats"):
            return
        shares = (shares / jnp.maximum(shares.sum(), 1e-9)).reshape(-1, 1).astype(means.dtype)
        now = ((shares * means).sum(axis=0), (shares * variances).sum(axis=0), jnp.ones(()))
        for variable, value in zip(running, now, strict=True):
            moved = self.decay * variable.value + (1 - self.decay) * value
            variable.value = moved.astype(variable.value.dtype)

    def _by_running_averages(self, x: jax.Array) -> jax.Array:
        mean, variance, weight = (v.value.astype(x.dtype) for v in self._running(x.shape[-1]))
        started = weight > 0
        weight = jnp.where(started, weight, 1.0)
        shape = (1,) * (x.ndim - 1) + (x.shape[-1],)
        mean = (mean / weight).reshape(shape)
        variance = jnp.where(started, variance / weight, 1.0).reshape(shape)
        return (x - mean) * jax.lax.rsqrt(variance + EPSILON)


class Normalization(nn.Module):
    """The normalisation that a model's options name: none, batch (ghost) or layer.

    Attributes:
      kind: ``"none"`` returns x; ``"layer"`` normalises every example's channels.
      ghost_size, scale_init, dtype, param_dtype: as in `BatchNorm`.
    """

    kind: NormalizationName
    ghost_size: int | None = GHOST_SIZE
    scale_init: float = 1.0
    dtype: str = "float32"
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array, context: Context) -> jax.Array:
        if self.kind == "none":
            return x
        if self.kind == "batch":
            return BatchNorm(
                self.ghost_size,
                scale_init=self.scale_init,
                dtype=self.dtype,
                param_dtype=self.param_dtype,
            )(x, context)
        return nn.LayerNorm(
            epsilon=EPSILON,
            use_fast_variance=False,  # mean(x^2) - mean(x)^2 cancels where |mean| >> deviation
            dtype=jnp.dtype(self.dtype),
            param_dtype=jnp.dtype(self.param_dtype),
            scale_init=nn.initializers.constant(self.scale_init),
        )(x)


def check_normalization(kind: str, ghost_size: int | None) -> None:
    """Refuse an unknown kind (UnknownNameError) or a ghost size that is not positive."""
    if kind not in get_args(NormalizationName):
        raise unknown_name("normalization", kind, get_args(NormalizationName))
    if ghost_size is not None and (not isinstance(ghost_size, int) or ghost_size < 1):
        raise ValueError(f"ghost_size must be a positive whole number or None, got {ghost_size!r}")
