"""Function-preserving morphisms of a graph of operations: a child starts where its parent is.

Net2Net (Chen, Goodfellow and Shlens 2016, arXiv 1511.05641) widens and deepens; Elsken, Metzen and
Hutter 2019 (arXiv 1804.09081) use such steps in architecture search. A morphism takes a graph and
the variables of its module (`workloads.models.architectures.Plain`) and returns both anew. In
evaluation the network computes what it did, to rounding; where that cannot be, the morphism is
refused. `experiments.training.growing` says what becomes of an optimizer's state.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.training.growing import Made, Morphed, grow
from experiments.training.identities import identity
from experiments.training.sharding import PyTree
from workloads.architectures import GraphLike, NodeLike, node_name
from workloads.exact_changes import (
    KERNELS,
    GraphGrowth,
    NotExactError,
    Role,
    check_identity,
    kernel_margin,
    widened_together,
)


def widen(graph: GraphLike, variables: Mapping[str, Any], node: int, width: int, *,
          seed: int = 0, copies: bool = True) -> Morphed:  # fmt: skip
    """Net2WiderNet: node ``node`` gets ``width`` features, the new ones copies of old ones.

    With g(j) the unit that unit j copies and c(u) the copies of u (itself too), what reads j has
    its weight from g(j) over c(g(j)). Batch statistics are copied. All nodes that are added to
    this one, as skip connections add them, are widened with it by the same g.

    Copies have equal gradients: without dropout they stay copies, and the child can do no more
    than its parent could (Net2Net adds noise against it). With ``copies`` False the new units have
    fresh incoming weights, drawn as at initialisation, and nothing reads them: their outgoing
    weights are zero. That is as exact, and they learn from the first step on.

    Raises:
      NotExactError: an operation without a width, or one whose features are also the input's, the
        output's, or those of a node that is joined or normalised over features; names the node.
      ValueError: a width that is not above the old one.
    """
    together, readers = widened_together(graph, node)
    params = variables["params"]
    old = _kernel(graph, params, node).shape[-1]
    if not (type(width) is int and width > old):
        raise ValueError(f"width must be a whole number above {old}, that of node {node}, "
                         f"got {width!r}")  # fmt: skip
    copied = np.random.default_rng(seed).integers(0, old, width - old)
    source = np.concatenate([np.arange(old), copied])
    is_old = (np.arange(width) < old).astype(float)
    share = 1.0 / np.bincount(source, minlength=old)[source] if copies else is_old
    names = {i: node_name(i, graph.nodes[i].operation) for i in {*together, *readers}}

    def own(tree: Mapping[str, Any], index: int, power: int) -> PyTree:
        """The arrays of a node that is widened, [..., old] -> [..., width]."""
        factors = np.ones(width) if power == 0 else share**power
        wide = jax.tree.map(lambda x: _scaled(x[..., source], factors) if x.ndim else x, dict(tree))
        if power == 0 and not copies:
            place = KERNELS[graph.nodes[index].operation][0]
            inside = dict(wide[place])
            key = _key(seed, width, together.index(index))
            inside["kernel"] = _drawn_behind(tree[place]["kernel"], width, key)
            if "bias" in inside:
                inside["bias"] = _scaled(inside["bias"], is_old)
            wide[place] = inside
        return wide

    def mapped(tree: PyTree, power: int) -> PyTree:
        """``power`` 0: parameters; 1, 2: of the gradient."""
        result = {**tree, **{names[i]: own(tree[names[i]], i, power) for i in together}}
        factors = np.ones(width) if copies and power else share
        for reader in readers:
            inner = result[names[reader]]
            where = KERNELS[graph.nodes[reader].operation][0]
            kernel = _on_inputs(
                inner[where]["kernel"], old, lambda x: x[:, source] * factors.reshape(1, -1, 1)
            )
            result[names[reader]] = {**inner, where: {**inner[where], "kernel": kernel}}
        return result

    statistics = dict(variables.get("batch_stats", {}))
    for name in {names[i] for i in together} & set(statistics):
        statistics[name] = jax.tree.map(
            lambda x: x[..., source] if x.ndim else x, dict(statistics[name])
        )
    nodes = list(graph.nodes)
    for i in (*together, *readers):
        kept = _kernel(graph, params, i).shape[-1]
        nodes[i] = _replaced(nodes[i], width=width if i in together else kept)
    child = dataclasses.replace(graph, nodes=tuple(nodes))  # type: ignore[type-var]
    return Morphed(child, mapped(params, 0), statistics, mapped, jax.tree.structure(params))


def deepen(graph: GraphLike, variables: Mapping[str, Any], node: int, operation: str, *,
           readers: Collection[int] | None = None) -> Morphed:  # fmt: skip
    """Net2DeeperNet: insert ``operation`` behind node ``node`` as an identity.

    Dense layers and convolutions have the identity's kernel, which their relu lets pass where node
    ``node`` is never negative; a batch norm has statistics and a scale that do nothing. Attention
    and feed-forward blocks, which add to their input, have a last matrix of zeros.

    Args:
      graph, variables, node: the parent, and whose output passes through ``operation``.
      operation: that of the new node.
      readers: nodes of ``graph`` that read the new node instead, so that it stands in one branch;
        None: all that read ``node``.

    Raises:
      NotExactError: the node may be negative, or the operation is not of these.
      ValueError: a reader does not read it.
    """
    check_identity(graph, node, operation)
    reading = {i for i, one in enumerate(graph.nodes) if node in one.inputs}
    chosen = reading if readers is None else set(readers)
    if not chosen or chosen - reading:
        raise ValueError(f"readers must be nodes that read node {node}, some of "
                         f"{sorted(reading)}, got {sorted(chosen)}")  # fmt: skip
    width = _out_width(variables, graph, node)
    new = _replaced(graph.nodes[node], operation=operation, inputs=(node,), width=None,
                    merge="sum")  # fmt: skip

    def behind(place: int, index: int, inputs: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(place if i == node and index in chosen else i for i in inputs)

    made = identity(operation, width)
    return _inserted(graph, variables, node + 1, new, role="identity", made=made, rewire=behind)


def skip(graph: GraphLike, variables: Mapping[str, Any], source: int, target: int) -> Morphed:
    """Add node ``source`` (0: the input) to what node ``target`` reads, times a weight from 0.

    Raises:
      NotExactError: ``target`` joins its inputs.
      ValueError: ``source`` does not come before ``target``. Shapes are checked when it is built.
    """
    last = len(graph.nodes) - 1
    if not 0 <= source < target <= last:
        raise ValueError(f"a skip leads from a node to a later one of 0..{last}, "
                         f"got {source} to {target}")  # fmt: skip
    goal = graph.nodes[target]
    if goal.merge != "sum":
        raise NotExactError(f"node {target} ({goal.operation}) joins its inputs; a skip adds")
    new = _replaced(goal, operation="weighted_skip", inputs=(source,), width=None, merge="sum")

    def also(place: int, index: int, inputs: tuple[int, ...]) -> tuple[int, ...]:
        return (*inputs, place) if index == target else inputs

    made: Made = ({"weight": jnp.zeros(())}, {})
    return _inserted(graph, variables, target, new, role="zero", made=made, rewire=also)


def enlarge(graph: GraphLike, variables: Mapping[str, Any], node: int, operation: str) -> Morphed:
    """A convolution with a larger kernel, zeros around the old one.

    Raises:
      NotExactError: not a larger convolution of the same kind.
    """
    kernel_margin(graph, node, operation)
    nodes = list(graph.nodes)
    nodes[node] = _replaced(nodes[node], operation=operation)
    child = dataclasses.replace(graph, nodes=tuple(nodes))  # type: ignore[type-var]
    return grow(GraphGrowth(child, tuple(range(len(nodes)))), graph, variables, {})


# Parts.


def _replaced(node: NodeLike, **fields: Any) -> Any:
    return dataclasses.replace(node, **fields)  # type: ignore[type-var]


def _kernel(graph: GraphLike, params: Mapping[str, Any], node: int) -> jax.Array:
    operation = graph.nodes[node].operation
    kernel: jax.Array = params[node_name(node, operation)][KERNELS[operation][0]]["kernel"]
    return kernel


def _key(seed: int, width: int, number: int) -> jax.Array:
    """Of the fresh units of one of the nodes that are widened together, by its number."""
    key = jax.random.fold_in(jax.random.key(seed), width)
    return jax.random.fold_in(key, number) if number else key


def _drawn_behind(kernel: jax.Array, width: int, key: jax.Array) -> jax.Array:
    """A kernel [..., I, old] with fresh units behind its own: [..., I, width]."""
    shape = (*kernel.shape[:-1], width - kernel.shape[-1])
    drawn = jax.nn.initializers.lecun_normal()(key, shape, kernel.dtype)
    return jnp.concatenate([kernel, drawn], axis=-1)


def _scaled(x: jax.Array, factors: np.ndarray) -> jax.Array:
    return x * factors.astype(x.dtype).reshape((1,) * (x.ndim - 1) + (-1,))


def _on_inputs(kernel: jax.Array, inputs: int, change: Callable[[jax.Array], jax.Array]) -> Any:
    """Change a kernel [..., I, O], seen as [rows, inputs, O]: a flattened image has rows of I."""
    rows = kernel.reshape(-1, inputs, kernel.shape[-1])
    changed = change(rows).astype(kernel.dtype)
    if kernel.ndim == 2:
        return changed.reshape(-1, kernel.shape[-1])
    return changed.reshape(*kernel.shape[:2], -1, kernel.shape[-1])


def _out_width(variables: Mapping[str, Any], graph: GraphLike, node: int) -> int:
    """Features of a node's output."""
    while graph.nodes[node].operation not in KERNELS:
        inner = graph.nodes[node]
        own = variables["params"].get(node_name(node, inner.operation), {})
        if "norm" in own:  # attention and feed-forward keep the width that they normalise
            return int(jax.tree.leaves(own["norm"])[0].shape[-1])
        if inner.operation in ("flatten", "weighted_skip") or not inner.inputs:
            break
        if inner.merge != "sum" or inner.inputs[0] == 0:
            break
        node = inner.inputs[0]
    else:
        return int(_kernel(graph, variables["params"], node).shape[-1])
    raise NotExactError(f"the width of node {node} ({graph.nodes[node].operation}) is not known")


Rewire = Callable[[int, int, tuple[int, ...]], tuple[int, ...]]
"""(place of the new node, old index of a node, its inputs by new indices) -> its inputs."""


def _inserted(
    graph: GraphLike,
    variables: Mapping[str, Any],
    place: int,
    new: Any,
    *,
    role: Role,
    made: Made,
    rewire: Rewire,
) -> Morphed:
    """Put a node at index ``place``: later ones move up, their modules' names with them."""

    def moved(index: int) -> int:
        return index + (index >= place)

    nodes = [
        _replaced(node, inputs=rewire(place, index, tuple(map(moved, node.inputs))))
        for index, node in enumerate(graph.nodes)
    ]
    nodes.insert(place, new)
    child = dataclasses.replace(graph, nodes=tuple(nodes))  # type: ignore[type-var]
    places = tuple(map(moved, range(len(graph.nodes))))
    return grow(GraphGrowth(child, places, ((place, role),)), graph, variables, {place: made})
