"""The table of model families at small width, for the tests that any model must pass."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

from workloads.base import Losses, Model
from workloads.losses import CLASSIFICATION, LANGUAGE_MODEL
from workloads.models.fully_connected import fully_connected
from workloads.models.linen import LinenModel
from workloads.models.lstm import lstm_lm
from workloads.models.residual import Layers, ResNet
from workloads.models.resnets import resnet8, resnet_cifar, wide_resnet
from workloads.models.simple_cnn import SimpleCNN
from workloads.models.transformer import transformer_lm
from workloads.models.vgg import ConvolutionStacks, keskar

VOCABULARY = 12


def image_batch(examples: int = 20, classes: int = 10) -> dict[str, np.ndarray]:
    """Random images with random labels: nothing to generalise, all to memorise."""
    random = np.random.default_rng(0)
    return {
        "inputs": random.normal(size=(examples, 8, 8, 3)),
        "targets": random.integers(0, classes, examples).astype(np.int32),
        "weights": np.ones(examples),
        "position": np.arange(examples, dtype=np.int32),
    }


def token_batch(examples: int = 20) -> dict[str, np.ndarray]:
    """Sequences that start with different token pairs, then are determined by their start."""
    starts = np.array([divmod(i, VOCABULARY) for i in range(examples)])
    columns = [starts[:, 0], starts[:, 1]]
    while len(columns) < 9:
        columns.append((5 * columns[-1] + 3 * columns[-2] + 1) % VOCABULARY)
    tokens = np.stack(columns, axis=1)
    targets = tokens[:, 1:].astype(np.int32)
    targets[:, 0] = -1  # the second token does not follow from the first
    return {
        "inputs": tokens[:, :-1].astype(np.int32),
        "targets": targets,
        "weights": np.ones(examples),
        "position": np.arange(examples, dtype=np.int32),
    }


@dataclasses.dataclass(frozen=True)
class Family:
    """A row: how to make the model, what it eats, what it must do.

    Attributes:
      make: (**number formats) -> model, small.
      batch: examples -> batch.
      losses: its losses.
      classes: of the targets; the initial loss is near ln(classes).
      initial_tolerance: how far the initial loss may lie from ln(classes), in nats; a net
        whose last layer starts at unit gain has logits of variance v and a loss v/2 higher.
      learning_rate, steps: of the Adam run that must memorise 20 examples.
    """

    make: Callable[..., Model]
    batch: Callable[[int], dict[str, np.ndarray]] = image_batch
    losses: Losses = CLASSIFICATION
    classes: int = 10
    initial_tolerance: float = 0.6
    learning_rate: float = 3e-3
    steps: int = 150


def bottleneck_net(**formats: Any) -> Model:
    """ResNet-50's blocks and stem, one block a stage."""
    layers = Layers(preactivation=False, bottleneck=True, ghost_size=32, **formats)
    return LinenModel(ResNet(layers, (4, 8), (1, 1), (1, 2), 10, 8, large_stem=True))


def small_lm(**options: Any) -> Model:
    """A Transformer of one layer."""
    sizes = {"layers": 1, "width": 32, "feed_forward": 32, "heads": 2}
    return transformer_lm(VOCABULARY, **sizes, **options)


def language(make: Callable[..., Model], **changes: Any) -> Family:
    """A row for a language model."""
    return Family(make, token_batch, LANGUAGE_MODEL, VOCABULARY, **changes)


FAMILIES: dict[str, Family] = {
    "fully_connected": Family(lambda **d: fully_connected([32, 32], **d)),
    "keskar_f": Family(lambda **d: keskar("F1", ghost_size=8, width=32, **d)),
    "simple_cnn": Family(lambda **d: LinenModel(SimpleCNN((4, 8), 32, 10, **d))),
    "vgg": Family(lambda **d: LinenModel(ConvolutionStacks(((4,), (8, 8)), 3, 2, (32,), 10, **d))),
    "keskar_c": Family(lambda **d: keskar("C1", ghost_size=8, width=4, **d), learning_rate=1e-2),
    "resnet8": Family(lambda **d: resnet8(width=4, **d), initial_tolerance=1.5),
    "resnet8_rezero": Family(lambda **d: resnet8(width=8, residual_start="rezero", **d)),
    "resnet_v1": Family(
        lambda **d: resnet_cifar(8, 1, width=4, residual_start="zero_scale", **d),
        learning_rate=1e-2,
    ),
    "wide_resnet": Family(lambda **d: wide_resnet(10, 2, width=4, unit_stride_stage=3, **d)),
    "bottleneck": Family(bottleneck_net),
    "transformer_pre": language(small_lm),
    "transformer_post": language(lambda **d: small_lm(placement="post", **d)),
    "transformer_post_branch": language(lambda **d: small_lm(placement="post_branch", **d)),
    "lstm": language(lambda **d: lstm_lm(VOCABULARY, 1, 16, 32, 16, **d), learning_rate=1e-2),
}


def initialise(model: Model, batch: dict[str, np.ndarray]) -> tuple[Any, Any]:
    """(params, state). Drawing normal numbers takes XLA ten times as long to compile as to
    run, once for each shape; without optimisation it does not."""
    options = {"xla_backend_optimization_level": 0}
    return jax.jit(model.init, compiler_options=options)(jax.random.key(0), batch)


@dataclasses.dataclass(frozen=True)
class FlatProblem:
    """A family's mean training loss as a function of one float64 vector, compiled once.

    Attributes:
      start: [n] initial parameters.
      sizes: number of entries of each tensor, in the vector's order.
      loss_and_gradient: vector -> (loss, [n] gradient).
    """

    start: np.ndarray
    sizes: list[int]
    loss_and_gradient: Callable[[np.ndarray], tuple[float, np.ndarray]]


def flat_problem(family: Family, examples: int, **hyperparameters: float) -> FlatProblem:
    """The problem of memorising ``examples``; to be used inside ``jax.enable_x64``."""
    model = family.make(dtype="float64", param_dtype="float64")
    batch = family.batch(examples)
    params, state = initialise(model, batch)
    start, unravel = ravel_pytree(params)

    # Hundreds of steps of convolutions in float64: here LLVM's work pays.
    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 1})
    @jax.value_and_grad
    def run(vector: jax.Array) -> jax.Array:
        outputs, _ = model.apply(
            unravel(vector),
            state,
            batch,
            key=jax.random.key(5),
            train=True,
            hyperparameters=hyperparameters,
        )
        total, count = family.losses.objective(outputs, batch, hyperparameters)
        return total.sum() / count.sum()

    def loss_and_gradient(vector: np.ndarray) -> tuple[float, np.ndarray]:
        loss, gradient = run(vector)
        return float(loss), np.asarray(gradient)

    sizes = [leaf.size for leaf in jax.tree.leaves(params)]
    return FlatProblem(np.asarray(start), sizes, loss_and_gradient)
