"""From stored examples to model inputs, on the device: f(batch, key, train) -> batch.

Augmentation is f(key, position): an example's crop depends on its place in the global batch,
not on the shard or micro-batch it sits in.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from workloads.base import Batch

CIFAR_PADDING = 4
CIFAR_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR_DEVIATION = (0.2470, 0.2435, 0.2616)
"""Per channel, of CIFAR-10's training images in [0, 1]; used for CIFAR-100 too."""


def scale_bytes(batch: Batch, key: jax.Array | None, train: bool) -> dict[str, Any]:
    """inputs uint8 in 0..255 -> float32 in [0, 1]; images stay a quarter the size in memory."""
    del key, train
    return {**batch, "inputs": batch["inputs"].astype(jnp.float32) / 255}


def crop_and_flip(key: jax.Array, image: jax.Array, padding: int) -> jax.Array:
    """An image [H, W, C] shifted by up to ``padding`` pixels (zeros move in) and, half of the
    times, mirrored left to right (He et al. 2015)."""
    shift_key, flip_key = jax.random.split(key)
    padded = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    corner = jax.random.randint(shift_key, (2,), 0, 2 * padding + 1)
    cropped = jax.lax.dynamic_slice(padded, (corner[0], corner[1], 0), image.shape)
    return jnp.where(jax.random.bernoulli(flip_key), cropped[:, ::-1], cropped)


def cifar(batch: Batch, key: jax.Array | None, train: bool) -> dict[str, Any]:
    """uint8 [B, 32, 32, 3] -> float32, channels standardised; in training randomly shifted by
    up to four pixels and mirrored. Shifting comes after standardising: zeros are the mean."""
    shape = (1, 1, 1, 3)
    mean = jnp.array(CIFAR_MEAN).reshape(shape)
    deviation = jnp.array(CIFAR_DEVIATION).reshape(shape)
    images = (batch["inputs"].astype(jnp.float32) / 255 - mean) / deviation
    if train:
        assert key is not None, "augmentation needs a key"

        def augment(position: jax.Array, image: jax.Array) -> jax.Array:
            return crop_and_flip(jax.random.fold_in(key, position), image, CIFAR_PADDING)

        images = jax.vmap(augment)(batch["position"], images)
    return {**batch, "inputs": images}
