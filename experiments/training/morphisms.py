"""Function-preserving morphisms of a graph of operations: a child starts where its parent is.

Net2Net (Chen, Goodfellow and Shlens 2016, arXiv 1511.05641) widens and deepens; Elsken, Metzen and
Hutter 2019 (arXiv 1804.09081) use such steps in architecture search. A morphism takes a graph and
the variables of its module (`workloads.models.architectures.Plain`) and returns both anew. In
evaluation the network computes what it did, to rounding; where that cannot be, the morphism is
refused. In training it does too, except past a batch norm that was inserted.

Optimizer state: `Morphed.opt_state` carries moments. A first moment is mapped as the gradient is
and a second one as its square: the copies of a unit that was copied c times have a c-th of its
gradient, what reads them has all of it. New parameters begin with zero. State of another kind is
refused, and the caller resets it (``init`` of the rule).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.training.identities import identity
from experiments.training.sharding import PyTree
from optimizers.leafwise import LeafwiseState, Slots
from workloads.architectures import GraphLike, NodeLike, node_name
from workloads.exact_changes import (
    KERNELS,
    NotExactError,
    check_identity,
    inner_node,
    kernel_margin,
    kernel_readers,
)

FIRST, SECOND = ("mu", "trace", "momentum"), ("nu",)
"""Names of moments in the states of Optax's rules."""
LEAFWISE = {"m": 1, "v": 2}
"""Slots of our own rules that are moments -> their power, where both are there: alone, v is LARS's
velocity, which has the rate in it."""

Moments = Callable[[PyTree, int], PyTree]
"""(a tree like the parent's parameters, power of the gradient: 1 or 2) -> one like the child's."""


@dataclasses.dataclass(frozen=True)
class Morphed:
    """A child network.

    Attributes:
      graph: its nodes; those that came anew are inserted, so indices behind them move up.
      params, batch_stats: variables of its module.
      moments: how a tree of gradients, or of their squares, becomes the child's.
      before: the structure of the parent's parameters.
    """

    graph: GraphLike
    params: PyTree
    batch_stats: PyTree
    moments: Moments
    before: jax.tree_util.PyTreeDef

    @property
    def variables(self) -> dict[str, PyTree]:
        """As a further morphism takes them."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    def opt_state(self, state: PyTree) -> PyTree:
        """The parent's optimizer state for the child.

        Raises:
          NotExactError: it holds more than moments and counters.
        """
        if isinstance(state, LeafwiseState):
            return LeafwiseState(state.steps, self._slots(state.slots))
        if isinstance(state, tuple) and hasattr(state, "_fields"):
            return type(state)(**{f: self._field(f, getattr(state, f)) for f in state._fields})
        if isinstance(state, tuple):
            return tuple(map(self.opt_state, state))
        return self._field("", state)

    def _slots(self, slots: tuple[Slots, ...]) -> tuple[Slots, ...]:
        """The state of a rule that is written one array at a time: Adam's, or refused."""
        for one in slots:
            if set(one) != set(LEAFWISE):
                raise NotExactError(
                    f"optimizer state {', '.join(map(repr, one))} is not known to be moments; "
                    "reset it"
                )
        mapped = [
            jax.tree.leaves(
                self.moments(jax.tree.unflatten(self.before, [one[name] for one in slots]), power)
            )
            for name, power in LEAFWISE.items()
        ]
        return tuple(dict(zip(LEAFWISE, leaf, strict=True)) for leaf in zip(*mapped, strict=True))

    def _field(self, name: str, value: PyTree) -> PyTree:
        if name in FIRST or name in SECOND:
            return self.moments(value, 1 if name in FIRST else 2)
        if isinstance(value, tuple):
            return self.opt_state(value)
        if value is None or np.ndim(value) == 0 and not isinstance(value, Mapping):
            return value
        raise NotExactError(
            f"optimizer state {name or type(value).__name__!r} is neither a moment nor a counter; "
            "reset it"
        )


def widen(graph: GraphLike, variables: Mapping[str, Any], node: int, width: int, *,
          seed: int = 0, copies: bool = True) -> Morphed:  # fmt: skip
    """Net2WiderNet: node ``node`` gets ``width`` features, the new ones copies of old ones.

    With g(j) the unit that unit j copies and c(u) the copies of u (itself too), what reads j has
    its weight from g(j) over c(g(j)). Batch statistics are copied.

    Copies have equal gradients: without dropout they stay copies, and the child can do no more
    than its parent could (Net2Net adds noise against it). With ``copies`` False the new units have
    fresh incoming weights, drawn as at initialisation, and nothing reads them: their outgoing
    weights are zero. That is as exact, and they learn from the first step on.

    Raises:
      NotExactError: an operation without a width, readers that add it to others or normalise over
        features, or the output reads it; names the node.
      ValueError: a width that is not above the old one.
    """
    inner, readers = inner_node(graph, node), kernel_readers(graph, node)
    name, place = node_name(node, inner.operation), KERNELS[inner.operation][0]
    old = variables["params"][name][place]["kernel"].shape[-1]
    if not (type(width) is int and width > old):
        raise ValueError(f"width must be a whole number above {old}, that of node {node}, "
                         f"got {width!r}")  # fmt: skip
    copied = np.random.default_rng(seed).integers(0, old, width - old)
    source = np.concatenate([np.arange(old), copied])
    is_old = (np.arange(width) < old).astype(float)
    count = np.bincount(source, minlength=old)[source]
    share = 1.0 / count if copies else is_old
    nodes = list(graph.nodes)
    nodes[node] = _replaced(inner, width=width)
    for reader in readers:
        kept = _out_width(variables, graph, reader)
        nodes[reader] = _replaced(nodes[reader], width=kept)

    def own(tree: Mapping[str, Any], power: int) -> PyTree:
        """The node's arrays [..., old] -> [..., width]."""
        factors = np.ones(width) if power == 0 else share**power
        wide = jax.tree.map(lambda x: _scaled(x[..., source], factors) if x.ndim else x, dict(tree))
        if power == 0 and not copies:
            inside = dict(wide[place])
            inside["kernel"] = _drawn_behind(tree[place]["kernel"], width, seed)
            if "bias" in inside:
                inside["bias"] = _scaled(inside["bias"], is_old)
            wide[place] = inside
        return wide

    def mapped(tree: PyTree, power: int) -> PyTree:
        """``power`` 0: parameters; 1, 2: of the gradient."""
        result = {**tree, name: own(tree[name], power)}
        factors = np.ones(width) if copies and power else share
        for reader in readers:
            key = node_name(reader, graph.nodes[reader].operation)
            where = KERNELS[graph.nodes[reader].operation][0]
            kernel = _on_inputs(
                tree[key][where]["kernel"],
                old,
                lambda x: x[:, source] * factors.reshape(1, -1, 1),
            )
            result[key] = {**tree[key], where: {**tree[key][where], "kernel": kernel}}
        return result

    statistics = dict(variables.get("batch_stats", {}))
    if name in statistics:
        statistics[name] = jax.tree.map(
            lambda x: x[..., source] if x.ndim else x, dict(statistics[name])
        )
    child = dataclasses.replace(graph, nodes=tuple(nodes))  # type: ignore[type-var]
    params = variables["params"]
    return Morphed(child, mapped(params, 0), statistics, mapped, jax.tree.structure(params))


def _drawn_behind(kernel: jax.Array, width: int, seed: int) -> jax.Array:
    """A kernel [..., I, old] with fresh units behind its own: [..., I, width]."""
    key = jax.random.fold_in(jax.random.key(seed), width)
    shape = (*kernel.shape[:-1], width - kernel.shape[-1])
    drawn = jax.nn.initializers.lecun_normal()(key, shape, kernel.dtype)
    return jnp.concatenate([kernel, drawn], axis=-1)


def deepen(graph: GraphLike, variables: Mapping[str, Any], node: int, operation: str) -> Morphed:
    """Net2DeeperNet: insert ``operation`` behind node ``node`` as an identity.

    Dense layers and convolutions have the identity's kernel, which their relu lets pass where node
    ``node`` is never negative; a batch norm has statistics and a scale that do nothing. Attention
    and feed-forward blocks, which add to their input, have a last matrix of zeros.

    Raises:
      NotExactError: the node may be negative, or the operation is not of these.
    """
    check_identity(graph, node, operation)
    width = _out_width(variables, graph, node)
    made = identity(operation, width)
    new = _replaced(graph.nodes[node], operation=operation, inputs=(node,), width=None,
                    merge="sum")  # fmt: skip
    return _inserted(graph, variables, node + 1, new, made=made, rewire=_behind(node))


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

    made: tuple[PyTree, PyTree] = ({"weight": jnp.zeros(())}, {})
    return _inserted(graph, variables, target, new, made=made, rewire=also)


def enlarge(graph: GraphLike, variables: Mapping[str, Any], node: int, operation: str) -> Morphed:
    """A convolution with a larger kernel, zeros around the old one.

    Raises:
      NotExactError: not a larger convolution of the same kind.
    """
    inner, margin = inner_node(graph, node), kernel_margin(graph, node, operation)
    name, new_name = node_name(node, inner.operation), node_name(node, operation)
    nodes = list(graph.nodes)
    nodes[node] = _replaced(inner, operation=operation)

    def renamed(tree: Mapping[str, Any]) -> dict[str, Any]:
        return {new_name if key == name else key: value for key, value in tree.items()}

    def mapped(tree: PyTree, power: int) -> PyTree:
        del power
        result = renamed(tree)
        kernel = result[new_name]["convolution"]["kernel"]
        pads = ((margin, margin), (margin, margin), (0, 0), (0, 0))
        result[new_name] = {
            **result[new_name],
            "convolution": {**result[new_name]["convolution"], "kernel": jnp.pad(kernel, pads)},
        }
        return result

    child = dataclasses.replace(graph, nodes=tuple(nodes))  # type: ignore[type-var]
    statistics = renamed(variables.get("batch_stats", {}))
    params = variables["params"]
    return Morphed(child, mapped(params, 0), statistics, mapped, jax.tree.structure(params))


# Parts.


def _replaced(node: NodeLike, **fields: Any) -> Any:
    return dataclasses.replace(node, **fields)  # type: ignore[type-var]


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
        operation = graph.nodes[node].operation
        own = variables["params"][node_name(node, operation)]
        return int(own[KERNELS[operation][0]]["kernel"].shape[-1])
    raise NotExactError(f"the width of node {node} ({graph.nodes[node].operation}) is not known")


Rewire = Callable[[int, int, tuple[int, ...]], tuple[int, ...]]
"""(place of the new node, old index of a node, its inputs by new indices) -> its inputs."""


def _behind(node: int) -> Rewire:
    """Let the readers of ``node`` read the new node in its place."""

    def rewired(place: int, index: int, inputs: tuple[int, ...]) -> tuple[int, ...]:
        del index
        return tuple(place if i == node else i for i in inputs)

    return rewired


def _inserted(
    graph: GraphLike,
    variables: Mapping[str, Any],
    place: int,
    new: Any,
    *,
    made: tuple[PyTree, PyTree],
    rewire: Rewire,
) -> Morphed:
    """Put a node at index ``place``: later ones move up, their modules' names with them.

    ``made`` are its parameters and batch statistics.
    """
    params, statistics = made

    def moved(index: int) -> int:
        return index + (index >= place)

    nodes = [
        _replaced(node, inputs=rewire(place, index, tuple(map(moved, node.inputs))))
        for index, node in enumerate(graph.nodes)
    ]
    nodes.insert(place, new)
    names = {
        node_name(index, node.operation): node_name(moved(index), node.operation)
        for index, node in enumerate(graph.nodes)
    }
    name = node_name(place, new.operation)

    def renamed(tree: Mapping[str, Any], own: PyTree) -> dict[str, Any]:
        result = {names[key]: value for key, value in tree.items()}
        return {**result, name: own} if own else result

    def moments(tree: PyTree, power: int) -> PyTree:
        del power
        return renamed(tree, jax.tree.map(jnp.zeros_like, params))

    child = dataclasses.replace(graph, nodes=tuple(nodes))  # type: ignore[type-var]
    return Morphed(
        child,
        renamed(variables["params"], params),
        renamed(variables.get("batch_stats", {}), statistics),
        moments,
        jax.tree.structure(variables["params"]),
    )
