"""A graph's variables in a graph that it grows into: the child starts where its parent is.

A growth (`workloads.exact_changes.GraphGrowth`) says where old nodes are and how new ones start.
In evaluation the child computes what its parent does, to rounding. In training it does too, except
past a batch norm that was inserted as an identity.

Optimizer state: `Morphed.opt_state` carries moments. A first moment is mapped as the gradient is
and a second one as its square: the copies of a unit that was copied c times have a c-th of its
gradient, what reads them has all of it. New parameters begin with zero. State of another kind is
refused, and the caller resets it (``init`` of the rule).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.training.identities import identity, zeroed
from experiments.training.sharding import PyTree
from optimizers.leafwise import LeafwiseState, Slots
from workloads.architectures import GraphLike, node_name
from workloads.exact_changes import GraphGrowth, NotExactError, kernel_margin
from workloads.models.architectures import operation
from workloads.models.linen import Context

FIRST, SECOND = ("mu", "trace", "momentum"), ("nu",)
"""Names of moments in the states of Optax's rules."""
LEAFWISE = {"m": 1, "v": 2}
"""Slots of our own rules that are moments -> their power, where both are there: alone, v is LARS's
velocity, which has the rate in it."""

Moments = Callable[[PyTree, int], PyTree]
"""(a tree like the parent's parameters, power of the gradient: 1 or 2) -> one like the child's."""
Made = tuple[PyTree, PyTree]
"""Parameters and batch statistics of a new node."""


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
        return carried(state, self.moments, self.before)


def carried(state: PyTree, moments: Moments, before: jax.tree_util.PyTreeDef) -> PyTree:
    """An optimizer's state with its moments mapped; ``before`` is the structure of one moment.

    Raises:
      NotExactError: it holds more than moments and counters.
    """

    def field(name: str, value: PyTree) -> PyTree:
        if name in FIRST or name in SECOND:
            return moments(value, 1 if name in FIRST else 2)
        if isinstance(value, tuple):
            return carried(value, moments, before)
        if value is None or np.ndim(value) == 0 and not isinstance(value, Mapping):
            return value
        raise NotExactError(
            f"optimizer state {name or type(value).__name__!r} is neither a moment nor a counter; "
            "reset it"
        )

    if isinstance(state, LeafwiseState):
        return LeafwiseState(state.steps, _slots(state.slots, moments, before))
    if isinstance(state, tuple) and hasattr(state, "_fields"):
        return type(state)(**{f: field(f, getattr(state, f)) for f in state._fields})
    if isinstance(state, tuple):
        return tuple(carried(one, moments, before) for one in state)
    return field("", state)


def _slots(
    slots: tuple[Slots, ...], moments: Moments, before: jax.tree_util.PyTreeDef
) -> tuple[Slots, ...]:
    """The state of a rule that is written one array at a time: Adam's, or refused."""
    for one in slots:
        if set(one) != set(LEAFWISE):
            raise NotExactError(
                f"optimizer state {', '.join(map(repr, one))} is not known to be moments; reset it"
            )
    mapped = [
        jax.tree.leaves(moments(jax.tree.unflatten(before, [one[name] for one in slots]), power))
        for name, power in LEAFWISE.items()
    ]
    return tuple(dict(zip(LEAFWISE, leaf, strict=True)) for leaf in zip(*mapped, strict=True))


def grow(
    growth: GraphGrowth, parent: GraphLike, variables: Mapping[str, Any], made: Mapping[int, Made]
) -> Morphed:
    """The child's variables: the parent's by their new names, kernels enlarged, and new ones.

    Args:
      growth: what becomes of ``parent``, but for widths.
      variables: of the parent's module.
      made: new node -> its variables, as `new_variables` makes them.
    """
    child, names, margins = growth.graph, {}, {}
    for index, node in enumerate(parent.nodes):
        place = growth.places[index]
        became = child.nodes[place].operation
        name = names[node_name(index, node.operation)] = node_name(place, became)
        if became != node.operation:
            margins[name] = kernel_margin(parent, index, became)
    own = [{node_name(i, child.nodes[i].operation): m[k] for i, m in made.items() if m[k]}
           for k in (0, 1)]  # fmt: skip

    def mapped(tree: PyTree, power: int) -> PyTree:
        """``power`` 0: parameters; 1, 2: of the gradient."""
        result = {names[key]: value for key, value in tree.items()}
        for name, margin in margins.items():
            inner = dict(result[name]["convolution"])
            pads = ((margin, margin), (margin, margin), (0, 0), (0, 0))
            inner["kernel"] = jnp.pad(inner["kernel"], pads)
            result[name] = {**result[name], "convolution": inner}
        return {**result, **(jax.tree.map(jnp.zeros_like, own[0]) if power else own[0])}

    params = variables["params"]
    statistics = {names[key]: v for key, v in variables.get("batch_stats", {}).items()}
    return Morphed(
        child, mapped(params, 0), {**statistics, **own[1]}, mapped, jax.tree.structure(params)
    )


def new_variables(
    growth: GraphGrowth, taken: Sequence[tuple[int, ...]], key: jax.Array
) -> dict[int, Made]:
    """New node -> the variables with which it starts.

    Args:
      growth: names them.
      taken: shape of what every node of ``growth.graph`` takes, without the batch.
      key: of what is drawn.
    """
    made: dict[int, Made] = {}
    for place, role in growth.roles:
        node = growth.graph.nodes[place]
        if role == "identity":
            made[place] = identity(node.operation, taken[place][-1])
            continue
        module = operation(node.operation)(width=node.width)
        context = Context(False, None, jnp.arange(1), jnp.ones(1), {})
        x = jnp.zeros((1, *taken[place]))
        drawn = module.init(jax.random.fold_in(key, place), x, context)
        params = drawn.get("params", {})
        params = zeroed(node.operation, params) if role == "zero" else params
        made[place] = params, drawn.get("batch_stats", {})
    return made
