"""A workload with everything that could depend on devices; describing it imports no jax."""

from __future__ import annotations

import dataclasses

from workloads.digits_fc import WORKLOAD

GHOST = 4
MIXED = dataclasses.replace(
    WORKLOAD,
    name="digits_mixed",
    model_options={
        "hidden_sizes": [16],
        "classes": 10,
        "normalization": "batch",
        "ghost_size": GHOST,
    },
    hyperparameters={"dropout_rate": 0.2, "label_smoothing": 0.1},
)
"""Dropout, ghost batch norm and label smoothing."""
