"""The strategies by name, with the settings they have unless others are asked for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import NamedTuple

from experiments.search.architecture.strategies import (
    bayesian,
    evolution,
    local,
    plain,
    progressive,
    reinforce,
)
from experiments.search.architecture.strategies.base import Strategy
from workloads.registry import unknown_name


class StrategyRow(NamedTuple):
    """A strategy of the table.

    Attributes:
      make: keyword settings -> strategy.
      adaptive: whether its proposals depend on results, so that it must wait for them.
      meaning: a line for lists.
    """

    make: Callable[..., Strategy]
    adaptive: bool
    meaning: str


STRATEGIES: dict[str, StrategyRow] = {
    "random": StrategyRow(plain.random, False, "uniform architectures, none twice"),
    "grid": StrategyRow(plain.grid, False, "every architecture once, spread over the space"),
    "local": StrategyRow(local.local, True, "first better neighbour, with restarts"),
    "evolution": StrategyRow(
        evolution.evolution, True, "regularised evolution: tournament and ageing"
    ),
    "reinforce": StrategyRow(reinforce.reinforce, True, "REINFORCE over independent choices"),
    "bayesian": StrategyRow(bayesian.bayesian, True, "Gaussian process over one-hot choices"),
    "progressive": StrategyRow(
        progressive.progressive, True, "simple ones first, then by a surrogate"
    ),
}


def strategy(name: str, **settings: float) -> Strategy:
    """The strategy of this name.

    Raises:
      UnknownNameError: no such strategy; lists those there are.
      ValueError: a setting out of range.
    """
    if name not in STRATEGIES:
        raise unknown_name("strategy", name, STRATEGIES)
    return STRATEGIES[name].make(**settings)


def stated(name: str, settings: Mapping[str, float]) -> str:
    """All settings of a strategy in words, those that were not given with their defaults."""
    parameters = inspect.signature(STRATEGIES[name].make).parameters.values()
    return ", ".join(f"{one.name} {settings.get(one.name, one.default):g}" for one in parameters)
