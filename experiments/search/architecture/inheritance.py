"""Weight inheritance: an architecture starts from the weights of one that it grew out of.

A performance estimator beside full training, lower fidelity and extrapolation: where exact changes
(`growth`) lead from an architecture that has been trained to a new one, the new one begins with its
weights, computes what it does, and trains some further epochs only, as Elsken, Metzen and Hutter
2017 (arXiv 1711.04528) climb hills. Here changes are found; they are made where the new
architecture is trained. Imports no jax.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, get_args

from experiments.search.architecture.graph import Graph
from experiments.search.architecture.growth import explicit, growth
from experiments.search.architecture.operations import Shape
from experiments.search.architecture.places import occurrences
from experiments.search.architecture.space import Architecture
from workloads.architectures import Skeleton
from workloads.exact_changes import GraphGrowth, never_negative

State = Literal["reset", "carry"]


@dataclasses.dataclass(frozen=True)
class Inheritance:
    """The estimator's settings.

    Attributes:
      further: epochs that an architecture trains which inherits; one that cannot trains the whole
        budget from new weights.
      optimizer_state: "reset": it begins as at the first step. "carry": moments come from the
        parent, new parameters' are zero (only of rules whose state is moments and counters).

    Raises:
      ValueError: ``further`` below 1, another word.
    """

    further: int
    optimizer_state: State = "reset"

    def __post_init__(self) -> None:
        if type(self.further) is not int or self.further < 1:
            raise ValueError(f"further must be a whole number from 1 on, got {self.further!r}")
        if self.optimizer_state not in get_args(State):
            raise ValueError(
                f"optimizer_state must be {' or '.join(get_args(State))}, "
                f"got {self.optimizer_state!r}"
            )


def growths(
    parent: Architecture, child: Architecture, network: Skeleton | Shape
) -> Mapping[str, GraphGrowth] | None:
    """Name of each graph that differs -> how it grows; None where one cannot, or none differs.

    Args:
      network: what surrounds cells, or the shape that a stack takes.
    """
    found: dict[str, GraphGrowth] = {}
    first: dict[str, Shape] = {}
    for place in occurrences(network, [name for name, _ in child.graphs]):
        first.setdefault(place.graph, place.shape)
    for name, shape in first.items():
        old, new = parent.graph(name), child.graph(name)
        nonnegative = False
        if isinstance(network, Skeleton):
            nonnegative = _takes_nonnegative(network, name, old)
        else:
            old, new = explicit(old, shape), explicit(new, shape)
        if old == new:
            continue
        grown = growth(old, new, shape, nonnegative=nonnegative)
        if grown is None:
            return None
        found[name] = grown
    return found or None


def _takes_nonnegative(skeleton: Skeleton, name: str, graph: Graph) -> bool:
    """Tell whether a cell takes nothing below zero wherever it stands.

    Batch norm stands before every cell of a later stage, and behind one that joins nodes.
    """
    made = skeleton.stem == "dense" or skeleton.stem.startswith("conv")
    if name != "normal" or skeleton.stages > 1 or not made:
        return False
    last = graph.nodes[-1]
    keeps = last.merge == "sum" and never_negative(graph, len(graph.nodes) - 1, given=True)
    return skeleton.cells == 1 or keeps


class TrainedArchitecture(NamedTuple):
    """An architecture that has trained to its end: its trial and what it reached."""

    trial: int
    architecture: Architecture
    value: float


def parent_of(
    child: Architecture, trained: Sequence[TrainedArchitecture], network: Skeleton | Shape
) -> int | None:
    """The trial whose weights ``child`` begins with; None where it begins anew.

    The best of those that exact changes lead from; the first of equal ones.
    """
    for one in sorted(trained, key=lambda one: (one.value, one.trial)):
        if growths(one.architecture, child, network):
            return one.trial
    return None
