"""The canonical convolution equals XLA's, in value and in both gradients; so does pooling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from support.tolerances import FLOAT32, FLOAT32_SOLVES

from workloads.models.convolution import Convolution, convolve, explicit_padding, max_pool_2x2

LAYOUT = ("NHWC", "HWIO", "NHWC")
# Sums of at most a few hundred float64 products, differently ordered.
ROUNDING = 1e-12
# The same in float32, relative to the largest entry.
ROUNDING_32 = 1e-5


def direct(x, kernel, strides, padding):
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=LAYOUT)


def arrays(x_shape, kernel_shape, dtype=None):
    keys = jax.random.split(jax.random.key(0))
    return (
        jax.random.normal(keys[0], x_shape, dtype),
        jax.random.normal(keys[1], kernel_shape, dtype),
    )


def value_and_gradients(f, x, kernel):
    y, pull = jax.vjp(f, x, kernel)
    return (y, *pull(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)))


@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (3, 2)])
@pytest.mark.parametrize("padding", ["SAME", "VALID", ((2, 0), (1, 3))])
@pytest.mark.parametrize("sizes", [(7, 9, 3, 3), (8, 9, 1, 2)])
def test_equals_xla(strides, padding, sizes):
    height, width, kernel_height, kernel_width = sizes

    @jax.jit
    def both(x, kernel):
        pads = explicit_padding(padding, sizes[:2], sizes[2:], strides)
        expected = value_and_gradients(lambda x, k: direct(x, k, strides, pads), x, kernel)
        found = value_and_gradients(lambda x, k: convolve(x, k, strides, padding), x, kernel)
        return expected, found

    with jax.enable_x64(True):
        pair = arrays((2, height, width, 3), (kernel_height, kernel_width, 3, 4))
        for expected, found in zip(*both(*pair), strict=True):
            assert expected.shape == found.shape
            np.testing.assert_allclose(found, expected, rtol=0, atol=ROUNDING)


def test_a_convolution_by_hand():
    x = jnp.arange(9.0).reshape(1, 3, 3, 1)
    kernel = jnp.array([[1.0, 2.0], [3.0, 4.0]]).reshape(2, 2, 1, 1)
    # The first output is 0*1 + 1*2 + 3*3 + 4*4.
    assert convolve(x, kernel, padding="VALID")[0, ..., 0].tolist() == [[27, 37], [57, 67]]


@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
def test_under_vmap_every_trial_has_its_own_kernel(strides):
    x, kernels = arrays((3, 2, 6, 6, 3), (3, 3, 3, 3, 4))

    @jax.jit
    def run(x, kernel):
        return value_and_gradients(lambda x, k: convolve(x, k, strides), x, kernel)

    packed = jax.jit(jax.vmap(run))(x, kernels)
    for trial in range(3):
        for together, alone in zip(packed, run(x[trial], kernels[trial]), strict=True):
            np.testing.assert_allclose(
                together[trial], alone, atol=ROUNDING_32 * float(jnp.abs(alone).max())
            )


def test_a_hessian_vector_product_backwards_over_backwards():
    x, kernel = arrays((2, 5, 5, 2), (3, 3, 2, 3))

    def product(conv):
        loss = lambda k: jnp.sum(jnp.tanh(conv(x, k)) ** 2)
        along = lambda k: jnp.vdot(jax.grad(loss)(k), jnp.ones_like(k))
        return jax.jit(jax.grad(along))(kernel)

    expected = product(lambda x, k: direct(x, k, (1, 1), "SAME"))
    np.testing.assert_allclose(
        product(convolve), expected, rtol=FLOAT32_SOLVES, atol=FLOAT32_SOLVES
    )


def canonical_gradients_in_a_loop(strides):
    """Layouts of the convolutions that XLA's CPU compiler leaves in a loop over a step."""
    x, kernel = arrays((8, 12, 12, 4), (3, 3, 4, 4))
    loss = lambda k, x: jnp.sum(convolve(jnp.tanh(x * jnp.sum(k)), k, strides) ** 2)
    loop = lambda k: lax.fori_loop(0, 3, lambda i, k: k - jax.grad(loss)(k, x), k)
    text = jax.jit(loop).lower(kernel).compile().as_text()
    return {
        line.split("dim_labels=")[1].split(",")[0].split(" ")[0]
        for line in text.splitlines()
        if "dim_labels=" in line
    }


@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
def test_inside_a_loop_only_the_fast_layout_remains(strides):
    if jax.default_backend() == "cpu":
        assert canonical_gradients_in_a_loop(strides) <= {"b01f_01io->b01f"}


def test_module_has_kernel_and_bias():
    module = Convolution(5, (3, 3), strides=(2, 2))
    x, _ = arrays((2, 7, 7, 3), (1,))
    variables = jax.jit(module.init)(jax.random.key(0), x)
    shapes = jax.tree.map(jnp.shape, variables["params"])
    assert shapes == {"kernel": (3, 3, 3, 5), "bias": (5,)}
    assert module.apply(variables, x).shape == (2, 4, 4, 5)


@pytest.mark.parametrize("size", [(6, 8), (7, 5)])
def test_max_pool_equals_reduce_window(size):
    x, _ = arrays((2, *size, 3), (1,))

    def window(x):
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

    assert np.array_equal(max_pool_2x2(x), window(x))
    gradient = lambda f: jax.jit(jax.grad(lambda x: jnp.sum(jnp.sin(f(x)))))(x)
    np.testing.assert_allclose(gradient(max_pool_2x2), gradient(window), rtol=FLOAT32)


def test_other_devices_get_the_usual_gradients():
    """Lowered, not run, for a GPU: the layouts that jax's own differentiation writes."""
    x, kernel = arrays((2, 6, 6, 3), (3, 3, 3, 4))

    def layouts(conv):
        gradient = jax.jit(jax.grad(lambda x, k: jnp.sum(conv(x, k) ** 2), argnums=(0, 1)))
        text = gradient.trace(x, kernel).lower(lowering_platforms=("cuda",)).as_text()
        lines = [line for line in text.splitlines() if "stablehlo.convolution" in line]
        return sorted(line.split("dim_numbers = ")[1].split(", window")[0] for line in lines)

    usual = layouts(lambda x, k: direct(x, k, (1, 1), "SAME"))
    assert layouts(convolve) == usual and len(set(usual)) == 3
