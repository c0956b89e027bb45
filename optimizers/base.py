"""An optimizer as the rest of the house sees it: a rule, its hyperparameters, their ranges.

This module imports no jax; a rule is named ``"module:function"`` and resolved when used.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from optimizers.coordinates import COORDINATES, Coordinate, check_coordinates
from workloads.registry import Hyperparameter, resolve


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
      coordinates: in which its optimum moves least, at most one a hyperparameter; default: the
        effective rate, and epsilon over the rate, of a rule that has these hyperparameters.

    Raises:
      ValueError: coordinates of hyperparameters that it does not have, or that refer to each other.
    """

    name: str
    rule: str
    hyperparameters: tuple[Hyperparameter, ...]
    summary: str = ""
    evaluation_params: str = ""
    needs_value_fn: bool = False
    largest_model: int | None = None
    coordinates: tuple[Coordinate, ...] = COORDINATES

    def __post_init__(self) -> None:
        check_coordinates(self.coordinates, (row.name for row in self.hyperparameters))

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
