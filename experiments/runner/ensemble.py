"""Ensembles of a record's trials, of four kinds, and what averaging their predictions is worth.

    from experiments.runner.ensemble import make_ensemble
    found = make_ensemble("runs/quickstart", "inits", 4, say=print)
    found.ensemble.probabilities(images)     # of all members
    found.by_size.mean["accuracy"]           # against the number of members

    inits        the best configuration from K initialisations and orders of its examples: the best
                 trial and K - 1 of its kind, trained side by side in one pack to its best step
    top          the K best trials of the search, each at its best step
    checkpoints  the best trial after K evenly spaced steps of its second half
    average      one model: the mean of those K checkpoints' weights, batch norm's statistics
                 measured again on training examples

Probabilities are averaged, never logits (CS231n's notes, neural-networks-3, model ensembles).
"""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import polars as pl

from experiments.diagnostics.ensemble_intervals import MetricInterval, intervals
from experiments.diagnostics.ensemble_model import Ensemble, save_ensemble
from experiments.diagnostics.ensembles import BySize, Quality, by_size, quality
from experiments.runner.ensemble_members import MemberMaker, member_of
from experiments.runner.trained import (
    OpenedRecord,
    Say,
    TrainedTrial,
    reopen,
    trained_to_best,
    unsaid,
    with_data,
)
from experiments.runtime.compilation import switched
from experiments.spec.resolved import ResolvedStudy
from experiments.spec.trial import Status
from workloads.datasets.base import read as read_examples
from workloads.datasets.base import size_of

Kind = Literal["inits", "top", "checkpoints", "average"]
KINDS: tuple[str, ...] = get_args(Kind)


@dataclasses.dataclass(frozen=True)
class EnsembleResult:
    """An ensemble and its worth on a split.

    Attributes:
      ensemble: it predicts.
      split, examples: where it was evaluated.
      quality: of all members; of the average itself for the kind "average".
      by_size: against the number of members.
      single: of the best trial alone.
      intervals: metric -> its 95 % interval over examples, and that of its difference from
        ``single``.
      trained_examples: examples that its members' training took, beyond the record's.
      seconds: of training them, and of predicting the split with all members.
      study, example: what a saved ensemble is built from again.
    """

    ensemble: Ensemble
    split: str
    examples: int
    quality: Quality
    by_size: BySize
    single: Quality
    intervals: dict[str, MetricInterval]
    trained_examples: int
    seconds: tuple[float, float]
    study: ResolvedStudy
    example: Mapping[str, np.ndarray]


def make_ensemble(
    folder: Path | str,
    kind: str,
    size: int,
    *,
    split: str = "validation",
    search: int | None = None,
    seed: int = 0,
    data_dir: str | None = None,
    warn: Callable[[str], None] = warnings.warn,
    say: Say = unsaid,
) -> EnsembleResult:
    """Make an ensemble of a record; nothing in ``folder`` is changed.

    Args:
      folder: a study's record.
      kind: of `KINDS`.
      size: K, at least 2.
      split: where it is evaluated.
      search: seed of the search whose trials it is made of; all of the record where None.
      seed: of the choice of subsets and of the bootstrap.
      data_dir: where the dataset's files are, if not in the usual places.
      warn: takes one line where a checkpoint cannot be used.
      say: takes a line that says what is trained, before it is.

    Raises:
      ValueError: another kind, size or split; fewer trials than members; outputs that are no
        scores of classes.
      StudyError: a trial is not reproduced, or a member diverged.
      RecordError, DataError: one clear line.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if size < 2:
        raise ValueError(f"size must be at least 2, got {size!r}")
    record, study = reopen(folder)
    if search is not None and search not in study.seeds:
        raise ValueError(f"seed must be among {', '.join(map(str, study.seeds))}, got {search!r}")
    trials = record.trials if search is None else record.trials.filter(seed=search)
    ranked = _ranked(trials, record, study)
    if kind == "top" and len(ranked) < size:
        raise ValueError(
            f"size must be at most {len(ranked)} (trials with a best step), got {size}"
        )
    with switched(study.precision.float64):
        opened = with_data(folder, record, study, data_dir)
        opened.split(split)
        maker = MemberMaker(opened, ranked, size, say, warn)
        began = time.perf_counter()
        best = trained_to_best(opened, ranked[0], warn=warn, say=say)
        members = maker.members(kind, best)
        ensemble = Ensemble(best.config, tuple(members), kind)
        seconds = time.perf_counter() - began
        return _evaluated(
            opened, ensemble, best, split=split, seed=seed, cost=(maker.examples, seconds)
        )


def _ranked(trials: pl.DataFrame, record: Any, study: ResolvedStudy) -> list[dict[str, Any]]:
    """Rows of the trials that have a best step, the best first."""
    held = trials.filter(pl.col("status").is_in([Status.COMPLETE.value, Status.STOPPED.value]))
    evaluations = record.scan("evaluations")
    column, key = study.goal.column, ["batch_size", "seed", "trial"]
    values = (
        evaluations.filter(pl.col(column).is_finite())
        .group_by(key)
        .agg((study.goal.sign * pl.col(column)).min().alias("_best"))
        .collect()
    )
    rows = held.join(values, on=key).sort("_best", *key).drop("_best").to_dicts()
    if not rows:
        raise ValueError(f"the record of {study.name} holds no trial with a best step")
    return rows


def _evaluated(
    opened: OpenedRecord,
    ensemble: Ensemble,
    best: TrainedTrial,
    *,
    split: str,
    seed: int,
    cost: tuple[int, float],
) -> EnsembleResult:
    part = opened.split(split)
    examples = read_examples(part, np.arange(size_of(part)))
    labels = np.asarray(examples["targets"])
    alone = Ensemble(best.config, (member_of(best.state, best, best.name),), "single")
    single = alone.logits(examples["inputs"])
    ensemble.logits(examples["inputs"][:1])  # compiled
    began = time.perf_counter()
    logits = ensemble.logits(examples["inputs"])
    predicting = time.perf_counter() - began
    return EnsembleResult(
        ensemble,
        split,
        len(labels),
        quality(logits, labels),
        by_size(logits, labels, seed=seed),
        quality(single, labels),
        intervals(logits, single, labels, seed),
        cost[0],
        (cost[1], predicting),
        opened.study,
        read_examples(opened.split("train"), np.arange(1)),
    )


def as_tables(found: dict[str, EnsembleResult]) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """(numbers, sizes, bins) of ensembles by kind, for the page.

    numbers: ``kind, metric, value, low, high, difference, difference_low, difference_high``;
    sizes: ``kind, metric, members, subsets, value``; bins: ``kind, confidence, accuracy,
    examples``.
    """
    numbers, sizes, bins = [], [], []
    for kind, one in found.items():
        numbers += [
            {"kind": kind, "metric": metric, **dataclasses.asdict(interval)}
            for metric, interval in one.intervals.items()
        ]
        members, subsets = one.by_size.sizes.tolist(), one.by_size.subsets.tolist()
        for metric, column in one.by_size.mean.items():
            rows = zip(members, subsets, column.tolist(), strict=True)
            names = ("kind", "metric", "members", "subsets", "value")
            sizes += [dict(zip(names, (kind, metric, *row), strict=True)) for row in rows]
        held = one.quality.calibration
        columns = held.confidence.tolist(), held.accuracy.tolist(), held.counts.tolist()
        bins += [
            {"kind": kind, "confidence": c, "accuracy": a, "examples": n}
            for c, a, n in zip(*columns, strict=True)
        ]
    return pl.DataFrame(numbers), pl.DataFrame(sizes), pl.DataFrame(bins)


def save_into(folder: Path, found: EnsembleResult, size: int) -> Path:
    """Save an ensemble of a record as ``folder/ensembles/KIND-SIZE/model``; return where."""
    place = folder / "ensembles" / f"{found.ensemble.kind}-{size}" / "model"
    save_ensemble(found.ensemble, place, found.study, found.example)
    return place
