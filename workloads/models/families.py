"""Nets of the families that ``batchscale automl`` searches: values of a trial -> a linen module.

Every module is called as ``module(inputs, context)`` and drops activations at the traced rate
``dropout_rate``. The table of families, with their search spaces, imports no jax:
experiments/spec/families.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flax import linen as nn

from workloads.models.fully_connected import FullyConnected
from workloads.models.simple_cnn import SimpleCNN

Values = Mapping[str, Any]


def dense(values: Values, classes: int) -> nn.Module:
    """``dense_depth`` hidden layers of ``dense_width`` units; depth 0 is a linear classifier."""
    depth = int(values["dense_depth"])
    return FullyConnected((int(values["dense_width"]),) * depth if depth else (), classes)


def convolutional(values: Values, classes: int) -> nn.Module:
    """Convolutions of ``filters`` and twice as many, each pooled, then ``conv_units`` units."""
    filters = int(values["filters"])
    return SimpleCNN((filters, 2 * filters), int(values["conv_units"]), classes)
