"""Layer-wise rates: LARS and LAMB. A layer is one parameter array (a kernel, a bias)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from optimizers.leafwise import Scalar, Slots, leafwise, zeros
from optimizers.norms import norm_of


def lars(
    learning_rate: Scalar, momentum: Scalar, weight_decay: Scalar, trust_coefficient: Scalar
) -> optax.GradientTransformation:
    """LARS: SGD with momentum whose rate is scaled per layer by |w| / |g|.

        r = tau |w| / (|g| + beta |w|);  r = 1 where |w| or |g| is 0
        v <- gamma v + eta r (g + beta w),  v_0 = 0
        w <- w - v

    gamma = ``momentum``, beta = ``weight_decay``, tau = ``trust_coefficient``; norms are
    Euclidean, per array; biases and norm scales are layers like any other.

    Compared: ``optax.lars`` divides by |g + beta w| instead of |g| + beta |w|; PyTorch has none.
    Reference: You, Gitman and Ginsburg 2017 (arXiv 1708.03888), algorithm 1.

    >>> rule = lars(1.0, momentum=0.9, weight_decay=0.0, trust_coefficient=0.1)
    >>> g = w = jnp.array([3.0, -4.0])
    >>> first, state = rule.update(g, rule.init(w), w)
    >>> second, state = rule.update(g, state, w)
    >>> print(np.round([first, second], 3))
    [[-0.3   0.4 ]
     [-0.57  0.76]]
    """

    def step(t: jax.Array, g: jax.Array, w: jax.Array, slots: Slots) -> tuple[jax.Array, Slots]:
        del t
        w_norm, g_norm = norm_of(w), norm_of(g)
        degenerate = (w_norm == 0) | (g_norm == 0)
        denominator = jnp.where(degenerate, 1.0, g_norm + weight_decay * w_norm)
        ratio = jnp.where(degenerate, 1.0, trust_coefficient * w_norm / denominator)
        v = momentum * slots["v"] + learning_rate * ratio * (g + weight_decay * w)
        return -v, {"v": v}

    return leafwise(step, zeros("v"))


def lamb(
    learning_rate: Scalar, beta1: Scalar, beta2: Scalar, epsilon: Scalar, weight_decay: Scalar
) -> optax.GradientTransformation:
    """LAMB: Adam's direction plus decay, rescaled per layer to the length of the parameters.

        u = (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon) + lambda w,  m, v: Adam's
        w <- w - eta (|w| / |u|) u;  the ratio is 1 where |w| or |u| is 0

    lambda = ``weight_decay``; norms are Euclidean, per array.

    Compared: equals ``optax.lamb``; PyTorch has none.
    Reference: You et al. 2020 (arXiv 1904.00962), algorithm 2, with phi the identity.

    >>> rule = lamb(0.1, beta1=0.9, beta2=0.999, epsilon=1e-6, weight_decay=0.0)
    >>> g = w = jnp.array([3.0, -4.0])
    >>> first, state = rule.update(g, rule.init(w), w)
    >>> second, state = rule.update(g, state, w)
    >>> print(np.round([first, second], 3))
    [[-0.354  0.354]
     [-0.354  0.354]]
    """
    return optax.lamb(learning_rate, b1=beta1, b2=beta2, eps=epsilon, weight_decay=weight_decay)
