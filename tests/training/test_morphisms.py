"""Morphisms: the child computes what its parent does, and its gradient is the parent's, mapped."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.tolerances import FLOAT32_SOLVES, FLOAT32_SUMS

from experiments.search.architecture.graph import Graph, Node
from experiments.training.morphisms import NotExactError, deepen, enlarge, skip, widen
from optimizers import OPTIMIZERS
from workloads.exact_changes import widened_together
from workloads.models.architectures import Plain
from workloads.models.linen import Context

PRESERVED = 1e-6
"""Of the largest output: the same float32 products, added in another order."""
IMAGE, ROW, TOKENS = (5, 5, 3), (7,), (4, 6)
INPUT, OUTPUT = Node("input"), "output"


def graph(*nodes):
    return Graph((INPUT, *nodes, Node(OUTPUT, (len(nodes),))))


DENSE = graph(Node("dense", (0,), 5), Node("dense", (1,), 4), Node("dense", (2,), 3))
CONV = graph(
    Node("conv3x3", (0,), 4), Node("max_pool2x2", (1,)), Node("flatten", (2,)),
    Node("dense", (3,), 6), Node("dense", (4,), 3),
)  # fmt: skip
NORMED = graph(
    Node("bn_conv3x3", (0,), 4), Node("relu", (1,)), Node("avg_pool3x3", (2,)),
    Node("bn_conv1x1", (3,), 5), Node("dense", (4,), 3),
)  # fmt: skip
BRANCHED = Graph(
    (
        INPUT, Node("dense", (0,), 4), Node("dense", (1,), 4), Node("dense", (1,), 4),
        Node("dense", (2, 3), 3), Node(OUTPUT, (4,)),
    )
)  # fmt: skip
RESIDUAL = Graph(
    (
        INPUT, Node("conv3x3", (0,), 4), Node("bn_conv3x3", (1,), 4), Node("avg_pool3x3", (1, 2)),
        Node("conv1x1", (1, 3), 4), Node("dense", (3, 4), 3), Node(OUTPUT, (5,)),
    )
)  # fmt: skip
WITH_INPUT = Graph((INPUT, Node("dense", (0,), 7), Node("dense", (0, 1), 3), Node(OUTPUT, (2,))))
JOINED = Graph(
    (INPUT, Node("dense", (0,), 4), Node("dense", (0, 1), 3, "concat"), Node(OUTPUT, (2,)))
)
TRANSFORMER = graph(Node("attention2", (0,)), Node("feed_forward", (1,)), Node("dense", (2,), 3))


def context(train=False):
    return Context(train, jax.random.key(1), jnp.arange(4), jnp.ones(4), {})


def inputs(shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=(4, *shape)), jnp.float32)


@functools.cache
def parent(net, shape):
    """A parent of random numbers; batch statistics of ten steps, variances above zero."""
    module, x = Plain(net, classifies=True), inputs(shape)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), x, context()))
    draws = np.random.default_rng(1)
    params = jax.tree.map(
        lambda a: jnp.asarray(draws.normal(size=a.shape) / 2, jnp.float32), shapes["params"]
    )
    statistics = jax.tree.map(
        lambda a: jnp.asarray(draws.uniform(0.2, 0.9, a.shape), jnp.float32),
        shapes.get("batch_stats", {}),
    )
    return {"params": params, "batch_stats": statistics}


@functools.cache
def outputs_of_parent(net, shape):
    return outputs(net, parent(net, shape), shape)


def outputs(net, variables, shape, train=False):
    module = Plain(net, classifies=True)

    def apply(params):
        given = {"params": params, "batch_stats": variables["batch_stats"]}
        y, _ = module.apply(given, inputs(shape), context(train), mutable=["batch_stats"])
        return (y * jnp.arange(1.0, 1.0 + y.size).reshape(y.shape) / y.size).sum(), y

    (_, y), gradient = jax.jit(jax.value_and_grad(apply, has_aux=True))(variables["params"])
    return y, gradient


CHILDREN = {
    "widen a dense layer": (DENSE, ROW, lambda g, v: widen(g, v, 1, 12)),
    "widen the second": (DENSE, ROW, lambda g, v: widen(g, v, 2, 5, seed=3)),
    "widen what two read": (BRANCHED, ROW, lambda g, v: widen(g, v, 1, 6)),
    "widen a convolution that a dense layer reads": (CONV, IMAGE, lambda g, v: widen(g, v, 1, 9)),
    "widen batch norm": (NORMED, IMAGE, lambda g, v: widen(g, v, 1, 6)),
    "widen all that skips add": (RESIDUAL, IMAGE, lambda g, v: widen(g, v, 2, 7)),
    "widen them by fresh units":
        (RESIDUAL, IMAGE, lambda g, v: widen(g, v, 1, 6, copies=False)),
    "deepen one branch": (BRANCHED, ROW, lambda g, v: deepen(g, v, 1, "dense", readers=[2])),
    "deepen a residual branch":
        (RESIDUAL, IMAGE, lambda g, v: deepen(g, v, 1, "bn_conv3x3", readers=[2])),
    "deepen dense": (DENSE, ROW, lambda g, v: deepen(g, v, 1, "dense")),
    "deepen convolutions": (CONV, IMAGE, lambda g, v: deepen(g, v, 2, "conv3x3")),
    "deepen by batch norm": (NORMED, IMAGE, lambda g, v: deepen(g, v, 2, "bn_conv3x3")),
    "deepen by attention": (TRANSFORMER, TOKENS, lambda g, v: deepen(g, v, 2, "attention2")),
    "deepen by feed-forward": (TRANSFORMER, TOKENS, lambda g, v: deepen(g, v, 1, "feed_forward")),
    "skip a layer": (BRANCHED, ROW, lambda g, v: skip(g, v, 1, 4)),
    "skip in an image": (NORMED, IMAGE, lambda g, v: skip(g, v, 1, 3)),
    "enlarge": (CONV, IMAGE, lambda g, v: enlarge(g, v, 1, "conv5x5")),
    "enlarge batch norm": (NORMED, IMAGE, lambda g, v: enlarge(g, v, 4, "bn_conv3x3")),
}  # fmt: skip


@pytest.mark.parametrize("name", CHILDREN)
def test_the_child_computes_what_the_parent_does(name):
    net, shape, morph = CHILDREN[name]
    variables = parent(net, shape)
    child = morph(net, variables)
    grown = {"params": child.params, "batch_stats": child.batch_stats}
    before, gradient = outputs_of_parent(net, shape)
    after, new_gradient = outputs(child.graph, grown, shape)
    scale = float(jnp.abs(before).max())
    np.testing.assert_allclose(after, before, rtol=0, atol=PRESERVED * scale)
    assert count(child.params) > count(variables["params"])
    # It is trained on with the parent's moments, which are mapped as gradients are.
    mapped = child.moments(gradient, 1)
    assert jax.tree.structure(mapped) == jax.tree.structure(new_gradient)
    largest = max(float(jnp.abs(g).max()) for g in jax.tree.leaves(gradient))
    fresh = set(child.params) - set(variables["params"])
    others = any(word in name for word in ("enlarge", "deepen", "fresh"))  # have new gradients
    for key in set(mapped) - fresh if not others else ():
        for ours, theirs in zip(
            jax.tree.leaves(mapped[key]), jax.tree.leaves(new_gradient[key]), strict=True
        ):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=FLOAT32_SUMS * largest)
    if "batch norm" in name and "deepen" not in name:
        trained, _ = outputs(net, variables, shape, train=True)
        also, _ = outputs(child.graph, grown, shape, train=True)
        np.testing.assert_allclose(also, trained, rtol=0, atol=FLOAT32_SUMS * scale)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_copies_of_a_unit_share_what_reads_them():
    variables = parent(DENSE, ROW)
    child = widen(DENSE, variables, 1, 12, seed=1)
    old, new = variables["params"], child.params
    kernel = np.asarray(old["node1_dense"]["affine"]["kernel"])
    wide = np.asarray(new["node1_dense"]["affine"]["kernel"])
    source = [int(np.flatnonzero((kernel.T == column).all(1))[0]) for column in wide.T]
    assert source[:5] == [0, 1, 2, 3, 4] and len(source) == 12
    reading = np.asarray(new["node2_dense"]["affine"]["kernel"])
    for unit in range(5):
        total = reading[[j for j, u in enumerate(source) if u == unit]].sum(0)
        np.testing.assert_allclose(
            total, old["node2_dense"]["affine"]["kernel"][unit], rtol=FLOAT32_SUMS
        )


def ours(name):
    """A rule of the table with its defaults."""
    row = OPTIMIZERS[name]
    defaults = {one.name: one.default or 0.1 for one in row.hyperparameters}
    return row.transformation(defaults)


@pytest.mark.parametrize(
    "rule", [optax.sgd(0.1, 0.9), optax.adam(0.1), ours("adam")], ids=["momentum", "adam", "ours"]
)
def test_carried_moments_are_those_of_a_child_that_had_been_there(rule):
    """One step before the morphism, or one of the child's gradient, leave the same moments."""
    variables = parent(DENSE, ROW)
    child = widen(DENSE, variables, 1, 8)
    grown = {"params": child.params, "batch_stats": {}}
    _, gradient = outputs_of_parent(DENSE, ROW)
    _, new_gradient = outputs(child.graph, grown, ROW)
    _, before = rule.update(gradient, rule.init(variables["params"]), variables["params"])
    _, after = rule.update(new_gradient, rule.init(child.params), child.params)
    carried = child.opt_state(before)
    assert jax.tree.structure(carried) == jax.tree.structure(after)
    for ours, theirs in zip(jax.tree.leaves(carried), jax.tree.leaves(after), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=FLOAT32_SOLVES, atol=FLOAT32_SUMS)


def test_a_state_that_is_no_moment_is_to_be_reset():
    variables = parent(DENSE, ROW)
    child = deepen(DENSE, variables, 1, "dense")
    state = optax.scale_by_lbfgs().init(variables["params"])
    with pytest.raises(NotExactError, match="neither a moment nor a counter; reset it"):
        child.opt_state(state)
    for name in ("schedule_free_adamw", "lars"):
        with pytest.raises(NotExactError, match="is not known to be moments; reset it"):
            child.opt_state(ours(name).init(variables["params"]))


def test_copies_stay_copies_and_fresh_units_learn():
    """Net2Net's new units have their original's gradient, and so add nothing for ever."""
    variables, rule = parent(DENSE, ROW), optax.adam(0.02)
    before, _ = outputs_of_parent(DENSE, ROW)
    scale = float(jnp.abs(before).max())
    distinct = []
    for copies in (True, False):
        child = widen(DENSE, variables, 1, 9, seed=1, copies=copies)
        grown = {"params": child.params, "batch_stats": {}}
        after, _ = outputs(child.graph, grown, ROW)
        np.testing.assert_allclose(after, before, rtol=0, atol=PRESERVED * scale)
        params, state = child.params, rule.init(child.params)
        for _ in range(3):
            _, gradient = outputs(child.graph, {"params": params, "batch_stats": {}}, ROW)
            updates, state = rule.update(gradient, state, params)
            params = optax.apply_updates(params, updates)
        kernel = np.asarray(params["node1_dense"]["affine"]["kernel"])
        distinct.append(len(np.unique(kernel.round(5), axis=1).T))
        moved = np.asarray(params["node2_dense"]["affine"]["kernel"])[5:]
        assert np.abs(moved).max(1).min() > 0
    assert distinct == [5, 9]


@pytest.mark.parametrize(
    ("net", "shape", "morph", "message"),
    [
        (DENSE, ROW, lambda g, v: widen(g, v, 3, 9), "the output reads node 3"),
        (DENSE, ROW, lambda g, v: widen(g, v, 1, 5), "above 5, that of node 1, got 5"),
        (DENSE, ROW, lambda g, v: widen(g, v, 9, 5), "node must lie in 1..3, got 9"),
        (DENSE, ROW, lambda g, v: deepen(g, v, 3, "dense"), "node 3 .dense. may be negative"),
        (DENSE, ROW, lambda g, v: deepen(g, v, 1, "relu"), "'relu' cannot start as an identity"),
        (DENSE, ROW, lambda g, v: skip(g, v, 2, 2), "to a later one of 0..4, got 2 to 2"),
        (DENSE, ROW, lambda g, v: enlarge(g, v, 1, "conv3x3"), "dense. cannot become conv3x3"),
        (CONV, IMAGE, lambda g, v: widen(g, v, 2, 9), "max_pool2x2. has no width"),
        (NORMED, IMAGE, lambda g, v: deepen(g, v, 1, "conv3x3"), "bn_conv3x3. may be negative"),
        (NORMED, IMAGE, lambda g, v: enlarge(g, v, 4, "conv3x3"), "within its kind"),
        (WITH_INPUT, ROW, lambda g, v: widen(g, v, 1, 9), "node 1 is added to the input, whose"),
        (JOINED, ROW, lambda g, v: widen(g, v, 1, 9), "reads node 1 beside others whose channels"),
        (CONV, IMAGE, lambda g, v: deepen(g, v, 1, "dense"), "conv3x3. is no vector, which dense"),
        (BRANCHED, ROW, lambda g, v: deepen(g, v, 1, "dense", readers=[4]),
         r"that read node 1, some of \[2, 3\], got \[4\]"),
        (TRANSFORMER, TOKENS, lambda g, v: widen(g, v, 1, 9), "attention2. has no width"),
    ],
)  # fmt: skip
def test_what_would_change_the_function_is_refused_in_one_line(net, shape, morph, message):
    with pytest.raises(ValueError, match=message) as caught:
        morph(net, parent(net, shape))
    assert "\n" not in str(caught.value)


def test_layer_norm_is_no_reader_of_copies():
    net = graph(Node("rows", (0,), 4), Node("feed_forward", (1,)), Node("dense", (2,), 3))
    with pytest.raises(NotExactError, match="node 1 .rows. has no width"):
        widen(net, parent(net, IMAGE), 1, 9)
    with pytest.raises(NotExactError, match="joins its inputs; a skip adds"):
        skip(JOINED, parent(JOINED, ROW), 1, 2)
    added = graph(Node("dense", (0,), 6), Node("feed_forward", (0,)), Node("dense", (1, 2), 3))
    with pytest.raises(NotExactError, match="added to node 2 .feed_forward., which has no width"):
        widened_together(added, 1)
