"""Small studies of the real workload, and the shortest way to train some of their trials."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from experiments.spec.resolved import ResolvedStudy
from experiments.spec.study import Study
from experiments.spec.trial import Trial, TrialResult, evaluation_steps
from experiments.training.feed import ResidentData
from experiments.training.layout import Execution, Mode
from experiments.training.population import Population
from experiments.training.program import Program
from experiments.training.state import TrainState
from workloads.datasets import load
from workloads.digits_fc import WORKLOAD

TINY = dataclasses.replace(
    WORKLOAD, model_options={"hidden_sizes": [16], "classes": 10}, name="digits_tiny"
)


def tiny_study(**changes: Any) -> ResolvedStudy:
    """Digits, one hidden layer of 16, two batch sizes; a plain list of trials."""
    settings = {
        "name": "tiny",
        "question": "Does the engine work?",
        "workload": TINY,
        "batch_sizes": (8, 64),
        "step_budget": 60,
        "example_budget": 512,
        "trials": 3,
        "sampler": "halton",
        **changes,
    }
    return Study(**settings).resolved


@functools.cache
def resident_digits(train_evaluation_examples: int = 256) -> ResidentData:
    """The digits, on the device once for all tests of a process."""
    return ResidentData.put(load("digits").splits, train_evaluation_examples)


@functools.cache
def tiny_program(record_norms: str = "off", optimizer: str = "nesterov") -> Program:
    """One program a configuration, shared by all tests of a process."""
    study = tiny_study(optimizer=optimizer)
    return Program(study.config(record_norms), resident_digits(), study.divergence_factor)


def tiny_trial(
    index: int, batch_size: int = 8, train_steps: int = 60, seed: int = 0, **values: float
) -> Trial:
    """Trial ``index`` at a rate that trains."""
    hyperparameters = {"learning_rate": 0.05, "momentum": 0.9, **values}
    return Trial(batch_size, seed, index, train_steps, hyperparameters, f"test-{index}")


def train(
    trials: Sequence[Trial],
    mode: Mode = "scan",
    slots: int = 1,
    program: Program | None = None,
    grid: Any = evaluation_steps,
    **options: Any,
) -> dict[int, TrialResult]:
    """The results of these trials of one batch size, by index."""
    pending = list(trials)
    results: dict[int, TrialResult] = {}
    options = {"execution": Execution(mode, slots), **options}
    population = Population(program or tiny_program(), trials[0].batch_size, grid=grid, **options)
    population.run(
        lambda: pending.pop(0) if pending else None,
        lambda result: results.__setitem__(result.trial.index, result),
    )
    return results


class Watched(Population):
    """Keeps each trial's last state, by index, as NumPy arrays."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.last: dict[int, TrainState] = {}

    def _retire(self, i: int) -> None:
        state = jax.tree.map(lambda x: np.asarray(x[i]), self._pack.states)
        self.last[self._slots[i].trial.index] = state
        super()._retire(i)


def same_bits(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> bool:
    """Whether two tables of arrays are equal to the bit."""
    if one is None or other is None:
        return one is other
    return one.keys() == other.keys() and all(
        one[name].tobytes() == other[name].tobytes() for name in one
    )
