"""Objectives of a few numbers, without data: workloads whose every step can be worked out."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from experiments.spec.resolved import ResolvedStudy
from experiments.spec.study import Study
from experiments.training.program import Program
from support.engine_factory import resident_digits
from workloads import Goal, Workload
from workloads.base import Losses
from workloads.losses import CLASSIFICATION

LOSSES = Losses(
    objective=lambda outputs, batch, hyperparameters: (outputs, jnp.ones_like(outputs)),
    metrics=lambda outputs, batch: {"loss": (outputs, jnp.ones_like(outputs))},
)
COUNTING = Losses(
    objective=lambda outputs, batch, hyperparameters: CLASSIFICATION.metrics(outputs, batch)[
        "classification_error"
    ],
    metrics=CLASSIFICATION.metrics,
)
"""The share of errors as the objective: its derivative is 0 wherever it has one."""
OBJECTIVES: dict[str, Callable[[jax.Array], jax.Array]] = {
    "square": lambda w: jnp.sum(w**2),
    "square_minus_2": lambda w: jnp.sum(w**2) - 2,
    "from_zero": lambda w: 0.06 * (1 - w[0]),
    # The loss stays finite: 0 sqrt(0) = 0, whose derivative is 0 / 0.
    "nan_below_half": lambda w: jnp.sum(w**2) + jnp.sum(0 * jnp.sqrt(jnp.maximum(w - 0.5, 0))),
    "nan_gradient": lambda w: jnp.sum(w**2) + jnp.sum(0 * jnp.sqrt(0 * w)),
    "large_gradient": lambda w: jnp.sum(1e19 * w),
    "small_gradient": lambda w: jnp.sum(1e-25 * w),
}


class ObjectiveModel:
    """Parameters {"w": [size]}, all ``start``; the output of every example is the objective."""

    def __init__(self, objective: str, start: float, size: int, param_dtype: str):
        self._objective, self._start, self._size = OBJECTIVES[objective], start, size
        self._dtype = param_dtype

    def init(self, key: Any, batch: Any) -> tuple[Any, Any]:
        return {"w": jnp.full(self._size, self._start, self._dtype)}, {}

    def apply(self, params: Any, state: Any, batch: Any, **unused: Any) -> tuple[Any, Any]:
        return jnp.broadcast_to(self._objective(params["w"]), len(batch["targets"])), state


def model(
    objective: str, start: float = 1.0, size: int = 1, dtype: str = "", param_dtype: str = "float32"
) -> ObjectiveModel:
    return ObjectiveModel(objective, start, size, param_dtype)


def objective_study(
    objective: str, size: int = 1, start: float = 1.0, **changes: Any
) -> ResolvedStudy:
    """A study that minimises one of `OBJECTIVES`."""
    options = {"objective": objective, "start": start, "size": size}
    workload = Workload(
        name="objective", dataset="digits", model="support.objectives:model",
        model_options=options, losses="support.objectives:LOSSES", goal=Goal("loss", -1e9),
    )  # fmt: skip
    settings = {
        "name": "objective", "question": "Where does it go?", "workload": workload,
        "optimizer": "sgd", "batch_sizes": (8,), "step_budget": 200,
        "example_budget": 1600, "trials": 1, "sampler": "halton", **changes,
    }  # fmt: skip
    return Study(**settings).resolved


@functools.cache
def objective_program(
    objective: str, record_norms: str, size: int = 1, start: float = 1.0, **changes: Any
) -> Program:
    """The programs of such a study, on the digits."""
    study = objective_study(objective, size, start, **changes)
    return Program(study.config(record_norms), resident_digits(), study.divergence_factor)
