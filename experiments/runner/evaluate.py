"""Evaluation of a trial's best parameters on a split; nothing else reads the test split.

    from experiments.runner.evaluate import evaluate_trial
    print(evaluate_trial("runs/quickstart", 64, 3, split="test").metrics)

The best step is where the goal's metric was best on the goal's split, the earliest of equal ones.
Training is repeated to it from the newest checkpoint that is not past it, or from the start, as it
was executed; the record says whether it came out the same.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import polars as pl

from experiments.planning.execution import Plan, device_name
from experiments.records.store import Record, read, require_current
from experiments.runtime.compilation import switched
from experiments.spec.errors import StudyError
from experiments.spec.resolved import ResolvedStudy
from experiments.spec.study import reopened
from experiments.spec.trial import Status, Trial, TrialConfig
from experiments.training.evaluation import evaluation_data, make_evaluation
from experiments.training.feed import ResidentData
from experiments.training.population import Population
from experiments.training.program import Program
from experiments.training.resume import Checkpoints
from workloads import datasets
from workloads.datasets.base import Dataset, Split, size_of
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
    record = read(folder)
    require_current(record.study, folder)
    study = reopened(record.study)
    row = _row(record, study, batch_size, study.seeds[0] if seed is None else seed, trial)
    checkpoints = Checkpoints(Path(folder), study.goal, float("inf"), warn)
    with switched(study.precision.float64):
        dataset = _dataset(record, study, folder, data_dir)
        if split not in dataset.splits:
            known = ", ".join(dataset.splits)
            raise ValueError(f"split must be one of {known} with {dataset.name}, got {split!r}")
        return _evaluated(record, study, row, dataset, checkpoints, split=split)


def _dataset(
    record: Record, study: ResolvedStudy, folder: Path | str, data_dir: str | None
) -> Dataset:
    """Load the dataset that the record was trained on.

    Raises:
      ValueError: another one is found.
    """
    dataset = datasets.load(study.workload.dataset, data_dir, **study.workload.dataset_options)
    if dataset.checksum != record.study["dataset"]["checksum"]:
        raise ValueError(f"the dataset {dataset.name} is not the one that {folder} was trained on")
    return dataset


def _evaluated(
    record: Record,
    study: ResolvedStudy,
    row: Mapping[str, Any],
    dataset: Dataset,
    checkpoints: Checkpoints,
    *,
    split: str,
) -> Evaluated:
    """The trial of ``row`` trained again to its best step, and evaluated there."""
    batch_size = row["batch_size"]
    plan = Plan.from_json(record.study["plans"][row["plan"]])
    data = ResidentData.put(dataset.splits, study.train_evaluation_examples)
    config = study.config(plan.record_norms)
    execution = plan.executions[batch_size]
    program = Program(config, data, study.divergence_factor)
    population = Population(
        program,
        batch_size,
        execution,
        grid=study.grid,
        checkpoints=checkpoints,
        phases=study.phases(batch_size),
    )
    best = _best(record, study, row)
    again = _trial(row, record.study["hyperparameters"])
    state, found = population.train_to(again, best["step"])
    column = study.goal.column
    if found["step"][-1] != best["step"] or found[column][-1] != best[column]:
        raise StudyError(
            f"trial {batch_size}/{row['trial']} is not reproduced: {column} at step "
            f"{best['step']} is {found[column][-1]:g}, in the record {best[column]:g} "
            f"(trained on {plan.device} by commit "
            f"{record.study['environment']['commit']}; this is {device_name()})"
        )
    numbers = program.numbers(again.hyperparameters)
    planned = program.planned(execution, batch_size, numbers)
    assert planned.evaluation_batch is not None
    batch = -(-planned.evaluation_batch // planned.layout.data)  # on one device here
    return Evaluated(
        *again.key,
        best["step"],
        split,
        dataset.size(split),
        _means(config, jax.device_get(state), numbers, dataset.splits[split], batch),
        {name: value for name, value in best.items() if "/" in name},
    )


def _row(
    record: Record, study: ResolvedStudy, batch_size: int, seed: int, trial: int
) -> dict[str, Any]:
    mine = record.trials.filter(batch_size=batch_size, seed=seed, trial=trial)
    if mine.is_empty():
        same = record.trials.filter(batch_size=batch_size, seed=seed)
        held = (
            f"trials 0 to {max(same['trial'])}"
            if len(same)
            else f"batch sizes {', '.join(map(str, study.batch_sizes))}, "
            f"seeds {', '.join(map(str, study.seeds))}"
        )
        raise ValueError(f"there is no trial {batch_size}/{trial} of seed {seed} ({held})")
    row = mine.row(0, named=True)
    if row["status"] not in (Status.COMPLETE, Status.STOPPED):
        raise ValueError(
            f"trial {batch_size}/{trial} of seed {seed} is {row['status']}: only a COMPLETE or "
            "STOPPED one has a best step"
        )
    return row


def _best(record: Record, study: ResolvedStudy, row: Mapping[str, Any]) -> dict[str, Any]:
    """The evaluation at which the goal's metric was best."""
    key = {name: row[name] for name in ("batch_size", "seed", "trial")}
    evaluations = record.scan("evaluations")
    assert evaluations is not None, "a record always has the table"
    mine = evaluations.filter(**key).filter(pl.col(study.goal.column).is_finite()).collect()
    if mine.is_empty():
        raise ValueError(
            f"{study.goal.column} of this trial is finite nowhere: it has no best step"
        )
    order = mine.sort(study.goal.sign * pl.col(study.goal.column), "step")
    return order.row(0, named=True)


def _trial(row: Mapping[str, Any], hyperparameters: list[str]) -> Trial:
    values = {name: row[name] for name in hyperparameters}
    key = (row["batch_size"], row["seed"], row["trial"])
    return Trial(*key, row["train_steps"], values, row["identity"])


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
