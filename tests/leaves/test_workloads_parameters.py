"""Parameter counts: published ones from the literature, the others by the hand's arithmetic."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from workloads.models.fully_connected import fully_connected
from workloads.models.lstm import lstm_lm
from workloads.models.resnets import resnet8, resnet50, resnet_cifar, wide_resnet
from workloads.models.simple_cnn import simple_cnn
from workloads.models.transformer import SIZES, transformer_lm
from workloads.models.vgg import keskar, vgg11


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


def convolution(size, inputs, outputs):
    """Weights of a square convolution without bias."""
    return size * size * inputs * outputs


def test_published_residual_nets():
    """25,557,032: torchvision's resnet50. 272,474: the CIFAR ResNet-20 with 1x1 shortcuts.
    36.5 M and 2.7 M: Zagoruyko and Komodakis 2016, WRN-28-10 and WRN-16-4."""
    assert parameters(resnet50(), (224, 224, 3)) == 25_557_032
    assert parameters(resnet_cifar(20, version=1), (32, 32, 3)) == 272_474
    assert round(parameters(wide_resnet(28, 10), (32, 32, 3)) / 1e6, 1) == 36.5
    assert parameters(wide_resnet(16, 4), (32, 32, 3)) == 2_748_890


def test_published_vgg11():
    """torchvision's vgg11."""
    assert parameters(vgg11(), (224, 224, 3)) == 132_863_336


def test_resnet8_by_hand():
    """Ours: biased, no normalisation; seven 3x3 convolutions, two 1x1 shortcuts, one dense."""
    stages = convolution(3, 3, 16) + 16 + 2 * (convolution(3, 16, 16) + 16)
    for inputs, outputs in ((16, 32), (32, 64)):
        stages += convolution(3, inputs, outputs) + convolution(3, outputs, outputs)
        stages += convolution(1, inputs, outputs) + 3 * outputs
    assert parameters(resnet8(), (32, 32, 3)) == stages + 64 * 10 + 10
    assert parameters(resnet8(residual_start="rezero"), (32, 32, 3)) == stages + 650 + 3


def test_the_stride_switch_changes_shapes_and_no_parameter():
    switched = wide_resnet(16, 4, unit_stride_stage=2)
    assert parameters(switched, (32, 32, 3)) == parameters(wide_resnet(16, 4), (32, 32, 3))


def test_keskar_nets_by_hand():
    """Ours in that convolutions and dense layers keep their biases before batch norm (2 each)."""

    def dense(sizes):
        hidden = itertools.pairwise(sizes[:-1])
        return sum(a * b + 3 * b for a, b in hidden) + (sizes[-2] + 1) * sizes[-1]

    def stack(size, filters):
        pairs = itertools.pairwise(filters)
        return sum(convolution(size, a, b) + 3 * b for a, b in pairs)

    deep = [3, 64, 64, 128, 128, *[256] * 3, *[512] * 6]
    expected = {
        "F1": ((784,), dense([784, *[512] * 5, 10])),
        "F2": ((360,), dense([360, *[512] * 7, 1973])),
        "C1": ((32, 32, 3), stack(5, [3, 64, 64]) + dense([8 * 8 * 64, 384, 192, 10])),
        "C2": ((32, 32, 3), stack(3, deep) + dense([512, 512, 10])),
        "C3": ((32, 32, 3), stack(5, [3, 64, 64]) + dense([8 * 8 * 64, 384, 192, 100])),
        "C4": ((32, 32, 3), stack(3, deep) + dense([512, 512, 100])),
    }
    for net, (shape, count) in expected.items():
        assert parameters(keskar(net), shape) == count, net


@pytest.mark.parametrize("size", SIZES)
def test_transformers_by_hand(size):
    """Ours: no biases in attention, input and output matrices of their own."""
    sizes, vocabulary = SIZES[size], 1000
    width, inner = sizes["width"], sizes["feed_forward"]
    layer = 4 * width**2 + 2 * width * inner + inner + width + 2 * 2 * width
    outside = vocabulary * width + (width + 1) * vocabulary
    expected = {
        "pre": sizes["layers"] * layer + 2 * width + outside,
        "post": sizes["layers"] * layer + outside,
        "post_branch": sizes["layers"] * layer + 2 * width + outside,
    }
    for placement, count in expected.items():
        model = transformer_lm(vocabulary, size, placement=placement)
        assert parameters(model, (16,), jnp.int32) == count


def test_lstm_by_hand():
    """Ours: per layer input, recurrent and projection matrices, one bias per gate."""
    layer = (512 + 512) * 4 * 2048 + 4 * 2048 + 2048 * 512
    expected = 1000 * 512 + 2 * layer + (512 + 1) * 1000
    assert parameters(lstm_lm(1000), (16,), jnp.int32) == expected


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fully_connected([64, 0]), "positive whole numbers, got 0"),
        (lambda: fully_connected([64], normalization="bach"), "did you mean 'batch'"),
        (lambda: simple_cnn("broad"), "width 'broad' is unknown"),
        (lambda: resnet_cifar(21), r"depth must be 6n \+ 2"),
        (lambda: wide_resnet(18), r"depth must be 6n \+ 4"),
        (lambda: wide_resnet(16, unit_stride_stage=1), "unit_stride_stage must be None, 2 or 3"),
        (lambda: resnet8(residual_start="zero_scale"), "zero_scale needs a normalization"),
        (lambda: resnet50(ghost_size=0), "ghost_size must be a positive whole number"),
        (lambda: keskar("C5"), "net 'C5' is unknown"),
        (lambda: transformer_lm(10, "tiny"), "size 'tiny' is unknown"),
        (lambda: transformer_lm(10, placement="before"), "placement 'before' is unknown"),
        (lambda: transformer_lm(10, width=30), "width must be a multiple of heads"),
        (lambda: lstm_lm(10, units=0), "units must be a positive whole number, got 0"),
    ],
)
def test_bad_options_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
