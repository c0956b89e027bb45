"""Schedules of the momentum (or of beta1): step, length, peak, settings -> momentum.

Traceable in every argument. ``step`` (0 at the first update) and ``train_steps``, the length of
the whole trial, count updates; the result is float32 of the shape of ``step``. The engine replaces
the momentum it hands to the rule at each step.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from schedules.shapes import Scalar


def constant(step: Scalar, train_steps: Scalar, momentum: Scalar) -> jax.Array:
    """The momentum as given.

    >>> print(np.asarray(constant(np.array([0, 50]), 100, 0.9)))
    [0.9 0.9]
    """
    del train_steps
    return jnp.full(jnp.shape(step), momentum, jnp.float32)


def annealed(
    step: Scalar,
    train_steps: Scalar,
    momentum: Scalar,
    initial_momentum: Scalar,
    anneal_steps_factor: Scalar,
) -> jax.Array:
    """Linear from mu_0 to mu over A steps, mu after (CS231n: from 0.5 to 0.99).

    ``mu_0 = initial_momentum``, ``mu = momentum``, ``A = anneal_steps_factor * train_steps``.

    >>> print(np.asarray(annealed(np.array([0, 50, 75, 100]), 100, 0.9, 0.5, 0.5)).round(3))
    [0.5 0.9 0.9 0.9]
    """
    passed = jnp.asarray(step, jnp.float32) / (anneal_steps_factor * jnp.float32(train_steps))
    return initial_momentum + (momentum - initial_momentum) * jnp.clip(passed, 0.0, 1.0)


def sutskever(
    step: Scalar, train_steps: Scalar, momentum: Scalar, momentum_period_steps: Scalar
) -> jax.Array:
    """min(1 - 1 / (2 (floor(t/P) + 1)), mu): 0.5, 0.75, 0.833, ... up to mu.

    ``mu = momentum``, ``P = momentum_period_steps`` (250 in the paper). Equal to its
    1 - 2^(-1 - log2(floor(t/250) + 1)) (Sutskever et al. 2013, equation 5).

    >>> print(np.asarray(sutskever(np.array([0, 50, 75, 100]), 100, 0.9, 25.0)).round(3))
    [0.5   0.833 0.875 0.9  ]
    """
    del train_steps
    periods = jnp.floor(jnp.asarray(step, jnp.float32) / momentum_period_steps)
    return jnp.minimum(1.0 - 0.5 / (periods + 1.0), momentum)
