"""Workloads: a dataset, a model, a loss, a metric and a goal.

This module imports no jax: a study must be describable, recorded and analysed on a machine
that cannot train. Code that does import jax is named as ``"module:attribute"`` and resolved
when it is used.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Protocol

from workloads.registry import Reference, describe_reference, finite_number


@dataclasses.dataclass(frozen=True)
class Goal:
    """A value of a metric that a trial must *strictly* pass (Shallue et al. 2019).

    Attributes:
      metric: name of the metric, e.g. ``"classification_error"``.
      value: the goal; reaching it exactly does not count.
      direction: ``"min"`` where smaller is better, ``"max"`` where larger is.
      split: where the metric is measured, ``"validation"`` unless stated.

    Raises:
      ValueError: another direction or split, no metric, or a value that is not finite.
    """

    metric: str
    value: float
    direction: Literal["min", "max"] = "min"
    split: Literal["validation", "train"] = "validation"

    def __post_init__(self) -> None:
        if self.direction not in ("min", "max"):
            raise ValueError(f"goal direction must be 'min' or 'max', got {self.direction!r}")
        if self.split not in ("validation", "train"):
            raise ValueError(f"goal split must be 'validation' or 'train', got {self.split!r}")
        if not isinstance(self.metric, str) or not self.metric:
            raise ValueError(f"goal metric must be a metric's name, got {self.metric!r}")
        if not finite_number(self.value):
            raise ValueError(f"goal value must be a finite number, got {self.value!r}")

    @property
    def column(self) -> str:
        """Name of the evaluations column the goal reads, ``split/metric``."""
        return f"{self.split}/{self.metric}"

    @property
    def sign(self) -> Literal[1, -1]:
        """1 where smaller is better, -1 where larger is: ``sign * value`` is to be minimised."""
        return 1 if self.direction == "min" else -1

    @property
    def relation(self) -> Literal["<", ">"]:
        """Relation of a value that passes the goal to it: ``<`` or ``>``."""
        return "<" if self.direction == "min" else ">"

    def better(self, value: Any) -> Any:
        """Tell whether ``value`` is strictly past the goal; NaN and infinities never are.

        Args:
          value: a number, an array or a polars expression of the goal's metric.

        Returns:
          A bool, or what comparing ``value`` with a number gives.
        """
        passed = value < self.value if self.direction == "min" else value > self.value
        # polars holds NaN to be larger than any number, infinity included.
        return (abs(value) < math.inf) & passed

    def best(self, values: Any) -> Any:
        """The best finite entry of ``values``: the least, or the largest.

        Args:
          values: an array [n], or a polars series or expression, of the goal's metric.

        Returns:
          One entry, or the expression of one. Of no finite entry: null in polars; ValueError
          for an array.
        """
        finite = abs(values) < math.inf
        kept = values.filter(finite) if hasattr(values, "filter") else values[finite]
        return kept.min() if self.direction == "min" else kept.max()


@dataclasses.dataclass(frozen=True)
class Workload:
    """dataset + model + loss + metric + goal, with default search spaces.

    Attributes:
      name: the workload's name; one file in ``workloads/`` is one workload.
      dataset: a name in ``workloads.datasets.DATASETS``.
      model: ``"module:attribute"`` (or the callable) of a factory; called with
        ``**model_options`` and the study's ``dtype`` (activations) and ``param_dtype``, by name,
        it returns a `Model`.
      losses: ``"module:attribute"`` of a `Losses` value.
      goal: metric, direction, value and split.
      model_options, dataset_options: keyword arguments, JSON values only.
      preprocess: optional ``"module:attribute"`` of ``f(batch, key, train) -> batch``, run on
        the device (decoding, augmentation as a function of key and position).
      hyperparameters: what model, loss and preprocess read at run time besides the optimizer's
        and schedule's own, with defaults, e.g. ``{"dropout_rate": 0.0, "label_smoothing": 0.0}``.
      search_spaces: optimizer name -> hyperparameter -> a range as plain data,
        ``{"type": "real", "low": 1e-3, "high": 1.0, "scale": "log"}`` (experiments/spec/space.py).
      loss_scale: a size of the objective, in its units, that is not yet a divergence. A trial
        diverges at a loss above L_0 + (divergence_factor - 1) max(|L_0|, loss_scale), where L_0 is
        its loss before the first step, so that objectives of any sign can be judged: L_0 may be
        zero or negative (the log-likelihood of a density). At a positive L_0 of at least
        ``loss_scale`` that is divergence_factor times L_0.
      note: where sizes, goal and spaces come from (published, or ours).
    """

    name: str
    dataset: str
    model: Reference
    losses: Reference
    goal: Goal
    model_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    dataset_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    preprocess: Reference | None = None
    hyperparameters: Mapping[str, float] = dataclasses.field(default_factory=dict)
    search_spaces: Mapping[str, Mapping[str, Mapping[str, Any]]] = dataclasses.field(
        default_factory=dict
    )
    loss_scale: float = 1.0
    note: str = ""

    def __post_init__(self) -> None:
        if not (self.loss_scale > 0 and math.isfinite(self.loss_scale)):
            raise ValueError(
                f"workload {self.name}: loss_scale must be positive and finite, "
                f"got {self.loss_scale!r}"
            )

    def describe(self) -> dict[str, Any]:
        """All that determines the workload, as JSON values."""
        described: dict[str, Any] = {
            "name": self.name,
            "dataset": self.dataset,
            "dataset_options": dict(self.dataset_options),
            "model": describe_reference(self.model),
            "model_options": dict(self.model_options),
            "losses": describe_reference(self.losses),
            "preprocess": describe_reference(self.preprocess) if self.preprocess else None,
            "hyperparameters": dict(self.hyperparameters),
            "goal": dataclasses.asdict(self.goal),
        }
        if self.loss_scale != 1.0:  # recorded identities know no default of it
            described["loss_scale"] = self.loss_scale
        return json.loads(json.dumps(described))

    @classmethod
    def from_description(cls, described: Mapping[str, Any]) -> Workload:
        """The workload that `describe` described, without search spaces."""
        return cls(**{**described, "goal": Goal(**described["goal"])})

    def __hash__(self) -> int:
        return int(hashlib.sha256(json.dumps(self.describe()).encode()).hexdigest()[:15], 16)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Workload) and self.describe() == other.describe()


Batch = Mapping[str, Any]
"""``inputs`` [B, ...], ``targets`` [B, ...], ``weights`` [B] float32 (zero for padding) and
``position`` [B] int32, the example's place in the *global* batch."""

SumAndCount = tuple[Any, Any]
"""(sum [B], count [B]) of a quantity per example; means are taken once, at the border."""


class Model(Protocol):
    """Two pure functions over plain dict pytrees; everything above knows no framework.

    A model whose outputs in training mix the examples of a batch also has
    ``ghost_batch_size(batch)``: how many consecutive examples must not be cut apart by devices or
    micro-batches, None for the whole batch. Without it every example is on its own.
    """

    def init(self, key: Any, batch: Batch) -> tuple[Any, Any]:
        """(params, state): trained parameters, and model state such as batch statistics."""

    def apply(
        self,
        params: Any,
        state: Any,
        batch: Batch,
        *,
        key: Any,
        train: bool,
        hyperparameters: Mapping[str, Any],
    ) -> tuple[Any, Any]:
        """(outputs [B, ...], new state). A mask is f(key, ``batch["position"]``)."""


class Losses(NamedTuple):
    """Losses to be minimised and metrics to be measured, per example as (sum [B], count [B]).

    ``objective(outputs, batch, hyperparameters)`` is differentiated in training (label
    smoothing and the like live here); ``metrics(outputs, batch)`` maps a metric's name to its
    (sum, count) and holds at least one entry, the goal's metric among them.
    """

    objective: Callable[[Any, Batch, Mapping[str, Any]], SumAndCount]
    metrics: Callable[[Any, Batch], Mapping[str, SumAndCount]]
