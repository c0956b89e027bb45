"""The divisor of an adaptive rule, what it divides its step by, read from its state.

`experiments.diagnostics.stability` says how large an eigenvalue of D^-1 H a rule can bear; here is
its diagonal D. With v the rule's average (Adagrad: sum) of squared gradients after t steps,

    adam, nadam                            (sqrt(v) + epsilon) (1 - beta1^t) / sqrt(1 - beta2^t)
    optax_adam, optax_nadam, adamw, nadamw (sqrt(v / (1 - beta2^t)) + epsilon) (1 - beta1^t)
    adam_uncorrected, cs231n_rmsprop, cs231n_adagrad            sqrt(v) + epsilon
    rmsprop                                                     sqrt(v + epsilon)

The factor 1 - beta1^t is the correction of the gradients' average, which multiplies the step like
any other number. Optax's NAdam corrects its two terms one step apart; the factor is that of the
gradient's term.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optimizers.leafwise import LeafwiseState, bias_factor

Numbers = Mapping[str, jax.Array | float]


class _Second(NamedTuple):
    """The place where a rule keeps v, and how D follows from v, t and the hyperparameters."""

    name: str  # of v in the rule's state
    root: Callable[[jax.Array, jax.Array, Numbers], jax.Array]


def _documented(v: jax.Array, t: jax.Array, values: Numbers) -> jax.Array:
    first, second = bias_factor(values["beta1"], t), bias_factor(values["beta2"], t)
    return (jnp.sqrt(v) + values["epsilon"]) * first / jnp.sqrt(second)


def _corrected(v: jax.Array, t: jax.Array, values: Numbers) -> jax.Array:
    corrected = v / bias_factor(values["beta2"], t)
    return (jnp.sqrt(corrected) + values["epsilon"]) * bias_factor(values["beta1"], t)


def _plain(v: jax.Array, t: jax.Array, values: Numbers) -> jax.Array:
    del t
    return jnp.sqrt(v) + values["epsilon"]


def _inside(v: jax.Array, t: jax.Array, values: Numbers) -> jax.Array:
    del t
    return jnp.sqrt(v + values["epsilon"])


_SECOND_MOMENTS: Mapping[str, _Second] = {
    "adam": _Second("v", _documented),
    "nadam": _Second("v", _documented),
    "optax_adam": _Second("nu", _corrected),
    "optax_nadam": _Second("nu", _corrected),
    "adamw": _Second("nu", _corrected),
    "nadamw": _Second("nu", _corrected),
    "adam_uncorrected": _Second("v", _plain),
    "cs231n_rmsprop": _Second("nu", _plain),
    "cs231n_adagrad": _Second("cache", _plain),
    "rmsprop": _Second("nu", _inside),
}


def divisor(
    optimizer: str, state: Any, steps: jax.Array, hyperparameters: Numbers
) -> list[jax.Array]:
    """The diagonal D of an adaptive rule, an array for each of the parameters, as `jax.tree.leaves`
    orders them.

    Args:
      optimizer: a rule whose `stability_threshold` is that of the preconditioned Hessian.
      state: the rule's, after ``steps`` steps, at least one.
      steps: t.
      hyperparameters: the rule's numbers by name.

    Raises:
      KeyError: a rule without such a D.
    """
    second = _SECOND_MOMENTS[optimizer]
    if isinstance(state, LeafwiseState):
        moments = [slots[second.name] for slots in state.slots]
    else:
        moments = jax.tree.leaves(optax.tree.get(state, second.name))
    return [second.root(v, steps.astype(v.dtype), hyperparameters) for v in moments]
