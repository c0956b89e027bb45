"""Parameter counts: published ones from the literature, the others by the hand's arithmetic."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from workloads.models.fully_connected import fully_connected
from workloads.models.simple_cnn import simple_cnn


def parameters(model, shape, dtype=jnp.float32, examples=2):
    """Number of parameters, by shape evaluation: nothing is computed."""
    batch = {
        "inputs": jax.ShapeDtypeStruct((examples, *shape), dtype),
        "targets": jax.ShapeDtypeStruct((examples,), jnp.int32),
        "weights": jax.ShapeDtypeStruct((examples,), jnp.float32),
        "position": jax.ShapeDtypeStruct((examples,), jnp.int32),
    }
    params, _ = jax.eval_shape(model.init, jax.random.key(0), batch)
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize(
    ("hidden_sizes", "expected"),
    [
        ([1024], 814_090),
        ([1024, 1024], 1_863_690),
        ([1024] * 3, 2_913_290),
        ([64] * 3, 59_210),
        ([128] * 3, 134_794),
        ([256] * 3, 335_114),
        ([512] * 3, 932_362),
        ([2048] * 3, 10_020_874),
    ],
)
def test_fully_connected_nets_of_shallue(hidden_sizes, expected):
    assert parameters(fully_connected(hidden_sizes), (28, 28, 1)) == expected


@pytest.mark.parametrize("width", ["narrow", "base", "wide"])
def test_simple_cnn(width):
    first, second, units = {
        "narrow": (16, 32, 512),
        "base": (32, 64, 1024),
        "wide": (64, 128, 2048),
    }[width]
    convolutions = 25 * first + first + 25 * first * second + second
    dense = 7 * 7 * second * units + units + units * 10 + 10
    assert parameters(simple_cnn(width), (28, 28, 1)) == convolutions + dense
    if width == "base":
        assert convolutions + dense == 3_274_634
