"""SGD, Momentum and Nesterov momentum (Choi et al. 2019; Tuning Playbook's table of rules)."""

from __future__ import annotations

import jax
import optax


def sgd(learning_rate: jax.Array | float) -> optax.GradientTransformation:
    """theta_{t+1} = theta_t - eta g_t."""
    return optax.sgd(learning_rate)


def momentum(
    learning_rate: jax.Array | float, momentum: jax.Array | float
) -> optax.GradientTransformation:
    """v_{t+1} = gamma v_t + g_t, v_0 = 0; theta_{t+1} = theta_t - eta v_{t+1}."""
    return optax.sgd(learning_rate, momentum=momentum)


def nesterov(
    learning_rate: jax.Array | float, momentum: jax.Array | float
) -> optax.GradientTransformation:
    """v_{t+1} = gamma v_t + g_t, v_0 = 0; theta_{t+1} = theta_t - eta (gamma v_{t+1} + g_t)."""
    return optax.sgd(learning_rate, momentum=momentum, nesterov=True)
