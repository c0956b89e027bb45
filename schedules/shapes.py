"""Shapes of the learning rate: step, length, settings -> multiplier in [0, 1].

Each is traceable in every argument (no Python branch on a number), so that the trials of a
pack can hold different values and nothing recompiles. ``step`` is 0 at the first update;
``train_steps`` is the length without warmup, which is prepended by `with_warmup`. Times are
float32: exact to 2^24 steps. ``step`` may have any shape; the result is float32 of that shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

Scalar = jax.Array | float


def with_warmup(
    shape: Callable[[Scalar, Scalar], jax.Array],
    step: Scalar,
    train_steps: Scalar,
    warmup_steps: Scalar,
    warmup_start_factor: Scalar,
) -> jax.Array:
    """A linear ramp, then the shape over what is left: total = max_train_steps + W.

        t < W:   s + (1 - s) t / W
        t >= W:  shape(t - W, train_steps - W)

    W = ``warmup_steps``, s = ``warmup_start_factor`` (0: the Tuning Playbook's ramp from zero;
    1/k: Goyal et al.'s from the small batch's rate), ``train_steps`` the length of the whole
    trial. At W = 0 there is no ramp.

    >>> ramp = lambda t, length: linear(t, length, 0.0, 1.0)
    >>> step = np.array([0, 10, 20, 60, 100])
    >>> print(np.asarray(with_warmup(ramp, step, 100, 20.0, 0.5)).round(3))
    [0.5  0.75 1.   0.5  0.  ]
    """
    step, length, warmup = _float(step), _float(train_steps), _float(warmup_steps)
    ramp = warmup_start_factor + (1.0 - warmup_start_factor) * step / jnp.maximum(warmup, 1.0)
    after = shape(jnp.maximum(step - warmup, 0.0), jnp.maximum(length - warmup, 1.0))
    return jnp.where(step < warmup, ramp, after)


def constant(step: Scalar, train_steps: Scalar) -> jax.Array:
    """1 at every step.

    >>> print(constant(np.array([0, 50, 75, 100]), 100))
    [1. 1. 1. 1.]
    """
    del train_steps
    return jnp.ones_like(_float(step))


def linear(
    step: Scalar,
    train_steps: Scalar,
    end_learning_rate_factor: Scalar,
    decay_steps_factor: Scalar,
) -> jax.Array:
    """1 - (1 - alpha) t/T for t <= T, alpha after (Shallue et al. 2019, ResNets and VGG).

    ``alpha = end_learning_rate_factor``, ``T = decay_steps_factor * train_steps``.

    >>> print(np.asarray(linear(np.array([0, 50, 75, 100]), 100, 0.1, 0.75)).round(3))
    [1.  0.4 0.1 0.1]
    """
    progress = _progress(step, decay_steps_factor * train_steps)
    return 1.0 - (1.0 - end_learning_rate_factor) * progress


def cosine(
    step: Scalar,
    train_steps: Scalar,
    end_learning_rate_factor: Scalar,
    decay_steps_factor: Scalar,
) -> jax.Array:
    """alpha + (1 - alpha) (1 + cos(pi t/T)) / 2 for t <= T, alpha after (SGDR, one cycle).

    ``alpha = end_learning_rate_factor``, ``T = decay_steps_factor * train_steps``.

    >>> print(np.asarray(cosine(np.array([0, 50, 75, 100]), 100, 0.0, 1.0)).round(3))
    [1.    0.5   0.146 0.   ]
    """
    progress = _progress(step, decay_steps_factor * train_steps)
    wave = 0.5 * (1.0 + jnp.cos(math.pi * progress))
    return end_learning_rate_factor + (1.0 - end_learning_rate_factor) * wave


def polynomial(
    step: Scalar,
    train_steps: Scalar,
    end_learning_rate_factor: Scalar,
    decay_steps_factor: Scalar,
    power: Scalar,
) -> jax.Array:
    """alpha + (1 - alpha) (1 - t/T)^p for t <= T, alpha after; p = 1 is `linear`.

    ``alpha = end_learning_rate_factor``, ``T = decay_steps_factor * train_steps``,
    ``p = power``.

    >>> print(np.asarray(polynomial(np.array([0, 50, 75, 100]), 100, 0.0, 1.0, 2.0)).round(3))
    [1.    0.25  0.062 0.   ]
    """
    left = 1.0 - _progress(step, decay_steps_factor * train_steps)
    return end_learning_rate_factor + (1.0 - end_learning_rate_factor) * left**power


def step_decay(
    step: Scalar, train_steps: Scalar, decay_factor: Scalar, interval_factor: Scalar
) -> jax.Array:
    """f^floor(t / I): the rate falls by f every I steps (CS231n's step decay).

    ``f = decay_factor``, ``I = interval_factor * train_steps``.

    >>> print(np.asarray(step_decay(np.array([0, 50, 75, 100]), 100, 0.1, 0.5)).round(3))
    [1.   0.1  0.1  0.01]
    """
    # A step that is a whole number of intervals must count as one in spite of rounding.
    intervals = jnp.floor(_float(step) / (interval_factor * _float(train_steps)) * (1.0 + 1e-6))
    return jnp.asarray(decay_factor, jnp.float32) ** intervals


def staircase(
    step: Scalar,
    train_steps: Scalar,
    decay_factor: Scalar,
    *,
    milestone_1: Scalar,
    milestone_2: Scalar,
    milestone_3: Scalar,
) -> jax.Array:
    """f^(milestones passed): drops at three shares of the trial (Goyal: 30, 60, 80 of 90 epochs).

    ``f = decay_factor``; a milestone of 1 is never reached.

    >>> milestones = {"milestone_1": 0.5, "milestone_2": 0.75, "milestone_3": 1.0}
    >>> print(np.asarray(staircase(np.array([0, 50, 75, 100]), 100, 0.1, **milestones)).round(3))
    [1.    0.1   0.01  0.001]
    """
    progress = _float(step) / _float(train_steps) * (1.0 + 1e-6)
    passed = sum(
        jnp.where(progress >= milestone, 1.0, 0.0)
        for milestone in (milestone_1, milestone_2, milestone_3)
    )
    return jnp.asarray(decay_factor, jnp.float32) ** passed


def exponential(step: Scalar, train_steps: Scalar, decay_rate: Scalar) -> jax.Array:
    """exp(-k t/T), T = train_steps, k = ``decay_rate`` (CS231n's, with t in trials).

    >>> print(np.asarray(exponential(np.array([0, 50, 75, 100]), 100, 2.0)).round(3))
    [1.    0.368 0.223 0.135]
    """
    return jnp.exp(-decay_rate * _float(step) / train_steps)


def inverse_time(step: Scalar, train_steps: Scalar, decay_rate: Scalar) -> jax.Array:
    """1 / (1 + k t/T), T = train_steps, k = ``decay_rate`` (CS231n's 1/t decay).

    >>> print(np.asarray(inverse_time(np.array([0, 50, 75, 100]), 100, 4.0)).round(3))
    [1.    0.333 0.25  0.2  ]
    """
    return 1.0 / (1.0 + decay_rate * _float(step) / train_steps)


def inverse_sqrt(step: Scalar, train_steps: Scalar, timescale_steps: Scalar) -> jax.Array:
    """sqrt(s / (s + t)), s = ``timescale_steps``: independent of the trial's length.

    With warmup over W = s steps it is Vaswani et al.'s (2017), whose rate after the ramp is
    proportional to 1/sqrt(W + t).

    >>> print(np.asarray(inverse_sqrt(np.array([0, 50, 75, 100]), 100, 25.0)).round(3))
    [1.    0.577 0.5   0.447]
    """
    del train_steps
    return jnp.sqrt(timescale_steps / (timescale_steps + _float(step)))


def warmup_stable_decay(
    step: Scalar,
    train_steps: Scalar,
    end_learning_rate_factor: Scalar,
    decay_fraction: Scalar,
) -> jax.Array:
    """1 until (1 - d) T, then linear to alpha at T = train_steps; the warmup is prepended.

    ``alpha = end_learning_rate_factor``, ``d = decay_fraction`` (Hu et al. 2024, MiniCPM).

    >>> print(np.asarray(warmup_stable_decay(np.array([0, 50, 75, 100]), 100, 0.0, 0.5)).round(3))
    [1.  1.  0.5 0. ]
    """
    length = _float(train_steps)
    into_decay = _float(step) - (1.0 - decay_fraction) * length
    progress = jnp.clip(into_decay / (decay_fraction * length), 0.0, 1.0)
    return 1.0 - (1.0 - end_learning_rate_factor) * progress


def _float(number: Scalar) -> jax.Array:
    return jnp.asarray(number, jnp.float32)


def _progress(step: Scalar, decay_steps: Scalar) -> jax.Array:
    """t/T clipped to [0, 1]."""
    return jnp.clip(_float(step) / decay_steps, 0.0, 1.0)
