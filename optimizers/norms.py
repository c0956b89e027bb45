"""Euclidean norms whose squares neither overflow nor vanish, and whether an array is finite.

Everything that measures or compares a norm takes it from here: sqrt(sum x^2) in float32 is
infinite from 1.8e19 on and 0 below 1e-19, and in bfloat16 a sum of more than 256 equal terms
stops growing.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp


def norm_of(tree: Any) -> jax.Array:
    """|x| = m sqrt(sum (x / m)^2) over all arrays of a tree, m the largest absolute value.

    Computed in float32 or wider; shape (). A tree of zeros, and one of no arrays, has norm 0.
    Infinite or NaN where an entry is, and infinite where the norm itself exceeds the dtype.
    """
    leaves = [_wide(leaf) for leaf in jax.tree.leaves(tree)]
    scale = usable_scale(_largest(leaves))
    squares = [jnp.sum((leaf / scale) ** 2) for leaf in leaves] or [jnp.float32(0)]
    return scale * jnp.sqrt(functools.reduce(jnp.add, squares))


def norms_along(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """`norm_of` every slice of an array over ``axes``, which are kept with length 1."""
    x = _wide(x)
    scale = usable_scale(jnp.max(jnp.abs(x), axis=axes, keepdims=True, initial=0.0))
    return scale * jnp.sqrt(jnp.sum((x / scale) ** 2, axis=axes, keepdims=True))


def usable_scale(largest: jax.Array) -> jax.Array:
    """Divisor that gives ``largest`` a harmless square; 1 where it is 0 or not finite.

    That is ``largest`` itself between 2^-100 and 2^100 (float32), else the nearer of the two: XLA
    divides an array by a number as it multiplies by the reciprocal, which must not vanish.
    """
    most = 2.0 ** (jnp.finfo(largest.dtype).maxexp - 28)
    usable = (largest > 0) & jnp.isfinite(largest)
    return jnp.where(usable, jnp.clip(largest, 1 / most, most), 1.0)


def divided(x: jax.Array, norm: jax.Array) -> jax.Array:
    """x / ``norm``, in x's dtype; x as it is where the norm is 0 or not finite."""
    scale = usable_scale(norm)
    rest = usable_scale(norm / scale)  # 1 within the range of scales
    return x / scale.astype(x.dtype) / rest.astype(x.dtype)


def largest_of(tree: Any) -> jax.Array:
    """The largest absolute value of a tree, in float32 or wider; NaN where an entry is."""
    return _largest([_wide(leaf) for leaf in jax.tree.leaves(tree)])


def all_finite(tree: Any) -> jax.Array:
    """Tell whether every number of a tree is finite, bool []; whole numbers always are."""
    leaves = jax.tree.leaves(tree)
    return jnp.isfinite(largest_of([x for x in leaves if jnp.issubdtype(x.dtype, jnp.inexact)]))


def _largest(leaves: list[jax.Array]) -> jax.Array:
    each = [jnp.max(jnp.abs(leaf), initial=0.0) for leaf in leaves] or [jnp.float32(0)]
    return functools.reduce(jnp.maximum, each)


def _wide(leaf: Any) -> jax.Array:
    leaf = jnp.asarray(leaf)
    return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))
