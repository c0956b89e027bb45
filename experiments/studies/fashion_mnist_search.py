"""How many units, and which learning rate, does one dense layer want on Fashion-MNIST?

Command:   batchscale run fashion_mnist_search
           batchscale run fashion_mnist_search --smoke
Time:      4 1/2 minutes on two busy CPU cores; in miniature 38 s on two idle
           ones, 14 s once its programs are compiled.
Expected:  1e-3 or 1e-2 beats 1e-4 within 10 epochs; the width matters little from some 150 units
           on.
Found:     1e-3 leads: validation errors of 11.1 % with 272 and 368 units and 11.7 % with 144, after
           10 epochs; 1e-2 does not get below 15 %, and 1e-4 reaches 14 % in 3 epochs with 416 and
           480 units, where Hyperband stops it.

The search that courses on tuning begin with: 16 to 512 units in steps of 16, a rate of 1e-2, 1e-3
or 1e-4, dropout 0.2, Hyperband with at most 10 epochs and factor 3, early stopping after 5 epochs
without an improvement. Adam at batch size 32; the best validation error of any epoch decides.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from experiments.spec.space import Choice, Integer, Value
from experiments.spec.user_search import UserSearch
from workloads.fashion_mnist_fc import WORKLOAD


def build(hyperparameters: Mapping[str, Value]) -> Any:
    """The net of a trial."""
    from workloads.models.dense import DenseNet

    return DenseNet(units=int(hyperparameters["units"]), dropout=0.2)


STUDY = UserSearch(
    {"units": Integer(16, 512, step=16), "learning_rate": Choice((1e-2, 1e-3, 1e-4))},
    build=build,
    workload=WORKLOAD,
    optimizer="adam",
    batch_size=32,
    budget=10,
    pruner="hyperband",
    eta=3,
    patience=5,
    name="fashion_mnist_search",
    question="How many units, and which learning rate, does one dense layer want on Fashion-MNIST?",
    expected="A rate of 1e-3 or 1e-2 beats 1e-4; the width matters little from some 150 units on.",
)

SMOKE = dataclasses.replace(
    STUDY,
    name="fashion_mnist_search-smoke",
    workload=dataclasses.replace(
        WORKLOAD, dataset_options={"train_examples": 2000, "validation_examples": 500}
    ),
)
