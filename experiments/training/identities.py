"""Operations that change nothing: the parameters with which a new one is an identity, or zero."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from experiments.training.sharding import PyTree
from workloads.exact_changes import KERNELS
from workloads.models.normalization import EPSILON
from workloads.models.operations import EXPANSION


def identity(operation: str, width: int) -> tuple[PyTree, PyTree]:
    """(params, batch statistics) with which an operation returns its input."""
    if operation == "weighted_skip":
        return {"weight": jnp.ones(())}, {}
    if operation not in KERNELS:
        return _zero_block(operation, width), {}
    place, size = KERNELS[operation]
    kernel = jnp.eye(width)
    if place == "convolution":
        kernel = jnp.zeros((size, size, width, width)).at[size // 2, size // 2].set(kernel)
    if not operation.startswith("bn_"):
        return {place: {"kernel": kernel, "bias": jnp.zeros(width)}}, {}
    norm = {"scale": jnp.full(width, (1.0 + EPSILON) ** 0.5), "bias": jnp.zeros(width)}
    statistics = {"mean": jnp.zeros(width), "variance": jnp.ones(width), "weight": jnp.ones(())}
    return {place: {"kernel": kernel}, "norm": norm}, {"norm": statistics}


def zeroed(operation: str, params: PyTree) -> PyTree:
    """Drawn parameters with the last ones zero, so that the operation returns zero and learns.

    Of one of `workloads.exact_changes.ZEROS`: the scale and the offset of its batch norm, the
    kernel and the bias of an affine map, the weight of a skip connection.
    """
    zeros = jax.tree.map(jnp.zeros_like, params)
    if operation == "weighted_skip":
        return zeros
    last = "affine" if operation == "affine" else "norm"
    return {**params, last: zeros[last]}


def _zero_block(operation: str, width: int) -> PyTree:
    """A block that adds zero: its first matrix drawn, its last zero, so that it can learn."""
    key, initial = jax.random.key(width), jax.nn.initializers.lecun_normal()
    norm = {"LayerNorm_0": {"scale": jnp.ones(width), "bias": jnp.zeros(width)}}
    if operation == "feed_forward":
        hidden = EXPANSION * width
        wide = {"kernel": initial(key, (width, hidden)), "bias": jnp.zeros(hidden)}
        narrow = {"kernel": jnp.zeros((hidden, width)), "bias": jnp.zeros(width)}
        return {"norm": norm, "wide": wide, "narrow": narrow}
    first = {"kernel": initial(key, (width, 3 * width))}
    last = {"kernel": jnp.zeros((width, width))}
    return {"norm": norm, "attention": {"Dense_0": first, "Dense_1": last}}
