"""Schedule-free SGD and AdamW: averaging in place of a decay of the rate."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from optimizers.leafwise import LeafwiseState, Scalar, Slots, bias_factor, leafwise

WEIGHT_POWER = 2.0
"""Iterate t is averaged with the weight (largest rate so far)^2."""


def schedule_free_sgd(
    learning_rate: Scalar, beta: Scalar, weight_decay: Scalar
) -> optax.GradientTransformation:
    """Schedule-free SGD; the parameters are y, evaluation is at x (`evaluation_params`).

        y = (1 - beta) z + beta x,  x_0 = z_0
        z <- z - eta_t (g(y) + lambda y)
        c = w_t / (w_1 + ... + w_t),  w_t = (largest eta so far)^2;  c = 0 while all rates were 0
        x <- (1 - c) x + c z

    lambda = ``weight_decay``. Meant for a constant rate, with or without warmup. The state keeps
    x as well as z: x rebuilt from a y rounded to bfloat16 would be wrong by y's rounding / beta.

    Compared: equals ``optax.contrib.schedule_free_sgd``, which keeps z alone; PyTorch itself has
    none.
    Reference: Defazio et al. 2024 (arXiv 2405.15682), section 2.

    >>> rule = schedule_free_sgd(learning_rate=0.1, beta=0.9, weight_decay=0.0)
    >>> y = jnp.array([1.0, -2.0])
    >>> step, state = rule.update(y, rule.init(y), y)  # y is the gradient of |y|^2 / 2
    >>> y = optax.apply_updates(y, step)
    >>> print(np.round([y, evaluation_params(state, y)], 3))
    [[ 0.9 -1.8]
     [ 0.9 -1.8]]
    """

    def direction(t: jax.Array, g: jax.Array, slots: Slots) -> tuple[jax.Array, Slots]:
        del t, slots
        return g, {}

    return _schedule_free(learning_rate, beta, weight_decay, direction, ())


def schedule_free_adamw(
    learning_rate: Scalar, beta: Scalar, beta2: Scalar, epsilon: Scalar, weight_decay: Scalar
) -> optax.GradientTransformation:
    """Schedule-free AdamW; the parameters are y, evaluation is at x (`evaluation_params`).

        y = (1 - beta) z + beta x,  x_0 = z_0
        v <- beta2 v + (1 - beta2) g(y)^2,  v_0 = 0
        z <- z - eta_t (g(y) / (sqrt(v / (1 - beta2^t)) + epsilon) + lambda y)
        c = w_t / (w_1 + ... + w_t),  w_t = (largest eta so far)^2;  c = 0 while all rates were 0
        x <- (1 - c) x + c z

    lambda = ``weight_decay``. Meant for a constant rate, with or without warmup. The state keeps
    x, as that of `schedule_free_sgd`.

    Compared: equals ``optax.contrib.schedule_free_adamw``, which keeps no x; PyTorch itself has
    none.
    Reference: Defazio et al. 2024 (arXiv 2405.15682), algorithm 1.

    >>> rule = schedule_free_adamw(0.1, beta=0.9, beta2=0.999, epsilon=1e-8, weight_decay=0.0)
    >>> y = jnp.array([1.0, -2.0])
    >>> step, state = rule.update(y, rule.init(y), y)  # y is the gradient of |y|^2 / 2
    >>> y = optax.apply_updates(y, step)
    >>> print(np.round([y, evaluation_params(state, y)], 3))
    [[ 0.9 -1.9]
     [ 0.9 -1.9]]
    """

    def direction(t: jax.Array, g: jax.Array, slots: Slots) -> tuple[jax.Array, Slots]:
        v = beta2 * slots["v"] + (1.0 - beta2) * g * g
        return g / (jnp.sqrt(v / bias_factor(beta2, t)) + epsilon), {"v": v}

    return _schedule_free(learning_rate, beta, weight_decay, direction, ("v",))


def _schedule_free(
    learning_rate: Scalar,
    beta: Scalar,
    weight_decay: Scalar,
    direction: Callable[[jax.Array, jax.Array, Slots], tuple[jax.Array, Slots]],
    moments: tuple[str, ...],
) -> optax.GradientTransformation:
    """The rule around ``direction(t, gradient, slots) -> (step of z per unit rate, new moments)``.

    Slots: z, x and the moments, shaped like the parameter; ``rate`` (the largest so far) and
    ``weights`` (w_1 + ... + w_t), shape ().
    """

    def step(t: jax.Array, g: jax.Array, y: jax.Array, slots: Slots) -> tuple[jax.Array, Slots]:
        move, new = direction(t, g, slots)
        z = slots["z"] - learning_rate * (move + weight_decay * y)
        rate = jnp.maximum(slots["rate"], learning_rate)
        weights = slots["weights"] + rate**WEIGHT_POWER
        c = jnp.where(weights > 0, rate**WEIGHT_POWER / jnp.where(weights > 0, weights, 1.0), 0.0)
        x = (1.0 - c) * slots["x"] + c * z
        new |= {"z": z, "x": x, "rate": rate, "weights": weights}
        return (1.0 - beta) * z + beta * x - y, new

    def start(parameter: jax.Array) -> Slots:
        slots = {name: jnp.zeros_like(parameter) for name in moments}
        zero = jnp.zeros([], parameter.dtype)
        return slots | {"z": parameter, "x": parameter, "rate": zero, "weights": zero}

    return leafwise(step, start)


def evaluation_params(state: LeafwiseState, params: optax.Params) -> optax.Params:
    """x, in the dtype of the parameters y."""
    leaves, tree = jax.tree.flatten(params)
    xs = [slots["x"].astype(p.dtype) for slots, p in zip(state.slots, leaves, strict=True)]
    return jax.tree.unflatten(tree, xs)
