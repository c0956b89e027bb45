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
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

from experiments.diagnostics.ensemble_intervals import MetricInterval, intervals
from experiments.diagnostics.ensemble_model import Ensemble, Member, save_ensemble
from experiments.diagnostics.ensembles import BySize, Quality, by_size, quality
from experiments.diagnostics.weight_averages import mean_parameters, recomputed_statistics
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
from experiments.spec.errors import StudyError
from experiments.spec.resolved import ResolvedStudy
from experiments.spec.trial import Status, Trial
from experiments.training.layout import Execution
from experiments.training.population import Population, states_at
from experiments.training.state import TrainState, to_evaluate
from optimizers import OPTIMIZERS
from schedules.batch_size import examples_after, stretches
from workloads.datasets.base import read as read_examples
from workloads.datasets.base import size_of

Kind = Literal["inits", "top", "checkpoints", "average"]
KINDS: tuple[str, ...] = get_args(Kind)
_NEW = 1 << 20
"""Members that are trained anew have this index and the following, which no search gives."""


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
        maker = _Maker(opened, ranked, size, say, warn)
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


class _Maker:
    """Members of each kind, and the examples that training them takes."""

    def __init__(
        self,
        opened: OpenedRecord,
        ranked: Sequence[dict[str, Any]],
        size: int,
        say: Say,
        warn: Callable[[str], None],
    ) -> None:
        self.opened, self.ranked, self.size = opened, ranked, size
        self.say, self.warn = say, warn
        self.examples = 0

    def members(self, kind: str, best: TrainedTrial) -> list[Member]:
        """The members, the best trial among them but for an average."""
        if kind == "inits":
            return self._inits(best)
        if kind == "top":
            return self._top(best)
        if kind == "checkpoints":
            return self._checkpoints(best)
        return [self._average(best, self._checkpoints(best))]

    def _consumed(self, trial: Trial, steps: int) -> int:
        parts = stretches(self.opened.study.phases(trial.batch_size))
        return int(examples_after(parts, steps))

    def _side_by_side(self, trials: Sequence[Trial], steps: Sequence[int]) -> list[TrainState]:
        """States [members, ...] of trials of one batch size after each of these steps."""
        study, batch_size = self.opened.study, trials[0].batch_size
        program = self.opened.program(study.config("off"))
        packed = len(trials) > 1 and not OPTIMIZERS[study.optimizer].needs_value_fn
        if len(trials) > 1 and not packed:
            found = [self._side_by_side([trial], steps) for trial in trials]
            return [
                jax.tree.map(lambda *x: np.concatenate(x), *states)
                for states in zip(*found, strict=True)
            ]
        slots = 1 << (len(trials) - 1).bit_length()  # a pack's are a power of two
        execution = Execution("packed", slots) if packed else Execution("scan")
        population = Population(
            program, batch_size, execution, grid=study.grid, phases=study.phases(batch_size)
        )
        self.examples += len(trials) * self._consumed(trials[0], steps[-1])
        every = states_at(population, trials, steps)
        states = [jax.tree.map(lambda x: x[: len(trials)], one) for one in every]
        lost = np.flatnonzero(np.asarray(states[-1].diverged_at) > 0)
        if len(lost):
            raise StudyError(
                f"member {int(lost[0])} of the ensemble diverged at step "
                f"{int(np.asarray(states[-1].diverged_at)[lost[0]])}, where the best trial does not"
            )
        return states

    def _inits(self, best: TrainedTrial) -> list[Member]:
        others = [
            dataclasses.replace(best.trial, index=_NEW + k, identity="")
            for k in range(self.size - 1)
        ]
        self.say(
            f"training {len(others)} more initialisations of trial {best.name} side by side, "
            f"{best.step:,} steps each"
        )
        (states,) = self._side_by_side(others, [best.step])
        own = _member(best.state, best, best.name)
        fresh = [
            _member(_one(states, k), best, f"initialisation {k + 1} of trial {best.name}")
            for k in range(len(others))
        ]
        return [own, *fresh]

    def _top(self, best: TrainedTrial) -> list[Member]:
        found = [best]
        for row in self.ranked[1 : self.size]:
            found.append(trained_to_best(self.opened, row, warn=self.warn, say=self.say))
        self.examples += sum(self._consumed(one.trial, one.step) for one in found[1:])
        return [_member(one.state, one, f"trial {one.name}") for one in found]

    def _checkpoints(self, best: TrainedTrial) -> list[Member]:
        length = best.trial.most_steps
        steps = sorted({math.ceil(x) for x in np.linspace(length / 2, length, self.size)})
        if len(steps) < self.size:
            raise ValueError(
                f"size must be at most {len(steps)} (whole steps in the second half of trial "
                f"{best.name}), got {self.size}"
            )
        self.say(f"training trial {best.name} again, {length:,} steps, for {self.size} checkpoints")
        states = self._side_by_side([best.trial], steps)
        return [
            _member(_one(state, 0), best, f"trial {best.name} after {step} steps")
            for state, step in zip(states, steps, strict=True)
        ]

    def _average(self, best: TrainedTrial, members: Sequence[Member]) -> Member:
        params = mean_parameters([member.params for member in members])
        size = min(size_of(self.opened.split("train")), 1 << 14)
        examples = read_examples(self.opened.split("train"), np.arange(size))
        state = recomputed_statistics(
            best.config,
            params,
            members[-1].model_state,
            best.hyperparameters,
            examples,
            rows=max(2, best.trial.batch_size),
        )
        params, state = jax.device_get((params, state))
        name = f"the mean of {len(members)} checkpoints of trial {best.name}"
        return Member(params, state, dict(best.hyperparameters), name)


def _one(states: TrainState, k: int) -> TrainState:
    return jax.tree.map(lambda x: x[k], states)


def _member(state: TrainState, trained: TrainedTrial, name: str) -> Member:
    numbers = {n: jnp.asarray(value) for n, value in trained.hyperparameters.items()}
    params, model_state = jax.device_get(to_evaluate(trained.config, state, numbers))
    return Member(params, model_state, dict(trained.hyperparameters), name)


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
    alone = Ensemble(best.config, (_member(best.state, best, best.name),), "single")
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
