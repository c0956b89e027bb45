"""A space as one frame: the edges and operations of an architecture as weights that are data.

One compiled program then serves the whole space (`workloads.models.architectures.Framed`). That
asks for operations that keep shapes, or that halve what the cell takes, and for sums: what joins or
widens is built plainly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from experiments.search.architecture.graph import Graph, IllegalArchitectureError, Node
from experiments.search.architecture.operations import OPERATIONS, Shape
from experiments.search.architecture.space import Architecture, Space
from workloads.architectures import OUTPUT, Frame, applies, reads

Frames = Mapping[str, Frame]
"""Name of a cell -> its frame."""


class NotPackableError(ValueError):
    """A space whose architectures cannot be one program; one line says why."""


def frames_of(architectures: Iterable[Architecture]) -> Frames:
    """The least frames that hold all of these architectures.

    Raises:
      NotPackableError: one of them does not keep shapes.
      IllegalArchitectureError: there is none.
    """
    nodes: dict[str, int] = {}
    names: dict[str, set[str]] = {}
    for architecture in architectures:
        for cell, graph in architecture.graphs:
            check(graph)
            inner = graph.nodes[1:-1]
            nodes[cell] = max(nodes.get(cell, 0), len(inner))
            names.setdefault(cell, set()).update(node.operation for node in inner)
    if not nodes:
        raise IllegalArchitectureError("there is no legal architecture to be packed")
    halving = {cell: {name for name in names[cell] if _halves(name)} for cell in nodes}
    return {
        cell: Frame(count, tuple(sorted(names[cell] - halving[cell])), tuple(sorted(halving[cell])))
        for cell, count in nodes.items()
    }


def frames_of_space(space: Space) -> Frames:
    """The least frames that hold a space.

    Raises:
      as `frames_of`; ValueError: it is too large to look through.
    """
    return frames_of(map(space.architecture, space.enumerated()))


def check(graph: Graph) -> None:
    """Refuse a graph that no frame holds.

    Raises:
      NotPackableError: a node has a width of its own, joins its inputs, or may have values of
        another size than another architecture's.
    """
    halved = any(_halves(node.operation) for node in graph.nodes)
    for index, node in enumerate(graph.nodes[1:], 1):
        if halved and (0 in node.inputs) != _halves(node.operation):
            raise NotPackableError(_of_two_sizes(index, node))
        if node.width is not None:
            raise NotPackableError(
                f"node {index} ({node.operation}) has a width of its own, {node.width}: shapes "
                "differ between architectures, so each is a program of its own"
            )
        if node.merge != "sum":
            raise NotPackableError(
                f"node {index} ({node.operation}) joins its inputs: shapes differ between "
                "architectures, so each is a program of its own"
            )


def check_shapes(frames: Frames, shape: Shape) -> None:
    """Refuse frames with an operation that neither keeps nor halves what a cell takes.

    Raises:
      NotPackableError: names the operation.
    """
    for frame in frames.values():
        for name in frame.operations:
            made = OPERATIONS[name].cost(shape, None).shape
            if made != shape:
                raise NotPackableError(
                    f"operation {name} makes {made} of {shape}: shapes differ between "
                    "architectures, so each is a program of its own"
                )


def _applied(frame: Frame, node: int) -> list[str]:
    """All operations that a node of the frame may apply."""
    return [name for _, names in frame.at(node) for name in names if node <= frame.nodes]


def _halves(operation: str) -> bool:
    return operation in OPERATIONS and OPERATIONS[operation].stride > 1


def _of_two_sizes(index: int, node: Node) -> str:
    halves = "halves what is not" if _halves(node.operation) else "reads"
    return (
        f"node {index} ({node.operation}) {halves} the input of a cell that halves it: sizes "
        "differ between architectures, so each is a program of its own"
    )


def weights(frames: Frames, architecture: Architecture) -> dict[str, float]:
    """The frame's weights that make it this architecture, by name; the others are 0.

    Raises:
      NotPackableError: the frames do not hold it.
    """
    found: dict[str, float] = {}
    for cell, frame in frames.items():
        for target in (*range(1, frame.nodes + 1), OUTPUT):
            last = frame.nodes + 1 if target == OUTPUT else int(target)
            found |= {reads(cell, source, target): 0.0 for source in range(last)}
        for place in range(1, frame.nodes + 1):
            found |= {applies(cell, place, name): 0.0 for name in _applied(frame, place)}
        graph = architecture.graph(cell)
        check(graph)
        for index, node in enumerate(graph.nodes[1:], 1):
            out = node.operation == OUTPUT
            if not out and node.operation not in _applied(frame, index):
                raise NotPackableError(f"the frame of {cell} cells has no node {index} of {node}")
            for source in node.inputs:
                found[reads(cell, source, OUTPUT if out else index)] += 1.0
            if not out:
                found[applies(cell, index, node.operation)] = 1.0
    return found
