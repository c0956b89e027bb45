"""Evaluation of a trial's best parameters on a split; nothing else reads the test split.

    from experiments.runner.evaluate import evaluate_trial
    print(evaluate_trial("runs/quickstart", 64, 3, split="test").metrics)

The best parameters are those of `experiments.runner.trained`.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from experiments.runner.trained import (
    TrainedTrial,
    reopen,
    trained_to_best,
    trial_row,
    with_data,
)
from experiments.runtime.compilation import switched
from experiments.spec.trial import TrialConfig
from experiments.training.evaluation import evaluation_data, make_evaluation
from workloads.datasets.base import Split, size_of
from workloads.datasets.base import read as read_examples

BLOCK = 1 << 14  # examples that lie on the device at a time


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """A trial at its best.

    Attributes:
      batch_size, seed, trial: its key.
      step: its best step.
      split, examples: where it was evaluated, on how many examples.
      metrics: metric -> mean on the split.
      recorded: column -> value in the record at that step, ``validation/...`` and ``train/...``.
    """

    batch_size: int
    seed: int
    trial: int
    step: int
    split: str
    examples: int
    metrics: Mapping[str, float]
    recorded: Mapping[str, float]


def evaluate_trial(
    folder: Path | str,
    batch_size: int,
    trial: int,
    *,
    seed: int | None = None,
    split: Literal["test", "validation", "train"] = "validation",
    data_dir: str | None = None,
    warn: Callable[[str], None] = warnings.warn,
) -> Evaluated:
    """Evaluate a COMPLETE trial at its best step; nothing in ``folder`` is changed.

    Args:
      folder: a study's record.
      batch_size, trial, seed: which trial; the study's first seed unless given.
      split: "test", "validation" or "train".
      data_dir: where the dataset's files are, if not in the usual places.
      warn: takes one line where a checkpoint cannot be used.

    Raises:
      ValueError: no such trial or split, a trial that is not COMPLETE, another dataset.
      StudyError: the record's value at the best step is not reproduced to the bit.
      RecordError, DataError: one clear line.
    """
    record, study = reopen(folder)
    row = trial_row(record, study, batch_size, seed, trial)
    with switched(study.precision.float64):
        opened = with_data(folder, record, study, data_dir)
        examples = opened.split(split)
        found = trained_to_best(opened, row, warn=warn)
        metrics = metrics_on(found, examples)
    recorded = {name: value for name, value in found.recorded.items() if "/" in name}
    size = opened.dataset.size(split)
    return Evaluated(*found.trial.key, found.step, split, size, metrics, recorded)


def metrics_on(trained: TrainedTrial, split: Split) -> dict[str, float]:
    """The mean of every metric of a trained trial over a whole split."""
    given = trained.state, trained.hyperparameters, split, trained.rows
    return _means(trained.config, *given)


def _means(
    config: TrialConfig,
    state: Any,
    hyperparameters: Mapping[str, Any],
    split: Split,
    batch: int,
) -> dict[str, float]:
    """The mean of every metric over a whole split, ``batch`` examples at a time."""
    evaluate = jax.jit(make_evaluation(config))
    totals: dict[str, np.ndarray] = {}
    for first in range(0, size_of(split), BLOCK):
        numbers = np.arange(first, min(first + BLOCK, size_of(split)))
        block = read_examples(split, numbers)
        # `evaluation_data` calls what it is given validation, and here no training example is.
        data = evaluation_data({"validation": block, "train": block}, 0, batch)
        for name, pair in evaluate(state, hyperparameters, data).items():
            if name.startswith("validation/"):
                metric = name.removeprefix("validation/")
                totals[metric] = totals.get(metric, 0.0) + np.asarray(pair, np.float64)
    return {metric: float(total[0] / total[1]) for metric, total in totals.items()}
