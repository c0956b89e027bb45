"""Lines, curves and planes on nets whose values are known, and hidden units matched."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.tolerances import FLOAT32, FLOAT32_SUMS

from experiments.diagnostics.alignment import matched_permutations, permuted, permuted_state
from experiments.diagnostics.landscape import (
    ALPHAS,
    Path,
    arc,
    bezier,
    filter_normalised,
    line,
    plane,
    trained_bend,
)
from experiments.diagnostics.problem import Problem, in_chunks
from workloads.losses import softmax_cross_entropy
from workloads.models.fully_connected import fully_connected

BENT = 0.1
"""What 500 noisy steps leave of the way to the best bend."""


def net(params, chunk):
    hidden = jax.nn.relu(chunk["inputs"] @ params["w1"] + params["b1"][None, :])
    return hidden @ params["w2"] + params["b2"][None, :]


def loss_sums(outputs, chunk):
    losses = softmax_cross_entropy(outputs, chunk["targets"])
    return jnp.sum(chunk["weights"] * losses), jnp.sum(chunk["weights"])


def error_sums(outputs, chunk):
    wrong = jnp.argmax(outputs, axis=-1) != chunk["targets"]
    return jnp.sum(chunk["weights"] * wrong), jnp.sum(chunk["weights"])


def solution(seed):
    random = np.random.default_rng(seed)
    shapes = {"w1": (6, 8), "b1": (8,), "w2": (8, 4), "b2": (4,)}
    return {k: jnp.asarray(random.normal(size=s), jnp.float32) for k, s in shapes.items()}


@pytest.fixture(scope="module")
def problems():
    """(loss, error) of forty examples in chunks of fifteen."""
    random = np.random.default_rng(0)
    data = {
        "inputs": random.normal(size=(40, 6)).astype(np.float32),
        "targets": random.integers(0, 4, 40),
    }
    chunks = jax.tree.map(jnp.asarray, in_chunks(data, 15))
    return Problem(net, loss_sums, chunks), Problem(net, error_sums, chunks)


def test_a_line_and_an_arc_reproduce_each_solution_and_every_point_between(problems):
    loss, error = problems
    first, second = solution(1), solution(2)
    quantities = {"loss": loss, "error": error.loss}  # a problem, or a function
    functions = {"loss": loss.loss, "error": error.loss}
    assert (ALPHAS[0], ALPHAS[8], ALPHAS[16], ALPHAS[-1]) == (-1, 0, 1, 2)
    found = line(quantities, first, second)
    curved = arc(quantities, first, second)
    for name, of in functions.items():
        ends = [float(jax.jit(of)(x)) for x in (first, second)]
        for path in (found, curved):
            np.testing.assert_allclose(path.values[name][[8, 16]], ends, rtol=FLOAT32_SUMS)
    a = ALPHAS[3]
    for path, weights in (
        (found, (1 - a, a)),
        (curved, (np.cos(a * np.pi / 2), np.sin(a * np.pi / 2))),
    ):
        between = jax.tree.map(lambda x, y, w=weights: w[0] * x + w[1] * y, first, second)
        truth = jax.jit(loss.loss)(between)
        np.testing.assert_allclose(path.values["loss"][3], truth, rtol=FLOAT32_SUMS)


def test_a_barrier_is_the_most_above_the_straight_line():
    alphas = np.array([-1, 0, 0.25, 0.5, 1, 2])
    path = Path(alphas, {"loss": np.array([99, 1.0, 1.5, 3.0, 3.0, 99])})
    assert path.barrier("loss") == pytest.approx(1)  # at 0.5 the straight line is 2
    with pytest.raises(ValueError, match="points at 0 and at 1"):
        Path(alphas[2:], {"loss": np.ones(4)}).barrier("loss")


def ring():
    """(|theta|^2 - 1)^2 in the plane: minima on a circle, a hill in its middle."""
    chunks = {"inputs": jnp.zeros((1, 1)), "weights": jnp.ones((1, 1))}

    def outputs(theta, chunk):
        return jnp.ones_like(chunk["inputs"]) * (jnp.sum(theta["x"] ** 2) - 1) ** 2

    def sums(outputs, chunk):
        return jnp.sum(outputs * chunk["weights"]), jnp.sum(chunk["weights"])

    return Problem(outputs, sums, chunks)


def test_a_trained_bend_goes_round_the_hill_that_the_line_crosses():
    problem, first, second = ring(), {"x": jnp.array([1.0, 0.0])}, {"x": jnp.array([0.0, 1.0])}
    straight = line({"loss": problem}, first, second, np.linspace(0, 1, 25))
    bend, losses = trained_bend(problem, first, second, jax.random.key(0), steps=500)
    curve = bezier({"loss": problem}, first, bend, second)
    assert straight.barrier("loss") == pytest.approx(0.25, rel=FLOAT32)
    assert curve.barrier("loss") < 0.01
    np.testing.assert_allclose(curve.values["loss"][[0, -1]], 0, atol=FLOAT32**2)
    assert losses.shape == (500,)
    # By symmetry the bend lies on the diagonal; the curve's middle, (1 + 2 bend) / 4, near 1.
    assert abs(float(bend["x"][0] - bend["x"][1])) < BENT
    middle = np.linalg.norm((np.ones(2) + 2 * np.asarray(bend["x"])) / 4)
    assert middle == pytest.approx(1, abs=BENT)


def test_a_direction_has_the_norm_of_every_filter_and_is_zero_elsewhere():
    params = solution(3)
    params["w1"] = params["w1"].at[:, 2].set(0.0)
    params["conv"] = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3, 2, 5)), jnp.float32)
    found = filter_normalised(jax.random.key(0), params)
    for name in ("w1", "w2", "conv"):
        axes = tuple(range(params[name].ndim - 1))
        sizes = [np.sqrt((np.asarray(t[name]) ** 2).sum(axis=axes)) for t in (found, params)]
        np.testing.assert_allclose(*sizes, rtol=FLOAT32_SUMS)
    for zero in (found["w1"][:, 2], found["b1"], found["b2"]):
        np.testing.assert_array_equal(zero, 0)


def test_a_rescaling_that_relu_undoes_changes_no_plane(problems):
    """w1, b1 times 8 and w2 over 8 are the same net; its plane is the same to the last bit."""
    loss, params = problems[0], solution(3)
    scales = {"w1": 8.0, "b1": 8.0, "w2": 0.125, "b2": 1.0}
    grids = []
    for net in (params, {name: scales[name] * x for name, x in params.items()}):
        directions = tuple(filter_normalised(k, net) for k in jax.random.split(jax.random.key(1)))
        grid = np.linspace(-1, 1, 3), np.linspace(-0.5, 0.5, 2)
        grids.append(plane({"loss": loss}, net, directions, *grid)["loss"])
    np.testing.assert_array_equal(*grids)
    assert grids[0].shape == (3, 2)
    assert np.unique(grids[0]).size == 6
    one, two = (filter_normalised(k, params) for k in jax.random.split(jax.random.key(1)))
    moved = jax.tree.map(lambda x, a, b: x - a + 0.5 * b, params, one, two)
    np.testing.assert_allclose(grids[0][0, 1], jax.jit(loss.loss)(moved), rtol=FLOAT32_SUMS)


@pytest.fixture(scope="module")
def normalised():
    """(apply, params, state) of a 6-7-5-3 net with batch norm, statistics of one training batch."""
    model = fully_connected((7, 5), 3, normalization="batch", ghost_size=None)
    inputs = jnp.asarray(np.random.default_rng(0).normal(size=(30, 6)), jnp.float32)
    batch = {
        "inputs": inputs, "weights": jnp.ones(30), "position": jnp.arange(30, dtype=jnp.int32)
    }  # fmt: skip
    params, state = jax.jit(model.init)(jax.random.key(0), batch)
    random = np.random.default_rng(1)
    params = jax.tree.map(
        lambda x: x + jnp.asarray(random.normal(size=x.shape) / 3, x.dtype), params
    )
    keys = {"key": jax.random.key(0), "hyperparameters": {}}
    state = jax.jit(lambda p, s: model.apply(p, s, batch, train=True, **keys)[1])(params, state)
    apply = jax.jit(lambda p, s: model.apply(p, s, batch, train=False, **keys)[0])
    return apply, params, state


def test_a_permuted_net_is_the_same_function_and_is_matched_exactly(normalised):
    apply, params, state = normalised
    random = np.random.default_rng(2)
    orders = [random.permutation(7), random.permutation(5)]
    other, moved = permuted(params, orders), permuted_state(state, orders)
    outputs = apply(params, state)
    np.testing.assert_allclose(apply(other, moved), outputs, rtol=FLOAT32_SUMS, atol=FLOAT32_SUMS)
    assert np.abs(apply(other, state) - outputs).max() > 1e-3  # the statistics move too
    found = matched_permutations(params, other)
    for one, back in zip(found, orders, strict=True):
        np.testing.assert_array_equal(back[one], np.arange(len(one)))
    for one, again in zip(*map(jax.tree.leaves, (params, permuted(other, found))), strict=True):
        np.testing.assert_array_equal(one, again)


def test_matching_brings_a_noisy_copy_near(normalised):
    _, params, _ = normalised
    random = np.random.default_rng(3)
    noisy = jax.tree.map(
        lambda x: x + jnp.asarray(random.normal(size=x.shape) / 30, x.dtype), params
    )
    other = permuted(noisy, [random.permutation(7), random.permutation(5)])
    back = permuted(other, matched_permutations(params, other))
    for one, again in zip(*map(jax.tree.leaves, (noisy, back)), strict=True):
        np.testing.assert_array_equal(one, again)


def test_bad_input_is_refused_in_one_line(problems):
    loss, params = problems[0], solution(1)
    short = {**params, "b1": params["b1"][:3]}
    with pytest.raises(ValueError, match="the same arrays of parameters"):
        line({"loss": loss}, params, short)
    coarse = jax.tree.map(lambda x: x.astype(jnp.float16), params)
    with pytest.raises(ValueError, match="got float16"):
        line({"loss": loss}, params, coarse)
    with pytest.raises(ValueError, match="got float16"):
        filter_normalised(jax.random.key(0), coarse)
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        trained_bend(loss, params, params, jax.random.key(0), steps=0)
    spoilt = {**params, "b2": params["b2"] * jnp.nan}
    with pytest.raises(ValueError, match="must be finite, got nan"):
        trained_bend(loss, params, spoilt, jax.random.key(0))
    with pytest.raises(ValueError, match="not finite at step"):
        ends = {"x": jnp.array([1.0, 0.0])}, {"x": jnp.array([0.0, 1.0])}
        trained_bend(ring(), *ends, jax.random.key(0), steps=9, learning_rate=1e30)
    with pytest.raises(ValueError, match="only fully connected nets"):
        matched_permutations(params, params)
    dense = {"Dense_0": {"kernel": np.ones((2, 3))}, "Dense_1": {"kernel": np.ones((3, 2))}}
    with pytest.raises(ValueError, match="this one has Embed_0"):
        matched_permutations({**dense, "Embed_0": {}}, dense)
    wide = {"Dense_0": {"kernel": np.ones((2, 4))}, "Dense_1": {"kernel": np.ones((4, 2))}}
    with pytest.raises(ValueError, match="the same hidden sizes"):
        matched_permutations(dense, wide)
