"""The noise of the gradient, estimated while a trial trains (McCandlish et al. 2018, app. A.1).

The next step's batch of B examples is cut into K pieces. Piece k has b_k examples and the mean
gradient g_k; g is the gradient of the whole batch, the mean of the g_k weighted by b_k. Recorded
with every evaluation are

    S = 1/(K - 1) sum_k b_k |g_k - g|^2        ``trace``, an estimate of tr(Sigma)
    |g|^2                                      ``squared_norm``

Sigma is the covariance of one example's gradient. S is unbiased, and equals McCandlish's
(|g_small|^2 - |g_big|^2) / (1/B_small - 1/B_big), eq. A.2, averaged over pieces of equal size; as a
sum of squared differences it does not cancel in float32. `experiments.analysis.noise_scale` makes
|G|^2 and the noise scale of both.

The pieces share the step's parameters, dropout masks and training mode, so S is the noise of the
gradient that the step uses, before clipping. A piece is cut at the borders of ghost batches: the
statistics of batch norm are those of the step, and Sigma is then G times the covariance of a ghost
batch's gradient. Pieces depend on the place in the global batch alone, so devices and micro-batches
change the last bits only. An objective that counts more than one term an example (tokens) is taken
to count as many in every example.

A study may ask for both of every array of the parameters; they add up to the whole ones.

A batch that cannot be cut (one example, or one ghost batch) gives NaN.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from experiments.spec.resolved import ResolvedStudy
from experiments.spec.trial import GRADIENT_NOISE, LAYERS, TrialConfig
from experiments.training.computation import Measurement
from experiments.training.cuts import ghost_batch_size
from experiments.training.feed import ResidentData
from experiments.training.gradient import Sums, sums_of_next_step
from experiments.training.layout import Layout
from experiments.training.sharding import cut
from experiments.training.state import Batch, Hyperparameters, Measurements, TrainState

PIECES = 4
"""The most pieces of a batch. S varies by about sqrt(2 / ((K - 1) d)) of itself, d the effective
dimensions of the noise; each piece keeps a gradient in memory."""
TERMS = ("trace", "squared_norm")
Gradients = Any
"""A tree like the parameters, each leaf with a leading axis [K]: sums over the pieces' examples."""


def noise_of(study: ResolvedStudy, data: ResidentData) -> tuple[Measurement, ...]:
    """Measurements that a study asks for of the gradient's noise: one measurement, or none."""
    if not (study.record_noise or study.noise_per_layer):
        return ()
    config = study.config("off")  # norms change nothing of it
    return (gradient_noise(config, ghost_batch_size(config, data.train), study.noise_per_layer),)


def gradient_noise(config: TrialConfig, group: int | None, per_layer: bool = False) -> Measurement:
    """The measurement by which a program records the noise of the gradient.

    Args:
      config: of the trials.
      group: consecutive examples that must share a piece, None for the whole batch
        (`experiments.training.cuts.ghost_batch_size`).
      per_layer: whether every array of the parameters has its own columns too.

    Returns:
      A measurement, under ``measured/gradient_noise/``, with the columns ``trace`` (S),
      ``squared_norm`` (|g|^2), ``pieces`` (K) and ``batch_size`` (B), float32 or wider []; and
      ``layers/PATH/trace`` and ``layers/PATH/squared_norm`` of each array.
    """
    function = functools.partial(_measured, config, group, per_layer=per_layer)
    return Measurement(GRADIENT_NOISE, function)


def _measured(
    config: TrialConfig,
    group: int | None,
    state: TrainState,
    hyperparameters: Hyperparameters,
    batch: Batch,
    *,
    per_layer: bool = False,
    axis_name: str | None = None,
) -> Measurements:
    sums = sums_of_next_step(config, state, hyperparameters)
    with jax.default_matmul_precision(config.precision.matmul):
        if axis_name is None and batch["weights"].ndim == 1:
            if not (pieces := _cut(batch, group)):
                nan, one = jnp.float32(jnp.nan), jnp.float32(1)
                size = jnp.float32(batch["weights"].shape[0])
                layers = _layers(state.params) if per_layer else []
                lost = {f"{LAYERS}{layer}/{term}": nan for layer in layers for term in TERMS}
                return {**dict.fromkeys(TERMS, nan), "pieces": one, "batch_size": size, **lost}
            found = jax.lax.map(functools.partial(_summed, sums, state.params), pieces)
        else:
            found = _of_share(sums, state.params, batch, group, axis_name)
    sums_of_pieces, counts, examples = found
    layers = _layers(state.params) if per_layer else []
    return _moments(sums_of_pieces, counts, examples, layers)


def _layers(params: Any) -> list[str]:
    """The paths of the parameters' arrays, in the order of their leaves."""
    paths = jax.tree_util.tree_flatten_with_path(params)[0]
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths]


def _cut(batch: Batch, group: int | None) -> dict[str, jax.Array] | None:
    """The pieces of a whole batch, arrays [K, rows, ...]; None where it cannot be cut."""
    batch_size = batch["weights"].shape[0]
    groups = max(1, batch_size // (group or batch_size))
    share = -(-groups // PIECES)
    where = cut(batch_size, Layout("vmap", data=-(-groups // share)), group)
    if where is None:
        return None
    pieces = {role: array[where.position] for role, array in batch.items()}
    return {**pieces, "weights": pieces["weights"] * where.weights}


def _summed(sums: Sums, params: Any, piece: Batch) -> tuple[Any, jax.Array, jax.Array]:
    """(gradient of the sum of w_i l_i, sum of w_i c_i, sum of w_i) of one piece, in float32 or
    wider."""

    def total(p: Any) -> tuple[jax.Array, jax.Array]:
        return sums(p, piece)[:2]

    gradient, count = jax.grad(total, has_aux=True)(params)
    return jax.tree.map(_wide, gradient), _wide(count), jnp.sum(_wide(piece["weights"]))


def _of_share(
    sums: Sums, params: Any, batch: Batch, group: int | None, axis_name: str | None
) -> tuple[Gradients, jax.Array, jax.Array]:
    """`_summed` of every piece, [K], where devices or micro-batches have cut the batch already.

    A micro-batch that holds examples of several pieces is differentiated once for each of them,
    the others' weights being zero: M micro-batches take at most M + K - 1 gradients.
    """
    if batch["weights"].ndim == 1:
        batch = jax.tree.map(lambda x: x[None], batch)
    batch_size = jnp.sum(batch["weights"])
    if axis_name is not None:
        batch_size = jax.lax.psum(batch_size, axis_name)
    whole = batch_size.astype(jnp.int32)
    size = whole if group is None else jnp.minimum(group, whole)
    groups = jnp.maximum(1, whole // size)
    share = -(-groups // PIECES)

    def of_piece(k: jax.Array) -> Any:
        def add(total: Any, part: Batch) -> tuple[Any, None]:
            piece = jnp.minimum(part["position"] // size, groups - 1) // share
            weights = jnp.where(piece == k, part["weights"], 0)
            found = jax.lax.cond(
                jnp.any(weights > 0),
                lambda: _summed(sums, params, {**part, "weights": weights}),
                lambda: zero,
            )
            return jax.tree.map(jnp.add, total, found), None

        first = jax.tree.map(lambda x: x[0], batch)
        like = jax.eval_shape(lambda: _summed(sums, params, first))
        zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
        return jax.lax.scan(add, zero, batch)[0]

    found = jax.lax.map(of_piece, jnp.arange(PIECES))
    return found if axis_name is None else jax.lax.psum(found, axis_name)


def _moments(
    gradients: Gradients, counts: jax.Array, examples: jax.Array, layers: Sequence[str] = ()
) -> Measurements:
    """S and |g|^2 of the pieces' sums [K, ...]; pieces without examples do not count.

    Those of the named ``layers`` beside them: the paths of all leaves, or none.
    """
    count, batch_size = jnp.sum(counts), jnp.sum(examples)
    held = examples > 0
    pieces = jnp.sum(held).astype(count.dtype)
    squared, apart = [], []  # of each leaf
    for leaf in jax.tree.leaves(gradients):
        whole = jnp.sum(leaf, axis=0, keepdims=True) / count
        shape = (-1, *(1,) * (leaf.ndim - 1))
        mean = leaf / jnp.where(held, counts, 1).reshape(shape)
        distance = jnp.sum((mean - whole) ** 2, axis=tuple(range(1, leaf.ndim)))
        squared.append(jnp.sum(whole**2))
        apart.append(jnp.sum(counts * distance))

    def terms(apart: jax.Array, squared: jax.Array, prefix: str = "") -> Measurements:
        trace = apart * (batch_size / count) / (pieces - 1)
        lost = jnp.where(pieces > 1, squared, jnp.nan)
        return {f"{prefix}{name}": x for name, x in zip(TERMS, (trace, lost), strict=True)}

    zero = jnp.zeros([], count.dtype)
    found = {**terms(sum(apart, zero), sum(squared, zero)), "pieces": pieces}
    found["batch_size"] = batch_size
    for layer, of_leaf, norm in zip(layers, apart, squared, strict=bool(layers)):
        found |= terms(of_leaf, norm, f"{LAYERS}{layer}/")
    return {name: value.astype(count.dtype) for name, value in found.items()}


def _wide(x: jax.Array) -> jax.Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
