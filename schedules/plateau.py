"""A rate that evaluation lowers: a multiplier in the state of a trial.

::

    state = start()
    state = observe(state, step, value, sign, settings...)   # after every evaluation
    rate = peak * multiplier(step) * state.multiplier            # at every step

Traceable in every argument, so that it runs for a pack of trials under vmap.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from schedules.shapes import Scalar


class PlateauState(NamedTuple):
    """Memory of the plateau rule.

    Attributes:
      multiplier: shape (), float32, of the rate; 1 at the start.
      best: shape (), float32, best value so far, as a loss (negated where larger is better);
        the largest float at the start (a state that is not finite would look like a divergence).
      since: shape (), int32, the step of the best value or of the last cut, if that is later.
    """

    multiplier: jax.Array
    best: jax.Array
    since: jax.Array


def shape(step: Scalar, train_steps: Scalar, **settings: Scalar) -> jax.Array:
    """Return 1 at every step: only the multiplier of the state falls."""
    del train_steps, settings
    return jnp.ones(jnp.shape(step), jnp.float32)


def start() -> PlateauState:
    """No value seen, multiplier 1."""
    return PlateauState(
        jnp.ones([], jnp.float32),
        jnp.asarray(jnp.finfo(jnp.float32).max, jnp.float32),
        jnp.zeros([], jnp.int32),
    )


def observe(
    state: PlateauState,
    step: Scalar,
    value: Scalar,
    sign: Scalar,
    *,
    plateau_factor: Scalar,
    patience_steps: Scalar,
    least_multiplier: Scalar,
) -> PlateauState:
    """The state after an evaluation at ``step``.

    ``sign`` is 1 where a smaller value is better, -1 where a larger one is. A value strictly
    better than the best resets the clock. Where none was for ``patience_steps`` since the best
    value or the last cut, the multiplier is multiplied by ``plateau_factor`` (down to
    ``least_multiplier``) and the clock is reset. Patience counts steps, not evaluations, whose
    spacing grows. A value that is not finite is no improvement.

    >>> settings = {"plateau_factor": 0.5, "patience_steps": 10, "least_multiplier": 0.01}
    >>> state = observe(start(), 5, 1.0, 1, **settings)
    >>> state = observe(state, 15, 1.2, 1, **settings)  # no better for ten steps
    >>> float(state.multiplier), int(state.since)
    (0.5, 15)
    """
    loss = jnp.asarray(value, jnp.float32) * sign
    step = jnp.asarray(step, jnp.int32)
    better = (loss < state.best) & jnp.isfinite(loss)
    patience = jnp.asarray(patience_steps, jnp.float32)
    cut = ~better & ((step - state.since).astype(jnp.float32) >= patience)
    lowered = jnp.maximum(state.multiplier * plateau_factor, least_multiplier)
    return PlateauState(
        jnp.where(cut, jnp.minimum(lowered, state.multiplier), state.multiplier),
        jnp.where(better, loss, state.best),
        jnp.where(better | cut, step, state.since),
    )
