"""What an optimizer is to the rest of the house: a rule, its hyperparameters, their ranges.

This module imports no jax; a rule is named ``"module:function"`` and resolved when used.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Hyperparameter:
    """One number a rule reads.

    Attributes:
      name: the field's standard name, a keyword argument of the rule.
      default: its value where it is neither searched nor fixed; None where it must be given.
      low, high: the legal interval; ``low`` is excluded where ``low_open``, likewise ``high``.
      space: default search range as plain data (experiments/spec/space.py), None if not searched.
      meaning: one line, with units.
      searched_from: budget of trials from which a default search includes it (Tuning Playbook:
        fewer hyperparameters first, more later).
    """

    name: str
    default: float | None
    low: float
    high: float
    low_open: bool = False
    high_open: bool = False
    space: Mapping[str, Any] | None = None
    meaning: str = ""
    searched_from: int = 0

    def check(self, value: float) -> None:
        """Refuse a value outside the legal interval (ValueError names field and interval)."""
        above = value > self.low or (value == self.low and not self.low_open)
        below = value < self.high or (value == self.high and not self.high_open)
        if not (math.isfinite(value) and above and below):
            raise ValueError(f"{self.name} must lie in {self.interval}, got {value!r}")

    @property
    def interval(self) -> str:
        """The legal interval as written, e.g. ``[0, 1)``."""
        left, right = "(" if self.low_open else "[", ")" if self.high_open else "]"
        return f"{left}{self.low:g}, {self.high:g}{right}"


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """A row of the registry.

    Attributes:
      name: what users call it; one name, one formula.
      rule: ``"module:function"`` of ``f(learning_rate, **others) ->
        optax.GradientTransformation``, built from traced scalars; ``learning_rate`` is the
        current step's rate, peak times schedule. Its docstring is the specification.
      hyperparameters: the numbers the rule reads.
      summary: the rule in one line.
      evaluation_params: ``"module:function"`` of ``f(state, params) -> params`` where the
        parameters to evaluate are not those the gradient is taken at; empty elsewhere.
      needs_value_fn: True where ``update`` must be given ``value`` (the loss of the whole batch),
        and ``value_fn`` (params -> that loss) as extra arguments; its state then counts
        ``function_evaluations``, read by `optimizers.second_order.function_evaluations`. Its
        trials run unpacked, on one device.
      largest_model: the most parameters a model may have, None where there is no limit.
    """

    name: str
    rule: str
    hyperparameters: tuple[Hyperparameter, ...]
    summary: str = ""
    evaluation_params: str = ""
    needs_value_fn: bool = False
    largest_model: int | None = None

    @property
    def momentum(self) -> str | None:
        """The hyperparameter that a schedule of the momentum moves: momentum, else beta1."""
        names = [row.name for row in self.hyperparameters]
        return next((name for name in ("momentum", "beta1") if name in names), None)

    def transformation(self, hyperparameters: Mapping[str, Any]) -> Any:
        """The optax transformation at these (traced) hyperparameters; others are ignored.

        It computes and remembers in float32 or wider and returns updates in the dtype of the
        parameters (`optimizers.leafwise.at_least_float32`).
        """
        from optimizers.leafwise import at_least_float32

        rule = resolve(self.rule)
        return at_least_float32(
            rule(**{h.name: hyperparameters[h.name] for h in self.hyperparameters})
        )

    def spaces(self, trials: int) -> dict[str, Mapping[str, Any]]:
        """Default search space, name -> plain data, for a budget of ``trials`` per batch size.

        A hyperparameter outside it keeps its default.
        """
        rows = self.hyperparameters
        return {row.name: row.space for row in rows if row.space and trials >= row.searched_from}

    def parameters_to_evaluate(self, state: Any, params: Any) -> Any:
        """The parameters to evaluate, given the transformation's state and the trained ones."""
        if not self.evaluation_params:
            return params
        return resolve(self.evaluation_params)(state, params)


@dataclasses.dataclass(frozen=True)
class Clipping:
    """A row of the table of clippings.

    Attributes:
      name: what users call it.
      rule: ``"module:function"`` of ``f(**hyperparameters) -> optax.GradientTransformation``,
        whose state has ``clipped`` (`optimizers.clipping.ClipState`).
      hyperparameters: the numbers the rule reads.
      summary: the rule in one line.
    """

    name: str
    rule: str
    hyperparameters: tuple[Hyperparameter, ...] = ()
    summary: str = ""

    def transformation(self, hyperparameters: Mapping[str, Any]) -> Any:
        """The optax transformation at these (traced) hyperparameters; others are ignored."""
        from optimizers.leafwise import at_least_float32

        values = {h.name: hyperparameters[h.name] for h in self.hyperparameters}
        return at_least_float32(resolve(self.rule)(**values))


@dataclasses.dataclass(frozen=True)
class Averaging:
    """A row of the table of weight averagings.

    Attributes:
      name: what users call it.
      rule: ``"module:function"`` of ``f(**hyperparameters) -> (init, update, value)``.
      hyperparameters: the numbers the rule reads.
      summary: the rule in one line.
    """

    name: str
    rule: str
    hyperparameters: tuple[Hyperparameter, ...] = ()
    summary: str = ""

    def functions(self, hyperparameters: Mapping[str, Any]) -> Any:
        """(init, update, value) at these (traced) hyperparameters; others are ignored."""
        values = {h.name: hyperparameters[h.name] for h in self.hyperparameters}
        return resolve(self.rule)(**values)


def resolve(reference: str) -> Any:
    """The object that ``"module:attribute"`` names."""
    module, _, attribute = reference.partition(":")
    return getattr(importlib.import_module(module), attribute)
