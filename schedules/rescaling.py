"""Hyperparameters at batch size B -> hyperparameters at batch size kB, by named rules.

A rule claims an invariant and changes only the hyperparameters it is about, where they are
present. Rules combine: ``"linear+half_life+warmup_examples"``. Imports no jax.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping

Values = dict[str, float]
RATE = "learning_rate"
DECAYS_PER_STEP = ("momentum", "beta1", "beta2", "decay", "beta")
"""Coefficients of exponential averages over steps."""
STEP_COUNTS = ("warmup_steps", "timescale_steps", "patience_steps", "momentum_period_steps")
"""Durations given in steps."""


def linear(values: Values, k: float) -> Values:
    """eta <- k eta. Invariant: eta / B, the displacement per example for a constant gradient
    and the noise scale eps N / B (Krizhevsky 2014; Goyal et al. 2017; Smith et al. 2018)."""
    return _times(values, RATE, k)


def square_root(values: Values, k: float) -> Values:
    """eta <- sqrt(k) eta. Invariant: eta^2 / B, the covariance of one step's displacement
    (Krizhevsky 2014; Hoffer et al. 2017)."""
    return _times(values, RATE, math.sqrt(k))


def half_life(values: Values, k: float) -> Values:
    """beta <- beta^k for every decay per step. Invariant: the average's half-life in examples,
    B log(1/2) / log(beta)."""
    return {name: value**k if name in DECAYS_PER_STEP else value for name, value in values.items()}


def ema_power(values: Values, k: float) -> Values:
    """d <- d^k for the weight average's decay. Invariant: the weight of the parameters as they
    were a given number of examples ago (Busbridge et al. 2023, the EMA scaling rule)."""
    name = "average_decay"
    return {**values, name: values[name] ** k} if name in values else dict(values)


def weight_decay_timescale(values: Values, k: float, rate_ratio: float = 1.0) -> Values:
    """lambda <- lambda k / r, r = new rate / old rate. Invariant: B / (eta lambda), the examples
    over which decoupled decay averages (Wang and Aitchison 2024)."""
    return _times(values, "weight_decay", k / rate_ratio)


def warmup_examples(values: Values, k: float) -> Values:
    """W <- W / k for the warmup and every other duration given in steps. Invariant: W B, the
    examples it lasts. Not rounded: the shapes take fractions of a step."""
    return {name: value / k if name in STEP_COUNTS else value for name, value in values.items()}


def none(values: Values, k: float) -> Values:
    """Everything as it was."""
    del k
    return dict(values)


RULES: dict[str, Callable[..., Values]] = {
    "none": none,
    "linear": linear,
    "square_root": square_root,
    "half_life": half_life,
    "ema_power": ema_power,
    "weight_decay_timescale": weight_decay_timescale,
    "warmup_examples": warmup_examples,
}


def rescale(
    hyperparameters: Mapping[str, float],
    batch_size: int,
    new_batch_size: int,
    rule: str,
) -> Values:
    """The hyperparameters for ``new_batch_size``, given those for ``batch_size``.

    Args:
      hyperparameters: name -> value; a rule leaves alone what it is not about.
      batch_size: B.
      new_batch_size: kB; k may be any positive ratio, below one too.
      rule: a name of `RULES`, or several joined by ``+``. At most one may change the rate. The
        weight-decay rule comes last whatever its place, since it reads the new rate.

    Raises:
      ValueError: an unknown rule, two rules for the rate, or a batch size below 1.

    >>> rescale({"learning_rate": 0.1, "momentum": 0.9}, 256, 512, "linear+half_life")
    {'learning_rate': 0.2, 'momentum': 0.81}
    """
    for field, size in (("batch_size", batch_size), ("new_batch_size", new_batch_size)):
        if size < 1:
            raise ValueError(f"{field} must be at least 1, got {size!r}")
    names = [name.strip() for name in rule.split("+")]
    for name in names:
        if name not in RULES:
            raise _unknown(name)
    if {"linear", "square_root"} <= set(names):
        raise ValueError(f"rule may change learning_rate once, got {rule!r}")
    k = new_batch_size / batch_size
    values: Values = dict(hyperparameters)
    for name in names:
        if name != "weight_decay_timescale":
            values = RULES[name](values, k)
    if "weight_decay_timescale" in names:
        ratio = values[RATE] / hyperparameters[RATE] if RATE in values else 1.0
        values = weight_decay_timescale(values, k, ratio)
    return values


def _times(values: Values, name: str, factor: float) -> Values:
    return {**values, name: values[name] * factor} if name in values else dict(values)


def _unknown(name: str) -> ValueError:
    nearest = difflib.get_close_matches(name, RULES, n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return ValueError(f"rescaling rule {name!r} is unknown{hint} (known: {', '.join(RULES)})")
