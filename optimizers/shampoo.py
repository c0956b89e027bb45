"""Shampoo: a matrix preconditioner for each axis of a parameter matrix."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from optimizers.leafwise import Scalar, Slots, leafwise, zeros
from optimizers.norms import norm_of

LARGEST_AXIS = 512
"""An axis longer than this gets no preconditioner (its matrix would have over 2^18 entries)."""
ITERATIONS = 40
"""Most iterations of a root; a condition of 1e4 takes 14."""


def shampoo(
    learning_rate: Scalar, momentum: Scalar, epsilon: Scalar
) -> optax.GradientTransformation:
    """Shampoo, preconditioners refreshed at every step, momentum over the preconditioned step.

        L <- L + G G^T,  L_0 = 0;  R <- R + G^T G,  R_0 = 0
        D = (L + epsilon |L|_F I)^(-1/4) G (R + epsilon |R|_F I)^(-1/4)
        v <- gamma v + D,  v_0 = 0;  W <- W - eta v
        arrays of rank 0 and 1:  h <- h + g^2,  h_0 = 0;  D = g / sqrt(h + epsilon max(h))

    gamma = ``momentum``. An array of rank two or more is the matrix [all other axes, last axis].
    An axis longer than 512 has no preconditioner; the other side then takes the power -1/2, and
    an array with two such axes is treated entrywise. Roots come from matrix products alone
    (coupled Newton iteration), which pack and suit accelerators; the ridge bounds the condition
    by 1 / epsilon: at 1e-4 a float32 root is right to 4e-5, at 1e-6 to 3e-3.

    Compared: Optax and PyTorch have none. Gupta et al. start L and R at epsilon I, so that their
    epsilon depends on the gradient's scale; Anil et al., like here, add a ridge relative to the
    largest eigenvalue (here to the norm). Distributed Shampoo adds averages, grafting of the
    step's length, blocking and rare refreshes.
    Reference: Gupta, Koren and Singer 2018 (arXiv 1802.09568), algorithm 1; Anil et al. 2020
    (arXiv 2002.09018); Guo and Higham 2006 (the root).

    >>> rule = shampoo(learning_rate=0.1, momentum=0.0, epsilon=1e-4)
    >>> g = w = jnp.array([[3.0, 0.0], [0.0, -4.0]])
    >>> step, state = rule.update(g, rule.init(w), w)
    >>> print(np.asarray(step).round(2))
    [[-0.1 -0. ]
     [-0.   0.1]]
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
        ridged = h + epsilon * jnp.max(h)
        return g / jnp.sqrt(jnp.where(ridged > 0, ridged, 1.0)), {"h": h}
    statistics = {}
    root = 4 if {"l", "r"} <= set(slots) else 2
    matrix = direction = as_matrix(g)
    if "l" in slots:
        statistics["l"] = slots["l"] + matrix @ matrix.T
        direction = inverse_root(statistics["l"], root, epsilon) @ direction
    if "r" in slots:
        statistics["r"] = slots["r"] + matrix.T @ matrix
        direction = direction @ inverse_root(statistics["r"], root, epsilon)
    return direction.reshape(g.shape), statistics


def inverse_root(statistics: jax.Array, root: int, epsilon: Scalar) -> jax.Array:
    """(S + epsilon |S|_F I)^(-1/root) of a positive semi-definite S [n, n]; root 2 or 4.

    S is divided by a power of two near |S|_F first, which is exact and keeps squares of its
    entries in range. Coupled Newton iteration on the ridged quotient A: X_0 = z^(1/p) I and
    M_0 = z A with z = (1 + p) / (2 |A|_F), then T = ((p + 1) I - M) / p, X <- X T, M <- T^p M,
    until M is I to rounding. Where S is 0 the result is the identity (there is nothing to
    precondition).
    """
    size = statistics.shape[0]
    identity = jnp.eye(size, dtype=statistics.dtype)
    norm = norm_of(statistics)
    empty = norm == 0
    unit = jnp.where(empty, 1.0, norm / jnp.frexp(norm)[0])
    ridged = statistics / unit + epsilon * (norm / unit) * identity
    ridged = jnp.where(empty, identity, ridged)
    scale = (1 + root) / (2 * norm_of(ridged))
    tolerance = size * jnp.finfo(statistics.dtype).eps

    def unfinished(carry: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        number, _, m = carry
        return (number < ITERATIONS) & (jnp.max(jnp.abs(m - identity)) > tolerance)

    def iterate(
        carry: tuple[jax.Array, jax.Array, jax.Array],
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        number, x, m = carry
        factor = ((root + 1) * identity - m) / root
        power = factor @ factor
        power = power @ power if root == 4 else power
        return number + 1, x @ factor, power @ m

    first = (jnp.zeros([], jnp.int32), identity * scale ** (1 / root), ridged * scale)
    return jax.lax.while_loop(unfinished, iterate, first)[1] * unit ** (-1 / root)


def as_matrix(array: jax.Array) -> jax.Array:
    """The array of rank two or more as a matrix [all other axes, last axis]."""
    return array.reshape(-1, array.shape[-1])


def _start(parameter: jax.Array) -> Slots:
    """Slots of zeros: v, and the preconditioners of the axes that have one, else h."""
    slots = zeros("v")(parameter)
    if parameter.ndim >= 2:
        sizes = dict(zip("lr", as_matrix(parameter).shape, strict=True))
        for side, size in sizes.items():
            if size <= LARGEST_AXIS:
                slots[side] = jnp.zeros((size, size), parameter.dtype)
    return slots if len(slots) > 1 else zeros("v", "h")(parameter)
