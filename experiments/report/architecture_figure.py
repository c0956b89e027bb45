"""The picture of an architecture: its operations from left to right, and what each reads."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import numpy as np
import polars as pl

from experiments.analysis.search_record import Searched
from experiments.planning.architectures import network_cost
from experiments.report import style
from experiments.report.figure import Figure, values
from experiments.search.architecture.graph import Graph
from experiments.search.architecture.recorded import space_from_json
from experiments.search.architecture.space import Architecture
from experiments.spec.space import Choice
from workloads.architectures import Shape, Skeleton
from workloads.registry import UnknownNameError

ACROSS, DOWN = 150, 74
"""Pixels between layers, and between nodes of a layer."""
WIDE, HIGH = 108, 30
"""Pixels of a node."""
POINTS = 25
"""Of a drawn edge."""
KINDS = {
    "ends": style.GREY,
    "convolution": style.BLUE,
    "dense": style.BLUE,
    "pool": style.GREEN,
    "attention": style.ORANGE,
    "other": style.GREY,
}


def kind_of(operation: str) -> str:
    """The family that an operation is coloured by."""
    if operation in ("input", "output"):
        return "ends"
    words = {
        "conv": "convolution", "dense": "dense", "affine": "dense", "feed_forward": "dense",
        "pool": "pool", "attention": "attention",
    }  # fmt: skip
    return next((kind for word, kind in words.items() if word in operation), "other")


def layers(graph: Graph) -> list[int]:
    """The layer of every node: one more than the last of what it reads; the output's is last."""
    found = [0] * len(graph.nodes)
    for index, node in enumerate(graph.nodes[1:], 1):
        found[index] = 1 + max((found[i] for i in node.inputs), default=0)
    found[-1] = max(found)
    return found


def places(graph: Graph) -> np.ndarray:
    """[nodes, 2] x and y: layers side by side, the nodes of one below each other.

    A node stands near the mean of what it reads; a lone one keeps to the middle, and what passes
    it by is bent around.
    """
    at = layers(graph)
    y = np.zeros(len(graph.nodes))
    for layer in range(1, max(at) + 1):
        members = [i for i, own in enumerate(at) if own == layer]
        wish = {i: float(np.mean([y[k] for k in graph.nodes[i].inputs] or [0.0])) for i in members}
        members.sort(key=lambda i: (wish[i], i))
        for rank, i in enumerate(members):
            y[i] = rank - (len(members) - 1) / 2
    return np.stack([np.array(at, float), y], 1)


def edges(graph: Graph) -> list[tuple[int, int, int]]:
    """(source, target, times) of every edge."""
    found: dict[tuple[int, int], int] = {}
    for index, node in enumerate(graph.nodes):
        for i in node.inputs:
            found[i, index] = found.get((i, index), 0) + 1
    return [(i, j, times) for (i, j), times in found.items()]


def graph_chart(graph: Graph, title: str) -> alt.TopLevelMixin:
    """A graph as a chart without axes."""
    at = places(graph)
    # Edges over several layers go around, above and below in turn.
    bends: dict[tuple[int, int], float] = {}
    turn = 1
    for i, j, _ in edges(graph):
        span = at[j, 0] - at[i, 0]
        bends[i, j] = 0.0
        if span > 1:
            bends[i, j], turn = turn * (0.62 + 0.2 * (span - 1)), -turn
    lines = []
    for number, (i, j, times) in enumerate(edges(graph)):
        for order, (x, y) in enumerate(_curve(at[i], at[j], bends[i, j])):
            lines.append({"edge": number, "order": order, "x": x, "y": y, "times": times})
    boxes = [
        {
            "x": float(x), "y": float(y), "label": _label(graph, i),
            "kind": kind_of(graph.nodes[i].operation),
        }
        for i, (x, y) in enumerate(at)
    ]  # fmt: skip
    heights = [float(y) for y in at[:, 1]] + [line["y"] for line in lines]
    low, high = min(heights) - 0.5, max(heights) + 0.5
    x = alt.X("x:Q", axis=None, scale=alt.Scale(domain=[-0.5, float(at[:, 0].max()) + 0.5]))
    y = alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[high, low]))
    scale = alt.Scale(domain=list(KINDS), range=list(KINDS.values()))
    colour = alt.Color("kind:N", legend=None, scale=scale)
    box = f"M{-WIDE / HIGH},-1L{WIDE / HIGH},-1L{WIDE / HIGH},1L{-WIDE / HIGH},1Z"
    nodes = alt.Chart(values(pl.DataFrame(boxes))).encode(x=x, y=y)
    layered: list[alt.Chart] = []
    if lines:
        base = alt.Chart(values(pl.DataFrame(lines))).encode(x=x, y=y)
        layered.append(
            base.mark_line(color=style.GREY, strokeWidth=1.6, opacity=0.85).encode(
                detail="edge:N", order="order:Q"
            )
        )
        twice = [row for row in lines if row["times"] > 1 and row["order"] == POINTS // 2]
        if twice:
            layered.append(
                alt.Chart(values(pl.DataFrame(twice)))
                .mark_text(dy=-9)
                .encode(x=x, y=y, text=alt.Text("times:Q", format="d"))
            )
    size = HIGH * HIGH
    layered += [
        nodes.mark_point(shape=box, size=size, filled=True, opacity=1).encode(color=colour),
        nodes.mark_text(color="white", fontSize=11).encode(text="label:N"),
    ]
    return alt.layer(*layered).properties(
        width=int(ACROSS * (at[:, 0].max() + 1)),
        height=int(DOWN * (high - low)),
        title=title,
        view=alt.ViewBackground(strokeOpacity=0),
    )


def _label(graph: Graph, index: int) -> str:
    node = graph.nodes[index]
    if node.operation == "skip" and len(node.inputs) > 1:
        return "sum"
    name = node.operation.replace("_", " ")
    return name if node.width is None else f"{name} {node.width}"


def _curve(a: np.ndarray, b: np.ndarray, bend: float) -> list[tuple[float, float]]:
    """A cubic from one node to the other, level at both ends, ``bend`` rows off its way."""
    t = np.linspace(0.0, 1.0, POINTS)
    smooth = t * t * (3 - 2 * t)
    across = a[0] + t * (b[0] - a[0])
    down = a[1] + smooth * (b[1] - a[1]) - bend * np.sin(np.pi * t) ** 0.7
    return list(zip(across.tolist(), down.tolist(), strict=True))


def architecture_chart(architecture: Architecture) -> alt.TopLevelMixin:
    """All graphs of an architecture, one below the other."""
    charts: Sequence[alt.TopLevelMixin] = [
        graph_chart(graph, "" if len(architecture.graphs) == 1 else f"{name} cell")
        for name, graph in architecture.graphs
    ]
    return charts[0] if len(charts) == 1 else alt.vconcat(*charts)


def found_architecture(found: Searched) -> Architecture | None:
    """The architecture of the best trial; None where the record does not say how it is built.

    It does not where a user's own function builds it, or with operations that only the user's file
    adds to the table.
    """
    best = found.best
    if best is None or "proposer" not in found.asked:
        return None
    space = space_from_json(found.asked["proposer"]["space"])
    if space is None:
        return None
    chosen = found.hyperparameters(best)
    ranges = [(name, found.space.ranges[name]) for name, _ in space.choices]
    code = [r.values.index(chosen[name]) for name, r in ranges if isinstance(r, Choice)]
    try:
        return space.architecture(tuple(code))
    except UnknownNameError:
        return None


def network_of(found: Searched) -> Skeleton | Shape:
    """The skeleton of a record's cells, or the shape that its stacks take."""
    data = dict(found.asked["proposer"]["network"])
    shape = tuple(data.pop("shape"))
    return Skeleton(shape, **data) if data else shape


def architecture_figure(found: Searched) -> Figure | None:
    """The best architecture of a search, with its size; None where there is none to be drawn."""
    architecture = found_architecture(found)
    if architecture is None:
        return None
    cost = network_cost(architecture, network_of(found))
    rows = [
        {"graph": name, "node": i, "operation": node.operation, "width": node.width,
         "reads": " ".join(map(str, node.inputs)), "merge": node.merge}
        for name, graph in architecture.graphs
        for i, node in enumerate(graph.nodes)
    ]  # fmt: skip
    return Figure(
        "architecture",
        "The best architecture",
        f"{cost.parameters:,} parameters, {cost.flops:,} FLOPs an example, forward. A node adds "
        "what it reads; a number beside an edge says how often it is added.",
        architecture_chart(architecture),
        pl.DataFrame(rows),
    )
