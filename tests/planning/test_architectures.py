"""Architectures as modules: counts before training, one program for a space, new operations."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.extend.core import jaxprs_in_params
from support.tolerances import FLOAT32

from experiments.cli import main
from experiments.planning.architectures import framed_cost, network_cost
from experiments.planning.packing import Packing, ProgramPace
from experiments.search.architecture.cells import NAS_BENCH_201, chosen_edges, every_edge
from experiments.search.architecture.frames import (
    NotPackableError,
    check_shapes,
    frames_of,
    frames_of_space,
    weights,
)
from experiments.search.architecture.graph import Graph, IllegalArchitectureError, Node
from experiments.search.architecture.operations import OPERATIONS
from experiments.search.architecture.question import architecture_search
from experiments.search.architecture.space import Architecture
from experiments.search.architecture.stacks import stacks
from experiments.search.architecture.streams import Stream
from workloads.architectures import Frame, Skeleton
from workloads.models.architectures import Cells, Stack
from workloads.models.linen import Context
from workloads.models.operations import MODULES, PlainConvolution

IMAGES = Skeleton((8, 8, 1), 10, 4, stages=2)
ONE_STAGE = Skeleton((8, 8, 1), 10, 4)
TOKENS = Skeleton((8, 8, 1), 10, 4, stem="rows")
FEATURES = Skeleton((64,), 10, 6, stem="dense", cells=2)
SMALL = every_edge(3)
FEWER = every_edge(3, ("none", "skip", "bn_conv3x3", "avg_pool3x3"))
TRANSFORMERS = every_edge(3, ("none", "attention2", "feed_forward"), shape=(8, 4))
DENSE = every_edge(3, ("none", "skip", "dense", "relu"), shape=(6,))
HALVING = every_edge(3, FEWER.choices[0][1], ("normal", "reduction"), strided=True)
STRIDED = Skeleton((8, 8, 1), 10, 2, stages=2, strided=True)
FEW_HALVING = every_edge(3, ("none", "skip", "bn_conv3x3"), ("normal", "reduction"), strided=True)
INPUTS = np.random.default_rng(0).random((6, 64), np.float32)
ROUNDING = 1e-12
"""Of float64 sums in another order, through two batch norms."""


def context(hyperparameters=None, train=False):
    given = jnp.arange(6), jnp.ones(6)
    return Context(train, jax.random.key(1), *given, hyperparameters or {})


def parameters(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def multiplications(module, inputs):
    """Two a multiply-add of the matrix products and convolutions in the traced program."""

    def initial(x):
        return module.init(jax.random.key(0), x, context())

    shapes = jax.eval_shape(initial, inputs)
    jaxpr = jax.make_jaxpr(lambda v, x: module.apply(v, x, context()))(shapes, inputs)
    return _products(jaxpr.jaxpr)


def _products(jaxpr):
    total = 0
    for equation in jaxpr.eqns:
        out = equation.outvars[0].aval.shape
        if equation.primitive.name == "dot_general":
            (axes, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            total += 2 * int(np.prod(out)) * int(np.prod([left[axis] for axis in axes]))
        elif equation.primitive.name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            total += 2 * int(np.prod(out)) * int(np.prod(kernel[:3]))
        for inner in jaxprs_in_params(equation.params):
            total += _products(inner)
    return total


def drawn(space, count, name="test modules"):
    stream = Stream(name, 0)
    return [space.architecture(space.sample(stream)) for _ in range(count)]


@pytest.mark.parametrize(
    ("space", "skeleton"),
    [
        (SMALL, IMAGES),
        (chosen_edges(2), IMAGES),
        (every_edge(3, cells=("normal", "reduction")), IMAGES),
        (TRANSFORMERS, TOKENS),
        (DENSE, FEATURES),
        (chosen_edges(2, ("skip", "dense"), cells=("normal",), shape=(6,)), FEATURES),
        (HALVING, STRIDED),
        (chosen_edges(2, strided=True), STRIDED),
    ],
    ids=["cells", "joined", "reduction", "tokens", "features", "joined features", "stride two",
         "joined, stride two"],
)  # fmt: skip
def test_counts_before_training_are_the_built_networks(space, skeleton):
    for architecture in drawn(space, 3):
        counted = network_cost(architecture, skeleton)
        network = Cells(skeleton, architecture.graphs)
        built = jax.eval_shape(lambda m=network: m.init(jax.random.key(0), INPUTS[:1], context()))
        assert counted.shape == (10,)
        assert counted.parameters == parameters(built["params"])
        assert counted.flops == multiplications(network, INPUTS[:1])


def test_counts_of_stacks_are_the_built_networks():
    space = stacks(
        (8, 8, 1), 10, (1, 2, 3), ("dense", "conv3x3", "max_pool2x2", "rows"), (4, 8), skips=True,
        branches=True,
    )  # fmt: skip
    for architecture in drawn(space, 8):
        counted = network_cost(architecture, (8, 8, 1))
        network = Stack(architecture.graph("network"), (8, 8, 1))
        built = jax.eval_shape(lambda m=network: m.init(jax.random.key(0), INPUTS[:1], context()))
        assert counted.parameters == parameters(built["params"])
        assert counted.flops == multiplications(network, INPUTS[:1])


@pytest.mark.parametrize("name", [n for n in OPERATIONS if n not in ("attention4",)])
def test_every_operation_has_a_module_of_its_cost(name):
    for shape in ((6,), (4, 6), (4, 4, 6)):
        row = OPERATIONS[name]
        try:
            cost = row.cost(shape, 4 if row.wide else None)
        except ValueError:
            continue
        module = MODULES[name](width=4 if row.wide else None)
        x = jnp.ones((2, *shape))
        y, variables = jax.eval_shape(
            lambda m=module, x=x: m.init_with_output(jax.random.key(0), x, context())
        )
        assert y.shape == (2, *cost.shape)
        assert parameters(variables.get("params", {})) == cost.parameters
    assert set(OPERATIONS) == set(MODULES)


@pytest.mark.parametrize(
    ("space", "skeleton"),
    [(FEWER, ONE_STAGE), (TRANSFORMERS, TOKENS), (DENSE, FEATURES), (FEW_HALVING, STRIDED)],
    ids=["images", "tokens", "features", "reductions of stride two"],
)
def test_one_program_is_every_plain_network_of_a_space(space, skeleton):
    """Outputs, gradients and batch statistics; not selected, an operation has no gradient.

    In float64, where an error of the selection is not taken for one of rounding.
    """
    frames = frames_of_space(space)
    framed = Cells(skeleton, tuple(frames.items()))
    key, traces = jax.random.key(3), []

    @jax.jit
    def losses(variables, chosen):
        traces.append(1)
        return loss_and_gradient(framed, variables, chosen)

    with jax.enable_x64(True):
        every = wide(initialised(framed, key))
        for architecture in drawn(space, 2, "test frames"):
            network = Cells(skeleton, architecture.graphs)
            variables = wide(initialised(network, key))
            assert_part(variables["params"], every["params"], 0.0)
            plain = jax.jit(functools.partial(loss_and_gradient, network))(variables, {})
            one = losses(every, weights(frames, architecture))
            assert {leaf.dtype for leaf in jax.tree.leaves((plain, one))} == {np.dtype("float64")}
            np.testing.assert_allclose(one[0], plain[0], rtol=0, atol=ROUNDING)
            assert_part(plain[1], one[1], ROUNDING)
            assert_part(plain[2], one[2], ROUNDING)
            assert sum(map(nonzero, jax.tree.leaves(one[1]))) <= parameters(variables["params"])
    assert len(traces) == 1


def loss_and_gradient(network, variables, chosen):
    """(logits, gradient, batch statistics) of a training step in float64."""
    inputs, targets = jnp.asarray(INPUTS, jnp.float64), jnp.arange(6)

    def loss(params):
        given = {**variables, "params": params}
        logits, changed = network.apply(
            given, inputs, context(chosen, train=True), mutable=["batch_stats"]
        )
        rows = jnp.take_along_axis(jax.nn.log_softmax(logits), targets[:, None], 1)
        return -rows.mean(), (logits, changed)

    (_, (logits, changed)), gradient = jax.value_and_grad(loss, has_aux=True)(variables["params"])
    return logits, gradient, changed


def wide(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), tree)


def initialised(network, key):
    return jax.jit(lambda key: network.init(key, INPUTS[:1], context()))(key)


def nonzero(array):
    return int((array != 0).sum())


def assert_part(part, whole, tolerance):
    """Every array of ``part`` is at the same place in ``whole``."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(part)[0]:
        other = functools.reduce(lambda tree, step: tree[step.key], path, whole)
        np.testing.assert_allclose(leaf, other, rtol=0, atol=tolerance, err_msg=str(path))


@pytest.mark.parametrize(
    ("space", "skeleton"), [(SMALL, IMAGES), (FEW_HALVING, STRIDED)], ids=["cells", "stride two"]
)
def test_a_frame_counts_all_that_it_computes(space, skeleton):
    frames = frames_of_space(space)
    framed = Cells(skeleton, tuple(frames.items()))
    built = jax.eval_shape(lambda: framed.init(jax.random.key(0), INPUTS[:1], context()))
    counted = framed_cost(frames, skeleton)
    assert counted.parameters == parameters(built["params"])
    assert counted.flops > multiplications(framed, INPUTS[:1])  # and the weights' own


def test_a_reduction_that_is_cut_is_zero_of_half_the_size():
    options = dict.fromkeys((name for name, _ in FEW_HALVING.choices), "none")
    cut = FEW_HALVING.build({**options, "normal 0->2": "skip"})
    frames = frames_of([cut])
    for cells in (cut.graphs, tuple(frames.items())):
        network = Cells(STRIDED, cells)
        built = jax.eval_shape(lambda m=network: m.init(jax.random.key(0), INPUTS[:1], context()))
        assert network_cost(cut, STRIDED).parameters == parameters(built["params"])


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name.endswith("_s2")])
def test_stride_two_keeps_every_second_point(name):
    """Of an even image; of an odd one the last row or column is left out."""
    x = np.random.default_rng(2).random((2, 5, 6, 3), np.float32)
    strided, variables = MODULES[name]().init_with_output(jax.random.key(0), x, context())
    if name == "skip_s2":
        blocks = x[:, :4].reshape(2, 2, 2, 3, 2, 3)
        every = np.repeat(np.repeat(blocks.mean((2, 4)), 2, 1), 2, 2)
    else:
        every = MODULES[name.removesuffix("_s2")]().apply(variables, x[:, :4], context())
    np.testing.assert_allclose(strided, every[:, ::2, ::2], rtol=0, atol=FLOAT32)


def sizes_of_two(*nodes):
    return Architecture.of(normal=Graph((Node("input"), *nodes)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: frames_of([sizes_of_two(
            Node("relu", (0,)), Node("max_pool2x2", (1,)), Node("output", (2,)))]),
         r"node 1 \(relu\) reads the input of a cell that halves it: sizes differ"),
        (lambda: frames_of([sizes_of_two(
            Node("max_pool2x2", (0,)), Node("max_pool2x2", (1,)), Node("output", (2,)))]),
         r"node 2 \(max_pool2x2\) halves what is not the input of a cell"),
        (lambda: check_shapes({"normal": Frame(1, ("flatten",))}, (4, 4, 2)),
         r"operation flatten makes \(32,\) of \(4, 4, 2\): shapes differ between"),
        (lambda: every_edge(3, ("relu",), ("normal", "reduction"), strided=True),
         "operation 'relu' has no form of stride two: there is no 'relu_s2'"),
        (lambda: chosen_edges(3, cells=("normal",), strided=True), "of the kind 'reduction'"),
        (lambda: architecture_search(HALVING, IMAGES, workload="digits_fc"),
         r"a reduction cell makes \(2, 2, 8\) of \(4, 4, 8\), and its network needs \(4, 4, 8\)"),
        (lambda: architecture_search(SMALL, STRIDED, workload="digits_fc"),
         "a strided Skeleton needs cells of the kind 'reduction'"),
        (lambda: frames_of_space(chosen_edges(2, cells=("normal",))), "joins its inputs"),
        (lambda: frames_of_space(stacks((4,), 2, (1,), ("dense",), (8,))), "a width of its own, 8"),
        (lambda: frames_of([]), "no legal architecture"),
        (lambda: Skeleton((8,), 2, 4, stages=2), "stages must be 1 unless"),
        (lambda: Skeleton((8, 8, 1), 2, 4, stages=5), "stages must be at most 4"),
        (lambda: Skeleton((8, 8, 1), 2, 0), "width must be whole numbers from 1 on, got 0"),
        (lambda: every_edge(3, ("attention2",)), r"needs \(tokens, features\)"),
        (lambda: every_edge(3, ("attention2",), shape=(4, 3)), "attention of 2 heads"),
        (lambda: every_edge(3, ("rows",)), "'rows' changes shape"),
    ],
)  # fmt: skip
def test_what_cannot_be_built_is_refused_in_one_line(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_what_a_frame_does_not_hold_is_refused():
    frames = frames_of(drawn(every_edge(3, ("skip", "relu")), 1))
    with pytest.raises(NotPackableError, match="has no node"):
        weights(frames, drawn(every_edge(4, ("bn_conv1x1",)), 1)[0])
    with pytest.raises(IllegalArchitectureError, match="no legal architecture"):
        frames_of_space(stacks((4,), 2, (1,), ("conv3x3",), (8,)))


def test_a_new_operation_is_the_five_lines_of_the_page(monkeypatch):
    page = Path(__file__).parents[2] / "docs" / "architecture_search.md"
    (code,) = re.findall(r"```python\n(from functools.*?)```", page.read_text(), re.DOTALL)
    assert len(code.splitlines()) == 5
    for table in (OPERATIONS, MODULES):
        monkeypatch.setitem(table, "bn_conv7x7", None)  # and away again
    exec(code, {})  # noqa: S102 (our own page)
    space = every_edge(3, (*NAS_BENCH_201, "bn_conv7x7"))
    architecture = space.build({"0->1": "bn_conv7x7", "0->2": "none", "1->2": "bn_conv7x7"})
    network = Cells(IMAGES, architecture.graphs)
    built = initialised(network, jax.random.key(0))
    assert network_cost(architecture, IMAGES).parameters == parameters(built["params"])
    logits = jax.eval_shape(lambda: network.apply(built, INPUTS, context()))
    assert logits.shape == (6, 10)


def test_the_mean_over_nine_points_counts_those_inside():
    x = np.random.default_rng(1).random((2, 5, 4, 3))
    expected = np.empty_like(x)
    for i in range(5):
        for j in range(4):
            block = x[:, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
            expected[:, i, j] = block.mean((1, 2))
    module = MODULES["avg_pool3x3"]()
    found = module.apply({}, jnp.asarray(x, jnp.float32), context())
    np.testing.assert_allclose(found, expected, atol=FLOAT32)


def test_a_convolution_of_an_architecture_is_a_linen_module():
    assert isinstance(MODULES["conv5x5"](width=3), PlainConvolution)
    assert isinstance(MODULES["skip"](), nn.Module)


def test_packing_pays_where_many_short_trainings_share_a_compilation():
    plain, packed = ProgramPace(compile=2.0, step=1e-3), ProgramPace(compile=5.0, step=4e-3)
    few = Packing(plain, packed, architectures=2, steps=1000, flops=4.0)
    assert few.seconds == (2 * (2 + 1), 5 + 2 * 4) and not few.pays
    many = dataclasses.replace(few, architectures=100, steps=100)
    assert many.seconds == pytest.approx((100 * 2.1, 5 + 40)) and many.pays
    assert "packing does not pay: give packed=False" in str(few)


def test_the_plan_says_where_there_cannot_be_one_program(tmp_path, capsys):
    study = tmp_path / "wide.py"
    study.write_text(
        "from experiments.search.architecture.question import architecture_search\n"
        "from experiments.search.architecture.stacks import stacks\n"
        "space = stacks((64,), 10, (1, 2), ('dense',), (8, 16))\n"
        "STUDY = architecture_search(space, (64,), workload='digits_fc',\n"
        "                            fixed={'learning_rate': 0.01})\n"
    )
    assert main(["plan", str(study)]) == 0
    printed = capsys.readouterr().out
    assert "parameters 610 to 1,482" in printed
    assert "one program for the whole space: not here: packed needs cells" in printed


CONVOLUTIONS = """
from experiments.search.architecture.cells import every_edge
from experiments.search.architecture.question import architecture_search
from workloads.architectures import Skeleton
STUDY = architecture_search(
    every_edge(3, ("none", "conv3x3")), Skeleton((8, 8, 1), 10, 2), at_once=2, trials=6,
    workload="digits_fc", batch_size=8, fixed={"learning_rate": 0.01},
)
"""


def test_the_plan_measures_both_ways_and_says_whether_packing_pays(tmp_path, capsys):
    """Convolutions of a pack are slow on CPUs: what is said follows from what was measured."""
    study, answer = tmp_path / "convolutions.py", tmp_path / "plan.json"
    study.write_text(CONVOLUTIONS)
    assert main(["plan", str(study), "--json", str(answer)]) == 0
    printed, found = capsys.readouterr().out, json.loads(answer.read_text())
    assert "s to compile each" in printed and "6 architectures of 128 steps: plain" in printed
    plain, packed = (found["packing"][way] for way in ("plain", "packed"))
    assert min(plain["step"], packed["step"]) > 0
    assert found["packing"]["flops"] > 1
    one_each = 6 * (plain["compile"] + 128 * plain["step"])
    pays = packed["compile"] + 6 * 128 * packed["step"] < one_each
    assert found["pays"] is pays
    assert ("packing does not pay: give packed=False" in printed) is not pays
