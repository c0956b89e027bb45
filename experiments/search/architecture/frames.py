"""A space as one frame: the edges and operations of an architecture as weights that are data.

One compiled program then serves the whole space (`workloads.models.architectures.Framed`). That
asks for operations that keep shapes, and for sums: what joins or widens is built plainly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from experiments.search.architecture.graph import Graph, IllegalArchitectureError
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
    operations: dict[str, set[str]] = {}
    for architecture in architectures:
        for cell, graph in architecture.graphs:
            check(graph)
            inner = graph.nodes[1:-1]
            nodes[cell] = max(nodes.get(cell, 0), len(inner))
            operations.setdefault(cell, set()).update(node.operation for node in inner)
    if not nodes:
        raise IllegalArchitectureError("there is no legal architecture to be packed")
    return {cell: Frame(nodes[cell], tuple(sorted(operations[cell]))) for cell in nodes}


def frames_of_space(space: Space) -> Frames:
    """The least frames that hold a space.

    Raises:
      as `frames_of`; ValueError: it is too large to look through.
    """
    return frames_of(map(space.architecture, space.enumerated()))


def check(graph: Graph) -> None:
    """Refuse a graph that no frame holds.

    Raises:
      NotPackableError: a node has a width of its own, or joins its inputs.
    """
    for index, node in enumerate(graph.nodes[1:], 1):
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
            found |= {applies(cell, place, name): 0.0 for name in frame.operations}
        graph = architecture.graph(cell)
        check(graph)
        for index, node in enumerate(graph.nodes[1:], 1):
            out = node.operation == OUTPUT
            if not out and (index > frame.nodes or node.operation not in frame.operations):
                raise NotPackableError(f"the frame of {cell} cells has no node {index} of {node}")
            for source in node.inputs:
                found[reads(cell, source, OUTPUT if out else index)] += 1.0
            if not out:
                found[applies(cell, index, node.operation)] = 1.0
    return found
