"""The way in which one graph grows into another without a change of its function, as plain data.

The old nodes are found again in the new graph; every new one must start as something that changes
nothing: as an identity on the way between old nodes, as a zero in a sum, or as anything that only
zeros read. Kernels may be larger and nodes wider. Imports no jax: `experiments.training.growing`
does it.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from experiments.search.architecture.graph import Graph, IllegalArchitectureError, Node
from experiments.search.architecture.operations import OPERATIONS, Shape
from workloads.exact_changes import (
    KERNELS,
    ZEROS,
    GraphGrowth,
    NotExactError,
    Role,
    cuts,
    kernel_margin,
    kind_of,
    never_negative,
    starts_as_identity,
    widened_together,
)

MOST_NEW = 3
"""Nodes by which a graph may grow."""

Terms = tuple[int, ...]
"""Old nodes, by their places in the new graph, whose sum a node is or reads."""


def growth(
    parent: Graph, child: Graph, shape: Shape, *, nonnegative: bool = False
) -> GraphGrowth | None:
    """The way in which ``parent`` grows into ``child``; None where none is exact.

    Args:
      parent, child: as they stand, which is how their modules are named.
      shape: of what they take.
      nonnegative: whether that is never below zero.
    """
    inserted = len(child.nodes) - len(parent.nodes)
    if child == parent or not 0 <= inserted <= MOST_NEW:
        return None
    kinds = [kind_of(node.operation) for node in child.nodes]
    further = Counter(kinds) - Counter(kind_of(node.operation) for node in parent.nodes)
    if further.total() != inserted:
        return None
    made = _made(parent, shape)
    for new in itertools.combinations(range(1, len(child.nodes) - 1), inserted):
        if Counter(kinds[i] for i in new) != further:
            continue
        for roles in _roles(child, new):
            terms = _terms(child, roles)
            if terms is None:
                continue
            for places in _placings(parent, child, terms, roles):
                pair = _Pair(parent, child, places, roles, terms)
                found = _exact(pair, made, nonnegative=nonnegative)
                if found is not None:
                    return found
    return None


@dataclasses.dataclass(frozen=True)
class _Pair:
    """Two graphs, where the old nodes are in the new one, and what the others do.

    Attributes:
      terms: of the inputs of every node of the child.
    """

    parent: Graph
    child: Graph
    places: tuple[int, ...]
    roles: Mapping[int, Role]
    terms: Sequence[Terms]

    def old(self, place: int) -> int:
        """The parent's node at a place."""
        return self.places.index(place)


def _made(graph: Graph, shape: Shape) -> list[Shape]:
    """Output shapes of all nodes; a graph that is cut from its input is zero, of its shape."""
    if not graph.nodes[-1].inputs:
        return [shape] * len(graph.nodes)
    return [cost.shape for _, cost in graph.costs(shape)]


def _roles(child: Graph, new: Sequence[int]) -> Iterator[dict[int, Role]]:
    """All ways in which new nodes may do nothing, from the last to the first."""

    def chosen(left: Sequence[int], roles: dict[int, Role]) -> Iterator[dict[int, Role]]:
        if not left:
            yield roles
            return
        *rest, node = left
        readers = [i for i, reader in enumerate(child.nodes) if node in reader.inputs]
        if all(roles.get(reader, "identity") != "identity" for reader in readers):
            yield from chosen(rest, {**roles, node: "fresh"})
            return
        inner = child.nodes[node]
        if inner.merge == "sum" and starts_as_identity(inner.operation):
            yield from chosen(rest, {**roles, node: "identity"})
        if inner.operation in ZEROS:
            yield from chosen(rest, {**roles, node: "zero"})

    return chosen(new, {})


def _terms(child: Graph, roles: Mapping[int, Role]) -> list[Terms] | None:
    """Of what every node reads; None where it is no sum of old nodes, or nothing would learn."""
    found: list[Terms] = []
    stands_for: list[Terms] = []
    for index, node in enumerate(child.nodes):
        each = [stands_for[i] for i in node.inputs]
        if node.merge == "concat" and index not in roles and any(len(one) != 1 for one in each):
            return None
        terms = tuple(itertools.chain(*each))
        found.append(terms if node.merge == "concat" else tuple(sorted(terms)))
        role = roles.get(index)
        if role in ("zero", "fresh") and all(roles.get(i) == "zero" for i in node.inputs):
            return None
        if not terms and node.inputs and role in (None, "identity"):
            return None  # behind a sum that is nothing but zero, a relu passes no gradient on
        stands_for.append((index,) if role is None else terms if role == "identity" else ())
    return found


def _placings(
    parent: Graph, child: Graph, terms: Sequence[Terms], roles: Mapping[int, Role]
) -> Iterator[tuple[int, ...]]:
    """All ways to find the parent's nodes among those of the child that are not new."""
    free = [i for i in range(len(child.nodes)) if i not in roles]

    def placed(places: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        index = len(places)
        if index == len(parent.nodes):
            yield places
            return
        node = parent.nodes[index]
        reads = tuple(places[i] for i in node.inputs)
        wanted = reads if node.merge == "concat" else tuple(sorted(reads))
        ends = {0: 0, len(parent.nodes) - 1: len(child.nodes) - 1}
        for place in [ends[index]] if index in ends else free[1:-1]:
            fits = place not in places and terms[place] == wanted
            if fits and _may_become(parent, index, child.nodes[place]):
                yield from placed((*places, place))

    return placed(())


def _may_become(parent: Graph, index: int, new: Node) -> bool:
    old = parent.nodes[index]
    if len(old.inputs) > 1 and old.merge != new.merge:
        return False
    if (old.width is None) != (new.width is None) or (new.width or 0) < (old.width or 0):
        return False
    if old.operation == new.operation:
        return True
    try:
        kernel_margin(parent, index, new.operation)
    except ValueError:  # another operation, or of the input or the output
        return False
    return True


def _exact(pair: _Pair, made: Sequence[Shape], *, nonnegative: bool) -> GraphGrowth | None:
    """The growth, where new identities cut nothing off and widths can become those of the child."""
    for place, role in pair.roles.items():
        if role != "identity":
            continue
        operation = pair.child.nodes[place].operation
        sources = [pair.old(i) for i in pair.terms[place]]
        if operation in ("dense", "affine") and len(made[sources[0]]) != 1:
            return None
        if cuts(operation) and not all(
            never_negative(pair.parent, i, given=nonnegative) for i in sources
        ):
            return None
    graph = _narrow(pair, made)
    try:
        if graph.nodes[-1].inputs:
            graph.costs(made[0])
        widened = _widened(graph, pair.child)
    except (IllegalArchitectureError, NotExactError):
        return None
    if widened is None:
        return None
    return GraphGrowth(graph, pair.places, tuple(sorted(pair.roles.items())), widened)


def _narrow(pair: _Pair, made: Sequence[Shape]) -> Graph:
    """The child with old nodes as wide as they were, and new ones as wide as what they join."""

    def width(place: int) -> int | None:
        node, role = pair.child.nodes[place], pair.roles.get(place)
        if role is None:
            return pair.parent.nodes[pair.old(place)].width
        if node.width is None or role == "fresh":
            return node.width
        if role == "identity":
            return made[pair.old(pair.terms[place][0])][-1]
        readers = [i for i, reader in enumerate(pair.child.nodes) if place in reader.inputs]
        reader = next(i for i in readers if pair.roles.get(i) in (None, "identity"))
        terms = pair.terms[reader]
        return made[pair.old(terms[0]) if terms else 0][-1]

    return Graph(
        tuple(
            dataclasses.replace(node, width=width(place))
            for place, node in enumerate(pair.child.nodes)
        )
    )


def _widened(graph: Graph, child: Graph) -> tuple[tuple[int, int], ...] | None:
    """The groups that are widened, in turn; None where that does not lead to the child."""
    found = []
    for index, wanted in enumerate(child.nodes):
        now, width = graph.nodes[index].width, wanted.width
        if now == width:
            continue
        if now is None or width is None or width < now:
            return None
        together, _ = widened_together(graph, index)
        found.append((index, width))
        graph = Graph(
            tuple(
                dataclasses.replace(node, width=width) if i in together else node
                for i, node in enumerate(graph.nodes)
            )
        )
    return tuple(found) if graph == child else None


def explicit(graph: Graph, shape: Shape) -> Graph:
    """The graph with every kernel's width as a number."""
    return Graph(
        tuple(
            dataclasses.replace(node, width=cost.shape[-1])
            if node.operation in KERNELS and node.operation in OPERATIONS and node.width is None
            else node
            for node, (_, cost) in zip(graph.nodes, graph.costs(shape), strict=True)
        )
    )
