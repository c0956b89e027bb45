"""Schedule-free SGD and AdamW: averaging in place of a decay of the rate."""

from __future__ import annotations

from typing import Any

import optax

from optimizers.leafwise import Scalar

WEIGHT_POWER = 2.0
"""Iterate t is averaged with the weight (largest rate so far)^2."""


def schedule_free_sgd(
    learning_rate: Scalar, beta: Scalar, weight_decay: Scalar
) -> optax.GradientTransformation:
    """Schedule-free SGD; the parameters are y, evaluation is at x (`evaluation_params`).

        y = (1 - beta) z + beta x,  x_0 = z_0
        z <- z - eta_t (g(y) + lambda y)
        c = w_t / (w_1 + ... + w_t),  w_t = (largest eta so far)^2
        x <- (1 - c) x + c z

    lambda = ``weight_decay``. Meant for a constant rate, with or without warmup.

    Compared: equals ``optax.contrib.schedule_free_sgd``; PyTorch itself has none.
    Reference: Defazio et al. 2024 (arXiv 2405.15682), section 2.

    >>> rule = schedule_free_sgd(learning_rate=0.1, beta=0.9, weight_decay=0.0)
    >>> y = jnp.array([1.0, -2.0])
    >>> step, state = rule.update(y, rule.init(y), y)  # y is the gradient of |y|^2 / 2
    >>> y = optax.apply_updates(y, step)
    >>> print(np.round([y, evaluation_params(state, y)], 3))
    [[ 0.9 -1.8]
     [ 0.9 -1.8]]
    """
    return optax.contrib.schedule_free_sgd(
        learning_rate, b1=beta, weight_decay=weight_decay, weight_lr_power=WEIGHT_POWER
    )


def schedule_free_adamw(
    learning_rate: Scalar, beta: Scalar, beta2: Scalar, epsilon: Scalar, weight_decay: Scalar
) -> optax.GradientTransformation:
    """Schedule-free AdamW; the parameters are y, evaluation is at x (`evaluation_params`).

        y = (1 - beta) z + beta x,  x_0 = z_0
        v <- beta2 v + (1 - beta2) g(y)^2,  v_0 = 0
        z <- z - eta_t (g(y) / (sqrt(v / (1 - beta2^t)) + epsilon) + lambda y)
        c = w_t / (w_1 + ... + w_t),  w_t = (largest eta so far)^2
        x <- (1 - c) x + c z

    lambda = ``weight_decay``. Meant for a constant rate, with or without warmup.

    Compared: equals ``optax.contrib.schedule_free_adamw``; PyTorch itself has none.
    Reference: Defazio et al. 2024 (arXiv 2405.15682), algorithm 1.

    >>> rule = schedule_free_adamw(0.1, beta=0.9, beta2=0.999, epsilon=1e-8, weight_decay=0.0)
    >>> y = jnp.array([1.0, -2.0])
    >>> step, state = rule.update(y, rule.init(y), y)  # y is the gradient of |y|^2 / 2
    >>> y = optax.apply_updates(y, step)
    >>> print(np.round([y, evaluation_params(state, y)], 3))
    [[ 0.9 -1.9]
     [ 0.9 -1.9]]
    """
    return optax.contrib.schedule_free_adamw(
        learning_rate,
        b1=beta,
        b2=beta2,
        eps=epsilon,
        weight_decay=weight_decay,
        weight_lr_power=WEIGHT_POWER,
    )


def evaluation_params(state: Any, params: optax.Params) -> optax.Params:
    """x = (y - (1 - beta) z) / beta, in the dtype of the parameters y."""
    x = optax.contrib.schedule_free_eval_params(state, params)
    return optax.tree.cast_like(x, params)
