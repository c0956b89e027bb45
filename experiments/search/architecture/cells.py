"""Micro spaces: cells with intermediate nodes, to be stacked into a network.

`every_edge` puts an operation on every edge between a cell's nodes; with four nodes and
`NAS_BENCH_201` operations it is the space of NAS-Bench-201 (Dong and Yang 2020). `chosen_edges`
lets every intermediate node choose what it reads (Zoph et al. 2018).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

from experiments.search.architecture.graph import Graph, Node
from experiments.search.architecture.operations import OPERATIONS, STRIDED, Shape
from experiments.search.architecture.space import Architecture, Option, Space
from workloads.registry import unknown_name

NONE = "none"
"""An edge that is not there."""
REDUCTION = "reduction"
"""The kind of cell that stands between stages."""
NAS_BENCH_201 = (NONE, "skip", "bn_conv1x1", "bn_conv3x3", "avg_pool3x3")
TRIAL_SHAPE = (8, 8, 8)
"""Cells keep the shape of their input; operations are asked with this one unless told another."""


def every_edge(
    nodes: int = 4,
    operations: tuple[str, ...] = NAS_BENCH_201,
    cells: tuple[str, ...] = ("normal",),
    same: Literal["architecture", "code"] = "architecture",
    *,
    shape: Shape = TRIAL_SHAPE,
    strided: bool = False,
) -> Space:
    """A choice of operation an edge i -> j, i < j < ``nodes``; node 0 is the cell's input.

    A node is the sum of its edges and the last node the output. Edges are ordered by j, then i.
    ``cells`` names the kinds of cell, each with choices of its own; ``shape`` is of what they take,
    (features,), (tokens, features) or an image's. With ``strided`` the edges that leave the input
    of a cell called "reduction" have the operations of stride two: it halves its image, for a
    `Skeleton` that is ``strided`` too.

    >>> every_edge().codes
    15625

    Raises:
      ValueError: an operation that is unknown, changes shapes or has no form of stride two where
        it needs one; fewer than two nodes.
    """
    if nodes < 2:
        raise ValueError(f"a cell needs at least 2 nodes (input and output), got {nodes}")
    _check(operations, shape)
    halving = _halving(operations, cells) if strided else operations
    choices = tuple(
        (_name(cells, cell, f"{i}->{j}"), operations if i or cell != REDUCTION else halving)
        for cell in cells
        for j in range(1, nodes)
        for i in range(j)
    )
    return Space(f"cells of {nodes} nodes", choices, EveryEdge(nodes, cells), same)


def chosen_edges(
    nodes: int = 4,
    operations: tuple[str, ...] = NAS_BENCH_201[1:],
    inputs: int = 2,
    cells: tuple[str, ...] = ("normal", "reduction"),
    *,
    shape: Shape = TRIAL_SHAPE,
    strided: bool = False,
) -> Space:
    """Every intermediate node sums ``inputs`` operations, each of an earlier node of its choice.

    The output joins the intermediate nodes that no other one reads. With ``strided`` an operation
    that reads the input of a cell called "reduction" is its form of stride two.

    Raises:
      ValueError: as `every_edge`.
    """
    _check(operations, shape)
    if strided:
        _halving(operations, cells)
    if nodes < 1 or inputs < 1:
        raise ValueError(
            f"a cell needs at least 1 intermediate node of 1 input, got {nodes} of {inputs}"
        )
    choices: list[tuple[str, tuple[Option, ...]]] = []
    for cell in cells:
        for j in range(1, nodes + 1):
            for k in range(inputs):
                choices.append((_name(cells, cell, f"{j}.{k} reads"), tuple(range(j))))
                choices.append((_name(cells, cell, f"{j}.{k} applies"), operations))
    build = ChosenEdges(nodes, inputs, cells, strided)
    return Space(f"cells of {nodes} nodes of {inputs} inputs", tuple(choices), build)


def _name(cells: tuple[str, ...], cell: str, choice: str) -> str:
    return choice if len(cells) == 1 else f"{cell} {choice}"


def _halving(operations: tuple[str, ...], cells: tuple[str, ...]) -> tuple[str, ...]:
    """The operations of stride two in their places."""
    if REDUCTION not in cells:
        raise ValueError(f"strided needs cells of the kind {REDUCTION!r}, got {', '.join(cells)}")
    for name in operations:
        if name != NONE and name + STRIDED not in OPERATIONS:
            raise ValueError(
                f"operation {name!r} has no form of stride two: there is no {name + STRIDED!r}"
            )
    return tuple(name if name == NONE else name + STRIDED for name in operations)


def _check(operations: tuple[str, ...], trial: Shape) -> None:
    for name in operations:
        if name == NONE:
            continue
        if name not in OPERATIONS:
            raise unknown_name("operation", name, (NONE, *OPERATIONS))
        shape = OPERATIONS[name].cost(trial, None).shape
        if shape != trial:
            raise ValueError(
                f"operation {name!r} changes shape {trial} to {shape}; operations of a cell keep it"
            )


@dataclasses.dataclass(frozen=True)
class EveryEdge:
    """Options of every edge -> cells."""

    nodes: int
    cells: tuple[str, ...]

    def __call__(self, options: Mapping[str, Option]) -> Architecture:
        return Architecture.of(**{cell: self._graph(options, cell) for cell in self.cells})

    def _graph(self, options: Mapping[str, Option], cell: str) -> Graph:
        """Sums of edges are identities with several inputs; the canonical form drops them."""
        nodes, sums = [Node("input")], [0]
        for j in range(1, self.nodes):
            edges = []
            for i in range(j):
                operation = options[_name(self.cells, cell, f"{i}->{j}")]
                if operation != NONE:
                    nodes.append(Node(str(operation), (sums[i],)))
                    edges.append(len(nodes) - 1)
            last = j == self.nodes - 1
            nodes.append(Node("output" if last else "skip", tuple(edges)))
            sums.append(len(nodes) - 1)
        return Graph(tuple(nodes))


@dataclasses.dataclass(frozen=True)
class ChosenEdges:
    """Options of every input of every node -> cells; ``strided`` is that of `chosen_edges`."""

    nodes: int
    inputs: int
    cells: tuple[str, ...]
    strided: bool = False

    def __call__(self, options: Mapping[str, Option]) -> Architecture:
        return Architecture.of(**{cell: self._graph(options, cell) for cell in self.cells})

    def _graph(self, options: Mapping[str, Option], cell: str) -> Graph:
        nodes, sums = [Node("input")], [0]
        unread = set(range(1, self.nodes + 1))
        for j in range(1, self.nodes + 1):
            edges = []
            for k in range(self.inputs):
                source = options[_name(self.cells, cell, f"{j}.{k} reads")]
                operation = options[_name(self.cells, cell, f"{j}.{k} applies")]
                assert isinstance(source, int)
                if self.strided and cell == REDUCTION and source == 0 and operation != NONE:
                    operation = f"{operation}{STRIDED}"
                if operation != NONE:
                    unread.discard(source)
                    nodes.append(Node(str(operation), (sums[source],)))
                    edges.append(len(nodes) - 1)
            nodes.append(Node("skip", tuple(edges)))
            sums.append(len(nodes) - 1)
        ends = tuple(sums[j] for j in sorted(unread))
        return Graph((*nodes, Node("output", ends, merge="concat")))
