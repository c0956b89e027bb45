"""A whole network's variables after its graphs have grown: a stack's one, or every cell's.

A network that is one program for a space holds the operations of all architectures; those of its
own are grown, and the others are as new, since nothing reads them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.search.architecture.graph import Graph
from experiments.search.architecture.inheritance import growths
from experiments.search.architecture.places import Occurrence, occurrences
from experiments.search.architecture.space import Architecture
from experiments.training.growing import Moments, grow, new_variables
from experiments.training.morphisms import widen
from experiments.training.sharding import PyTree
from workloads.architectures import Shape, Skeleton, node_name
from workloads.exact_changes import GraphGrowth, NotExactError

SEEDS_OF_A_PLACE = 1009
"""Seeds that the changes of one graph may use."""
NEW_NODES = 0x7FFFFFFF
"""Folded into the key of new nodes, so that they and widened ones draw other numbers."""


class PlaceGrowth(NamedTuple):
    """A graph of the parent, and how it grows at one place of the network; None: not at all."""

    place: Occurrence
    parent: Graph
    growth: GraphGrowth | None


def places_of(
    parent: Architecture, child: Architecture, network: Skeleton | Shape
) -> list[PlaceGrowth]:
    """All places of a network's graphs, and how ``parent`` grows into ``child`` there.

    Raises:
      NotExactError: it does not by exact changes.
    """
    found = growths(parent, child, network)
    if found is None:
        raise NotExactError(f"no exact changes lead from {parent} to {child}".replace("\n", ", "))
    graphs = dict(parent.graphs)
    return [
        PlaceGrowth(place, graphs[place.graph], found.get(place.graph))
        for place in occurrences(network, list(graphs))
    ]


class GrownNetwork(NamedTuple):
    """The variables of a child, and how a tree of its parent's gradients becomes its own."""

    params: PyTree
    batch_stats: PyTree
    moments: Moments


def grown_network(
    places: Sequence[PlaceGrowth],
    variables: Mapping[str, Any],
    fresh: Mapping[str, Any],
    seed: int,
) -> GrownNetwork:
    """The variables of a network whose graphs have grown.

    Args:
      places: of all its graphs.
      variables: "params" and "batch_stats" of the parent.
      fresh: those of the child, as it would begin anew.
      seed: of what is drawn.

    Raises:
      NotExactError: a change is not exact.
    """
    changed = {kind: dict(tree) for kind, tree in variables.items()}
    steps: dict[str, tuple[Graph, list[Moments]]] = {}
    for number, one in enumerate(places):
        name = one.place.module
        own = {kind: _own(one.parent, tree.get(name, {})) for kind, tree in variables.items()}
        grown, each = _grown(one, own, seed + SEEDS_OF_A_PLACE * number)
        steps[name] = one.parent, each
        for kind, tree in changed.items():
            tree.pop(name, None)
            if name in fresh[kind]:
                tree[name] = {**fresh[kind][name], **grown[kind]}

    def moments(tree: PyTree, power: int) -> PyTree:
        result = {name: own for name, own in tree.items() if name not in steps}
        for name in steps.keys() & fresh["params"].keys():
            parent, each = steps[name]
            own = _own(parent, tree.get(name, {}))
            for step in each:
                own = step(own, power)
            result[name] = {**jax.tree.map(jnp.zeros_like, fresh["params"][name]), **own}
        return result

    structures = {jax.tree.structure(tree["params"]) for tree in (changed, fresh)}
    assert len(structures) == 1, "it is the child"
    return GrownNetwork(changed["params"], changed["batch_stats"], moments)


def _grown(
    one: PlaceGrowth, own: Mapping[str, Any], seed: int
) -> tuple[Mapping[str, Any], list[Moments]]:
    """One graph's variables, and the maps of its moments, in turn."""
    if one.growth is None:
        return own, []
    growth, graph = one.growth, one.growth.graph
    assert isinstance(graph, Graph), "it is of a space"
    taken = [shape for shape, _ in graph.costs(one.place.shape)] if growth.roles else []
    key = jax.random.fold_in(jax.random.key(seed), NEW_NODES)
    morphed = grow(growth, one.parent, own, new_variables(growth, taken, key))
    each = [morphed.moments]
    before = zip(one.parent.nodes, growth.places, strict=True)
    enlarged = sum(node.operation != graph.nodes[place].operation for node, place in before)
    for number, (node, width) in enumerate(growth.widened, len(growth.roles) + enlarged):
        morphed = widen(
            morphed.graph, morphed.variables, node, width, seed=seed + number, copies=False
        )
        each.append(morphed.moments)
    return morphed.variables, each


def _own(graph: Graph, tree: Mapping[str, Any]) -> dict[str, PyTree]:
    """The part of a graph's own nodes, of a program that may hold others."""
    names = {node_name(i, node.operation) for i, node in enumerate(graph.nodes)}
    return {name: value for name, value in tree.items() if name in names}
