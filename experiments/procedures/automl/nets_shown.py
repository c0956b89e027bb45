"""The nets of an automl's predictor as tables and a picture."""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np
import polars as pl

from experiments.procedures.automl.ending import Chosen
from experiments.report.architecture_figure import graph_chart
from experiments.report.figure import Figure
from experiments.report.tables import Table
from experiments.runner.predict import TrainedNet
from experiments.search.architecture.graph import Graph, Node
from experiments.spec.families import FAMILIES


def in_words(net: TrainedNet) -> str:
    """A net's values: the family, then its own."""
    rest = ", ".join(
        f"{name.replace('_', ' ')} {_word(value)}"
        for name, value in net.values.items()
        if name != "family"
    )
    return f"{net.values['family']} ({rest})"


def _word(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def nets_table(best: Chosen) -> Table:
    """The nets of the predictor."""
    rows = tuple(
        (f"{net.weight:.3g}", net.name, f"{net.examples:,}", f"{parameters(net):,}", in_words(net))
        for net in best.predictor.nets
    )
    columns = ("weight", "from", "trained on", "parameters", "net")  # the widest last
    return Table("nets", "What predicts", columns, rows, (True, False, True, True, False))


def layers_table(net: TrainedNet) -> Table:
    """The arrays of a net's parameters: its architecture as text."""
    leaves = jax.tree_util.tree_flatten_with_path(net.params)[0]
    rows = tuple(
        ("/".join(str(getattr(key, "key", key)) for key in path),
         " x ".join(map(str, np.shape(leaf))), f"{np.size(leaf):,}")
        for path, leaf in leaves
    )  # fmt: skip
    return Table("layers", f"Layers of {net.name}", ("array", "shape", "parameters"), rows,
                 (False, False, True))  # fmt: skip


def graph_of(net: TrainedNet, classes: int) -> Graph:
    """The layers of a net as a graph."""
    layers = FAMILIES[str(net.values["family"])].layers(net.values, classes)
    inner = [Node(operation, (i,), width) for i, (operation, width) in enumerate(layers)]
    return Graph((Node("input"), *inner, Node("output", (len(layers),))))


def layers_figure(net: TrainedNet, classes: int, shape: tuple[int, ...]) -> Figure:
    """The picture of a net's layers, with its size."""
    graph = graph_of(net, classes)
    cost = graph.cost(shape)
    each = f"{cost.parameters:,} parameters and {cost.flops:,} FLOPs an example, forward"
    many = "" if net.folds == 1 else f"; {net.folds} such nets side by side, one a fold"
    rows = [
        {"node": i, "operation": node.operation, "width": node.width}
        for i, node in enumerate(graph.nodes)
    ]
    return Figure(
        "architecture",
        f"The net that weighs most: {net.name}",
        f"{each}{many}. A number is a layer's width; dropout is not drawn.",
        graph_chart(graph, ""),
        pl.DataFrame(rows),
    )


def parameters(net: TrainedNet) -> int:
    """Of a net."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(net.params))
