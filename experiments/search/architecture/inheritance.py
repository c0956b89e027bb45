"""Weight inheritance: an architecture starts from the weights of one that it grew out of.

A performance estimator beside full training, lower fidelity and extrapolation: where exact changes
(`experiments.training.morphisms`) lead from an architecture that has been trained to a new one, the
new one begins with its weights, computes what it does, and trains some further epochs only, as
Elsken, Metzen and Hutter 2017 (arXiv 1711.04528) climb hills. Here changes are found; they are made
where the new architecture is trained. Imports no jax.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

from experiments.search.architecture.graph import Graph, Node
from experiments.search.architecture.operations import OPERATIONS, Shape
from workloads.exact_changes import (
    KERNELS,
    NotExactError,
    check_identity,
    kernel_margin,
    kernel_readers,
)

State = Literal["reset", "carry"]
MOST_INSERTED = 3
"""Nodes by which a child may be deeper than its parent."""


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


class Change(NamedTuple):
    """One morphism.

    Attributes:
      kind: of `experiments.training.morphisms`.
      node: index, in the graph as the changes before have left it.
      to: operation that is inserted behind it or that it becomes, or its new width.
    """

    kind: Literal["deepen", "enlarge", "widen"]
    node: int
    to: str | int

    def __str__(self) -> str:
        return f"{self.kind} {self.node} {'by' if self.kind == 'deepen' else 'to'} {self.to}"


def changes_between(parent: Graph, child: Graph, shape: Shape) -> tuple[Change, ...] | None:
    """Exact changes that make ``parent`` the ``child``, node by node; None where there are none.

    Layers are inserted first, then kernels enlarged, then layers widened. Nodes keep their order;
    an input that comes or goes (a skip connection) is no change that can be exact.

    Args:
      parent, child: as they stand, which is how their modules are named.
      shape: of an example.
    """
    wanted, start = _explicit(child, shape), _explicit(parent, shape)
    inserted = len(wanted.nodes) - len(start.nodes)
    if wanted == start or not 0 <= inserted <= MOST_INSERTED:
        return None
    for places in itertools.combinations(range(2, len(wanted.nodes) - 1), inserted):
        found = _changes(start, wanted, places)
        if found is not None:
            return found
    return None


def _changes(graph: Graph, wanted: Graph, places: Sequence[int]) -> tuple[Change, ...] | None:
    """The changes, if the nodes of ``wanted`` at these places are those that were inserted."""
    changes = []
    try:
        for place in places:
            new = wanted.nodes[place]
            if len(new.inputs) != 1:
                return None
            (behind,) = new.inputs
            check_identity(graph, behind, new.operation)
            changes.append(Change("deepen", behind, new.operation))
            graph = _deeper(graph, place, behind, new.operation)
        for index, (old, new) in enumerate(zip(graph.nodes, wanted.nodes, strict=True)):
            if (old.inputs, old.merge) != (new.inputs, new.merge):
                return None
            if old.operation != new.operation:
                kernel_margin(graph, index, new.operation)
                changes.append(Change("enlarge", index, new.operation))
                graph = _with(graph, index, dataclasses.replace(old, operation=new.operation))
        for index, (old, new) in enumerate(zip(graph.nodes, wanted.nodes, strict=True)):
            if old.width != new.width:
                if old.width is None or new.width is None or new.width < old.width:
                    return None
                kernel_readers(graph, index)
                changes.append(Change("widen", index, new.width))
                graph = _with(graph, index, new)
    except ValueError:  # not exact, or of the input or the output
        return None
    return tuple(changes)


def _deeper(graph: Graph, place: int, behind: int, operation: str) -> Graph:
    """``operation`` at index ``place``, between node ``behind`` and what read it."""

    def moved(i: int) -> int:
        return place if i == behind else i + (i >= place)

    def rewired(node: Node) -> Node:
        return dataclasses.replace(node, inputs=tuple(map(moved, node.inputs)))

    width = graph.nodes[behind].width if operation in KERNELS else None
    before = graph.nodes[:place]
    if any(behind in node.inputs for node in before):
        raise NotExactError(f"node {behind} is read before node {place}")
    new = Node(operation, (behind,), width)
    return Graph((*before, new, *map(rewired, graph.nodes[place:])))


def _with(graph: Graph, index: int, node: Node) -> Graph:
    return Graph((*graph.nodes[:index], node, *graph.nodes[index + 1 :]))


def _explicit(graph: Graph, shape: Shape) -> Graph:
    """The graph with every kernel's width as a number."""
    nodes: list[Node] = []
    for index, node in enumerate(graph.nodes):
        if node.operation in OPERATIONS and node.operation in KERNELS and node.width is None:
            width = Graph((*graph.nodes[: index + 1], Node("output", (index,)))).cost(shape).shape
            node = dataclasses.replace(node, width=width[-1])
        nodes.append(node)
    return Graph(tuple(nodes))


class TrainedArchitecture(NamedTuple):
    """An architecture that has trained to its end: its trial, its graph, and what it reached."""

    trial: int
    graph: Graph
    value: float


def parent_of(child: Graph, trained: Sequence[TrainedArchitecture], shape: Shape) -> int | None:
    """The trial whose weights ``child`` begins with; None where it begins anew.

    The best of those that exact changes lead from; the first of equal ones.
    """
    for one in sorted(trained, key=lambda one: (one.value, one.trial)):
        if changes_between(one.graph, child, shape):
            return one.trial
    return None
