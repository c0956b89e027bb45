"""What a study chooses by name beside its workload; each choice brings its own hyperparameters.

Imports no jax.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from optimizers import AVERAGINGS, CLIPPINGS, OPTIMIZERS
from schedules import BATCH_SIZE_SCHEDULES, MOMENTUM_SCHEDULES, SCHEDULES
from workloads.registry import Hyperparameter, unknown_name


@dataclasses.dataclass(frozen=True)
class Part:
    """A field of `Study` that names a row of a table.

    Attributes:
      table: name -> row with ``hyperparameters`` and ``summary``.
      neutral: the name that changes nothing, as in records from before there was a choice.
    """

    table: Mapping[str, Any]
    neutral: str | None = None


PARTS: dict[str, Part] = {
    "optimizer": Part(OPTIMIZERS),
    "schedule": Part(SCHEDULES),
    "momentum_schedule": Part(MOMENTUM_SCHEDULES, "constant"),
    "batch_size_schedule": Part(BATCH_SIZE_SCHEDULES, "constant"),
    "clipping": Part(CLIPPINGS, "none"),
    "averaging": Part(AVERAGINGS, "none"),
}
"""Field of a study -> what it may name."""


def check(field: str, name: object) -> None:
    """ValueError where ``field`` has no row of this name; it lists those there are."""
    if name not in PARTS[field].table:
        raise unknown_name(field.replace("_", " "), name, PARTS[field].table)


def rows(field: str, name: str) -> tuple[Hyperparameter, ...]:
    """The hyperparameters that a choice brings, with their legal intervals."""
    return tuple(PARTS[field].table[name].hyperparameters)
