"""The table of model families at small width, for the tests that any model must pass."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from workloads.base import Losses, Model
from workloads.losses import CLASSIFICATION
from workloads.models.fully_connected import fully_connected
from workloads.models.linen import LinenModel
from workloads.models.simple_cnn import SimpleCNN


def image_batch(
    examples: int = 20, shape: tuple[int, ...] = (8, 8, 3), classes: int = 10
) -> dict[str, np.ndarray]:
    """Random images in [0, 1] with random labels: nothing to generalise, all to memorise."""
    random = np.random.default_rng(0)
    return {
        "inputs": random.uniform(size=(examples, *shape)).astype(np.float32),
        "targets": random.integers(0, classes, examples).astype(np.int32),
        "weights": np.ones(examples, np.float32),
        "position": np.arange(examples, dtype=np.int32),
    }


@dataclasses.dataclass(frozen=True)
class Family:
    """A row: how to make the model, what it eats, what it must do.

    Attributes:
      make: (dtype, param_dtype) -> model, small.
      batch: examples -> batch.
      losses: its losses.
      classes: of the targets; the initial loss is near ln(classes).
      initial_tolerance: how far the initial loss may lie from ln(classes), in nats; a net
        whose last layer starts at unit gain has logits of variance v and a loss v/2 higher.
      learning_rate, steps: of the Adam run that must memorise 20 examples.
    """

    make: Callable[[str, str], Model]
    batch: Callable[[int], dict[str, np.ndarray]] = image_batch
    losses: Losses = CLASSIFICATION
    classes: int = 10
    initial_tolerance: float = 0.3
    learning_rate: float = 3e-3
    steps: int = 200


def objective(family: Family, model: Model, params: Any, state: Any, batch: Any, **options: Any):
    """(mean loss per count, new state) of a batch."""
    settings = {"key": jax.random.key(5), "train": False, "hyperparameters": {}} | options
    outputs, state = model.apply(params, state, batch, **settings)
    total, count = family.losses.objective(outputs, batch, settings["hyperparameters"])
    return total.sum() / count.sum(), state


FAMILIES: dict[str, Family] = {
    "fully_connected": Family(
        lambda d, p: fully_connected([32, 32], dtype=d, param_dtype=p),
    ),
    "simple_cnn": Family(
        lambda d, p: LinenModel(SimpleCNN((4, 8), 32, 10, dtype=d, param_dtype=p)),
    ),
}
