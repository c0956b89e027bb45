"""Macro spaces: a whole network layer by layer, with widths, skip connections and branches."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

from experiments.search.architecture.graph import Graph, Merge, Node
from experiments.search.architecture.operations import OPERATIONS, Shape
from experiments.search.architecture.space import Architecture, Option, Space
from workloads.registry import unknown_name

SKIP, WEIGHTED = "skip", "weighted skip"
"""Names of the choices of a layer's skip connection."""


def stacks(
    shape: Shape,
    outputs: int,
    depths: tuple[int, ...],
    operations: tuple[str, ...],
    widths: tuple[int, ...],
    *,
    skips: bool | Literal["weighted"] = False,
    branches: bool = False,
) -> Space:
    """Layers 1 .. depth, then a dense layer of ``outputs`` features.

    A layer's choices: its operation; its width, where the operation takes one; with ``skips``, an
    earlier layer (0: the input) whose output is added to its own ("weighted": times a trained
    number, 1 at first); with ``branches``, which earlier layer it reads. Layers that none reads are
    flattened and joined before the last dense layer. Choices of layers beyond the depth mean
    nothing: such codes are one architecture.

    >>> space = stacks((784,), 10, (1, 2), ("dense",), (32, 64))
    >>> space.count()  # 2 of one layer and 4 of two
    6
    >>> print(space.architecture((0, 0, 1, 0, 0)))
    1 = dense 64 (input); 2 = dense 10 (1); output = 2

    Raises:
      ValueError: a size that is not positive, no option for a choice, an unknown operation.
    """
    sizes = {"shape": shape, "outputs": (outputs,), "depths": depths, "widths": widths}
    for name, values in sizes.items():
        if not values or any(type(value) is not int or value < 1 for value in values):
            raise ValueError(f"{name} must be whole numbers from 1 on, got {values}")
    for operation in operations:
        if operation not in OPERATIONS:
            raise unknown_name("operation", operation, OPERATIONS)
    choices: list[tuple[str, tuple[Option, ...]]] = [("depth", depths)]
    for layer in range(1, max(depths) + 1):
        choices += [(f"operation {layer}", operations), (f"width {layer}", widths)]
        if skips:
            name = f"{WEIGHTED} {layer}" if skips == "weighted" else f"{SKIP} {layer}"
            choices.append((name, (None, *range(layer))))
        if branches:
            choices.append((f"input {layer}", tuple(range(layer - 1, -1, -1))))
    return Space(f"stacks of up to {max(depths)} layers", tuple(choices), Stacked(shape, outputs))


@dataclasses.dataclass(frozen=True)
class Stacked:
    """Options of every layer -> a network; ``shape`` and ``outputs`` are those of `stacks`."""

    shape: Shape
    outputs: int

    def __call__(self, options: Mapping[str, Option]) -> Architecture:
        depth = options["depth"]
        assert isinstance(depth, int)
        nodes, ends, unread = [Node("input")], [0], set(range(1, depth + 1))
        for layer in range(1, depth + 1):
            source = options.get(f"input {layer}", layer - 1)
            name, width = str(options[f"operation {layer}"]), options[f"width {layer}"]
            assert isinstance(source, int) and isinstance(width, int)
            wide = OPERATIONS[name].wide
            nodes.append(Node(name, (ends[source],), width if wide else None))
            unread.discard(source)
            own = len(nodes) - 1
            for kind in (SKIP, WEIGHTED):
                skip = options.get(f"{kind} {layer}")
                if isinstance(skip, int):
                    added = ends[skip]
                    if kind == WEIGHTED:
                        nodes.append(Node("weighted_skip", (added,)))
                        added = len(nodes) - 1
                    nodes.append(Node("skip", (own, added)))
                    unread.discard(skip)
            ends.append(len(nodes) - 1)
        heads = tuple(ends[layer] for layer in sorted(unread))
        merge: Merge = "sum"
        if len(heads) > 1:
            nodes += [Node("flatten", (end,)) for end in heads]
            heads, merge = tuple(range(len(nodes) - len(heads), len(nodes))), "concat"
        nodes.append(Node("dense", heads, self.outputs, merge))
        graph = Graph((*nodes, Node("output", (len(nodes) - 1,))))
        architecture = Architecture.of(network=graph)
        graph.cost(self.shape)  # refuses what cannot be built
        return architecture
