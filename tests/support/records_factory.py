"""Synthetic records of known truth, for tests of analysis, report and command line.

The simulated workload follows McCandlish's hyperbola: with the best hyperparameters the error
falls to the goal in S_min (1 + B_crit / B) steps. The effective learning rate lr / (1 - m) is
best at e_max / (1 + B_crit / B); away from it training is slower, and far above it diverges.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from experiments.records.store import Writer
from experiments.spec.fields import StudyFields
from experiments.spec.resolved import ResolvedStudy
from experiments.spec.space import Real
from experiments.spec.study import Study, resolve
from experiments.spec.trial import Status, Trial, TrialResult, evaluation_steps
from workloads.base import Goal, Workload

GOAL = 0.1
INITIAL_ERROR = 0.9


@dataclasses.dataclass(frozen=True)
class MemoryRecord:
    """A record that was never on disk."""

    study: Mapping[str, Any]
    trials: pl.DataFrame
    evaluations: pl.DataFrame
    norms: pl.DataFrame | None = None
    repeats: MemoryRecord | None = None

    def scan(self, table: str, of: pl.DataFrame | None = None) -> pl.LazyFrame | None:
        """As `experiments.records.store.Record.scan`."""
        rows = getattr(self, table)
        if rows is None or of is None:
            return None if rows is None else rows.lazy()
        return rows.lazy().join(of.lazy(), on=("batch_size", "seed", "trial"), how="semi")


@dataclasses.dataclass(frozen=True)
class Truth:
    """The simulated law: fewest steps, critical batch size, best effective rate, noise."""

    least_steps: float = 40.0
    critical: float = 64.0
    largest_rate: float = 1.0
    floor: float = 0.04
    noise: float = 0.004
    diverges_above: float = 6.0

    def steps(self, batch_size: float) -> float:
        """Steps to the goal with the best hyperparameters, S_min (1 + B_crit / B)."""
        return self.least_steps * (1 + self.critical / batch_size)

    def rate(self, batch_size: float) -> float:
        """The best effective learning rate."""
        return self.largest_rate / (1 + self.critical / batch_size)


SPACE = {"learning_rate": Real(1e-4, 10.0, "log"), "momentum": Real(0.5, 0.999, "reverse_log")}


def make_study(
    batch_sizes: Sequence[int] = (1, 4, 16, 64, 256, 1024),
    *,
    trials: int = 20,
    seeds: Sequence[int] = (0,),
    goal: float = GOAL,
    step_budget: int = 200,
    epochs: int = 10,
    optimizer: str = "nesterov",
    space: Mapping[str, Any] | None = None,
    sampler: str = "halton",
    **fields: Any,
) -> ResolvedStudy:
    """A small study on the digits; other fields of `Study` pass through."""
    workload = Workload(
        name="digits_fc",
        dataset="digits",
        model="workloads.models.fc:build",
        losses="workloads.losses:classification",
        goal=Goal("classification_error", goal),
    )
    return Study(
        name="synthetic",
        question="How far can the batch grow before more of it stops saving steps?",
        workload=workload,
        batch_sizes=tuple(batch_sizes),
        step_budget=step_budget,
        example_budget=epochs * 1024,
        optimizer=optimizer,
        space=SPACE if space is None else space,
        trials=trials,
        seeds=tuple(seeds),
        sampler=sampler,
        **fields,
    ).resolved


def make_record(
    definition: StudyFields | None = None, truth: Truth = Truth(), seed: int = 0
) -> MemoryRecord:
    """A study as `simulate` finds it: trials until N are COMPLETE, at most 4 N, per search."""
    study = resolve(definition or make_study())
    trials: list[dict[str, Any]] = []
    evaluations: list[pl.DataFrame] = []
    for search_seed in study.seeds:
        for batch_size in study.batch_sizes:
            complete = index = 0
            while complete < study.trials and index < 4 * study.trials:
                generator = np.random.default_rng([seed, search_seed, batch_size, index])
                trial, measured = simulate(study, truth, batch_size, search_seed, index, generator)
                trials.append(trial)
                evaluations.append(measured)
                complete += trial["status"] == "COMPLETE"
                index += 1
    return MemoryRecord(describe(study), pl.DataFrame(trials), pl.concat(evaluations))


def simulate(
    study: ResolvedStudy,
    truth: Truth,
    batch_size: int,
    seed: int,
    index: int,
    generator: np.random.Generator,
) -> tuple[dict[str, Any], pl.DataFrame]:
    """(row of the trials table, rows of the evaluations table) of one simulated trial."""
    point = {name: float(generator.uniform()) for name in study.space}
    values = study.trial(batch_size, seed, index, point, "").hyperparameters
    effective = values.get("learning_rate", 0.1) / (1 - values.get("momentum", 0.0))
    off = effective / truth.rate(batch_size)
    length = study.length(batch_size)
    diverged = off > truth.diverges_above
    end = min(length, max(1, int(60 / off))) if diverged else length
    steps = np.array(evaluation_steps(length))
    steps = steps[steps < end] if diverged else steps
    duration = truth.steps(batch_size) * (off + 1 / off) / 2
    decay = math.log((INITIAL_ERROR - truth.floor) / (GOAL - truth.floor))
    error = truth.floor + (INITIAL_ERROR - truth.floor) * np.exp(-decay * (steps / duration) ** 0.7)
    error = np.abs(error + truth.noise * generator.standard_normal(len(steps)))
    row = {
        "batch_size": batch_size, "seed": seed, "trial": index,
        "identity": f"{batch_size}-{seed}-{index}",
        "status": "INFEASIBLE" if diverged else "COMPLETE",
        "train_steps": length, "steps": end, "seconds": end * 1e-4, "plan": 0, "message": "",
        **values,
    }  # fmt: skip
    return row, measurements(batch_size, seed, index, steps, error)


def measurements(
    batch_size: int, seed: int, index: int, steps: Sequence[int], error: Sequence[float]
) -> pl.DataFrame:
    """Rows of the evaluations table with the given validation errors."""
    steps = np.asarray(steps, np.int64)
    error = np.asarray(error, np.float64)
    key = {"batch_size": batch_size, "seed": seed, "trial": index}
    return pl.DataFrame(
        {
            **{name: np.full(len(steps), value, np.int64) for name, value in key.items()},
            "step": steps,
            "examples": steps * batch_size,
            "validation/classification_error": error,
            "validation/cross_entropy": 2.5 * error,
            "train/classification_error": 0.8 * error,
            "train/cross_entropy": 2.0 * error,
        }
    )


def describe(study: ResolvedStudy) -> dict[str, Any]:
    """What ``study.json`` holds."""
    return {
        "schema_version": 1,
        "study": study.describe(),
        "dataset": {
            "name": "digits",
            "sizes": {"train": 1024, "validation": 384, "test": 389},
            "classes": 10,
            "source": "simulated",
            "checksum": "0123456789abcdef" * 4,
        },
        "identity": study.identity("0123456789abcdef" * 4),
        "hyperparameters": list(study.hyperparameters),
        "environment": {
            "device": "simulated CPU",
            "versions": {"python": "3.11", "jax": "0.10.2", "batchscale": "0.1.0"},
            "commit": "0123456789abcdef0123456789abcdef01234567",
        },
        "plans": [{"execution": "scan", "pack": 8}],
    }


def handmade(
    curves: Mapping[int, Sequence[tuple[str, Mapping[int, float]]]], **study: Any
) -> MemoryRecord:
    """A record from explicit curves: batch size -> trials in order, (status, step -> error)."""
    made = make_study(tuple(curves), **study)
    trials, evaluations = [], []
    for batch_size, rows in curves.items():
        for index, (status, curve) in enumerate(rows):
            trials.append(
                {
                    "batch_size": batch_size, "seed": 0, "trial": index, "identity": "",
                    "status": status, "train_steps": made.length(batch_size),
                    "steps": max(curve, default=0), "seconds": 0.1, "plan": 0, "message": "",
                    "learning_rate": 0.1, "momentum": 0.9,
                }
            )  # fmt: skip
            evaluations.append(
                measurements(batch_size, 0, index, list(curve), list(curve.values()))
            )
    return MemoryRecord(describe(made), pl.DataFrame(trials), pl.concat(evaluations))


def store(folder: Path, record: MemoryRecord) -> None:
    """Writes a synthetic record through the real store."""
    evaluations = record.evaluations.partition_by(["batch_size", "seed", "trial"], as_dict=True)
    with Writer.open(folder, record.study) as writer:
        results = []
        names = record.study["hyperparameters"]
        for row in record.trials.iter_rows(named=True):
            trial = Trial(
                row["batch_size"], row["seed"], row["trial"], row["train_steps"],
                {name: row[name] for name in names}, row["identity"],
            )  # fmt: skip
            empty = record.evaluations.clear()
            measured = evaluations.get((row["batch_size"], row["seed"], row["trial"]), empty)
            columns = ["step", *(name for name in measured.columns if "/" in name)]
            arrays = {name: measured[name].to_numpy() for name in columns}
            results.append(TrialResult(trial, Status(row["status"]), row["steps"], arrays))
        writer.commit(results)
