"""Parts that a study chooses by name beside its workload, each with hyperparameters of its own.

Imports no jax.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optimizers import AVERAGINGS, CLIPPINGS, OPTIMIZERS
from schedules import BATCH_SIZE_SCHEDULES, MOMENTUM_SCHEDULES, SCHEDULES
from workloads.registry import Hyperparameter, unknown_name

PARTS: dict[str, Mapping[str, Any]] = {
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "momentum_schedule": MOMENTUM_SCHEDULES,
    "batch_size_schedule": BATCH_SIZE_SCHEDULES,
    "clipping": CLIPPINGS,
    "averaging": AVERAGINGS,
}
"""Field of a study -> the table of what it may name; a row has hyperparameters and a summary."""


def check(field: str, name: object) -> None:
    """ValueError where ``field`` has no row of this name; it lists those there are."""
    if name not in PARTS[field]:
        raise unknown_name(field.replace("_", " "), name, PARTS[field])


def rows(field: str, name: str) -> tuple[Hyperparameter, ...]:
    """The hyperparameters that a choice brings, with their legal intervals."""
    return tuple(PARTS[field][name].hyperparameters)
