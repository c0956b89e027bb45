"""The cost of an architecture before it is trained. Imports no jax.

Parameters and FLOPs are counted from the table of `experiments.search.architecture.operations`; a
test holds the parameters equal to the built module's, and the FLOPs to its multiplications.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection

from experiments.search.architecture.frames import Frames
from experiments.search.architecture.operations import OPERATIONS, OperationCost, Shape, halved
from experiments.search.architecture.space import Architecture
from workloads.architectures import Skeleton


def network_cost(architecture: Architecture, skeleton: Skeleton | Shape) -> OperationCost:
    """Output shape, parameters and FLOPs an example of a whole network.

    Args:
      architecture: cells for a skeleton, or a stack for the shape of its input.

    Raises:
      IllegalArchitectureError: shapes do not fit; names the node.
    """
    if not isinstance(skeleton, Skeleton):
        return architecture.cost(skeleton)
    graphs = dict(architecture.graphs)

    def cell_cost(cell: str, shape: Shape) -> OperationCost:
        if not graphs[cell].nodes[-1].inputs:  # cut from its input: zero
            return OperationCost(_made(skeleton, cell, shape), 0, 0)
        return graphs[cell].cost(shape)

    return _total(skeleton, graphs, cell_cost)


def framed_cost(frames: Frames, skeleton: Skeleton) -> OperationCost:
    """The same of the one program that holds a space.

    Every operation is computed at every node, and every weight is a multiply-add a value.
    """

    def cell_cost(cell: str, shape: Shape) -> OperationCost:
        frame, made = frames[cell], _made(skeleton, cell, shape)
        bill = _Bill(made, flops=2 * math.prod(made) * (frame.nodes + 1))
        for node in range(1, frame.nodes + 1):
            for sources, names in frame.at(node):
                taken = made if 0 not in sources else shape
                bill.flops += 2 * (math.prod(taken) * len(sources) + math.prod(made) * len(names))
                for name in names:
                    bill.add(OPERATIONS[name].cost(taken, None))
        return OperationCost(made, bill.parameters, bill.flops)

    return _total(skeleton, frames, cell_cost)


def _made(skeleton: Skeleton, cell: str, shape: Shape) -> Shape:
    """Shape of what a cell that joins nothing makes."""
    return halved(shape) if skeleton.strided and cell == "reduction" else shape


def _total(
    skeleton: Skeleton, cells: Collection[str], cell_cost: Callable[[str, Shape], OperationCost]
) -> OperationCost:
    bill = _Bill(skeleton.shape)
    bill.apply(skeleton.stem, skeleton.width)
    for stage in range(skeleton.stages):
        if stage:
            bill.shape = bill.shape if skeleton.strided else halved(bill.shape)
            bill.apply("bn_conv1x1", skeleton.width_at(stage))
            if "reduction" in cells:
                bill.cell("reduction", cell_cost)
        for _ in range(skeleton.cells):
            bill.cell("normal", cell_cost)
    bill.shape = bill.shape[-1:]
    bill.apply("dense", skeleton.classes)
    return OperationCost(bill.shape, bill.parameters, bill.flops)


@dataclasses.dataclass
class _Bill:
    shape: Shape
    parameters: int = 0
    flops: int = 0

    def add(self, cost: OperationCost) -> None:
        self.shape = cost.shape
        self.parameters += cost.parameters
        self.flops += cost.flops

    def apply(self, operation: str, width: int | None) -> None:
        self.add(OPERATIONS[operation].cost(self.shape, width))

    def cell(self, name: str, cell_cost: Callable[[str, Shape], OperationCost]) -> None:
        """A cell, and the map back to its width where it joined nodes."""
        before = self.shape
        self.add(cell_cost(name, before))
        if self.shape[-1] == before[-1]:
            return
        if len(before) == 3:
            self.apply("bn_conv1x1", before[-1])
            return
        affine = OPERATIONS["dense"].cost(self.shape[-1:], before[-1])
        self.add(OperationCost(before, affine.parameters, math.prod(before[:-1]) * affine.flops))
