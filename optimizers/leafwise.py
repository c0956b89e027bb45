"""Update rules written one parameter array at a time, in the words of their papers.

A rule is a function of one array and its slots (momenta, second moments, ...); this module
lifts it to a tree of parameters and keeps the step counter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Scalar = jax.Array | float
Slots = dict[str, jax.Array]
Step = Callable[[jax.Array, jax.Array, jax.Array, Slots], tuple[jax.Array, Slots]]
Start = Callable[[jax.Array], Slots]


class LeafwiseState(NamedTuple):
    """State of a leafwise rule.

    Attributes:
      steps: updates made; shape (), int32.
      slots: for each parameter array, in the order of ``jax.tree.leaves``, its slots by name.
    """

    steps: jax.Array
    slots: tuple[Slots, ...]


def leafwise(step: Step, start: Start) -> optax.GradientTransformation:
    """The transformation that applies ``step`` to every parameter array.

    Args:
      step: ``(t, gradient, parameter, slots) -> (displacement, new slots)``. ``t`` is 1 at the
        first update, a float of the parameter's dtype; the displacement is *added* to the
        parameter. Slots keep their shape and dtype.
      start: parameter array -> its slots before the first step (none of size zero: a
        checkpoint refuses such arrays).
    """

    def init(params: optax.Params) -> LeafwiseState:
        leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(params)]
        return LeafwiseState(jnp.zeros([], jnp.int32), tuple(start(leaf) for leaf in leaves))

    def update(
        gradients: optax.Updates, state: LeafwiseState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, LeafwiseState]:
        leaves, tree = jax.tree.flatten(gradients)
        parameters = leaves if params is None else jax.tree.leaves(params)
        count = optax.safe_increment(state.steps)
        moved = [
            step(count.astype(gradient.dtype), gradient, parameter, slots)
            for gradient, parameter, slots in zip(leaves, parameters, state.slots, strict=True)
        ]
        displacements = jax.tree.unflatten(tree, [displacement for displacement, _ in moved])
        return displacements, LeafwiseState(count, tuple(slots for _, slots in moved))

    return optax.GradientTransformation(init, update)


def bias_factor(decay: Scalar, t: jax.Array) -> jax.Array:
    """1 - decay^t, accurate where decay is near one.

    The plain form in float32 at decay = 0.999, t = 1 is off by up to 6e-5 of its value (the
    rounding of decay^t against a difference of 1e-3). At decay = 0 the value is 1.
    """
    return -jnp.expm1(t * jnp.log(decay))


def zeros(*names: str) -> Start:
    """Slots of zeros, shaped like the parameter, by these names."""
    return lambda parameter: {name: jnp.zeros_like(parameter) for name in names}


def cast(tree: Any, dtypes: Callable[[jax.Array], Any]) -> Any:
    """Every array of a tree in the dtype that ``dtypes(array)`` names."""
    return jax.tree.map(lambda array: jnp.asarray(array).astype(dtypes(jnp.asarray(array))), tree)


def at_least_float32(
    rule: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    """The same rule, computed and remembered in float32 or wider; updates in the params' dtype.

    Below float32 an exponential average with decay 0.999 stops moving (bfloat16 has 8 bits: an
    increment under 1/256 of the value is lost), and a traced float32 rate would promote the
    state, so that a scan over steps would not type-check. With bfloat16 parameters the state is
    float32 and the update is rounded to bfloat16 once, at the end. Other dtypes pass unchanged.
    """
    rule = optax.with_extra_args_support(rule)

    def wide(array: jax.Array) -> Any:
        return jnp.promote_types(array.dtype, jnp.float32)

    def init(params: optax.Params) -> optax.OptState:
        return rule.init(cast(params, wide))

    def update(
        gradients: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        **extra: Any,
    ) -> tuple[optax.Updates, optax.OptState]:
        wide_params = None if params is None else cast(params, wide)
        updates, new_state = rule.update(cast(gradients, wide), state, wide_params, **extra)
        like = gradients if params is None else params
        updates = jax.tree.map(lambda u, p: u.astype(jnp.asarray(p).dtype), updates, like)
        return updates, new_state

    return optax.GradientTransformationExtraArgs(init, update)
