"""Changes of a graph that leave its function: the rules of `experiments.training.morphisms`.

Imports no jax: a search asks beforehand which architectures can inherit weights.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Literal

from workloads.architectures import OUTPUT, GraphLike, NodeLike

KERNELS = {
    "dense": ("affine", 1),
    "affine": ("affine", 1),
    "conv1x1": ("convolution", 1),
    "conv3x3": ("convolution", 3),
    "conv5x5": ("convolution", 5),
    "bn_conv1x1": ("convolution", 1),
    "bn_conv3x3": ("convolution", 3),
    "conv1x1_s2": ("convolution", 1),
    "conv3x3_s2": ("convolution", 3),
    "conv5x5_s2": ("convolution", 5),
    "bn_conv1x1_s2": ("convolution", 1),
    "bn_conv3x3_s2": ("convolution", 3),
}
"""Operation -> where its kernel is, and its size."""
MEANS = ("skip", "skip_s2", "relu", "avg_pool3x3", "avg_pool3x3_s2", "max_pool2x2", "flatten")
"""Operations of every channel by itself that make nothing negative."""
CHANNELWISE = (*MEANS, "weighted_skip")
"""Operations of every channel by itself."""
ZEROS = ("weighted_skip", "affine", "bn_conv1x1", "bn_conv3x3", "bn_conv1x1_s2", "bn_conv3x3_s2")
"""Operations that can start as zero and learn: no relu stands behind their last parameters."""

Role = Literal["identity", "zero", "fresh"]
"""How a new node starts: as its input; as zero; as drawn, read by new nodes alone."""


class NotExactError(ValueError):
    """A change of a graph that would change its function; one line says why."""


@dataclasses.dataclass(frozen=True)
class GraphGrowth:
    """A graph that another one grows into: old nodes are found again, new ones change nothing.

    Attributes:
      graph: the new one, its old nodes as wide as they were.
      places: place in it of every old node.
      roles: (place, role) of every new node.
      widened: (node, width) of what is widened afterwards, in turn, with all that it is added to.
    """

    graph: GraphLike
    places: tuple[int, ...]
    roles: tuple[tuple[int, Role], ...] = ()
    widened: tuple[tuple[int, int], ...] = ()


def inner_node(graph: GraphLike, node: int) -> NodeLike:
    """A node that is neither input nor output.

    Raises:
      ValueError: there is none of this index.
    """
    if not 1 <= node <= len(graph.nodes) - 2:
        raise ValueError(f"node must lie in 1..{len(graph.nodes) - 2}, got {node}")
    return graph.nodes[node]


def widened_together(graph: GraphLike, node: int) -> tuple[list[int], list[int]]:
    """(nodes that have the channels of ``node``, kernels that read them).

    What is added has channels in common: a node is widened with all that it is added to, through
    what leaves channels alone. The first are nodes with kernels; a node may be in both lists.

    Raises:
      NotExactError: ``node`` has no width, or shares its channels with the input, the output, what
        joins nodes, or what does not treat every channel by itself; names that one.
    """
    if inner_node(graph, node).operation not in KERNELS:
        raise NotExactError(
            f"node {node} ({graph.nodes[node].operation}) has no width to be widened"
        )
    made, read = set(), set()
    group, todo = {node}, [node]
    while todo:
        member = todo.pop()
        added, readers = _sharing(graph, member, node)
        if graph.nodes[member].operation in KERNELS:
            made.add(member)
        read |= readers
        todo += sorted(added - group)
        group |= added
    return sorted(made), sorted(read)


def _sharing(graph: GraphLike, member: int, node: int) -> tuple[set[int], set[int]]:
    """(nodes that have the channels of ``member`` too, kernels that read them)."""
    inner = graph.nodes[member]
    what = f"node {member} ({inner.operation})"
    if member == 0:
        raise NotExactError(f"node {node} is added to the input, whose width is the data's")
    found: set[int] = set()
    if inner.operation in CHANNELWISE:
        found |= set(inner.inputs)
    elif inner.operation not in KERNELS:
        raise NotExactError(f"node {node} is added to {what}, which has no width to be widened")
    kernels = set()
    for index, reader in enumerate(graph.nodes):
        if member not in reader.inputs:
            continue
        who = f"node {index} ({reader.operation})"
        if reader.operation == OUTPUT:
            raise NotExactError(f"the output reads node {member}: its width is the network's")
        if len(reader.inputs) > 1 and (reader.merge != "sum" or inner.operation == "flatten"):
            raise NotExactError(f"{who} reads node {member} beside others whose channels differ")
        found |= set(reader.inputs)
        if reader.operation in KERNELS:
            kernels.add(index)
        elif reader.operation in CHANNELWISE:
            found.add(index)
        else:
            raise NotExactError(f"{who} does not treat every feature of node {member} by itself")
    return found, kernels


def never_negative(graph: GraphLike, node: int, *, given: bool = False) -> bool:
    """Tell whether all values of a node are at least 0; ``given``: whether the input's are."""
    inner = graph.nodes[node]
    if node == 0:
        return given
    if inner.operation in ("dense", "relu") or inner.operation.startswith("conv"):
        return not (inner.operation == "dense" and graph.nodes[-1].inputs == (node,))
    if inner.operation in (*MEANS, OUTPUT):
        return bool(inner.inputs) and all(
            never_negative(graph, i, given=given) for i in inner.inputs
        )
    return False


def flat(graph: GraphLike, node: int) -> bool:
    """Tell whether a node's values are known to be features, so that a dense layer keeps them."""
    inner = graph.nodes[node]
    if inner.operation in ("dense", "affine", "flatten"):
        return True
    if inner.operation not in CHANNELWISE:
        return False
    return bool(inner.inputs) and all(flat(graph, i) for i in inner.inputs)


def starts_as_identity(operation: str) -> bool:
    """Tell whether an operation has parameters with which it returns its input, or its relu."""
    kernel = operation in KERNELS and not operation.endswith("_s2")
    return kernel or operation == "weighted_skip" or _adds(operation)


def cuts(operation: str) -> bool:
    """Tell whether an identity of this operation cuts negative values off."""
    return not (operation in ("affine", "weighted_skip") or _adds(operation))


def _adds(operation: str) -> bool:
    """Tell whether it is a block that adds to its input."""
    return operation == "feed_forward" or operation.startswith("attention")


def check_identity(graph: GraphLike, node: int, operation: str) -> None:
    """Refuse what cannot stand behind ``node`` as an identity.

    Raises:
      NotExactError: as `experiments.training.morphisms.deepen`.
    """
    inner = inner_node(graph, node)
    what = f"node {node} ({inner.operation})"
    if not starts_as_identity(operation):
        raise NotExactError(f"operation {operation!r} cannot start as an identity")
    if operation in ("dense", "affine") and not flat(graph, node):
        raise NotExactError(f"{what} is no vector, which {operation} would make of it")
    if cuts(operation) and not never_negative(graph, node):
        raise NotExactError(f"{what} may be negative, which the relu of {operation} would cut off")


def kernel_margin(graph: GraphLike, node: int, operation: str) -> int:
    """Zeros on each side with which the kernel of ``node`` is that of a larger convolution.

    Raises:
      NotExactError: not a larger convolution of the same kind.
    """
    inner = inner_node(graph, node)
    before, after = KERNELS.get(inner.operation), KERNELS.get(operation)
    alike = kind_of(inner.operation) == kind_of(operation)
    if not (before and after and alike and before[0] == "convolution" and after[1] > before[1]):
        raise NotExactError(
            f"node {node} ({inner.operation}) cannot become {operation}: a kernel grows within its "
            "kind of convolution"
        )
    return (after[1] - before[1]) // 2


def kind_of(operation: str) -> str:
    """The name of an operation without its kernel's size, which may grow."""
    return re.sub(r"\dx\d", "", operation)
