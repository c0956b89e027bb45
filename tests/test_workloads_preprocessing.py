"""Augmentation as a function of key and position; scaling on the device."""

import jax
import jax.numpy as jnp
import numpy as np

from workloads.preprocessing import CIFAR_MEAN, cifar, crop_and_flip, scale_bytes

KEY = jax.random.key(1)


def batch(examples=8):
    random = np.random.default_rng(0)
    return {
        "inputs": random.integers(0, 256, (examples, 32, 32, 3), np.uint8),
        "targets": np.zeros(examples, np.int32),
        "weights": np.ones(examples, np.float32),
        "position": np.arange(examples, dtype=np.int32),
    }


def test_scale_bytes():
    scaled = scale_bytes({"inputs": np.array([0, 51, 255], np.uint8), "targets": 1}, None, True)
    assert scaled["inputs"].dtype == jnp.float32 and scaled["targets"] == 1
    np.testing.assert_allclose(scaled["inputs"], [0.0, 0.2, 1.0], rtol=1e-6)


def test_augmentation_does_not_depend_on_the_split_of_the_batch():
    whole = batch()
    together = cifar(whole, KEY, True)["inputs"]
    parts = [
        cifar({k: v[rows] for k, v in whole.items()}, KEY, True)["inputs"]
        for rows in (slice(0, 3), slice(3, 8))
    ]
    assert np.array_equal(together, jnp.concatenate(parts))
    assert not np.array_equal(together, cifar(whole, jax.random.key(2), True)["inputs"])


def test_evaluation_standardises_and_does_not_augment():
    inputs = np.broadcast_to(np.array(CIFAR_MEAN) * 255, (2, 32, 32, 3))
    out = cifar({**batch(2), "inputs": inputs}, None, False)["inputs"]
    np.testing.assert_allclose(out, 0.0, atol=1e-5)


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
