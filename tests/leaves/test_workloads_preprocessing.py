"""Augmentation as a function of key and position; scaling on the device."""

import jax
import jax.numpy as jnp
import numpy as np
from support.tolerances import FLOAT32, FLOAT32_SUMS

from workloads import preprocessing
from workloads.preprocessing import (
    CIFAR_MEAN,
    IMAGENET_DEVIATION,
    IMAGENET_MEAN,
    cifar,
    crop_and_flip,
    imagenet,
    random_resized_crop,
    resample,
    scale_bytes,
)

KEY = jax.random.key(1)


def batch(examples=8, side=32):
    random = np.random.default_rng(0)
    return {
        "inputs": random.integers(0, 256, (examples, side, side, 3), np.uint8),
        "targets": np.zeros(examples, np.int32),
        "weights": np.ones(examples, np.float32),
        "position": np.arange(examples, dtype=np.int32),
    }


def test_scale_bytes():
    scaled = scale_bytes({"inputs": np.array([0, 51, 255], np.uint8), "targets": 1}, None, True)
    assert scaled["inputs"].dtype == jnp.float32 and scaled["targets"] == 1
    np.testing.assert_allclose(scaled["inputs"], [0.0, 0.2, 1.0], rtol=FLOAT32)


def test_augmentation_does_not_depend_on_the_split_of_the_batch():
    whole, augment = batch(), jax.jit(lambda batch, key: cifar(batch, key, True)["inputs"])
    together = augment(whole, KEY)
    parts = [
        augment({k: v[rows] for k, v in whole.items()}, KEY) for rows in (slice(0, 4), slice(4, 8))
    ]
    assert np.array_equal(together, jnp.concatenate(parts))
    assert not np.array_equal(together, augment(whole, jax.random.key(2)))


def test_evaluation_standardises_and_does_not_augment():
    inputs = np.broadcast_to(np.array(CIFAR_MEAN) * 255, (2, 32, 32, 3))
    out = cifar({**batch(2), "inputs": inputs}, None, False)["inputs"]
    np.testing.assert_allclose(out, 0.0, atol=FLOAT32_SUMS)


def test_every_shift_and_both_mirrorings_occur_and_pixels_only_move():
    image = jnp.arange(1.0, 26.0).reshape(5, 5, 1)
    draw = jax.jit(jax.vmap(lambda key: crop_and_flip(key, image, 1)))
    drawn = np.asarray(draw(jax.random.split(KEY, 400)))
    padded = np.pad(np.asarray(image), ((1, 1), (1, 1), (0, 0)))
    legal = {
        side.tobytes()
        for row in range(3)
        for column in range(3)
        for crop in [padded[row : row + 5, column : column + 5]]
        for side in (np.ascontiguousarray(crop), np.ascontiguousarray(crop[:, ::-1]))
    }
    # 18 equally likely outcomes; one missing in 400 draws has probability 2e-9.
    assert {one.tobytes() for one in drawn} == legal and len(legal) == 18


def test_imagenet_evaluation_is_the_standardised_centre():
    whole = batch(2, 256)
    out = imagenet(whole, None, False)["inputs"]
    mean, deviation = np.array(IMAGENET_MEAN), np.array(IMAGENET_DEVIATION)
    expected = (whole["inputs"][:, 16:240, 16:240] / 255 - mean) / deviation
    assert out.shape == (2, 224, 224, 3)
    np.testing.assert_allclose(out, expected, atol=FLOAT32_SUMS)


def test_imagenet_augmentation_does_not_depend_on_the_split_of_the_batch():
    whole = batch(3, 256)
    augment = jax.jit(lambda batch, key: imagenet(batch, key, True)["inputs"])
    together = augment(whole, KEY)
    assert together.shape == (3, 224, 224, 3) and together.dtype == jnp.float32
    last = augment({role: values[1:] for role, values in whole.items()}, KEY)
    # Batched products of another size may round otherwise.
    np.testing.assert_allclose(together[1:], last, atol=FLOAT32_SUMS)
    assert not np.allclose(together, augment(whole, jax.random.key(2)))


def test_resampling_is_linear_between_pixels_and_averages_where_it_shrinks():
    """The weights against a triangle written pixel by pixel in float64."""
    weights = jax.jit(resample, static_argnums=(2, 3))
    for start, length, stored, size in [(0.0, 8.0, 8, 8), (1.5, 3.0, 8, 6), (0.25, 7.5, 8, 3)]:
        found = weights(start, length, stored, size)
        expected = np.zeros((size, stored))
        for p in range(size):
            centre = start + (p + 0.5) * length / size - 0.5
            for pixel in range(stored):
                expected[p, pixel] = max(0, 1 - abs(centre - pixel) / max(1, length / size))
        expected /= expected.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(found, expected, atol=FLOAT32)
    np.testing.assert_allclose(weights(0.0, 8.0, 8, 8), np.eye(8), atol=FLOAT32)


def test_random_crops_have_the_stated_areas_and_aspects():
    """A ramp along both sides: what a crop holds of it says where it lay, and its mirroring."""
    side = 64
    rows, columns = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    ramp = jnp.asarray(np.stack([rows, columns], axis=-1), jnp.float32)
    draw = jax.jit(jax.vmap(lambda key: random_resized_crop(key, ramp, 16)))
    drawn = np.asarray(draw(jax.random.split(KEY, 2000)), np.float64)
    # Between the centres of two inner pixels the ramp rises by 13/16 of the part's side; border
    # pixels are left out, as what lies beyond the image has no weight.
    height = (drawn[:, -2, :, 0] - drawn[:, 1, :, 0]).mean(axis=1) * 16 / 13
    width = (drawn[:, :, -2, 1] - drawn[:, :, 1, 1]).mean(axis=1) * 16 / 13
    mirrored = width < 0
    width = np.abs(width)
    assert 0.46 < mirrored.mean() < 0.54  # 0.5 within 3.6 standard deviations
    assert (height > 0).all() and max(height.max(), width.max()) < side + 0.5
    low, high = preprocessing.CROP_AREA
    area, free = height * width / side**2, (height < 0.98 * side) & (width < 0.98 * side)
    assert low - 0.005 < area.min() < low + 0.02 and area.max() < high + 0.02
    assert 0.50 < area.mean() < 0.56  # uniform, less what is cut where a side would be too long
    aspect = (width / height)[free]
    assert 3 / 4 - 0.02 < aspect.min() < 0.78 and 1.28 < aspect.max() < 4 / 3 + 0.02
    assert abs(np.log(aspect).mean()) < 0.02
    assert drawn.min() >= 0 and drawn.max() <= side - 1
