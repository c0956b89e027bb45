"""Architectures as values: canonical forms, spaces, legality and costs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from experiments.search.architecture.cells import chosen_edges, every_edge
from experiments.search.architecture.graph import Graph, IllegalArchitectureError, Node
from experiments.search.architecture.operations import OPERATIONS, Operation, OperationCost, image
from experiments.search.architecture.space import Architecture, Space
from experiments.search.architecture.stacks import stacks
from experiments.search.architecture.streams import Stream

SMALL = every_edge(3)
IMAGES = stacks(
    (8, 8, 3), 10, (1, 2, 3), ("dense", "conv3x3", "max_pool2x2"), (8, 16), skips=True,
    branches=True,
)  # fmt: skip


def paths(graph: Graph) -> np.ndarray:
    """Edge counts between operations, an obviously invariant description up to order."""
    edges = np.zeros((len(graph.nodes),) * 2, int)
    for index, node in enumerate(graph.nodes):
        for i in node.inputs:
            edges[i, index] += 1
    return edges


def isomorphic(a: Graph, b: Graph) -> bool:
    """By trying every renaming of the inner nodes."""
    if len(a.nodes) != len(b.nodes):
        return False
    ours, theirs = paths(a), paths(b)
    inner = range(1, len(a.nodes) - 1)
    for order in itertools.permutations(inner):
        full = [0, *order, len(a.nodes) - 1]
        same = all(
            a.nodes[i].operation == b.nodes[j].operation and a.nodes[i].width == b.nodes[j].width
            for i, j in enumerate(full)
        )
        if same and np.array_equal(ours, theirs[np.ix_(full, full)]):
            return True
    return False


def test_a_graph_renamed_is_the_same_architecture():
    stream = Stream("test graphs", 0)
    for _ in range(60):
        space = every_edge(4)
        graph = space.architecture(space.sample(stream)).graph("normal")
        inner = list(range(1, len(graph.nodes) - 1))
        order = [0, *stream.shuffled(inner), len(graph.nodes) - 1]
        place = {old: new for new, old in enumerate(order)}
        edges = [tuple(place[i] for i in graph.nodes[old].inputs) for old in order]
        if any(i >= new for new, inputs in enumerate(edges) for i in inputs):
            continue  # not an order in which inputs come first
        renamed = Graph(
            tuple(
                Node(graph.nodes[old].operation, inputs)
                for old, inputs in zip(order, edges, strict=True)
            )
        )
        assert renamed.canonical() == graph


def test_canonical_forms_are_equal_exactly_where_a_renaming_exists():
    stream = Stream("test pairs", 1)
    space = every_edge(4, ("none", "skip", "bn_conv3x3"))
    graphs = {space.architecture(space.sample(stream)).graph("normal") for _ in range(150)}
    small = [graph for graph in graphs if len(graph.nodes) <= 8]
    assert len(small) > 30
    for a, b in itertools.combinations(small, 2):
        assert not isomorphic(a, b), f"{a} and {b}"


def test_what_cannot_matter_is_gone():
    plain = Graph((Node("input"), Node("conv3x3", (0,)), Node("output", (1,))))
    with_more = Graph(
        (
            Node("input"),
            Node("skip", (0,)),
            Node("conv1x1", (0,)),  # nobody reads it
            Node("conv5x5", ()),  # zero
            Node("conv3x3", (1, 3)),
            Node("skip", (4,)),
            Node("output", (5,)),
        )
    )
    assert with_more.canonical() == plain
    assert str(plain) == "1 = conv3x3 (input); output = 1"


def test_one_convolution_read_twice_is_not_two_convolutions():
    once = Graph((Node("input"), Node("conv3x3", (0,)), Node("output", (1, 1))))
    twice = Graph(
        (Node("input"), Node("conv3x3", (0,)), Node("conv3x3", (0,)), Node("output", (1, 2)))
    )
    assert once.canonical() != twice.canonical()


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ((Node("input"), Node("relu", (2,)), Node("relu", (1,)), Node("output", (2,))), "no cycle"),
        ((Node("input"), Node("relu", (1,)), Node("output", (1,))), "no cycle"),
        ((Node("input"), Node("relu", (0,))), "begins with 'input' and ends with 'output'"),
        ((Node("input"), Node("rel", (0,)), Node("output", (1,))), "did you mean 'relu'"),
    ],
)
def test_a_graph_that_is_none_is_refused_in_one_line(nodes, message):
    with pytest.raises(ValueError, match=message) as caught:
        Graph(nodes)
    assert "\n" not in str(caught.value)


def test_cells_count_as_nas_bench_201_does_and_isomorphic_ones_once():
    assert every_edge().codes == 5**6
    assert every_edge(same="code").key((0,) * 6) == (0,) * 6
    assert SMALL.codes == 5**3
    # The output adds 0->2 and 1->2 after 0->1. What is "none" is gone; "skip" is the empty word.
    words = {"none": None, "skip": ()} | {name: (name,) for name in SMALL.choices[0][1][2:]}
    expected = set()
    for first, direct, second in itertools.product(words.values(), repeat=3):
        chain = None if first is None or second is None else first + second
        expected.add(tuple(sorted(word for word in (direct, chain) if word is not None)))
    assert SMALL.count() == len(expected)


def test_neighbours_differ_in_one_choice_and_are_other_architectures():
    stream = Stream("test neighbours", 2)
    for space in (SMALL, chosen_edges(2), IMAGES):
        code = space.sample(stream)
        found = space.neighbours(code)
        assert found
        for other in found:
            assert sum(a != b for a, b in zip(code, other, strict=True)) == 1
            assert space.architecture(other) != space.architecture(code)
            assert code in space.neighbours(other)


def test_codes_are_encoded_one_hot():
    encoded = SMALL.encoded([(0, 4, 2), (1, 0, 0)])
    assert encoded.shape == (2, 15)
    np.testing.assert_array_equal(np.flatnonzero(encoded[0]), [0, 9, 12])
    np.testing.assert_array_equal(encoded.sum(1), [3, 3])
    assert [SMALL.code_at(i) for i in (0, 5, 124)] == [(0, 0, 0), (0, 1, 0), (4, 4, 4)]


def test_samples_cover_a_space_evenly():
    stream = Stream("test uniform", 3)
    drawn = np.array([SMALL.sample(stream) for _ in range(4000)])
    for choice in range(3):
        counts = np.bincount(drawn[:, choice], minlength=5)
        assert abs(counts - 800).max() < 4.5 * np.sqrt(4000 * 0.2 * 0.8)


def test_dense_stacks_cost_what_is_published():
    """Shallue et al. 2019, three layers of 1,024: 2,913,290 parameters."""
    space = stacks((784,), 10, (1, 2, 3), ("dense",), (64, 1024))
    cost = space.architecture((2, 0, 1, 0, 1, 0, 1)).cost((784,))
    assert cost.parameters == 2_913_290
    assert cost.flops == 2 * (784 * 1024 + 2 * 1024**2 + 1024 * 10)
    assert cost.shape == (10,)
    assert space.count() == 2 + 4 + 8


def test_the_simple_cnn_costs_what_is_published():
    """28x28 -> conv 32 -> pool -> conv 64 -> pool -> dense 1024 -> 10: 3,274,634 parameters."""
    space = stacks((28, 28, 1), 10, (5,), ("conv5x5", "max_pool2x2", "dense"), (32, 64, 1024))
    code = (0, *(0, 0), *(1, 0), *(0, 1), *(1, 0), *(2, 2))
    cost = space.architecture(code).cost((28, 28, 1))
    assert cost.parameters == 3_274_634
    convolutions = 28 * 28 * 25 * 32 + 14 * 14 * 25 * 32 * 64
    assert cost.flops == 2 * (convolutions + 7 * 7 * 64 * 1024 + 1024 * 10)


def test_skips_add_and_branches_join():
    space = stacks((4, 4, 8), 2, (2,), ("conv3x3",), (8,), skips=True, branches=True)
    names = [name for name, _ in space.choices]
    both = space.options((0,) * len(names)) | {"skip 2": 0, "input 2": 0}
    graph = space.build(both).graph("network")
    assert [node.operation for node in graph.nodes].count("flatten") == 2
    assert "output = " in str(graph) and "(input + " in str(graph)
    # Two convolutions; the last layer reads 2 x (4 x 4 x 8) joined features.
    assert graph.cost((4, 4, 8)).parameters == 2 * (9 * 64 + 8) + 256 * 2 + 2


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"operation 1": "dense", "operation 2": "conv3x3"}, r"needs \(height, width, channels\)"),
        ({"skip 2": 1, "operation 2": "max_pool2x2"}, "adds inputs of shapes"),
        ({"skip 1": 0}, "adds inputs of shapes"),
    ],
)
def test_an_architecture_whose_shapes_do_not_fit_says_so(choices, message):
    first = {name: options[-1 if name == "depth" else 0] for name, options in IMAGES.choices}
    with pytest.raises(IllegalArchitectureError, match=message):
        IMAGES.build(first | {"operation 1": "conv3x3"} | choices)


def test_a_space_without_a_legal_architecture_says_why():
    space = stacks((4,), 2, (1,), ("conv3x3", "max_pool2x2"), (8,))
    assert space.count() == 0
    with pytest.raises(IllegalArchitectureError, match="no legal architecture: node 1: a 3x3"):
        space.sample(Stream("test", 0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: every_edge(4, ("none", "max_pool2x2")), "'max_pool2x2' changes shape"),
        (lambda: every_edge(4, ("conv33",)), "'conv33' is unknown; did you mean 'conv3x3'"),
        (lambda: every_edge(1), "at least 2 nodes"),
        (lambda: every_edge(3, ()), "needs distinct options"),
        (lambda: stacks((4,), 2, (0,), ("dense",), (8,)), "depths must be whole numbers"),
        (lambda: stacks((4,), 2, (1,), ("dens",), (8,)), "'dens' is unknown"),
        (lambda: chosen_edges(5).count(), "are enumerated"),
    ],
)
def test_a_space_that_cannot_be_is_refused_in_one_line(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_an_operation_is_one_row(monkeypatch):
    def depthwise(shape, width):
        height, across, channels = image(shape, "a depthwise convolution")
        return OperationCost(shape, 10 * channels, 2 * 9 * height * across * channels)

    monkeypatch.setitem(OPERATIONS, "depthwise", Operation("3x3 depthwise convolution", depthwise))
    space = every_edge(3, ("none", "skip", "depthwise"))
    architecture = space.architecture((2, 0, 2))
    assert str(architecture) == "1 = depthwise (input); 2 = depthwise (1); output = 2"
    assert architecture.cost((4, 4, 16)).parameters == 2 * 160


def test_normal_and_reduction_cells_are_two_graphs():
    space = chosen_edges(2)
    architecture = space.architecture(space.sample(Stream("test", 5)))
    assert [name for name, _ in architecture.graphs] == ["normal", "reduction"]
    assert str(architecture).startswith("normal: ")
    assert isinstance(hash(architecture), int)
    with pytest.raises(ValueError, match="depends on how they are stacked"):
        architecture.cost((4, 4, 8))


def test_a_space_of_ones_own():
    def build(options):
        inner = [Node("dense", (i,), int(options["width"])) for i in range(int(options["depth"]))]
        end = Node("output", (len(inner),))
        return Architecture.of(network=Graph((Node("input"), *inner, end)))

    space = Space("mine", (("depth", (1, 2)), ("width", (4, 8))), build)
    assert space.count() == 4
    assert str(space.architecture((1, 0))) == "1 = dense 4 (input); 2 = dense 4 (1); output = 2"
