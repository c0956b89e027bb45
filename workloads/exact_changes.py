"""Changes of a graph that leave its function: the rules of `experiments.training.morphisms`.

Imports no jax: a search asks beforehand which architectures can inherit weights.
"""

from __future__ import annotations

from workloads.architectures import OUTPUT, GraphLike, NodeLike

KERNELS = {
    "dense": ("affine", 1),
    "conv1x1": ("convolution", 1),
    "conv3x3": ("convolution", 3),
    "conv5x5": ("convolution", 5),
    "bn_conv1x1": ("convolution", 1),
    "bn_conv3x3": ("convolution", 3),
}
"""Operation -> where its kernel is, and its size."""
CHANNELWISE = ("skip", "relu", "avg_pool3x3", "max_pool2x2", "flatten")
"""Operations of every channel by itself."""


class NotExactError(ValueError):
    """A change of a graph that would change its function; one line says why."""


def inner_node(graph: GraphLike, node: int) -> NodeLike:
    """A node that is neither input nor output.

    Raises:
      ValueError: there is none of this index.
    """
    if not 1 <= node <= len(graph.nodes) - 2:
        raise ValueError(f"node must lie in 1..{len(graph.nodes) - 2}, got {node}")
    return graph.nodes[node]


def kernel_readers(graph: GraphLike, node: int) -> list[int]:
    """Nodes whose kernels read the channels of ``node``, through what leaves channels alone.

    Raises:
      NotExactError: ``node`` cannot be widened: it has no width, or is read by what adds it to
        others, by what does not treat every channel by itself, or by the output.
    """
    if inner_node(graph, node).operation not in KERNELS:
        raise NotExactError(
            f"node {node} ({graph.nodes[node].operation}) has no width to be widened"
        )
    found, spread = [], {node}
    for index, reader in enumerate(graph.nodes):
        if not spread & set(reader.inputs):
            continue
        what = f"node {index} ({reader.operation})"
        if len(reader.inputs) > 1:
            raise NotExactError(
                f"{what} reads node {node} beside others, whose width would have to change too"
            )
        if reader.operation == OUTPUT:
            raise NotExactError(f"the output reads node {node}: its width is the network's")
        if reader.operation in KERNELS:
            found.append(index)
        elif reader.operation in CHANNELWISE:
            spread.add(index)
        else:
            raise NotExactError(f"{what} does not treat every feature of node {node} by itself")
    return found


def never_negative(graph: GraphLike, node: int) -> bool:
    """Tell whether all values of a node are at least 0."""
    inner = graph.nodes[node]
    if inner.operation in ("dense", "relu") or inner.operation.startswith("conv"):
        return not (inner.operation == "dense" and graph.nodes[-1].inputs == (node,))
    if inner.operation in CHANNELWISE:
        return bool(inner.inputs) and all(never_negative(graph, i) for i in inner.inputs)
    return False


def check_identity(graph: GraphLike, node: int, operation: str) -> None:
    """Refuse what cannot stand behind ``node`` as an identity.

    Raises:
      NotExactError: as `experiments.training.morphisms.deepen`.
    """
    inner_node(graph, node)
    residual = operation == "feed_forward" or operation.startswith("attention")
    if not residual and operation not in KERNELS:
        raise NotExactError(f"operation {operation!r} cannot start as an identity")
    if not residual and not never_negative(graph, node):
        raise NotExactError(
            f"node {node} ({graph.nodes[node].operation}) may be negative, which the relu of "
            f"{operation} would cut off"
        )


def kernel_margin(graph: GraphLike, node: int, operation: str) -> int:
    """Zeros on each side with which the kernel of ``node`` is that of a larger convolution.

    Raises:
      NotExactError: not a larger convolution of the same kind.
    """
    inner = inner_node(graph, node)
    before, after = KERNELS.get(inner.operation), KERNELS.get(operation)
    alike = inner.operation.split("conv")[0] == operation.split("conv")[0]
    if not (before and after and alike and before[0] == "convolution" and after[1] > before[1]):
        raise NotExactError(
            f"node {node} ({inner.operation}) cannot become {operation}: a kernel grows within its "
            "kind of convolution"
        )
    return (after[1] - before[1]) // 2
