"""The update rules of the CS231n notes (neural-networks-3), each under a name of its own.

Their vanilla update is `optimizers.momentum.sgd`. The rules with epsilon follow the revision
of the notes that writes ``np.sqrt(cache) + eps``; an earlier one wrote ``np.sqrt(cache + 1e-8)``.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from optimizers.leafwise import Scalar, Slots, leafwise, zeros


def cs231n_momentum(learning_rate: Scalar, momentum: Scalar) -> optax.GradientTransformation:
    """CS231n's momentum: the rate is inside the velocity.

        v <- mu v - eta g,  v_0 = 0
        x <- x + v

    mu = ``momentum``. At a constant rate this is `momentum`; when the rate changes, the
    velocity keeps the old one (`corrected_momentum` cures that).

    Compared: ``optax.sgd`` and ``torch.optim.SGD`` keep the rate outside the buffer.
    Reference: CS231n, neural-networks-3, momentum update.

    >>> rule = cs231n_momentum(learning_rate=0.1, momentum=0.9)
    >>> g = w = jnp.array([1.0, -2.0])
    >>> first, state = rule.update(g, rule.init(w), w)
    >>> second, state = rule.update(g, state, w)
    >>> print(np.round([first, second], 3))
    [[-0.1   0.2 ]
     [-0.19  0.38]]
    """
    return optax.chain(optax.scale_by_learning_rate(learning_rate), optax.trace(momentum))


def cs231n_nesterov(learning_rate: Scalar, momentum: Scalar) -> optax.GradientTransformation:
    """CS231n's Nesterov momentum, written in the look-ahead variable.

        v' = mu v - eta g,  v_0 = 0
        x <- x - mu v + (1 + mu) v'

    mu = ``momentum``; x is the look-ahead point, where the gradient is taken. At a constant
    rate this is `nesterov`.

    Compared: ``optax.sgd(nesterov=True)`` and PyTorch's keep the rate outside the buffer.
    Reference: CS231n, neural-networks-3, Nesterov momentum; Bengio et al. 2012.

    >>> rule = cs231n_nesterov(learning_rate=0.1, momentum=0.9)
    >>> g = w = jnp.array([1.0, -2.0])
    >>> first, state = rule.update(g, rule.init(w), w)
    >>> second, state = rule.update(g, state, w)
    >>> print(np.round([first, second], 3))
    [[-0.19   0.38 ]
     [-0.271  0.542]]
    """
    # -mu v + (1 + mu) v' = v' + mu (v' - v) = mu v' - eta g, which is what trace returns.
    return optax.chain(
        optax.scale_by_learning_rate(learning_rate), optax.trace(momentum, nesterov=True)
    )


def cs231n_adagrad(learning_rate: Scalar, epsilon: Scalar) -> optax.GradientTransformation:
    """CS231n's Adagrad: sum of squares from zero, epsilon outside the root.

        c <- c + g^2,  c_0 = 0
        x <- x - eta g / (sqrt(c) + epsilon)

    Compared: ``optax.adagrad`` starts c at 0.1 and has epsilon inside the root;
    ``torch.optim.Adagrad`` is this rule at its default ``lr_decay=0``.
    Reference: Duchi et al. 2011; CS231n, neural-networks-3, Adagrad.

    >>> rule = cs231n_adagrad(learning_rate=0.1, epsilon=1e-8)
    >>> g = w = jnp.array([1.0, -2.0])
    >>> first, state = rule.update(g, rule.init(w), w)
    >>> second, state = rule.update(g, state, w)
    >>> print(np.round([first, second], 3))
    [[-0.1    0.1  ]
     [-0.071  0.071]]
    """

    def step(t: jax.Array, g: jax.Array, _: jax.Array, slots: Slots) -> tuple[jax.Array, Slots]:
        del t
        cache = slots["cache"] + g * g
        return -learning_rate * g / (jnp.sqrt(cache) + epsilon), {"cache": cache}

    return leafwise(step, zeros("cache"))


def cs231n_rmsprop(
    learning_rate: Scalar, decay: Scalar, epsilon: Scalar
) -> optax.GradientTransformation:
    """CS231n's RMSprop: average of squares from zero, epsilon outside the root, no momentum.

        c <- rho c + (1 - rho) g^2,  c_0 = 0
        x <- x - eta g / (sqrt(c) + epsilon)

    rho = ``decay``.

    Compared: ``optax.rmsprop`` is this rule at ``eps_in_sqrt=False``;
    ``torch.optim.RMSprop`` at momentum 0 is this rule.
    Reference: CS231n, neural-networks-3, RMSprop; Tieleman and Hinton 2012.

    >>> rule = cs231n_rmsprop(learning_rate=0.1, decay=0.99, epsilon=1e-8)
    >>> g = w = jnp.array([1.0, -2.0])
    >>> first, state = rule.update(g, rule.init(w), w)
    >>> second, state = rule.update(g, state, w)
    >>> print(np.round([first, second], 3))
    [[-1.     1.   ]
     [-0.709  0.709]]
    """
    return optax.rmsprop(
        learning_rate, decay=decay, eps=epsilon, initial_scale=0.0, eps_in_sqrt=False
    )


def adam_uncorrected(
    learning_rate: Scalar, beta1: Scalar, beta2: Scalar, epsilon: Scalar
) -> optax.GradientTransformation:
    """CS231n's simplified Adam: no bias correction.

        m <- beta1 m + (1 - beta1) g,  m_0 = 0
        v <- beta2 v + (1 - beta2) g^2,  v_0 = 0
        x <- x - eta m / (sqrt(v) + epsilon)

    At the usual betas the first step is (1 - beta1) / sqrt(1 - beta2) = 3.2 times Adam's.

    Compared: ``optax.adam`` and ``torch.optim.Adam`` always correct the bias.
    Reference: CS231n, neural-networks-3, Adam (simplified).

    >>> rule = adam_uncorrected(learning_rate=0.1, beta1=0.9, beta2=0.999, epsilon=1e-8)
    >>> g = w = jnp.array([1.0, -2.0])
    >>> first, state = rule.update(g, rule.init(w), w)
    >>> second, state = rule.update(g, state, w)
    >>> print(np.round([first, second], 3))
    [[-0.316  0.316]
     [-0.425  0.425]]
    """

    def step(t: jax.Array, g: jax.Array, _: jax.Array, slots: Slots) -> tuple[jax.Array, Slots]:
        del t
        m = beta1 * slots["m"] + (1.0 - beta1) * g
        v = beta2 * slots["v"] + (1.0 - beta2) * g * g
        return -learning_rate * m / (jnp.sqrt(v) + epsilon), {"m": m, "v": v}

    return leafwise(step, zeros("m", "v"))
