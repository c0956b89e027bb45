"""Checks before a study trains: whether it goes together with this dataset and folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from experiments.planning.execution import ExecutionRequest
from experiments.search.fidelity import Pruner
from experiments.search.samplers.table import SAMPLERS
from experiments.search.source import TrialSource
from experiments.spec.resolved import ResolvedStudy
from experiments.training.cuts import check_cuts
from experiments.training.resume import CHECKPOINTS_FOLDER, Checkpoints
from experiments.training.state import parameter_count
from optimizers import OPTIMIZERS
from workloads.datasets.base import Dataset, Split
from workloads.datasets.base import read as read_split


def check_study(
    study: ResolvedStudy, dataset: Dataset, request: ExecutionRequest, warn: Callable[[str], None]
) -> None:
    """Refuse a study that cannot be trained on this dataset as it was asked for.

    Raises:
      ValueError: batches that cannot be cut so, a model too large for the optimizer, an execution
        that it does not have, a batch larger than the training set.
    """
    pruner = Pruner.of(study)
    if pruner is not None:
        pruner.check(study.trials)
        _check_pruner(study, pruner)
    train = dataset.splits["train"]
    if request.layout is not None:
        grown = {part.batch_size for b in study.batch_sizes for part in study.phases(b)}
        example = read_split(train, np.arange(1))
        check_cuts(study.config("off"), example, request.layout, sorted(grown))
    _check_second_order(study, train, request.execution)
    _check_size(study, dataset.size("train"), warn)


def _check_pruner(study: ResolvedStudy, pruner: Pruner) -> None:
    """Refuse a sampler that learns where all trials are compared at once."""
    if pruner.at_once and SAMPLERS[study.sampler].adaptive:
        plain = ", ".join(name for name, row in SAMPLERS.items() if not row.adaptive)
        raise ValueError(
            f"sampler must be one of {plain} with the pruner {pruner.name}, which compares all "
            f"trials at once, got {study.sampler!r}"
        )


def _check_second_order(study: ResolvedStudy, train: Split, execution: str) -> None:
    """Refuse a model too large for the optimizer, and packs of trials that search along lines."""
    rule = OPTIMIZERS[study.optimizer]
    if rule.needs_value_fn and execution == "packed":
        raise ValueError(
            f"execution must be auto, loop or scan with {rule.name}, whose trials run unpacked, "
            "got 'packed'"
        )
    if rule.largest_model is not None:
        size = parameter_count(study.config("off"), read_split(train, np.arange(1)))
        if size > rule.largest_model:
            raise ValueError(
                f"a model trained by {rule.name} may have at most {rule.largest_model:,} "
                f"parameters, {study.workload.name} has {size:,} (hessian_free has no such limit)"
            )


def _check_size(study: ResolvedStudy, examples: int, warn: Callable[[str], None]) -> None:
    """Another number of training examples than the study counts with: say so, or refuse."""
    name = study.workload.dataset
    if study.batch_sizes[-1] > examples:
        raise ValueError(
            f"batch_sizes must lie in 1..{examples} (the training set of {name} found here), got "
            f"{study.batch_sizes[-1]}"
        )
    if examples != study.train_size:
        warn(
            f"{name} has {examples:,} training examples here, the study counts "
            f"{study.train_size:,} to an epoch: train_examples among the workload's "
            "dataset_options says how many"
        )


def check_checkpoints(checkpoints: Checkpoints, searches: Sequence[TrialSource]) -> None:
    """Refuse another configuration's checkpoints; finish what a kill after a commit left."""
    if not (checkpoints.folder / CHECKPOINTS_FOLDER).is_dir():
        return
    for search in searches:
        for batch_size in search.study.batch_sizes:
            ended = search.ended(batch_size)
            for index in range(search.proposed(batch_size)):
                trial = search.trial(batch_size, index)
                if index in ended:
                    checkpoints.end(trial, ended[index].status)
                else:
                    checkpoints.check(trial)
