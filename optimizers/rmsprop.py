"""RMSProp as documented by the Tuning Playbook and Choi et al. 2019."""

from __future__ import annotations

import optax

from optimizers.leafwise import Scalar


def rmsprop(
    learning_rate: Scalar, decay: Scalar, momentum: Scalar, epsilon: Scalar
) -> optax.GradientTransformation:
    """RMSProp with momentum over the scaled step.

        v <- rho v + (1 - rho) g^2,  v_0 = 1
        m <- gamma m + eta g / sqrt(v + epsilon),  m_0 = 0
        theta <- theta - m

    rho = ``decay``, gamma = ``momentum``. The rate is inside the buffer m.

    Compared: ``optax.rmsprop`` is this rule at ``initial_scale=1, eps_in_sqrt=True`` (its default
    starts v at 0); ``torch.optim.RMSprop`` starts v at 0, has epsilon outside the root, and
    multiplies the rate after the momentum buffer.
    Reference: Choi et al. 2019 (arXiv 1910.05446), table of update rules; Tuning Playbook;
    Tieleman and Hinton 2012.

    >>> rule = rmsprop(learning_rate=0.1, decay=0.9, momentum=0.5, epsilon=1e-8)
    >>> g = w = jnp.array([1.0, -2.0])
    >>> first, state = rule.update(g, rule.init(w), w)
    >>> second, state = rule.update(g, state, w)
    >>> print(np.round([first, second], 3))
    [[-0.1    0.175]
     [-0.15   0.247]]
    """
    return optax.rmsprop(
        learning_rate,
        decay=decay,
        eps=epsilon,
        initial_scale=1.0,
        eps_in_sqrt=True,
        momentum=momentum,
    )
