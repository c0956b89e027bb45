"""Averages of the parameters over steps, to evaluate in place of the last iterate.

An averaging is three pure functions on trees of parameters::

    rule = AVERAGINGS["ema"].functions(hyperparameters)
    state = rule.init(params)                  # before the first step
    state = rule.update(state, params)         # after every step
    rule.value(state, params)                  # what to evaluate

Averages are kept in float32 or wider and returned in the parameters' dtype. In training the tree
is (parameters, model state): batch norm's running statistics are averaged with the parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optimizers.leafwise import Scalar, bias_factor, cast

Params = Any


class Functions(NamedTuple):
    """``init(params) -> state``, ``update(state, params) -> state``, ``value(state, params)``."""

    init: Callable[[Params], Any]
    update: Callable[[Any, Params], Any]
    value: Callable[[Any, Params], Params]


class AverageState(NamedTuple):
    """Attributes: steps, shape () int32, updates seen; average, like the params (>= float32)."""

    steps: jax.Array
    average: Params


class WindowState(NamedTuple):
    """Attributes: steps, shape () int32; iterates, like the params with a leading axis [window]."""

    steps: jax.Array
    iterates: Params


def none() -> Functions:
    """No averaging: the last iterate.

    >>> rule, w = none(), jnp.array([1.0])
    >>> print(rule.value(rule.update(rule.init(w), w), w))
    [1.]
    """
    return Functions(lambda params: (), lambda state, params: state, lambda state, params: params)


def ema(average_decay: Scalar) -> Functions:
    """Exponential moving average with bias correction.

        a <- d a + (1 - d) theta_t,  a_0 = 0;  value: a / (1 - d^t),  t = 1 after one step

    d = ``average_decay``. The correction makes the weights of theta_1..theta_t sum to one, so
    that the initial parameters have none. Before the first step the value is the parameters.

    Compared: ``optax.ema(debias=True)`` is the same average, of updates rather than parameters;
    ``torch.optim.swa_utils`` starts at the first parameters, without correction.
    Reference: Polyak and Juditsky 1992; Kingma and Ba 2015, section 3 (the correction).

    >>> rule, w = ema(average_decay=0.5), jnp.array([1.0])
    >>> state = rule.update(rule.update(rule.init(w), w), 4 * w)  # the iterates are 1 and 4
    >>> print(rule.value(state, 4 * w))
    [3.]
    """

    def update(state: AverageState, params: Params) -> AverageState:
        average = jax.tree.map(
            lambda a, p: average_decay * a + (1.0 - average_decay) * p, state.average, _wide(params)
        )
        return AverageState(optax.safe_increment(state.steps), average)

    def value(state: AverageState, params: Params) -> Params:
        seen = state.steps > 0
        factor = jnp.where(seen, bias_factor(average_decay, state.steps.astype(jnp.float32)), 1.0)
        corrected = jax.tree.map(lambda a: a / factor.astype(a.dtype), state.average)
        return _where(seen, corrected, params)

    return Functions(_start, update, value)


def tail_mean(average_start: Scalar) -> Functions:
    """Running mean of the iterates after step s = ``average_start`` (Polyak-Ruppert, SWA).

        value: mean of theta_t over t > s;  theta_t itself while t <= s

    Compared: ``torch.optim.swa_utils`` averages where it is called; Optax has none.
    Reference: Polyak and Juditsky 1992; Izmailov et al. 2018 (arXiv 1803.05407).

    >>> rule, w = tail_mean(average_start=1.0), jnp.array([1.0])
    >>> state = rule.init(w)
    >>> for iterate in (9 * w, 1 * w, 4 * w):
    ...     state = rule.update(state, iterate)
    >>> print(rule.value(state, 4 * w))
    [2.5]
    """

    def members(count: jax.Array) -> jax.Array:
        return jnp.maximum(count.astype(jnp.float32) - average_start, 0.0)

    def update(state: AverageState, params: Params) -> AverageState:
        count = optax.safe_increment(state.steps)
        weight = 1.0 / jnp.maximum(members(count), 1.0)
        # Before the start the weight is one: the average follows the last iterate.
        average = jax.tree.map(
            lambda a, p: a + weight.astype(a.dtype) * (p - a), state.average, _wide(params)
        )
        return AverageState(count, average)

    def value(state: AverageState, params: Params) -> Params:
        return _where(state.steps > 0, state.average, params)

    return Functions(_start, update, value)


def window_mean(window: int = 5) -> Functions:
    """Running mean of the last ``window`` iterates, kept one by one (LAWA at every step).

        value: mean of theta_{t-k+1} .. theta_t;  of all there are while t < k = ``window``

    ``window`` is static: it is a shape, and the state is that many copies of the parameters.

    Reference: Kaddour 2022 (arXiv 2209.14981).

    >>> rule, w = window_mean(window=2), jnp.array([1.0])
    >>> state = rule.init(w)
    >>> for iterate in (9 * w, 1 * w, 4 * w):
    ...     state = rule.update(state, iterate)
    >>> print(rule.value(state, 4 * w))
    [2.5]
    """

    def init(params: Params) -> WindowState:
        empty = jax.tree.map(lambda p: jnp.zeros((window, *p.shape), p.dtype), _wide(params))
        return WindowState(jnp.zeros([], jnp.int32), empty)

    def update(state: WindowState, params: Params) -> WindowState:
        place = state.steps % window
        iterates = jax.tree.map(
            lambda kept, p: kept.at[place].set(p), state.iterates, _wide(params)
        )
        return WindowState(optax.safe_increment(state.steps), iterates)

    def value(state: WindowState, params: Params) -> Params:
        held = jnp.minimum(state.steps, window)
        mean = jax.tree.map(
            lambda kept: jnp.sum(kept, axis=0) / jnp.maximum(held, 1).astype(kept.dtype),
            state.iterates,
        )
        return _where(held > 0, mean, params)

    return Functions(init, update, value)


def _wide(params: Params) -> Params:
    return cast(params, lambda array: jnp.promote_types(array.dtype, jnp.float32))


def _start(params: Params) -> AverageState:
    return AverageState(jnp.zeros([], jnp.int32), optax.tree.zeros_like(_wide(params)))


def _where(condition: jax.Array, average: Params, params: Params) -> Params:
    """The average in the parameters' dtype where the condition holds, else the parameters."""
    return jax.tree.map(
        lambda a, p: jnp.where(condition, a.astype(jnp.asarray(p).dtype), p), average, params
    )
