"""Which architecture can inherit whose weights, as plain data."""

from __future__ import annotations

import pytest

from experiments.search.architecture.cells import chosen_edges, every_edge
from experiments.search.architecture.graph import Graph, Node
from experiments.search.architecture.growth import explicit, growth
from experiments.search.architecture.inheritance import (
    Inheritance,
    TrainedArchitecture,
    growths,
    parent_of,
)
from experiments.search.architecture.space import Architecture
from experiments.search.architecture.stacks import stacks
from workloads.architectures import Skeleton

SHAPE = (8, 8, 1)
SPACE = stacks(SHAPE, 10, (1, 2, 3), ("dense", "conv3x3", "conv5x5", "affine"), (4, 8), skips=True)
WEIGHTED = stacks(SHAPE, 10, (1, 2, 3), ("dense", "conv3x3"), (4, 8), skips="weighted")
BRANCHING = stacks(SHAPE, 10, (1, 2, 3), ("dense",), (4, 8), branches=True)


def stack(*layers, space=SPACE, **choices):
    """The stack of (operation, width) layers, as the space builds it."""
    options = {name: values[0] for name, values in space.choices} | {"depth": len(layers)}
    for i, (operation, width) in enumerate(layers, 1):
        options |= {f"operation {i}": operation, f"width {i}": width}
    named = {name.replace("_", " "): value for name, value in choices.items()}
    return space.build({**options, **named})


def skipping(*layers, **skips):
    return stack(*layers, space=WEIGHTED, **{f"weighted_{name}": s for name, s in skips.items()})


D4, D8, C4, C8, B4 = ("dense", 4), ("dense", 8), ("conv3x3", 4), ("conv3x3", 8), ("conv5x5", 4)
A4 = ("affine", 4)


@pytest.mark.parametrize(
    ("parent", "child", "roles", "widened"),
    [
        (stack(D4), stack(D8), {}, [(1, 8)]),
        (stack(D4), stack(D4, D4), {2: "identity"}, []),
        (stack(D4), stack(D4, D8), {2: "identity"}, [(2, 8)]),
        (stack(D4), stack(D8, D4), {2: "identity"}, [(1, 8)]),
        (stack(D4), stack(D4, D4, D4), {2: "identity", 3: "identity"}, []),
        (stack(D4), stack(D4, A4), {2: "identity"}, []),
        (stack(A4), stack(A4, A4), {2: "identity"}, []),
        (stack(C4, D4), stack(B4, D4), {}, []),
        (stack(C4), stack(C8, C8), {2: "identity"}, [(1, 8), (2, 8)]),
        (stack(C4, D4), stack(C4, C4, D4), {2: "identity"}, []),
        # What a skip adds is widened together, and deepened behind it or in its branch.
        (stack(D4, D4, skip_2=1), stack(D8, D8, skip_2=1), {}, [(1, 8)]),
        (stack(C4, C4, skip_2=1), stack(C8, C8, D4, skip_2=1), None, None),
        (stack(C4, C4, skip_2=1), stack(C8, C8, C4, skip_2=1), {3: "identity"}, [(1, 8)]),
        (stack(D4, D4, skip_2=1), stack(D4, D4, D4, skip_3=1), {2: "identity"}, []),
        (stack(C4, C4, skip_2=1), stack(C4, B4, skip_2=1), {}, []),
        # A skip times a weight begins at zero.
        (skipping(D4, D4), skipping(D4, D4, skip_2=1), {3: "zero"}, []),
        (skipping(D4, D4), skipping(D8, D8, skip_2=1), {3: "zero"}, [(1, 8)]),
        (skipping(D4), skipping(D4, D4, skip_2=1), {2: "identity", 3: "zero"}, []),
    ],
)  # fmt: skip
def test_one_network_grows_into_another(parent, child, roles, widened):
    found = growths(parent, child, SHAPE)
    if widened is None:
        assert found is None
        return
    grown = found["network"]
    assert (dict(grown.roles), list(grown.widened)) == (roles, widened)
    # Old nodes are in the new graph with their operations' kinds, and the end is the end.
    old, new = parent.graph("network").nodes, child.graph("network").nodes
    assert grown.places[0] == 0 and grown.places[-1] == len(new) - 1
    assert {*grown.places, *roles} == set(range(len(new)))
    for node, place in zip(old, grown.places, strict=True):
        assert new[place].operation.replace("conv5x5", "conv3x3") == node.operation


@pytest.mark.parametrize(
    ("parent", "child"),
    [
        (stack(D4), stack(D4)),  # itself
        (stack(D8), stack(D4)),  # narrower
        (stack(D4, D4), stack(D4)),  # less deep
        (stack(D4), stack(C4)),  # another operation
        (stack(B4, D4), stack(C4, D4)),  # a smaller kernel
        (stack(C4), stack(C4, D4)),  # four values of 256
        (stack(D4, D4), stack(D4, D4, skip_2=1)),  # a skip adds all that it skips
        (stack(D4, D4, skip_2=1), stack(D4, D4)),
        (skipping(D4, D4, skip_2=1), skipping(D4, D4)),
        (stack(A4, D4, skip_2=1), stack(A4, D4, D4, skip_2=1)),  # what it follows may be negative
        (stack(D4, D4, space=BRANCHING, input_2=0), stack(D8, D8, space=BRANCHING, input_2=0)),
    ],
)
def test_what_no_exact_change_leads_to_inherits_nothing(parent, child):
    assert growths(parent, child, SHAPE) is None


IMAGES = Skeleton((8, 8, 1), 10, 4)
TWICE = Skeleton((8, 8, 1), 10, 4, cells=2)
STAGES = Skeleton((8, 8, 1), 10, 4, stages=2)
FEATURES = Skeleton((64,), 10, 4, stem="dense")
CELLS = every_edge(3, ("none", "skip", "weighted_skip", "relu", "conv3x3", "bn_conv1x1",
                       "bn_conv3x3", "avg_pool3x3"))  # fmt: skip
VECTORS = every_edge(3, ("none", "skip", "dense", "affine"), shape=(4,))


def cell(direct, first, second, space=CELLS):
    """Of the edges 0->2, 0->1 and 1->2."""
    return space.build({"0->1": first, "0->2": direct, "1->2": second})


@pytest.mark.parametrize(
    ("parent", "child", "network", "roles"),
    [
        # A new operation on an edge that was not there is zero, and learns.
        (cell("skip", "none", "none"), cell("skip", "bn_conv3x3", "skip"), STAGES, ["zero"]),
        (cell("relu", "none", "none"), cell("relu", "weighted_skip", "skip"), STAGES, ["zero"]),
        (cell("skip", "none", "none"), cell("skip", "conv3x3", "bn_conv1x1"), STAGES,
         ["fresh", "zero"]),
        (cell("skip", "none", "none"), cell("skip", "bn_conv1x1", "bn_conv3x3"), STAGES,
         ["fresh", "zero"]),
        # On one that was the identity it is the identity, where the relu cuts nothing off.
        (cell("relu", "none", "none"), cell("none", "relu", "bn_conv3x3"), STAGES, ["identity"]),
        (cell("skip", "none", "none"), cell("bn_conv1x1", "none", "none"), IMAGES, ["identity"]),
        (cell("skip", "none", "none"), cell("weighted_skip", "none", "none"), STAGES,
         ["identity"]),
        (cell("skip", "none", "none", VECTORS), cell("affine", "none", "none", VECTORS), FEATURES,
         ["identity"]),
        # A kernel grows.
        (cell("relu", "bn_conv1x1", "skip"), cell("relu", "bn_conv3x3", "skip"), STAGES, []),
    ],
)  # fmt: skip
def test_a_cell_grows_into_another(parent, child, network, roles):
    found = growths(parent, child, network)
    assert list(found) == ["normal"]
    assert sorted(role for _, role in found["normal"].roles) == roles


@pytest.mark.parametrize(
    ("parent", "child", "network"),
    [
        (cell("relu", "none", "none"), cell("relu", "conv3x3", "skip"), IMAGES),  # zero for ever
        (cell("relu", "none", "none"), cell("relu", "avg_pool3x3", "skip"), IMAGES),
        (cell("relu", "none", "none"), cell("skip", "none", "none"), IMAGES),
        (cell("none", "none", "none"), cell("skip", "none", "none"), IMAGES),
        (cell("none", "none", "none"), cell("bn_conv1x1", "none", "none"), TWICE),
        # Behind batch norm, and in a later cell, the input may be negative.
        (cell("skip", "none", "none"), cell("bn_conv1x1", "none", "none"), STAGES),
        (cell("bn_conv1x1", "none", "none"), cell("bn_conv1x1", "none", "none"), TWICE),
        (cell("none", "bn_conv1x1", "skip"), cell("none", "bn_conv1x1", "bn_conv3x3"), STAGES),
        (cell("bn_conv3x3", "none", "none"), cell("bn_conv1x1", "none", "none"), IMAGES),
    ],
)
def test_a_cell_that_cannot_be_exact_inherits_nothing(parent, child, network):
    assert growths(parent, child, network) is None


def test_a_later_cell_takes_nothing_negative_where_the_one_before_makes_nothing_negative():
    assert growths(cell("relu", "none", "none"), cell("none", "bn_conv1x1", "relu"), TWICE)
    assert growths(cell("skip", "none", "none"), cell("bn_conv1x1", "none", "none"), TWICE)
    before = cell("bn_conv3x3", "none", "none")
    inside = Architecture.of(
        normal=Graph((Node("input"), Node("bn_conv1x1", (0,)), Node("bn_conv3x3", (1,)),
                      Node("output", (2,))))
    )  # fmt: skip
    assert growths(before, inside, IMAGES) is not None
    assert growths(before, inside, TWICE) is None


def test_of_two_kinds_of_cell_each_grows_or_stays():
    space = every_edge(2, ("skip", "bn_conv1x1", "bn_conv3x3"), ("normal", "reduction"))

    def both(normal, reduction):
        return space.build({"normal 0->1": normal, "reduction 0->1": reduction})

    found = growths(both("bn_conv1x1", "skip"), both("bn_conv3x3", "skip"), STAGES)
    assert list(found) == ["normal"]
    found = growths(both("bn_conv1x1", "bn_conv1x1"), both("bn_conv3x3", "bn_conv3x3"), STAGES)
    assert list(found) == ["normal", "reduction"]
    assert growths(both("bn_conv1x1", "skip"), both("bn_conv3x3", "bn_conv1x1"), STAGES) is None


def test_nodes_that_are_joined_keep_their_order():
    """The map behind a cell reads them by place."""
    space = chosen_edges(2, ("skip", "relu", "bn_conv1x1", "bn_conv3x3"), 1, ("normal",))
    options = {"1.0 reads": 0, "1.0 applies": "bn_conv1x1", "2.0 reads": 0}
    parent = space.build({**options, "2.0 applies": "relu"})
    child = space.build({**options, "1.0 applies": "bn_conv3x3", "2.0 applies": "relu"})
    assert growths(parent, child, IMAGES) is not None
    swapped = Graph((*child.graph("normal").nodes[:-1], Node("output", (2, 1), merge="concat")))
    assert growth(parent.graph("normal"), swapped, (8, 8, 4)) is None


def test_nodes_are_found_again_by_what_they_read_not_by_their_order():
    """Wider, the first of two branches is sorted behind the other."""
    nodes = Node("input"), Node("dense", (0,), 4), Node("affine", (0,), 4)
    parent = Graph((*nodes, Node("dense", (1, 2), 10), Node("output", (3,)))).canonical()
    first, second = Node("affine", (0,), 4), Node("dense", (0,), 4)
    deeper = Graph(
        (Node("input"), first, second, Node("affine", (1,), 4), Node("dense", (2, 3), 10),
         Node("output", (4,)))
    ).canonical()  # fmt: skip
    found = growth(explicit(parent, (64,)), explicit(deeper, (64,)), (64,))
    assert [role for _, role in found.roles] == ["identity"]
    kinds = [parent.nodes[i].operation for i in range(len(parent.nodes))]
    assert [deeper.nodes[place].operation for place in found.places] == kinds


def test_the_best_that_it_grew_out_of_is_its_parent():
    trained = [
        TrainedArchitecture(0, stack(D8), 0.1),  # the best, but wider
        TrainedArchitecture(1, stack(D4), 0.4),
        TrainedArchitecture(2, stack(D4), 0.3),
        TrainedArchitecture(3, stack(D4), 0.3),
    ]
    assert parent_of(stack(D4, D4), trained, SHAPE) == 2
    assert parent_of(stack(C4), trained, SHAPE) is None
    assert parent_of(stack(D4, D4), [], SHAPE) is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"further": 0}, "further must be a whole number from 1 on, got 0"),
        ({"further": 2, "optimizer_state": "keep"}, "must be reset or carry, got 'keep'"),
    ],
)
def test_settings_that_mean_nothing_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Inheritance(**fields)
