"""SGD, Momentum and Nesterov momentum (Choi et al. 2019; Tuning Playbook's table of rules)."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from optimizers.leafwise import Scalar


def sgd(learning_rate: Scalar) -> optax.GradientTransformation:
    """Stochastic gradient descent.

        theta <- theta - eta g

    Compared: equals ``optax.sgd`` and ``torch.optim.SGD`` without momentum.
    Reference: Robbins and Monro 1951; Tuning Playbook.

    >>> rule = sgd(learning_rate=0.1)
    >>> g = w = jnp.array([1.0, -2.0])
    >>> first, state = rule.update(g, rule.init(w), w)
    >>> second, state = rule.update(g, state, w)
    >>> print(np.round([first, second], 3))
    [[-0.1  0.2]
     [-0.1  0.2]]
    """
    return optax.sgd(learning_rate)


def momentum(learning_rate: Scalar, momentum: Scalar) -> optax.GradientTransformation:
    """Momentum (heavy ball) with the rate outside the buffer.

        v <- gamma v + g,  v_0 = 0
        theta <- theta - eta v

    gamma = ``momentum``. A change of the rate acts at once on all of the velocity.

    Compared: equals ``optax.sgd(momentum=...)`` and ``torch.optim.SGD`` (dampening 0);
    `cs231n_momentum` has the rate inside the buffer.
    Reference: Polyak 1964; Choi et al. 2019 (arXiv 1910.05446); Tuning Playbook.

    >>> rule = momentum(learning_rate=0.1, momentum=0.9)
    >>> g = w = jnp.array([1.0, -2.0])
    >>> first, state = rule.update(g, rule.init(w), w)
    >>> second, state = rule.update(g, state, w)
    >>> print(np.round([first, second], 3))
    [[-0.1   0.2 ]
     [-0.19  0.38]]
    """
    return optax.sgd(learning_rate, momentum=momentum)


def nesterov(learning_rate: Scalar, momentum: Scalar) -> optax.GradientTransformation:
    """Nesterov momentum in the form that takes the gradient at the current parameters.

        v <- gamma v + g,  v_0 = 0
        theta <- theta - eta (gamma v + g)

    gamma = ``momentum``; the second line uses the new v.

    Compared: equals ``optax.sgd(nesterov=True)`` and ``torch.optim.SGD(nesterov=True)``.
    Reference: Nesterov 1983; Sutskever et al. 2013; Choi et al. 2019; Tuning Playbook.

    >>> rule = nesterov(learning_rate=0.1, momentum=0.9)
    >>> g = w = jnp.array([1.0, -2.0])
    >>> first, state = rule.update(g, rule.init(w), w)
    >>> second, state = rule.update(g, state, w)
    >>> print(np.round([first, second], 3))
    [[-0.19   0.38 ]
     [-0.271  0.542]]
    """
    return optax.sgd(learning_rate, momentum=momentum, nesterov=True)


class CorrectedMomentumState(NamedTuple):
    """Velocity (like the parameters) and the rate it was scaled with (shape ())."""

    velocity: optax.Params
    rate: jax.Array


def corrected_momentum(learning_rate: Scalar, momentum: Scalar) -> optax.GradientTransformation:
    """Momentum with the rate inside the buffer and Goyal's momentum correction.

        v <- gamma (eta_t / eta_{t-1}) v + eta_t g,  v_0 = 0
        theta <- theta - v

    gamma = ``momentum``. Without the factor eta_t / eta_{t-1} (`cs231n_momentum`) a rate that
    jumps meets a velocity still scaled with the old one. With it the rule equals `momentum` as
    long as the rate stays positive; where eta_{t-1} is 0 so is v, and the factor is taken as 0.

    Compared: Optax and PyTorch have no such rule; their momentum keeps the rate outside.
    Reference: Goyal et al. 2017 (arXiv 1706.02677), section 3, remark 2.

    >>> rule = corrected_momentum(learning_rate=0.1, momentum=0.9)
    >>> g = w = jnp.array([1.0, -2.0])
    >>> first, state = rule.update(g, rule.init(w), w)
    >>> second, state = rule.update(g, state, w)
    >>> print(np.round([first, second], 3))
    [[-0.1   0.2 ]
     [-0.19  0.38]]
    """

    def init(params: optax.Params) -> CorrectedMomentumState:
        dtype = jnp.result_type(*jax.tree.leaves(params))
        return CorrectedMomentumState(optax.tree.zeros_like(params), jnp.zeros([], dtype))

    def update(
        gradients: optax.Updates,
        state: CorrectedMomentumState,
        params: optax.Params | None = None,
    ) -> tuple[optax.Updates, CorrectedMomentumState]:
        del params
        rate = jnp.asarray(learning_rate, state.rate.dtype)
        positive = state.rate > 0
        ratio = jnp.where(positive, rate / jnp.where(positive, state.rate, 1.0), 0.0)
        velocity = jax.tree.map(
            lambda v, g: momentum * ratio * v + learning_rate * g, state.velocity, gradients
        )
        updates = jax.tree.map(jnp.negative, velocity)
        return updates, CorrectedMomentumState(velocity, rate)

    return optax.GradientTransformation(init, update)
