"""The places of a network at which its graphs stand, and the shapes of what they take there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from experiments.search.architecture.cells import REDUCTION
from experiments.search.architecture.graph import IllegalArchitectureError
from experiments.search.architecture.operations import OPERATIONS, Shape, halved
from experiments.search.architecture.space import Architecture
from workloads.architectures import Skeleton

NETWORK = "network"
"""The graph of a stack, and the module that holds its parameters."""


class Occurrence(NamedTuple):
    """A place of a network at which a graph stands.

    Attributes:
      module: name of what holds its parameters.
      graph: name of the graph: "network", "normal" or "reduction".
      shape: of what it takes.
    """

    module: str
    graph: str
    shape: Shape


def occurrences(network: Skeleton | Shape, graphs: Sequence[str]) -> list[Occurrence]:
    """All places of these graphs, as `workloads.models.architectures` builds the network."""
    if not isinstance(network, Skeleton):
        return [Occurrence(NETWORK, NETWORK, network)]
    shape, found = cell_shape(network), []
    for stage in range(network.stages):
        if stage:
            small = (*halved(shape)[:2], network.width_at(stage))
            if REDUCTION in graphs:
                taken = (*shape[:2], small[-1]) if network.strided else small
                found.append(Occurrence(f"reduction{stage}", REDUCTION, taken))
            shape = small
        found += [
            Occurrence(f"cell{stage}_{place}", "normal", shape) for place in range(network.cells)
        ]
    return found


def cell_shape(skeleton: Skeleton) -> Shape:
    """Shape of what the first cell takes: what the stem makes."""
    return OPERATIONS[skeleton.stem].cost(skeleton.shape, skeleton.width).shape


def check_sizes(architecture: Architecture, skeleton: Skeleton) -> None:
    """Refuse cells that do not make images of the size that their network needs.

    Raises:
      IllegalArchitectureError: one line.
    """
    if skeleton.strided and REDUCTION not in dict(architecture.graphs):
        raise IllegalArchitectureError(
            f"a strided Skeleton needs cells of the kind {REDUCTION!r}, which halve images"
        )
    for place in occurrences(skeleton, list(dict(architecture.graphs))):
        graph = architecture.graph(place.graph)
        if not graph.nodes[-1].inputs:  # zero, of the size that is needed
            continue
        halves = skeleton.strided and place.graph == REDUCTION
        needed = halved(place.shape) if halves else place.shape
        made = graph.cost(place.shape).shape
        if made[:-1] != needed[:-1]:
            raise IllegalArchitectureError(
                f"a {place.graph} cell makes {made} of {place.shape}, and its network needs "
                f"{needed}: space and Skeleton are both strided, or neither is"
            )
