"""Which architecture can inherit whose weights, as plain data."""

from __future__ import annotations

import pytest

from experiments.search.architecture.graph import Graph, Node
from experiments.search.architecture.inheritance import (
    Change,
    Inheritance,
    TrainedArchitecture,
    changes_between,
    parent_of,
)
from experiments.search.architecture.stacks import stacks

SHAPE = (8, 8, 1)
SPACE = stacks(SHAPE, 10, (1, 2, 3), ("dense", "conv3x3", "conv5x5"), (4, 8), skips=True)


def network(*layers, skips=()):
    """The stack of (operation, width) layers, as the space builds it."""
    options = {"depth": len(layers)}
    for i in range(1, 4):
        operation, width = layers[i - 1] if i <= len(layers) else ("dense", 4)
        options |= {f"operation {i}": operation, f"width {i}": width, f"skip {i}": None}
    return SPACE.build({**options, **dict(skips)}).graph("network")


D4, D8, C4, C8, B4 = ("dense", 4), ("dense", 8), ("conv3x3", 4), ("conv3x3", 8), ("conv5x5", 4)


@pytest.mark.parametrize(
    ("parent", "child", "changes"),
    [
        (network(D4), network(D8), [("widen", 1, 8)]),
        (network(D4), network(D4, D4), [("deepen", 1, "dense")]),
        (network(D4), network(D4, D8), [("deepen", 1, "dense"), ("widen", 2, 8)]),
        (network(D4), network(D8, D4), [("deepen", 1, "dense"), ("widen", 1, 8)]),
        (network(D4), network(D4, D4, D4), [("deepen", 1, "dense"), ("deepen", 2, "dense")]),
        (network(C4, D4), network(B4, D4), [("enlarge", 1, "conv5x5")]),
        (network(C4), network(C8, C8),
         [("deepen", 1, "conv3x3"), ("widen", 1, 8), ("widen", 2, 8)]),
        (network(C4, D4), network(C4, C4, D4), [("deepen", 1, "conv3x3")]),
        (network(D4), network(D4), None),  # itself
        (network(D8), network(D4), None),  # narrower
        (network(D4, D4), network(D4), None),  # less deep
        (network(D4), network(C4), None),  # another operation
        (network(B4, D4), network(C4, D4), None),  # a smaller kernel
        (network(C4), network(C4, D4), [("deepen", 1, "dense")]),
        (network(D4, D4), network(D4, D4, skips=[("skip 2", 1)]), None),  # a skip connection
        (network(D4, D4, skips=[("skip 2", 1)]), network(D8, D8, skips=[("skip 2", 1)]), None),
    ],
)  # fmt: skip
def test_changes_lead_from_a_network_to_one_that_grew_out_of_it(parent, child, changes):
    found = changes_between(parent, child, SHAPE)
    if changes is None:
        assert found is None
    else:
        assert found == tuple(Change(*one) for one in changes)


def test_a_layer_that_was_inserted_before_the_first_is_no_identity():
    """Its relu would cut the input off; behind the last one there is only the classifier."""
    deeper = Graph(
        (Node("input"), Node("dense", (0,), 8), Node("dense", (1,), 4), Node("dense", (2,), 10),
         Node("output", (3,)))
    )  # fmt: skip
    assert changes_between(network(D4), deeper, SHAPE) == (
        Change("deepen", 1, "dense"),
        Change("widen", 1, 8),
    )
    narrow = network(("dense", 4))
    assert changes_between(narrow, network(("dense", 4), ("dense", 4)), SHAPE) is not None
    assert changes_between(deeper, narrow, SHAPE) is None


def test_the_best_that_it_grew_out_of_is_its_parent():
    trained = [
        TrainedArchitecture(0, network(D8), 0.1),  # the best, but wider
        TrainedArchitecture(1, network(D4), 0.4),
        TrainedArchitecture(2, network(D4), 0.3),
        TrainedArchitecture(3, network(D4), 0.3),
    ]
    assert parent_of(network(D4, D4), trained, SHAPE) == 2
    assert parent_of(network(C4), trained, SHAPE) is None
    assert parent_of(network(D4, D4), [], SHAPE) is None


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
