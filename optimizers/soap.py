"""SOAP: Adam in the slowly turning eigenbasis of Shampoo's preconditioners."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from optimizers.leafwise import Scalar, Slots, bias_factor, leafwise, zeros
from optimizers.norms import norm_of
from optimizers.shampoo import LARGEST_AXIS, as_matrix

FIRST_ITERATIONS = 10
"""Orthogonal iterations of the first basis, which begin at the axes."""
RIDGE = 1e-4
"""Of a preconditioner over its norm: what tells its null directions apart."""


def soap(
    learning_rate: Scalar,
    beta1: Scalar,
    beta2: Scalar,
    epsilon: Scalar,
    weight_decay: Scalar,
    *,
    refresh_steps: Scalar,
) -> optax.GradientTransformation:
    """SOAP, decoupled weight decay, the basis refreshed every f steps by a QR of one power step.

        first step: L = (1 - beta2) G G^T,  R = (1 - beta2) G^T G,  their bases Q_L, Q_R; W stays
        then, with k = 1 at the second step:
        M <- beta1 M + (1 - beta1) G,  M_0 = 0
        G' = Q_L^T G Q_R,  V <- beta2 V + (1 - beta2) G'^2,  V_0 = 0
        N' = (Q_L^T M Q_R) / (1 - beta1^k) / (sqrt(V / (1 - beta2^k)) + epsilon)
        W <- W - eta (Q_L N' Q_R^T + lambda W)
        L <- beta2 L + (1 - beta2) G G^T,  R <- beta2 R + (1 - beta2) G^T G
        every f-th k: Q_L <- the Q of QR(L Q_L), Q_R <- the Q of QR(R Q_R)

    lambda = ``weight_decay``, f = ``refresh_steps``. An array of rank two or more is the matrix
    [all other axes, last axis]. An axis longer than 512 keeps its own basis, so that the rule is
    one-sided there; arrays of rank 0 and 1, and those with two such axes, take Adam's steps. The
    first gradient is used for the bases alone, so that no gradient is projected on its own.

    Compared: Optax and PyTorch have none. The authors find the first bases by eigenvalues, here
    by ten orthogonal iterations from the axes, which pack; directions without gradient are told
    apart by a ridge of 1e-4 |L|_F that grows along the axis, so that they do not depend on
    rounding.
    Reference: Vyas et al. 2024 (arXiv 2409.11321), algorithm 3.

    >>> rule = soap(0.1, beta1=0.9, beta2=0.9, epsilon=1e-8, weight_decay=0.0, refresh_steps=10)
    >>> g = w = jnp.array([[3.0, 0.0], [0.0, -4.0]])
    >>> first, state = rule.update(g, rule.init(w), w)
    >>> second, state = rule.update(g, state, w)
    >>> print(np.round([first, second], 3) + 0.0)
    [[[ 0.   0. ]
      [ 0.   0. ]]
    <BLANKLINE>
     [[-0.1  0. ]
      [ 0.   0.1]]]
    """

    def step(t: jax.Array, g: jax.Array, w: jax.Array, slots: Slots) -> tuple[jax.Array, Slots]:
        bases = {side: slots[f"q{side}"] for side in "lr" if side in slots}
        waits = 1 if bases else 0  # steps that only set the bases
        begun, k = t > waits, jnp.maximum(t - waits, 1.0)
        turned = _turned(g, bases)
        m = jnp.where(begun, beta1 * slots["m"] + (1 - beta1) * g, slots["m"])
        v = jnp.where(begun, beta2 * slots["v"] + (1 - beta2) * turned * turned, slots["v"])
        root = jnp.sqrt(v / bias_factor(beta2, k)) + epsilon
        direction = _turned_back(_turned(m, bases) / bias_factor(beta1, k) / root, bases)
        moved = -learning_rate * (direction + weight_decay * w)
        due = jnp.where(jnp.mod(t - waits, refresh_steps) == 0, 1, 0)
        statistics = _statistics(g, slots, jnp.where(begun, due, FIRST_ITERATIONS))
        return jnp.where(begun, moved, 0.0), {"m": m, "v": v, **statistics}

    def _statistics(g: jax.Array, slots: Slots, iterations: jax.Array) -> Slots:
        matrix, found = as_matrix(g), {}
        for side in "lr":
            if side in slots:
                product = matrix @ matrix.T if side == "l" else matrix.T @ matrix
                found[side] = beta2 * slots[side] + (1 - beta2) * product
                found[f"q{side}"] = refreshed(found[side], slots[f"q{side}"], iterations)
        return found

    return leafwise(step, _start)


def refreshed(statistics: jax.Array, basis: jax.Array, iterations: jax.Array) -> jax.Array:
    """``basis`` [n, n] after so many orthogonal iterations Q <- Q of QR(S Q); 0 leaves it.

    S is ``statistics`` [n, n], positive semi-definite, and a ridge of `RIDGE` |S|_F (1/n, ..., 1)
    on its diagonal, in units of its norm.
    """
    size = statistics.shape[0]
    norm = norm_of(statistics)
    unit = statistics / jnp.where(norm > 0, norm, 1.0)
    ridged = unit + jnp.diag(RIDGE * jnp.arange(1, size + 1, dtype=statistics.dtype) / size)

    def turn(_: jax.Array, q: jax.Array) -> jax.Array:
        return jnp.linalg.qr(ridged @ q)[0]

    return jax.lax.fori_loop(0, jnp.where(norm > 0, iterations, 0), turn, basis)


def _turned(array: jax.Array, bases: Slots) -> jax.Array:
    """Q_L^T A Q_R, in the shape of the array."""
    if not bases:
        return array
    matrix = as_matrix(array)
    matrix = bases["l"].T @ matrix if "l" in bases else matrix
    matrix = matrix @ bases["r"] if "r" in bases else matrix
    return matrix.reshape(array.shape)


def _turned_back(array: jax.Array, bases: Slots) -> jax.Array:
    """Q_L A Q_R^T, in the shape of the array."""
    return _turned(array, {side: basis.T for side, basis in bases.items()})


def _start(parameter: jax.Array) -> Slots:
    """Moments of zeros; of each axis that is short enough, statistics of zero and its own basis."""
    slots = zeros("m", "v")(parameter)
    if parameter.ndim >= 2:
        for side, size in zip("lr", as_matrix(parameter).shape, strict=True):
            if size <= LARGEST_AXIS:
                slots[side] = jnp.zeros((size, size), parameter.dtype)
                slots[f"q{side}"] = jnp.eye(size, dtype=parameter.dtype)
    return slots
