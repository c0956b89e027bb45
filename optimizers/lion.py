"""Lion: the sign of an interpolated momentum."""

from __future__ import annotations

import optax

from optimizers.leafwise import Scalar


def lion(
    learning_rate: Scalar, beta1: Scalar, beta2: Scalar, weight_decay: Scalar
) -> optax.GradientTransformation:
    """Lion: every coordinate moves by the rate, in the direction of a sign.

        u = sign(beta1 m + (1 - beta1) g),  sign(0) = 0
        theta <- theta - eta (u + lambda theta)
        m <- beta2 m + (1 - beta2) g,  m_0 = 0

    lambda = ``weight_decay``, decoupled, times the current rate.

    Compared: equals ``optax.lion`` (whose default decay is 1e-3); PyTorch has none.
    Reference: Chen et al. 2023 (arXiv 2302.06675), algorithm 2.

    >>> rule = lion(learning_rate=0.1, beta1=0.9, beta2=0.99, weight_decay=0.5)
    >>> g = w = jnp.array([1.0, -2.0])
    >>> first, state = rule.update(g, rule.init(w), w)
    >>> second, state = rule.update(g, state, w)
    >>> print(np.round([first, second], 3))
    [[-0.15  0.2 ]
     [-0.15  0.2 ]]
    """
    return optax.lion(learning_rate, b1=beta1, b2=beta2, weight_decay=weight_decay)
