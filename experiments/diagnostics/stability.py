"""The largest curvature at which an update rule is stable on a quadratic, by its own numbers.

On the loss h theta^2 / 2 a rule with a constant rate is a linear recursion. It converges while
its eigenvalues lie inside the unit circle, and the first to leave does so at -1:

    sgd        h < 2 / eta
    momentum   h < 2 (1 + mu) / eta
    nesterov   h < 2 (1 + mu) / ((1 + 2 mu) eta)

Adam divides the step by D = diag(sqrt(v) + epsilon), with its corrections of the bias
(`experiments.diagnostics.preconditioners`), and averages gradients with weight
1 - beta1: it is momentum at the rate eta (1 - beta1) on D^-1 H, whose eigenvalues stand in
h's place: 2 (1 + beta1) / ((1 - beta1) eta), 38 / eta at beta1 = 0.9. The same holds of NAdam and
Nesterov. Decoupled decay lambda puts 2 - eta lambda in the place of 2.

References: Cohen et al. 2021 (arXiv 2103.00065); Cohen et al. 2022 (arXiv 2207.14484); Gilmer et
al. 2021 (arXiv 2110.04369).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import jax

from optimizers import OPTIMIZERS
from workloads.registry import unknown_name

Matrix = Literal["hessian", "preconditioned"]
Numbers = Mapping[str, float | jax.Array]


class _Rule(NamedTuple):
    """Motion of a rule: ``momentum`` names its mu, 0 where it has none; ``averaged`` is True where
    gradients enter with weight 1 - mu."""

    matrix: Matrix
    momentum: str | None = None
    look_ahead: bool = False
    averaged: bool = False


_ADAM = _Rule("preconditioned", "beta1", averaged=True)
_NADAM = _Rule("preconditioned", "beta1", look_ahead=True, averaged=True)
_RULES: Mapping[str, _Rule] = {
    "sgd": _Rule("hessian"),
    "momentum": _Rule("hessian", "momentum"),
    "corrected_momentum": _Rule("hessian", "momentum"),
    "cs231n_momentum": _Rule("hessian", "momentum"),
    "nesterov": _Rule("hessian", "momentum", look_ahead=True),
    "cs231n_nesterov": _Rule("hessian", "momentum", look_ahead=True),
    "rmsprop": _Rule("preconditioned", "momentum"),
    "cs231n_rmsprop": _Rule("preconditioned"),
    "cs231n_adagrad": _Rule("preconditioned"),
    "adam": _ADAM,
    "optax_adam": _ADAM,
    "adam_uncorrected": _ADAM,
    "adamw": _ADAM,
    "nadam": _NADAM,
    "optax_nadam": _NADAM,
    "nadamw": _NADAM,
}


class Threshold(NamedTuple):
    """A bound on the largest eigenvalue.

    Attributes:
      value: the rule is unstable above it; a number, or [] where it was made of arrays.
      matrix: whose eigenvalue: "hessian", H; or "preconditioned", D^-1 H with D what the rule
        divides its step by.
    """

    value: float | jax.Array
    matrix: Matrix


def stability_threshold(optimizer: str, hyperparameters: Mapping[str, float]) -> Threshold | None:
    """The bound of a rule at a constant rate.

    Args:
      optimizer: a name of `optimizers.OPTIMIZERS`.
      hyperparameters: its numbers by name; ``learning_rate`` is the current step's.

    Returns:
      The threshold; None for a rule that is not linear in the gradient up to a slowly moving
      diagonal D (LARS, LAMB, Lion, Muon, second order) or not stationary (schedule-free).

    Raises:
      UnknownNameError: no such optimizer.
      ValueError: a learning rate that is not positive.
    """
    if optimizer not in OPTIMIZERS:
        raise unknown_name("optimizer", optimizer, OPTIMIZERS)
    eta = hyperparameters["learning_rate"]
    if not eta > 0:
        raise ValueError(f"learning_rate must be positive, got {eta!r}")
    return threshold_now(optimizer, hyperparameters)


def threshold_now(optimizer: str, hyperparameters: Numbers) -> Threshold | None:
    """`stability_threshold` of a step in training, whose numbers may be traced; infinite where the
    rate is 0."""
    rule = _RULES.get(optimizer)
    if rule is None:
        return None
    eta = hyperparameters["learning_rate"]
    mu = hyperparameters[rule.momentum] if rule.momentum else 0.0
    decays = any(row.name == "weight_decay" for row in OPTIMIZERS[optimizer].hyperparameters)
    decay = hyperparameters["weight_decay"] if decays else 0.0
    rate = eta * (1 - mu) if rule.averaged else eta
    ahead = 1 + 2 * mu if rule.look_ahead else 1.0
    return Threshold((2 - eta * decay) * (1 + mu) / (ahead * rate), rule.matrix)
