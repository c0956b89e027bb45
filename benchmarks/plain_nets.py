"""Nets and losses as one writes them with Flax alone, to measure the engine's step against.

The fully connected nets and the Simple CNN are written anew with Flax's own layers; the others
take the workload's own module, so that what is compared is the step around it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

import workloads
from workloads.registry import resolve


class PlainNet(NamedTuple):
    """``init(batch) -> params`` and ``loss(params, batch) -> mean cross entropy``."""

    init: Callable[[Any], Any]
    loss: Callable[[Any, Any], jax.Array]


class PlainFullyConnected(nn.Module):
    """Dense layers with ReLU."""

    hidden: tuple[int, ...]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = _scaled(x).reshape(x.shape[0], -1)
        for width in self.hidden:
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(10)(x)


class CNN(nn.Module):
    """The Simple CNN, base."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = _scaled(x)
        for filters in (32, 64):
            x = nn.relu(nn.Conv(filters, (5, 5))(x))
            x = nn.max_pool(x, (2, 2), (2, 2))
        x = nn.relu(nn.Dense(1024)(x.reshape(x.shape[0], -1)))
        return nn.Dense(10)(x)


def _scaled(x: jax.Array) -> jax.Array:
    return x.astype(jnp.float32) / 255 if x.dtype == jnp.uint8 else x


def plain_net(name: str) -> PlainNet:
    """The net of the workload called ``name``."""
    workload = workloads.get(name)
    if name.endswith("_cnn"):
        return _from_module(CNN())
    if name.endswith("_fc"):
        return _from_module(PlainFullyConnected(tuple(workload.model_options["hidden_sizes"])))
    return _own_module(workload)


def _from_module(module: nn.Module) -> PlainNet:
    def loss(params: Any, batch: Any) -> jax.Array:
        return _cross_entropy(module.apply(params, batch["inputs"]), batch["targets"])

    return PlainNet(lambda batch: module.init(jax.random.key(0), batch["inputs"]), loss)


def _own_module(workload: workloads.Workload) -> PlainNet:
    model = resolve(workload.model)(
        **workload.model_options, dtype="float32", param_dtype="float32"
    )
    prepare = (
        resolve(workload.preprocess) if workload.preprocess else lambda batch, key, train: batch
    )
    key = jax.random.key(0)

    def batch_of(batch: Any) -> Any:
        count = len(batch["inputs"])
        places = {"position": jnp.arange(count), "weights": jnp.ones(count)}
        return prepare({**batch, **places}, key, True)

    def loss(params: Any, batch: Any) -> jax.Array:
        prepared = batch_of(batch)
        outputs, _ = model.apply(
            params, {}, prepared, key=key, train=True, hyperparameters=workload.hyperparameters
        )
        return _cross_entropy(outputs, prepared["targets"])

    return PlainNet(lambda batch: model.init(key, batch_of(batch))[0], loss)


def _cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()
