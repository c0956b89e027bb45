"""Gradient clipping as Optax transformations whose state says whether the step was clipped.

Each follows averaging over micro-batches and devices, and precedes the update rule::

    gradients, clip_state = clipping.update(gradients, clip_state, params)
    clip_state.clipped  # bool, shape (): did this step's clipping change the gradient?

The norm |g| is Euclidean over all parameters. A clipped gradient keeps its direction. A gradient
whose norm is not finite passes unchanged and is not remembered: divergence is the engine's to
see (a scale of zero would turn infinity into a NaN of unknown origin). Nor is a norm of zero
remembered: a percentile of zero would stop training for ever.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optimizers.leafwise import Scalar
from optimizers.norms import divided, norm_of, norms_along
from optimizers.quantiles import (
    empty_histogram,
    empty_window,
    histogram_add,
    histogram_percentile,
    window_add,
    window_percentile,
)

AGC_FLOOR = 1e-3
"""epsilon of AGC: the least norm a unit's weights are taken to have."""
FINAL_LAYERS = ("head", "logits", "output", "classifier")
"""Names the module of a final linear layer may have."""


class ClipState(NamedTuple):
    """State of every clipping.

    Attributes:
      clipped: shape (), bool: whether the last gradient was changed.
      memory: what an adaptive clipping remembers of the norms; () elsewhere.
    """

    clipped: jax.Array
    memory: Any = ()


def no_clipping() -> optax.GradientTransformation:
    """The gradient as it is; never clipped.

    >>> rule, g = no_clipping(), jnp.array([3.0, 4.0])
    >>> clipped, state = rule.update(g, rule.init(g))
    >>> print(clipped, state.clipped)
    [3. 4.] False
    """

    def update(
        gradients: optax.Updates, state: ClipState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, ClipState]:
        del params
        return gradients, state

    return _starting_with((), update)


def global_norm(clip_threshold: Scalar) -> optax.GradientTransformation:
    """g <- lambda g / |g| where |g| > lambda = ``clip_threshold``.

    Compared: equals ``optax.clip_by_global_norm``; ``torch.nn.utils.clip_grad_norm_`` divides
    by |g| + 1e-6.
    Reference: Pascanu et al. 2013; Tuning Playbook.

    >>> rule, g = global_norm(clip_threshold=1.0), jnp.array([3.0, 4.0])
    >>> clipped, state = rule.update(g, rule.init(g))
    >>> print(np.asarray(clipped).round(3), state.clipped)
    [0.6 0.8] True
    """

    def update(
        gradients: optax.Updates, state: ClipState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, ClipState]:
        del params
        gradients, clipped = clip_to(gradients, norm_of(gradients), clip_threshold)
        return gradients, ClipState(clipped, state.memory)

    return _starting_with((), update)


def autoclip(clip_percentile: Scalar) -> optax.GradientTransformation:
    """Clip to the p-th percentile of *all* norms so far, this step's included (AutoClip).

    p = ``clip_percentile``: 100 never clips, 0 clips to the least norm so far; the paper
    recommends 10. Gradients of zero do not count. The history is a histogram of fixed size, its
    percentile within 0.7 % of the exact one (`optimizers.quantiles`).

    Compared: the authors keep the whole history; some ports keep a buffer of 10,000 norms and
    clip every array by the global threshold on its own.
    Reference: Seetharaman et al. 2020, AutoClip.

    >>> rule, g = autoclip(clip_percentile=10.0), jnp.array([3.0, 4.0])
    >>> _, state = rule.update(g, rule.init(g))
    >>> clipped, state = rule.update(2 * g, state)
    >>> bool(state.clipped), bool(jnp.linalg.norm(clipped) < 6.0)
    (True, True)
    """
    return _adaptive(
        empty_histogram,
        histogram_add,
        lambda memory: histogram_percentile(memory, clip_percentile),
    )


def window_autoclip(clip_percentile: Scalar, clip_window: Scalar) -> optax.GradientTransformation:
    """Clip to the exact p-th percentile of the last W norms above zero, this step's included.

    p = ``clip_percentile``, W = ``clip_window``, from 1 to 1024.

    >>> rule, g = window_autoclip(clip_percentile=50.0, clip_window=256.0), jnp.array([3.0, 4.0])
    >>> _, state = rule.update(g, rule.init(g))
    >>> clipped, state = rule.update(3 * g, state)  # norms 5 and 15, whose median is 10
    >>> print(np.asarray(clipped).round(3), state.clipped)
    [6. 8.] True
    """
    return _adaptive(
        empty_window,
        window_add,
        lambda memory: window_percentile(memory, clip_percentile, clip_window),
    )


def agc(clip_ratio: Scalar) -> optax.GradientTransformation:
    """Adaptive gradient clipping, unit by unit against the unit's weights.

        G_i <- lambda max(|W_i|, 1e-3) / |G_i| G_i  where  |G_i| > lambda max(|W_i|, 1e-3)

    lambda = ``clip_ratio``. A unit is an output of a kernel: all entries that share the last
    index. Left alone are arrays of rank below 2 (biases, scales) and the final linear layer
    (`final_linear`). ``clipped`` is true where any unit was.

    Compared: ``optax.adaptive_grad_clip`` clips biases too (as one unit each) and excludes
    nothing; PyTorch has none.
    Reference: Brock et al. 2021 (arXiv 2102.06171), section 4.1.

    >>> rule = agc(clip_ratio=0.01)
    >>> params = {"kernel": jnp.array([[3.0], [4.0]])}
    >>> gradients = {"kernel": jnp.array([[6.0], [8.0]])}
    >>> clipped, state = rule.update(gradients, rule.init(params), params)
    >>> print(np.asarray(clipped["kernel"]).round(4).T, state.clipped)
    [[0.03 0.04]] True
    """

    def update(
        gradients: optax.Updates, state: ClipState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, ClipState]:
        weights = jax.tree_util.tree_leaves_with_path(params)
        final = final_linear(params)
        leaves, tree = jax.tree.flatten(gradients)
        pairs = [
            (g, jnp.zeros([], bool))
            if w.ndim < 2 or path == final
            else clip_units(g, w, clip_ratio)
            for g, (path, w) in zip(leaves, weights, strict=True)
        ]
        clipped = jnp.any(jnp.stack([was for _, was in pairs]))
        return jax.tree.unflatten(tree, [g for g, _ in pairs]), ClipState(clipped, state.memory)

    return _starting_with((), update)


def clip_units(g: jax.Array, w: jax.Array, ratio: Scalar) -> tuple[jax.Array, jax.Array]:
    """(gradient with every unit's norm at most ratio max(|W_i|, 1e-3), whether any was over)."""
    axes = tuple(range(g.ndim - 1))
    size = norms_along(g, axes)
    limit = ratio * jnp.maximum(norms_along(w, axes), AGC_FLOOR)
    over = (size > limit) & jnp.isfinite(size)
    return jnp.where(over, _at_norm(g, size, limit), g), jnp.any(over)


def final_linear(params: optax.Params) -> tuple[Any, ...] | None:
    """Path of the kernel of the final linear layer, or None where there is no telling.

    The matrix in a module named as in `FINAL_LAYERS`; else, since Flax numbers modules in the
    order of their use, the matrix of the outermost module ``Dense_<n>`` with the largest n.
    """
    best: tuple[tuple[int, int, int], tuple[Any, ...]] | None = None
    for path, array in jax.tree_util.tree_leaves_with_path(params):
        names = [str(getattr(key, "key", getattr(key, "name", key))) for key in path]
        numbered = [match for name in names if (match := re.fullmatch(r"Dense_(\d+)", name))]
        named = bool(set(names) & set(FINAL_LAYERS))
        if array.ndim == 2 and (named or numbered):
            number = int(numbered[-1][1]) if numbered else 0
            rank = (int(named), -len(names), number)
            best = max(best or (rank, path), (rank, path), key=lambda pair: pair[0])
    return best[1] if best else None


def clip_to(
    gradients: optax.Updates, norm: jax.Array, threshold: Scalar
) -> tuple[optax.Updates, jax.Array]:
    """(gradients scaled to ``threshold`` where their ``norm`` exceeds it, whether it did)."""
    over = (norm > threshold) & jnp.isfinite(norm)
    scaled = jax.tree.map(lambda g: jnp.where(over, _at_norm(g, norm, threshold), g), gradients)
    return scaled, over


def _at_norm(g: jax.Array, norm: jax.Array, wanted: Scalar) -> jax.Array:
    """g wanted / |g|; g / |g| comes first: wanted / |g| alone may be too small for the dtype."""
    return divided(g, norm) * jnp.asarray(wanted).astype(g.dtype)


def _adaptive(
    empty: Callable[[], Any],
    add: Callable[[Any, jax.Array], Any],
    percentile: Callable[[Any], jax.Array],
) -> optax.GradientTransformation:
    def update(
        gradients: optax.Updates, state: ClipState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, ClipState]:
        del params
        norm = norm_of(gradients)
        # A remembered zero could become the threshold, and no later gradient would pass it.
        memory = add(state.memory, jnp.where(norm > 0, norm, jnp.inf))
        gradients, clipped = clip_to(gradients, norm, percentile(memory))
        return gradients, ClipState(clipped, memory)

    return _starting_with(empty, update)


def _starting_with(memory: Any, update: Callable[..., Any]) -> optax.GradientTransformation:
    def init(params: optax.Params) -> ClipState:
        del params
        return ClipState(jnp.zeros([], bool), memory() if callable(memory) else memory)

    return optax.GradientTransformation(init, update)
