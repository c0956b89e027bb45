"""An architecture as a frozen value: an acyclic graph of operations, and its canonical form.

A node applies its operation to the sum of its inputs (an input may count twice) or to their
concatenation. Node 0 is the graph's input and the last node its output. Two graphs are the same
architecture if one is the other with its nodes renamed, after what cannot matter is gone: nodes
that the input does not reach (they are zero), nodes that do not reach the output, and identities.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

from experiments.search.architecture.operations import OPERATIONS, OperationCost, Shape
from workloads.registry import unknown_name

Merge = Literal["sum", "concat"]


class IllegalArchitectureError(ValueError):
    """An architecture that cannot be built; one line says why."""


@dataclasses.dataclass(frozen=True)
class Node:
    """One operation.

    Attributes:
      operation: a name of `OPERATIONS`; "input" or "output" at the ends.
      inputs: indices of earlier nodes, in order; one may occur twice.
      width: features or channels of its output; None: those of its input.
      merge: how several inputs become one.
    """

    operation: str
    inputs: tuple[int, ...] = ()
    width: int | None = None
    merge: Merge = "sum"


@dataclasses.dataclass(frozen=True)
class Graph:
    """Nodes in an order in which each one's inputs come before it.

    >>> print(Graph((Node("input"), Node("dense", (0,), 32), Node("output", (1,)))))
    1 = dense 32 (input); output = 1
    """

    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        """Refuse cycles, unknown operations and graphs without ends."""
        names = [node.operation for node in self.nodes]
        if len(names) < 2 or names[0] != "input" or names[-1] != "output":
            raise IllegalArchitectureError(
                f"a graph begins with 'input' and ends with 'output', got {names}"
            )
        for index, node in enumerate(self.nodes[1:-1], 1):
            if node.operation not in OPERATIONS:
                raise unknown_name("operation", node.operation, OPERATIONS)
            _check_inputs(index, node)
        _check_inputs(len(names) - 1, self.nodes[-1])

    def __str__(self) -> str:
        """One statement a node."""

        def terms(node: Node) -> str:
            names = ["input" if i == 0 else str(i) for i in node.inputs]
            return (" + " if node.merge == "sum" else ", ").join(names) or "zero"

        body = [
            f"{i} = {node.operation}{'' if node.width is None else f' {node.width}'} "
            f"({terms(node)})"
            for i, node in enumerate(self.nodes[1:-1], 1)
        ]
        return "; ".join([*body, f"output = {terms(self.nodes[-1])}"])

    def canonical(self) -> Graph:
        """The one graph that stands for all that are the same architecture."""
        return _canonical(self)

    def cost(self, shape: Shape) -> OperationCost:
        """Output shape, parameters and FLOPs of the graph as it stands, for one input shape.

        Raises:
          IllegalArchitectureError: an operation cannot take its input's shape, or shapes of
            inputs that are added differ; names the node.
        """
        each = self.costs(shape)
        parameters = sum(cost.parameters for _, cost in each)
        return OperationCost(each[-1][0], parameters, sum(cost.flops for _, cost in each))

    def costs(self, shape: Shape) -> list[tuple[Shape, OperationCost]]:
        """(shape of what it takes, cost) of every node; the input and the output cost nothing.

        Raises:
          IllegalArchitectureError: as `cost`.
        """
        found = [(shape, OperationCost(shape, 0, 0))]
        for index, node in enumerate(self.nodes[1:], 1):
            taken = _merged(index, node, [found[i][1].shape for i in node.inputs])
            if node.operation == "output":
                return [*found, (taken, OperationCost(taken, 0, 0))]
            try:
                found.append((taken, OPERATIONS[node.operation].cost(taken, node.width)))
            except ValueError as error:
                raise IllegalArchitectureError(f"node {index}: {error}") from None
        raise AssertionError("a graph ends with its output")


def _check_inputs(index: int, node: Node) -> None:
    later = [i for i in node.inputs if not 0 <= i < index]
    if later:
        raise IllegalArchitectureError(
            f"node {index} ({node.operation}) reads node {later[0]}: a node reads earlier nodes "
            "only, so that there is no cycle"
        )


def _merged(index: int, node: Node, shapes: Sequence[Shape]) -> Shape:
    if not shapes:
        raise IllegalArchitectureError(f"node {index} ({node.operation}) has no input")
    if node.merge == "sum":
        if len(set(shapes)) > 1:
            raise IllegalArchitectureError(
                f"node {index} ({node.operation}) adds inputs of shapes "
                f"{' and '.join(map(str, sorted(set(shapes))))}; they must be equal"
            )
        return shapes[0]
    if len({shape[:-1] for shape in shapes}) > 1:
        raise IllegalArchitectureError(
            f"node {index} ({node.operation}) joins inputs of shapes "
            f"{' and '.join(map(str, sorted(set(shapes))))}; all but the last size must be equal"
        )
    return (*shapes[0][:-1], sum(shape[-1] for shape in shapes))


def _without_identities(nodes: Sequence[Node]) -> list[Node]:
    """Nodes that are zero have no inputs; an identity's readers read what it reads."""
    stands_for: list[tuple[int, ...]] = [(0,)]
    result = [nodes[0]]
    for index, node in enumerate(nodes[1:], 1):
        inputs: list[int] = []
        for i in node.inputs:
            # Only a sum may take an identity's sum apart; any node may read its one term.
            apart = node.merge == "sum" or len(stands_for[i]) <= 1
            inputs.extend(stands_for[i] if apart else (i,))
        kept = dataclasses.replace(node, inputs=tuple(sorted(inputs)))
        if len(inputs) == 1:
            kept = dataclasses.replace(kept, merge="sum")
        identity = node.operation == "skip" and kept.merge == "sum" and node.width is None
        stands_for.append(kept.inputs if identity or not inputs else (index,))
        result.append(kept)
    return result


def _reached(nodes: Sequence[Node]) -> list[int]:
    """Indices of the nodes that the output depends on, in order; input and output always."""
    found = {len(nodes) - 1, 0}
    for index in range(len(nodes) - 1, 0, -1):
        if index in found:
            found.update(nodes[index].inputs)
    return sorted(found)


def _renamed(nodes: Sequence[Node], order: Sequence[int]) -> tuple[Node, ...]:
    place = {old: new for new, old in enumerate(order)}
    return tuple(
        dataclasses.replace(nodes[old], inputs=tuple(sorted(place[i] for i in nodes[old].inputs)))
        for old in order
    )


@functools.lru_cache(maxsize=1 << 16)
def _canonical(graph: Graph) -> Graph:
    nodes = _without_identities(graph.nodes)
    nodes = list(_renamed(nodes, _reached(nodes)))
    depth = [0] * len(nodes)
    for index, node in enumerate(nodes[1:], 1):
        depth[index] = 1 + max((depth[i] for i in node.inputs), default=0)
    depth[-1] = len(nodes)
    labels = [
        (depth[i], node.operation, node.width or 0, node.merge) for i, node in enumerate(nodes)
    ]
    return Graph(min(_orders(nodes, _ranks(labels)), key=_sort_key))


def _sort_key(nodes: tuple[Node, ...]) -> tuple[tuple[object, ...], ...]:
    return tuple((n.operation, n.width or 0, n.merge, n.inputs) for n in nodes)


def _ranks(labels: Sequence[object]) -> list[int]:
    order = {label: rank for rank, label in enumerate(sorted(set(labels)))}  # type: ignore[type-var]
    return [order[label] for label in labels]


def _orders(nodes: Sequence[Node], colours: list[int]) -> Iterable[tuple[Node, ...]]:
    """Candidates for the canonical form: refine colours; split the first tie each way."""
    colours = _refined(nodes, colours)
    tied = [colour for colour, count in sorted(Counter(colours).items()) if count > 1]
    if not tied:
        yield _renamed(nodes, sorted(range(len(nodes)), key=colours.__getitem__))
        return
    for chosen in [i for i, colour in enumerate(colours) if colour == tied[0]]:
        split = [2 * colour + (i != chosen) for i, colour in enumerate(colours)]
        yield from _orders(nodes, _ranks(split))


def _refined(nodes: Sequence[Node], colours: list[int]) -> list[int]:
    """Nodes keep one colour only where the colours of inputs and readers agree."""
    while True:
        readers: list[list[int]] = [[] for _ in nodes]
        for index, node in enumerate(nodes):
            for i in node.inputs:
                readers[i].append(colours[index])
        finer = _ranks(
            [
                (colours[i], tuple(sorted(colours[j] for j in node.inputs)), tuple(sorted(found)))
                for i, (node, found) in enumerate(zip(nodes, readers, strict=True))
            ]
        )
        if len(set(finer)) == len(set(colours)):
            return finer
        colours = finer
