"""Adam and NAdam in the documented form, Optax's own forms, and decoupled weight decay."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from optimizers.leafwise import Scalar, Slots, bias_factor, leafwise, zeros


def adam(
    learning_rate: Scalar, beta1: Scalar, beta2: Scalar, epsilon: Scalar
) -> optax.GradientTransformation:
    """Adam, documented form: epsilon outside the root and before the bias factor.

        m <- beta1 m + (1 - beta1) g,  m_0 = 0
        v <- beta2 v + (1 - beta2) g^2,  v_0 = 0
        b = sqrt(1 - beta2^t) / (1 - beta1^t),  t = 1 at the first step
        theta <- theta - eta m / (sqrt(v) + epsilon) b

    Compared: ``optax.adam`` and ``torch.optim.Adam`` add epsilon to sqrt(v / (1 - beta2^t)); the
    two agree where their epsilon is this one over sqrt(1 - beta2^t), so early in training this
    epsilon is up to 1 / sqrt(1 - beta2) times stronger. `optax_adam` is that form.
    Reference: Kingma and Ba 2015, end of section 2; Choi et al. 2019; Tuning Playbook.

    >>> rule = adam(learning_rate=0.1, beta1=0.9, beta2=0.999, epsilon=1e-2)
    >>> g = w = jnp.array([1.0, -2.0])
    >>> first, state = rule.update(g, rule.init(w), w)
    >>> second, state = rule.update(g, state, w)
    >>> print(np.round([first, second], 3))
    [[-0.076  0.086]
     [-0.082  0.09 ]]
    """
    return _documented(learning_rate, beta1, beta2, epsilon, look_ahead=False)


def nadam(
    learning_rate: Scalar, beta1: Scalar, beta2: Scalar, epsilon: Scalar
) -> optax.GradientTransformation:
    """NAdam, documented form: Adam's step with Nesterov's look-ahead in the numerator.

        m <- beta1 m + (1 - beta1) g,  m_0 = 0
        v <- beta2 v + (1 - beta2) g^2,  v_0 = 0
        b = sqrt(1 - beta2^t) / (1 - beta1^t),  t = 1 at the first step
        theta <- theta - eta (beta1 m + (1 - beta1) g) / (sqrt(v) + epsilon) b

    Compared: ``optax.nadam`` divides m by 1 - beta1^(t+1) and g by 1 - beta1^t, with epsilon on
    the corrected root (`optax_nadam`); ``torch.optim.NAdam`` also schedules beta1
    (momentum_decay).
    Reference: Dozat 2016; Choi et al. 2019; Tuning Playbook.

    >>> rule = nadam(learning_rate=0.1, beta1=0.9, beta2=0.999, epsilon=1e-8)
    >>> g = w = jnp.array([1.0, -2.0])
    >>> first, state = rule.update(g, rule.init(w), w)
    >>> second, state = rule.update(g, state, w)
    >>> print(np.round([first, second], 3))
    [[-0.19   0.19 ]
     [-0.143  0.143]]
    """
    return _documented(learning_rate, beta1, beta2, epsilon, look_ahead=True)


def _documented(
    learning_rate: Scalar, beta1: Scalar, beta2: Scalar, epsilon: Scalar, *, look_ahead: bool
) -> optax.GradientTransformation:
    def step(t: jax.Array, g: jax.Array, _: jax.Array, slots: Slots) -> tuple[jax.Array, Slots]:
        m = beta1 * slots["m"] + (1.0 - beta1) * g
        v = beta2 * slots["v"] + (1.0 - beta2) * g * g
        b = jnp.sqrt(bias_factor(beta2, t)) / bias_factor(beta1, t)
        direction = beta1 * m + (1.0 - beta1) * g if look_ahead else m
        return -learning_rate * direction / (jnp.sqrt(v) + epsilon) * b, {"m": m, "v": v}

    return leafwise(step, zeros("m", "v"))


def optax_adam(
    learning_rate: Scalar, beta1: Scalar, beta2: Scalar, epsilon: Scalar
) -> optax.GradientTransformation:
    """Adam as Optax and PyTorch compute it: epsilon on the bias-corrected root.

        m <- beta1 m + (1 - beta1) g,  m_0 = 0
        v <- beta2 v + (1 - beta2) g^2,  v_0 = 0
        theta <- theta - eta (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon)

    Compared: equals ``optax.adam`` and ``torch.optim.Adam``.
    Reference: Kingma and Ba 2015, algorithm 1.

    >>> rule = optax_adam(learning_rate=0.1, beta1=0.9, beta2=0.999, epsilon=1e-2)
    >>> g = w = jnp.array([1.0, -2.0])
    >>> first, state = rule.update(g, rule.init(w), w)
    >>> second, state = rule.update(g, state, w)
    >>> print(np.round([first, second], 3))
    [[-0.099  0.1  ]
     [-0.099  0.1  ]]
    """
    return optax.adam(learning_rate, b1=beta1, b2=beta2, eps=epsilon)


def optax_nadam(
    learning_rate: Scalar, beta1: Scalar, beta2: Scalar, epsilon: Scalar
) -> optax.GradientTransformation:
    """NAdam as Optax computes it: numerator and gradient corrected one step apart.

        m <- beta1 m + (1 - beta1) g,  m_0 = 0
        v <- beta2 v + (1 - beta2) g^2,  v_0 = 0
        n = beta1 m / (1 - beta1^(t+1)) + (1 - beta1) g / (1 - beta1^t)
        theta <- theta - eta n / (sqrt(v / (1 - beta2^t)) + epsilon)

    Compared: equals ``optax.nadam``; ``torch.optim.NAdam`` schedules beta1 as well.
    Reference: Dozat 2016, algorithm 2, without its extra factor beta2 on v.

    >>> rule = optax_nadam(learning_rate=0.1, beta1=0.9, beta2=0.999, epsilon=1e-8)
    >>> g = w = jnp.array([1.0, -2.0])
    >>> first, state = rule.update(g, rule.init(w), w)
    >>> second, state = rule.update(g, state, w)
    >>> print(np.round([first, second], 3))
    [[-0.147  0.147]
     [-0.116  0.116]]
    """
    return optax.nadam(learning_rate, b1=beta1, b2=beta2, eps=epsilon)


def adamw(
    learning_rate: Scalar, beta1: Scalar, beta2: Scalar, epsilon: Scalar, weight_decay: Scalar
) -> optax.GradientTransformation:
    """Adam with decoupled weight decay, applied to all parameters, times the current rate.

        u = (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon),  m and v as in Adam
        theta <- theta - eta (u + lambda theta)

    lambda = ``weight_decay``. The decay is outside the moments, uses theta before the step, and
    is multiplied by eta: peak rate times schedule. Its time scale is 1 / (eta lambda) steps.

    Compared: equals ``optax.adamw`` and ``torch.optim.AdamW``; Loshchilov and Hutter multiply
    the decay by the schedule alone, not by the peak rate.
    Reference: Loshchilov and Hutter 2019 (arXiv 1711.05101), algorithm 2.

    >>> rule = adamw(0.1, beta1=0.9, beta2=0.999, epsilon=1e-8, weight_decay=0.5)
    >>> g = w = jnp.array([1.0, -2.0])
    >>> first, state = rule.update(g, rule.init(w), w)
    >>> second, state = rule.update(g, state, w)
    >>> print(np.round([first, second], 3))
    [[-0.15  0.2 ]
     [-0.15  0.2 ]]
    """
    return optax.adamw(learning_rate, b1=beta1, b2=beta2, eps=epsilon, weight_decay=weight_decay)


def nadamw(
    learning_rate: Scalar, beta1: Scalar, beta2: Scalar, epsilon: Scalar, weight_decay: Scalar
) -> optax.GradientTransformation:
    """NAdam (`optax_nadam`) with decoupled weight decay, placed as in `adamw`.

        n = beta1 m / (1 - beta1^(t+1)) + (1 - beta1) g / (1 - beta1^t),  m and v as in Adam
        theta <- theta - eta (n / (sqrt(v / (1 - beta2^t)) + epsilon) + lambda theta)

    lambda = ``weight_decay``: all parameters, theta before the step, times the current rate.

    Compared: equals ``optax.nadamw``; ``torch.optim.NAdam(decoupled_weight_decay=True)``
    schedules beta1 as well.
    Reference: Dozat 2016; Loshchilov and Hutter 2019.

    >>> rule = nadamw(0.1, beta1=0.9, beta2=0.999, epsilon=1e-8, weight_decay=0.5)
    >>> g = w = jnp.array([1.0, -2.0])
    >>> first, state = rule.update(g, rule.init(w), w)
    >>> second, state = rule.update(g, state, w)
    >>> print(np.round([first, second], 3))
    [[-0.197  0.247]
     [-0.166  0.216]]
    """
    return optax.nadamw(learning_rate, b1=beta1, b2=beta2, eps=epsilon, weight_decay=weight_decay)
