"""Shapes of the learning rate: step, length, settings -> multiplier in [0, 1].

Each is traceable in every argument (no Python branch on a number), so that the trials of a
pack can hold different values and nothing recompiles.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

Scalar = jax.Array | float


def constant(step: Scalar, train_steps: Scalar) -> jax.Array:
    """1 at every step."""
    del train_steps
    return jnp.ones_like(jnp.asarray(step, jnp.float32))


def linear(
    step: Scalar,
    train_steps: Scalar,
    end_learning_rate_factor: Scalar,
    decay_steps_factor: Scalar,
) -> jax.Array:
    """1 - (1 - alpha) t/T for t <= T, alpha after (Shallue et al. 2019, ResNets and VGG).

    ``alpha = end_learning_rate_factor``, ``T = decay_steps_factor * train_steps``.
    """
    progress = jnp.asarray(step, jnp.float32) / (decay_steps_factor * train_steps)
    return 1.0 - (1.0 - end_learning_rate_factor) * jnp.clip(progress, 0.0, 1.0)
