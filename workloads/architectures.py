"""The skeleton around a searched architecture, and the frame of a pack, as plain data.

Imports no jax: networks are described and counted on machines that cannot train them.
`workloads.models.architectures` builds them.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal, Protocol

Shape = tuple[int, ...]
Merge = Literal["sum", "concat"]
OUTPUT = "output"


class NodeLike(Protocol):
    """A node of a graph: `experiments.search.architecture.graph.Node` is one."""

    @property
    def operation(self) -> str:
        """Name of a row of `workloads.models.operations.MODULES`, or "input" or "output"."""

    @property
    def inputs(self) -> tuple[int, ...]:
        """Indices of earlier nodes; one may occur twice."""

    @property
    def width(self) -> int | None:
        """Width of its output; None: that of its input."""

    @property
    def merge(self) -> Merge:
        """The rule by which several inputs become one."""


class GraphLike(Protocol):
    """A graph: nodes in an order in which each one's inputs come before it."""

    @property
    def nodes(self) -> tuple[NodeLike, ...]:
        """The first is the input and the last the output."""


@dataclasses.dataclass(frozen=True)
class Skeleton:
    """The fixed part of a network whose cells are searched.

    Inputs are reshaped to ``shape``; the stem makes ``width`` features of them; then ``stages`` of
    ``cells`` normal cells each. Between stages images are halved (mean over 2 x 2) and their width
    doubles by a 1x1 convolution, and the reduction cell follows where there is one; a ``strided``
    one halves them itself. A cell that changes the width (it joins nodes) is followed by a 1x1
    convolution back to it. The head is relu, the mean over places, and an affine map to
    ``classes``.

    Attributes:
      shape: of an example: (features,), (tokens, features) or (height, width, channels).
      classes: number of logits.
      width: features of the first stage.
      stem: operation that makes the first features, e.g. "dense", "conv3x3", "rows".
      stages, cells: how many.
      strided: whether reduction cells halve images by operations of stride two, with no mean
        before them.

    Raises:
      ValueError: a size that is not positive; stages of what is no image.
    """

    shape: Shape
    classes: int
    width: int
    stem: str = "conv3x3"
    stages: int = 1
    cells: int = 1
    strided: bool = False

    def __post_init__(self) -> None:
        sizes = {name: getattr(self, name) for name in ("classes", "width", "stages", "cells")}
        sizes["shape"] = min(self.shape, default=0)
        for name, value in sizes.items():
            if type(value) is not int or value < 1:
                raise ValueError(
                    f"{name} must be whole numbers from 1 on, got {getattr(self, name)!r}"
                )
        if self.stages > 1 and len(self.shape) != 3:
            raise ValueError(
                f"stages must be 1 unless the shape is (height, width, channels), got "
                f"{self.stages} with shape {self.shape}"
            )
        if self.stages > 1 and min(self.shape[:2]) < 2 ** (self.stages - 1):
            raise ValueError(
                f"stages must be at most {1 + int(math.log2(min(self.shape[:2])))} for images of "
                f"{self.shape[0]} x {self.shape[1]}, got {self.stages}"
            )

    def width_at(self, stage: int) -> int:
        """Features of a stage, 0, 1, ..."""
        return self.width << stage


@dataclasses.dataclass(frozen=True)
class Frame:
    """A graph of unknown edges and operations, large enough for every graph of a space.

    Node j of 1 .. ``nodes`` is sum_o applies[j, o] o(sum_i reads[i, j] v_i); the output is
    sum_i reads[i, output] v_i, v_0 being the input. The weights are data: an architecture is one
    setting of them, a whole number of reads and one operation a node.

    Where the cell halves its input, that has another shape than all nodes have: operations in
    ``halving`` read it alone, the others and the output read i >= 1.

    Attributes:
      nodes: operations at most.
      operations: names; they keep the shape of their input.
      halving: names of those of stride two.
    """

    nodes: int
    operations: tuple[str, ...]
    halving: tuple[str, ...] = ()

    def at(self, node: int) -> tuple[tuple[range, tuple[str, ...]], ...]:
        """(values that are read, operations that may be applied to their sum) at a node."""
        if not self.halving:
            return ((range(node), self.operations),)
        others = ((range(1, node), self.operations),) if node > 1 else ()
        return ((range(1), self.halving), *others)


def reads(cell: str, source: int, target: int | str) -> str:
    """Name of the weight with which a node (or the output) reads an earlier one."""
    return f"{cell}.{source}_to_{target}"


def applies(cell: str, node: int, operation: str) -> str:
    """Name of the weight of an operation at a node."""
    return f"{cell}.{node}_{operation}"


def node_name(index: int, operation: str) -> str:
    """Name of a node's module: the same in a plain network and in a frame, so that both draw the
    same initial parameters."""
    return f"node{index}_{operation}"
