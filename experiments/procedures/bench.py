"""A workload on the bench: what its checks have in common, each made when it is first asked for."""

from __future__ import annotations

import dataclasses
import functools
import statistics
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from experiments.diagnostics import activations
from experiments.diagnostics import sanity as measure
from experiments.diagnostics.pipeline import Examples, Pipeline, first, pipeline_of
from experiments.spec.resolved import ResolvedStudy
from experiments.spec.study import Study
from workloads import datasets
from workloads.base import Workload
from workloads.datasets.base import Dataset

OPTIMIZER, RATE, STEPS = "adam", 1e-3, 200
SPEED_BATCH = 64
_PROBE = 64
"""Examples of a gradient's histogram."""


@dataclasses.dataclass(frozen=True)
class BenchRequest:
    """Settings of a check.

    Attributes:
      optimizer, learning_rate, steps: of the short training.
      seed: of everything random.
      only: names of the checks wanted, all where empty.
      source: the user's file that defines the workload, "" without one.
      data_dir: folder of the dataset's files.
    """

    optimizer: str = OPTIMIZER
    learning_rate: float = RATE
    steps: int = STEPS
    seed: int = 0
    only: tuple[str, ...] = ()
    source: str = ""
    data_dir: str | None = None


class Bench:
    """A workload, and what its checks have in common, each made when it is first asked for."""

    def __init__(self, workload: Workload, asked: BenchRequest):
        self.workload, self.asked = workload, asked

    @functools.cached_property
    def dataset(self) -> Dataset:
        """The workload's dataset."""
        return load_dataset(self.workload, self.asked.data_dir)

    @functools.cached_property
    def pipeline(self) -> Pipeline:
        """Some of its examples, model and losses."""
        return pipeline_of(self.workload, self.dataset, self.asked.optimizer, self.asked.seed)

    @functools.cached_property
    def off(self) -> Mapping[str, Any]:
        """Hyperparameters with regularization off."""
        return self.pipeline.hyperparameters(self.asked.learning_rate)

    @functools.cached_property
    def rows(self) -> np.ndarray:
        """The examples of the short training."""
        return self.pipeline.rows(self.asked.steps)

    @functools.cached_property
    def started(self) -> Any:
        """The state before the first step."""
        return self.pipeline.start(self.off)

    @functools.cached_property
    def trained(self) -> tuple[Any, Mapping[str, np.ndarray]]:
        """(the state after the short training, what its steps measured)."""
        return self.pipeline.advance(self.started, self.off, self.pipeline.train, self.rows)

    @functools.cached_property
    def memorised(self) -> tuple[measure.Numbers, Any]:
        """Twenty examples learned by heart."""
        steps = 2 * self.asked.steps
        return measure.memorise(self.pipeline, self.asked.learning_rate, steps)

    @functools.cached_property
    def layers(self) -> tuple[list[activations.Layer], list[activations.Layer]]:
        """Activations (before, after the short training)."""
        examples: Examples = self.pipeline.validation
        before, after = (
            activations.activations(self.pipeline, state, self.off, examples)
            for state in (self.started, self.trained[0])
        )
        return before, after

    @functools.cached_property
    def gradients(self) -> list[activations.Layer]:
        """Gradients of every array of the parameters after the short training."""
        few = first(self.pipeline.train, _PROBE)
        return activations.gradients(self.pipeline, self.trained[0], self.off, few)

    @functools.cached_property
    def filters(self) -> np.ndarray | None:
        """The first layer's weights as pictures."""
        shape = self.pipeline.train["inputs"].shape[1:]
        if not np.issubdtype(self.pipeline.train["inputs"].dtype, np.floating):
            return None
        return activations.first_filters(self.trained[0].params, shape)

    @functools.cached_property
    def ratios(self) -> Mapping[str, Any]:
        """Update to weight, by array."""
        params = self.trained[0].params
        names = activations.parameter_names(params)
        ndims = {n: np.ndim(leaf) for n, leaf in zip(names, jax.tree.leaves(params), strict=True)}
        return measure.update_ratios(self.trained[1], ndims)

    @property
    def own_loss(self) -> bool:
        """True where the model returns its losses."""
        return measure.initial_loss(self.pipeline, self.off)["numbers"] == 0


def load_dataset(workload: Workload, data_dir: str | None) -> Dataset:
    """The dataset of a workload."""
    return datasets.load(workload.dataset, data_dir, **workload.dataset_options)


def study_around(workload: Workload, asked: BenchRequest, **fields: Any) -> ResolvedStudy:
    """A study of one batch size of a workload.

    Raises:
      StudyError: the workload does not make a study.
    """
    size = datasets.DATASETS[workload.dataset].sizes["train"]
    size = int(workload.dataset_options.get("train_examples", size))
    given: dict[str, Any] = {
        "name": workload.name, "question": f"How is {workload.name} trained?",
        "workload": workload, "batch_sizes": (min(SPEED_BATCH, size),),
        "step_budget": asked.steps, "example_budget": 1, "optimizer": asked.optimizer,
        "source": asked.source, "seeds": (asked.seed,), **fields,
    }  # fmt: skip
    return Study(**given).resolved


def step_time(study: ResolvedStudy, dataset: Dataset) -> tuple[float, float]:
    """(median seconds of a step, the host's share of them) at a study's first batch size."""
    from experiments.planning.feasibility import step_seconds
    from experiments.planning.probe import probe_trial
    from experiments.training.feed import ResidentData
    from experiments.training.program import Program

    data = ResidentData.put(dataset.splits, study.train_evaluation_examples)
    program = Program(study.config("off"), data, study.divergence_factor)
    seconds, share = step_seconds(program, [probe_trial(study, study.batch_sizes[0], 0)])
    return statistics.median(seconds), share
