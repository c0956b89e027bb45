"""Adafactor: a factored second moment and steps relative to the parameters' size."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from optimizers.leafwise import Scalar

CLIP = 1.0
"""d, the largest root mean square of an update before it is scaled by the parameters'."""
SQUARED_GRADIENT_FLOOR = 1e-30
"""epsilon_1, added to g^2."""
PARAMETER_FLOOR = 1e-3
"""epsilon_2, the least root mean square a parameter array is taken to have."""


def adafactor(learning_rate: Scalar, decay_exponent: Scalar) -> optax.GradientTransformation:
    """Adafactor without momentum, relative step sizes, every matrix factored.

        rho_t = 1 - t^(-c),  t = 1 at the first step
        matrices:  R <- rho_t R + (1 - rho_t) rowmean(g^2 + e1)
                   C <- rho_t C + (1 - rho_t) colmean(g^2 + e1);  V = R C / mean(R)
        other arrays:  V <- rho_t V + (1 - rho_t) (g^2 + e1)
        u = g / sqrt(V);  u <- u / max(1, rms(u) / d)
        w <- w - eta max(e2, rms(w)) u

    c = ``decay_exponent``; d = 1, e1 = 1e-30, e2 = 1e-3. Arrays of rank 3 or more are factored
    over their two largest axes.

    Compared: ``optax.adafactor`` factors only where both axes have 128 entries or more and
    computes rho_t in float32 always; ``torch.optim.Adafactor`` limits the relative rate to
    min(lr, 1 / sqrt(t)).
    Reference: Shazeer and Stern 2018 (arXiv 1804.04235), algorithms 4 and 5.

    >>> rule = adafactor(learning_rate=0.1, decay_exponent=0.8)
    >>> g = w = jnp.array([[1.0, -2.0], [3.0, -4.0]])
    >>> step, state = rule.update(g, rule.init(w), w)
    >>> print(np.asarray(step).round(3))
    [[-0.212  0.3  ]
     [-0.285  0.268]]
    """

    def rho(count: jax.Array, exponent: Scalar) -> jax.Array:
        t = (count + 1).astype(jnp.result_type(float))
        return 1.0 - t ** (-exponent)

    return optax.chain(
        optax.scale_by_factored_rms(
            decay_rate=decay_exponent,
            min_dim_size_to_factor=2,
            epsilon=SQUARED_GRADIENT_FLOOR,
            decay_rate_fn=rho,
        ),
        optax.clip_by_block_rms(CLIP),
        optax.scale_by_param_block_rms(PARAMETER_FLOOR),
        optax.scale_by_learning_rate(learning_rate),
    )
