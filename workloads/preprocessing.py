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

IMAGENET_SIDE = 224
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
"""Per channel, of ImageNet's training images in [0, 1], as commonly used."""
CROP_AREA = (0.08, 1.0)
CROP_ASPECT = (3 / 4, 4 / 3)
"""Share of the image's area that a random crop takes, and its width over its height (Szegedy et
al. 2014)."""


def scale_bytes(batch: Batch, key: jax.Array | None, train: bool) -> dict[str, Any]:
    """inputs uint8 in 0..255 -> float32 in [0, 1]; images stay a quarter the size in memory.

    >>> batch = {"inputs": np.array([0, 51, 255], np.uint8)}
    >>> print(np.asarray(scale_bytes(batch, None, False)["inputs"]).round(3))
    [0.  0.2 1. ]
    """
    del key, train
    return {**batch, "inputs": batch["inputs"].astype(jnp.float32) / 255}


def digit_images(batch: Batch, key: jax.Array | None, train: bool) -> dict[str, Any]:
    """inputs [B, 64] -> [B, 8, 8, 1]: the digits as images, for nets that convolve.

    >>> digit_images({"inputs": np.zeros((3, 64))}, None, False)["inputs"].shape
    (3, 8, 8, 1)
    """
    del key, train
    return {**batch, "inputs": batch["inputs"].reshape(-1, 8, 8, 1)}


def _standardised(
    images: jax.Array, mean: tuple[float, ...], deviation: tuple[float, ...]
) -> jax.Array:
    """uint8 [B, H, W, C] -> float32: (x / 255 - mean) / deviation, by channel."""
    shape = (1, 1, 1, len(mean))
    scaled = images.astype(jnp.float32) / 255
    return (scaled - jnp.array(mean).reshape(shape)) / jnp.array(deviation).reshape(shape)


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
    images = _standardised(batch["inputs"], CIFAR_MEAN, CIFAR_DEVIATION)
    if train:
        assert key is not None, "augmentation needs a key"

        def augment(position: jax.Array, image: jax.Array) -> jax.Array:
            return crop_and_flip(jax.random.fold_in(key, position), image, CIFAR_PADDING)

        images = jax.vmap(augment)(batch["position"], images)
    return {**batch, "inputs": images}


def resample(start: jax.Array, length: jax.Array, stored: int, size: int) -> jax.Array:
    """[size, stored] weights that scale the pixels start .. start + length of a row to ``size``.

    A triangle as wide as the larger of the two pixels (bilinear, antialiased); each row sums to
    one, and pixels beyond the border count nowhere.
    """
    centres = start + (jnp.arange(size) + 0.5) * (length / size) - 0.5
    distance = jnp.abs(centres[:, None] - jnp.arange(stored)[None, :])
    weights = jnp.maximum(0.0, 1.0 - distance / jnp.maximum(1.0, length / size))
    return weights / weights.sum(axis=1, keepdims=True)


def random_resized_crop(key: jax.Array, image: jax.Array, size: int) -> jax.Array:
    """A random part of an image [H, W, C] scaled to [size, size, C], half of the times mirrored.

    The part's share of the area is uniform in `CROP_AREA`, the logarithm of its aspect uniform
    in `CROP_ASPECT` (Szegedy et al. 2014); a side longer than the image's is cut to it.
    """
    height, width, _ = image.shape
    area_key, aspect_key, corner_key, flip_key = jax.random.split(key, 4)
    area = jax.random.uniform(area_key, (), minval=CROP_AREA[0], maxval=CROP_AREA[1])
    low, high = jnp.log(jnp.array(CROP_ASPECT))
    aspect = jnp.exp(jax.random.uniform(aspect_key, (), minval=low, maxval=high))
    sides = jnp.stack([jnp.sqrt(area / aspect), jnp.sqrt(area * aspect)])
    lengths = jnp.minimum(sides * jnp.sqrt(height * width), jnp.array([height, width]))
    corner = jax.random.uniform(corner_key, (2,)) * (jnp.array([height, width]) - lengths)
    rows = resample(corner[0], lengths[0], height, size)
    columns = resample(corner[1], lengths[1], width, size)
    part = jnp.einsum("ph,hwc,qw->pqc", rows, image, columns)
    return jnp.where(jax.random.bernoulli(flip_key), part[:, ::-1], part)


def imagenet(batch: Batch, key: jax.Array | None, train: bool) -> dict[str, Any]:
    """uint8 [B, 256, 256, 3] -> float32 [B, 224, 224, 3], channels standardised: in training a
    random part scaled and mirrored at random, in evaluation the central 224x224."""
    images = _standardised(batch["inputs"], IMAGENET_MEAN, IMAGENET_DEVIATION)
    if train:
        assert key is not None, "augmentation needs a key"

        def augment(position: jax.Array, image: jax.Array) -> jax.Array:
            return random_resized_crop(jax.random.fold_in(key, position), image, IMAGENET_SIDE)

        return {**batch, "inputs": jax.vmap(augment)(batch["position"], images)}
    top, left = ((side - IMAGENET_SIDE) // 2 for side in images.shape[1:3])
    central = images[:, top : top + IMAGENET_SIDE, left : left + IMAGENET_SIDE]
    return {**batch, "inputs": central}


def cifar_plain(batch: Batch, key: jax.Array | None, train: bool) -> dict[str, Any]:
    """`cifar` without augmentation, in training too."""
    del train
    return cifar(batch, key, False)


def imagenet_plain(batch: Batch, key: jax.Array | None, train: bool) -> dict[str, Any]:
    """`imagenet` without augmentation, in training too."""
    del train
    return imagenet(batch, key, False)
