"""Networks that have grown: stacks and cells compute what their parents did, moments and all."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.tolerances import FLOAT32, FLOAT32_SUMS

from experiments.runner.network_growth import grown_network, places_of
from experiments.search.architecture.cells import chosen_edges, every_edge
from experiments.search.architecture.frames import frames_of, weights
from experiments.search.architecture.stacks import stacks
from experiments.training.growing import carried
from workloads.architectures import Skeleton
from workloads.exact_changes import NotExactError
from workloads.models.architectures import Cells, Stack
from workloads.models.linen import Context

EXAMPLES = 5
SHAPE = (6, 6, 1)
STACKS = stacks(
    SHAPE, 3, (1, 2, 3), ("dense", "conv3x3", "conv5x5", "bn_conv3x3"), (4, 8), skips="weighted"
)
IMAGES = Skeleton(SHAPE, 3, 2)
STAGES = Skeleton(SHAPE, 3, 2, stages=2)
STRIDED = Skeleton(SHAPE, 3, 2, stages=2, strided=True)
VECTORS = Skeleton((36,), 3, 4, stem="affine", cells=2)
CELLS = every_edge(
    3, ("none", "skip", "relu", "weighted_skip", "conv3x3", "bn_conv1x1", "bn_conv3x3")
)
AFFINE = every_edge(3, ("none", "skip", "relu", "affine"), shape=(4,))
HALVING = every_edge(
    3, ("none", "skip", "bn_conv1x1", "bn_conv3x3"), ("normal", "reduction"), strided=True
)
JOINING = chosen_edges(2, ("relu", "bn_conv1x1", "bn_conv3x3"), 1, ("normal",))


def stack(*layers, skip=None):
    """The stack of (operation, width) layers; ``skip``: the one whose output the last adds."""
    options = {name: values[0] for name, values in STACKS.choices} | {"depth": len(layers)}
    for i, (operation, width) in enumerate(layers, 1):
        options |= {f"operation {i}": operation, f"width {i}": width}
    return STACKS.build({**options, f"weighted skip {len(layers)}": skip})


def cell(direct, first, second, space=CELLS):
    """Of the edges 0->2, 0->1 and 1->2."""
    return space.build({"0->1": first, "0->2": direct, "1->2": second})


def halving(first):
    """A reduction cell of the mean over 2 x 2 points and a path."""
    options = {name: "skip" for name, _ in HALVING.choices}
    reduction = {"reduction 0->1": first, "reduction 0->2": "skip_s2"}
    return HALVING.build({**options, **reduction})


def joining(first, second):
    names = {"1.0 applies": first, "2.0 applies": second, "1.0 reads": 0, "2.0 reads": 0}
    return JOINING.build(names)


D4, D8, C4, C8 = ("dense", 4), ("dense", 8), ("conv3x3", 4), ("conv3x3", 8)
B4, B8, L4, L8 = ("bn_conv3x3", 4), ("bn_conv3x3", 8), ("conv5x5", 4), ("conv5x5", 8)
GROWN = {
    "dense layers": (stack(D4), stack(D8, D4, D8), SHAPE),
    "convolutions": (stack(C4, D4), stack(L8, C8, D8), SHAPE),
    "batch norm": (stack(B4, D4), stack(B8, D4, D4), SHAPE),
    "a skip that comes": (stack(C4, C4), stack(C8, L8, skip=1), SHAPE),
    "what a skip adds": (stack(C4, C4, skip=1), stack(C8, L8, skip=1), SHAPE),
    "a zero": (cell("skip", "none", "none"), cell("skip", "bn_conv3x3", "skip"), STAGES),
    "a fresh path to a zero":
        (cell("relu", "none", "none"), cell("relu", "conv3x3", "bn_conv1x1"), STAGES),
    "a weighted skip":
        (cell("relu", "none", "none"), cell("relu", "weighted_skip", "skip"), STAGES),
    "a larger kernel":
        (cell("relu", "bn_conv1x1", "skip"), cell("relu", "bn_conv3x3", "skip"), STAGES),
    "an identity": (cell("skip", "none", "none"), cell("bn_conv3x3", "none", "none"), IMAGES),
    "affine":
        (cell("skip", "none", "none", AFFINE), cell("affine", "relu", "affine", AFFINE), VECTORS),
    "a zero of stride two": (halving("none"), halving("bn_conv3x3_s2"), STRIDED),
    "a larger one of stride two": (halving("bn_conv1x1_s2"), halving("bn_conv3x3_s2"), STRIDED),
    "a joined cell": (joining("relu", "bn_conv1x1"), joining("relu", "bn_conv3x3"), IMAGES),
}  # fmt: skip
IN_TRAINING = ("what a skip adds", "affine", "a zero of stride two", "a larger kernel")
"""No batch norm was inserted as an identity, and so they compute the same in training."""
PACKED = ("a fresh path to a zero", "affine", "a zero of stride two")


def context(train, chosen):
    given = jnp.arange(EXAMPLES), jnp.ones(EXAMPLES)
    return Context(train, jax.random.key(0), *given, chosen)


def inputs(shape):
    draws = np.random.default_rng(0)
    return jnp.asarray(draws.normal(size=(EXAMPLES, *shape)), jnp.float32)


def network(architecture, around, frames=None):
    """(module, its weights): a plain one, or the one program of ``frames``."""
    if not isinstance(around, Skeleton):
        return Stack(architecture.graph("network"), around), {}
    if frames is None:
        return Cells(around, architecture.graphs), {}
    return Cells(around, tuple(frames.items())), weights(frames, architecture)


def drawn(module, shape, seed):
    """Random parameters and statistics of a module; variances above zero."""
    shapes = jax.eval_shape(
        lambda: module.init(jax.random.key(0), inputs(shape), context(False, {}))
    )
    draws = np.random.default_rng(seed)

    def numbers(leaf):
        return jnp.asarray(draws.uniform(0.1, 0.9, leaf.shape) - 0.3, jnp.float32)

    statistics = jax.tree.map(lambda leaf: numbers(leaf) + 0.5, shapes.get("batch_stats", {}))
    return {"params": jax.tree.map(numbers, shapes["params"]), "batch_stats": statistics}


def outputs(module, variables, shape, chosen, *, train=False):
    y, _ = module.apply(variables, inputs(shape), context(train, chosen), mutable=["batch_stats"])
    return y


def assert_same(ours, theirs):
    scale = max(1.0, float(jnp.abs(theirs).max()))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=FLOAT32 * scale)


def total(tree):
    return sum(float(jnp.abs(leaf).sum()) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("name", "packed"), [*((name, False) for name in GROWN), *((name, True) for name in PACKED)]
)
def test_a_grown_network_computes_what_its_parent_did(name, packed):
    parent, child, around = GROWN[name]
    shape = around.shape if isinstance(around, Skeleton) else around
    frames = frames_of([parent, child]) if packed else None
    (old, before), (new, after) = (network(one, around, frames) for one in (parent, child))
    variables, fresh = drawn(old, shape, 1), drawn(new, shape, 2)
    places = places_of(parent, child, around)
    grown = grown_network(places, variables, fresh, seed=5)
    begun = {"params": grown.params, "batch_stats": grown.batch_stats}
    assert_same(outputs(new, begun, shape, after), outputs(old, variables, shape, before))
    if name in IN_TRAINING:
        ours, theirs = (
            outputs(*one, train=True)
            for one in ((new, begun, shape, after), (old, variables, shape, before))
        )
        assert_same(ours, theirs)
    # Adam's moments are the parent's, and zero of what is new.
    params = variables["params"]
    state = optax.adam(0.1).init(params)[0]
    state = state._replace(mu=params, nu=jax.tree.map(jnp.square, params), count=jnp.int32(7))
    found = carried(state, grown.moments, jax.tree.structure(params))
    assert jax.tree.map(jnp.shape, found) == jax.tree.map(
        jnp.shape, optax.adam(0.1).init(grown.params)[0]
    )
    if not packed:  # there are moments of what no architecture reads, too
        assert total(found.mu) == pytest.approx(total(state.mu), rel=FLOAT32_SUMS)
        assert total(found.nu) == pytest.approx(total(state.nu), rel=FLOAT32_SUMS)


@pytest.mark.parametrize("name", ["affine", "a zero of stride two"])
def test_what_is_zero_learns_from_the_first_step_on(name):
    parent, child, around = GROWN[name]
    (old, _), (new, _) = (network(one, around) for one in (parent, child))
    places = places_of(parent, child, around)
    shape = around.shape
    grown = grown_network(places, drawn(old, shape, 1), drawn(new, shape, 2), seed=5)

    def loss(params):
        given = {"params": params, "batch_stats": grown.batch_stats}
        return (outputs(new, given, shape, {}, train=True) ** 2).sum()

    gradient = jax.grad(loss)(grown.params)
    new_ones = [
        (place.module, f"node{node}_{growth.graph.nodes[node].operation}")
        for place, _, growth in places if growth
        for node, role in growth.roles if role == "zero"
    ]  # fmt: skip
    assert new_ones
    for module, node in new_ones:
        assert total(gradient[module][node]) > 0


def test_what_is_not_exact_is_refused_in_one_line():
    with pytest.raises(NotExactError, match="no exact changes lead from .* to 1 = ") as caught:
        places_of(cell("relu", "none", "none"), cell("conv3x3", "none", "none"), STAGES)
    assert "\n" not in str(caught.value)
