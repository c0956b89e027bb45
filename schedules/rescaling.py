"""Hyperparameters at batch size B -> hyperparameters at batch size kB, by named rules.

A rule claims an invariant and changes only the hyperparameters it is about, where they are
present. Rules combine: ``"linear+half_life+warmup_examples"``. Imports no jax.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping

from workloads.registry import unknown_name

Values = dict[str, float]
RATE = "learning_rate"
DECAYS_PER_STEP = ("momentum", "beta1", "beta2", "decay", "beta")
"""Coefficients of exponential averages over steps."""
STEP_COUNTS = (
    "warmup_steps", "timescale_steps", "patience_steps", "momentum_period_steps",
    "average_start", "clip_window",
)  # fmt: skip
"""Durations given in steps."""
FROM_THE_START = ("warmup_steps", "average_start")
"""Of `STEP_COUNTS`, those that begin with the trial; the others are periods and windows."""


@dataclasses.dataclass(frozen=True)
class Rescaling:
    """A row of the table of rules.

    Attributes:
      name: what users call it.
      change: ``(values at B, k) -> values at kB``; what it is not about it leaves alone.
      formula: what becomes of the hyperparameters it is about.
      invariant: what that keeps.
      reference: where the rule is from.
    """

    name: str
    change: Callable[..., Values]
    formula: str
    invariant: str
    reference: str = ""


def _power(values: Values, names: tuple[str, ...], k: float) -> Values:
    return {name: value**k if name in names else value for name, value in values.items()}


def _times(values: Values, names: tuple[str, ...], factor: float) -> Values:
    return {name: value * factor if name in names else value for name, value in values.items()}


def _weight_decay(values: Values, k: float, rate_ratio: float = 1.0) -> Values:
    """``rate_ratio``: new rate / old rate."""
    return _times(values, ("weight_decay",), k / rate_ratio)


RULES: dict[str, Rescaling] = {
    row.name: row
    for row in (
        Rescaling("none", lambda values, k: dict(values), "all as it was", "every value"),
        Rescaling(
            "linear", lambda values, k: _times(values, (RATE,), k), "eta <- k eta",
            "eta / B: displacement per example for a constant gradient; noise scale eps N / B",
            "Krizhevsky 2014; Goyal et al. 2017; Smith et al. 2018",
        ),
        Rescaling(
            "square_root", lambda values, k: _times(values, (RATE,), math.sqrt(k)),
            "eta <- sqrt(k) eta", "eta^2 / B: covariance of one step's displacement",
            "Krizhevsky 2014; Hoffer et al. 2017",
        ),
        Rescaling(
            "half_life", lambda values, k: _power(values, DECAYS_PER_STEP, k),
            "beta <- beta^k, every decay per step",
            "B log(1/2) / log(beta): half-life of the averages in examples",
        ),
        Rescaling(
            "ema_power", lambda values, k: _power(values, ("average_decay",), k),
            "d <- d^k, the weight average's decay",
            "d^(n/B): weight of the parameters n examples ago",
            "Busbridge et al. 2023, the EMA scaling rule",
        ),
        Rescaling(
            "weight_decay_timescale", _weight_decay,
            "lambda <- lambda k / r, r = new rate / old rate",
            "B / (eta lambda): examples over which decoupled decay averages",
            "Wang and Aitchison 2024",
        ),
        Rescaling(
            "warmup_examples", lambda values, k: _times(values, STEP_COUNTS, 1 / k),
            "W <- W / k, the warmup and every other duration in steps, not rounded",
            "W B: the examples it lasts",
        ),
    )
}  # fmt: skip


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
            raise unknown_name("rescaling rule", name, RULES)
    if {"linear", "square_root"} <= set(names):
        raise ValueError(f"rule may change learning_rate once, got {rule!r}")
    k = new_batch_size / batch_size
    values: Values = dict(hyperparameters)
    for name in names:
        if name != "weight_decay_timescale":
            values = RULES[name].change(values, k)
    if "weight_decay_timescale" in names:
        ratio = values[RATE] / hyperparameters[RATE] if RATE in values else 1.0
        values = _weight_decay(values, k, ratio)
    return values
