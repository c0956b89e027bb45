"""Shampoo: a matrix preconditioner for each axis of a parameter matrix."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from optimizers.leafwise import Scalar, Slots, leafwise, zeros

LARGEST_AXIS = 512
"""An axis longer than this gets no preconditioner (its matrix would have over 2^18 entries)."""


def shampoo(
    learning_rate: Scalar, momentum: Scalar, epsilon: Scalar
) -> optax.GradientTransformation:
    """Shampoo, preconditioners refreshed at every step, momentum over the preconditioned step.

        L <- L + G G^T,  L_0 = epsilon I
        R <- R + G^T G,  R_0 = epsilon I
        D = L^(-1/4) G R^(-1/4)
        v <- gamma v + D,  v_0 = 0;  W <- W - eta v
        arrays of rank 0 and 1:  h <- h + g^2,  h_0 = epsilon;  D = g / sqrt(h)

    gamma = ``momentum``. An array of rank two or more is the matrix [all other axes, last axis].
    An axis longer than 512 has no preconditioner; the other side then takes the power -1/2, and
    an array with two such axes is treated entrywise. Roots come from a symmetric
    eigendecomposition, eigenvalues floored at epsilon, which is their least exact value.
    One step costs two eigendecompositions a matrix.

    Compared: Optax and PyTorch have none. Distributed Shampoo adds moving averages, grafting of
    the step's length, blocking and rare refreshes; this is the rule of the paper.
    Reference: Gupta, Koren and Singer 2018 (arXiv 1802.09568), algorithm 1.
    """

    def step(t: jax.Array, g: jax.Array, _: jax.Array, slots: Slots) -> tuple[jax.Array, Slots]:
        del t
        direction, statistics = _precondition(g, slots, epsilon)
        v = momentum * slots["v"] + direction
        return -learning_rate * v, {"v": v, **statistics}

    return leafwise(step, _start)


def _precondition(g: jax.Array, slots: Slots, epsilon: Scalar) -> tuple[jax.Array, Slots]:
    """(D, grown statistics): the preconditioned gradient of one array."""
    if "h" in slots:
        h = slots["h"] + g * g
        return g / jnp.sqrt(h + epsilon), {"h": h}
    statistics = {}
    power = -0.25 if {"l", "r"} <= set(slots) else -0.5
    matrix = direction = _matrix(g)
    if "l" in slots:
        statistics["l"] = slots["l"] + matrix @ matrix.T
        direction = matrix_power(statistics["l"], power, epsilon) @ direction
    if "r" in slots:
        statistics["r"] = slots["r"] + matrix.T @ matrix
        direction = direction @ matrix_power(statistics["r"], power, epsilon)
    return direction.reshape(g.shape), statistics


def matrix_power(statistics: jax.Array, power: float, epsilon: Scalar) -> jax.Array:
    """(S + epsilon I)^power of a positive semi-definite S, shape [n, n], power below 0."""
    values, vectors = jnp.linalg.eigh(statistics)
    roots = (jnp.maximum(values, 0.0) + epsilon) ** power
    return (vectors * roots[None, :]) @ vectors.T


def _matrix(array: jax.Array) -> jax.Array:
    """[all other axes, last axis]."""
    return array.reshape(-1, array.shape[-1])


def _start(parameter: jax.Array) -> Slots:
    """Slots of zeros; epsilon is added when a root is taken, so that it may change."""
    slots = zeros("v")(parameter)
    if parameter.ndim >= 2:
        sizes = dict(zip("lr", _matrix(parameter).shape, strict=True))
        for side, size in sizes.items():
            if size <= LARGEST_AXIS:
                slots[side] = jnp.zeros((size, size), parameter.dtype)
    return slots if len(slots) > 1 else zeros("v", "h")(parameter)
