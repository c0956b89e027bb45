"""Muon: momentum, orthogonalised, for matrices; AdamW for everything else."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from optimizers.leafwise import Scalar, Slots, bias_factor, leafwise, zeros
from optimizers.norms import divided, norm_of

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""a, b, c of one iteration X <- a X + b (X X^T) X + c (X X^T)^2 X."""
ITERATIONS = 5
ADAM_BETA1, ADAM_BETA2, ADAM_EPSILON = 0.9, 0.95, 1e-10
"""AdamW's constants, for arrays that are not matrices."""


def muon(
    learning_rate: Scalar, momentum: Scalar, weight_decay: Scalar, adam_learning_rate_factor: Scalar
) -> optax.GradientTransformation:
    """Muon: Nesterov momentum replaced by (nearly) the closest matrix with equal singular values.

        B <- mu B + (1 - mu) g,  B_0 = 0
        X = mu B + (1 - mu) g;  X <- X / |X|_F  (0 where |X|_F is 0)
        five times:  X <- a X + b (X X^T) X + c (X X^T)^2 X
        w <- w - eta (sqrt(max(1, m / n)) X + lambda w)
        arrays of rank 0 and 1:  AdamW (0.9, 0.95, 1e-10) at the rate eta * factor

    mu = ``momentum``, lambda = ``weight_decay``, factor = ``adam_learning_rate_factor``;
    (a, b, c) = (3.4445, -4.7750, 2.0315); an array of rank two or more is a matrix of m = its
    last axis (outputs) times n = all other axes (inputs). Singular values above 0.2 % of the norm
    end between 0.68 and 1.2. Embeddings and the last layer are treated as any matrix, where the
    author gives them to AdamW.

    Compared: ``optax.contrib.muon`` corrects the momentum's bias and gives arrays of rank other
    than 2 to AdamW; ``torch.optim.Muon`` takes matrices only and scales by
    0.2 sqrt(max(m, n)) where asked.
    Reference: Jordan et al. 2024, Muon (kellerjordan.github.io/posts/muon).

    >>> rule = muon(0.1, momentum=0.95, weight_decay=0.0, adam_learning_rate_factor=0.1)
    >>> w = {"matrix": jnp.array([[3.0, 0.0], [0.0, -4.0]]), "bias": jnp.array([5.0])}
    >>> step, state = rule.update(w, rule.init(w), w)  # w stands for its own gradient
    >>> print(np.sign(step["matrix"]), np.round(step["bias"], 3))
    [[-1.  0.]
     [ 0.  1.]] [-0.01]
    """
    adam_rate = learning_rate * adam_learning_rate_factor

    def matrix(g: jax.Array, w: jax.Array, slots: Slots) -> tuple[jax.Array, Slots]:
        buffer = momentum * slots["momentum"] + (1.0 - momentum) * g
        flat = (momentum * buffer + (1.0 - momentum) * g).reshape(-1, g.shape[-1])
        scale = max(1.0, flat.shape[1] / flat.shape[0]) ** 0.5
        direction = scale * orthogonalize(flat).reshape(g.shape)
        return -learning_rate * (direction + weight_decay * w), {"momentum": buffer}

    def other(t: jax.Array, g: jax.Array, w: jax.Array, slots: Slots) -> tuple[jax.Array, Slots]:
        m = ADAM_BETA1 * slots["momentum"] + (1.0 - ADAM_BETA1) * g
        v = ADAM_BETA2 * slots["v"] + (1.0 - ADAM_BETA2) * g * g
        root = jnp.sqrt(v / bias_factor(ADAM_BETA2, t)) + ADAM_EPSILON
        direction = m / bias_factor(ADAM_BETA1, t) / root
        return -adam_rate * (direction + weight_decay * w), {"momentum": m, "v": v}

    def step(t: jax.Array, g: jax.Array, w: jax.Array, slots: Slots) -> tuple[jax.Array, Slots]:
        return matrix(g, w, slots) if g.ndim >= 2 else other(t, g, w, slots)

    return leafwise(step, _start)


def orthogonalize(x: jax.Array) -> jax.Array:
    """U f(S) V^T of x = U S V^T with f near 1: five Newton-Schulz iterations on x / |x|_F.

    The polynomial is odd, so that the wide and the tall form agree; the smaller of the two
    products is formed. Shape [m, n] in and out.
    """
    if x.shape[0] > x.shape[1]:
        return orthogonalize(x.T).T
    a, b, c = NEWTON_SCHULZ
    x = divided(x, norm_of(x))
    for _ in range(ITERATIONS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x


def _start(parameter: jax.Array) -> Slots:
    names = ("momentum",) if parameter.ndim >= 2 else ("momentum", "v")
    return zeros(*names)(parameter)
