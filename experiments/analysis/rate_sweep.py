"""A sweep of the learning rate read back: one curve a trial, its class, and what brackets the edge.

A rate *blows up* where training is lost to instability: it diverges (or grows geometrically), or
it makes no progress where lower rates do and that is no noise of the gradient. An instability that
training recovers from is named, and bounds no rate: on a quadratic a stable rule with momentum may
overshoot 361-fold before it settles.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import polars as pl

from experiments.analysis.question import TRIAL, StudyRecord, read_question
from experiments.analysis.training_stability import Judged, LossCurve, classify
from experiments.spec.trial import Status
from workloads.base import Goal

RATE = "learning_rate"
LOSSES = ("cross_entropy", "loss")
"""Metrics that are training losses in the workloads here, where a record holds them."""


@dataclasses.dataclass(frozen=True)
class SweepRun:
    """A trial of a sweep.

    Attributes:
      key: (batch size, seed, index).
      rate: its (peak) learning rate.
      curve: its training loss.
      judged: its class.
      best: the best value of the goal's metric at any evaluation, None where none is finite.
      best_step: where.
    """

    key: tuple[int, int, int]
    rate: float
    curve: LossCurve
    judged: Judged
    best: float | None
    best_step: int | None


def loss_column(record: StudyRecord) -> str:
    """The column of the training loss: of a loss where the record has one, else of the goal."""
    goal = read_question(record).goal
    rows = record.scan("evaluations")
    assert rows is not None, "a record always has the table"
    columns = rows.collect_schema().names()
    for metric in LOSSES:
        if f"train/{metric}" in columns:
            return f"train/{metric}"
    return f"train/{goal.metric}"


def runs_of(record: StudyRecord, first_loss: float) -> list[SweepRun]:
    """Every trial of a record, by rate and then by key.

    Args:
      record: of trials that differ in their rate or seed.
      first_loss: the training loss before training.
    """
    goal, loss = read_question(record).goal, loss_column(record)
    rows = record.scan("evaluations")
    assert rows is not None, "a record always has the table"
    names = [*TRIAL, "step", loss, *([goal.column] if goal.column != loss else [])]
    measured = rows.select(names).collect().sort(*TRIAL, "step")
    by_trial = measured.partition_by(TRIAL, as_dict=True)
    found = []
    for row in record.trials.sort(RATE, *TRIAL).iter_rows(named=True):
        key = tuple(row[name] for name in TRIAL)
        own = by_trial.get(key, measured.clear())
        kept = own.filter(pl.col(loss).is_finite())
        diverged = row["steps"] if row["status"] == Status.INFEASIBLE.value else None
        curve = LossCurve(
            kept["step"].to_list(), kept[loss].to_list(), first_loss, row["train_steps"], diverged
        )
        best, step = _best(own, goal)
        found.append(SweepRun(key, row[RATE], curve, classify(curve), best, step))
    return found


def _best(own: pl.DataFrame, goal: Goal) -> tuple[float | None, int | None]:
    values = own[goal.column]
    best = goal.best(values)
    if best is None:
        return None, None
    return float(best), int(own.filter(values == best)["step"][0])


def best_run(runs: Sequence[SweepRun], goal: Goal) -> SweepRun | None:
    """The run of the best value among those that did not diverge, the lowest rate of several."""
    kept = [run for run in runs if run.best is not None and run.judged.kind != "divergence"]
    return min(kept, key=lambda run: (goal.sign * run.best, run.rate), default=None)  # type: ignore[operator]


def learned(run: SweepRun) -> bool:
    """True where training lowered the loss by a tenth at any evaluation.

    Against the first loss and the first evaluation alike: initializations differ between trials.
    """
    heights = run.curve.heights
    if not len(heights):
        return False
    return float(heights.min()) < min(0.0, float(heights[0])) + math.log(0.9)


def undecided(runs: Sequence[SweepRun], best: SweepRun) -> list[float]:
    """Rates above the best that end without progress: noise of the gradient, or broken."""
    return [r.rate for r in runs if r.rate > best.rate and _left_behind(r)]


def blows_up(run: SweepRun, best: SweepRun, noisy: Mapping[float, bool]) -> bool:
    """True where training at this rate is lost to instability.

    Args:
      run: a trial.
      best: that of the best rate; no rate below it blows up for making no progress.
      noisy: rate -> whether its level is gradient noise, of the `undecided` ones.
    """
    if run.judged.kind == "divergence":
        return True
    return run.rate > best.rate and _left_behind(run) and not noisy.get(run.rate, False)


def _left_behind(run: SweepRun) -> bool:
    """True where training ends without progress and does not diverge."""
    if run.judged.kind in ("divergence", "no progress"):
        return run.judged.kind == "no progress"
    heights, length = run.curve.heights, run.curve.length
    late = [h for s, h in zip(run.curve.steps, heights, strict=True) if s >= 0.75 * length]
    middle = float(sorted(late)[len(late) // 2]) if late else -math.inf
    return not run.judged.stable and middle >= math.log(0.9)


@dataclasses.dataclass(frozen=True)
class Bracket:
    """Between which rates stability ends.

    Attributes:
      stable: the largest rate with no rate at or below it that blows up; None where the lowest
        does.
      unstable: the next rate of the sweep, unstable_base_learning_rate; None where none blows up.
    """

    stable: float | None
    unstable: float | None


def bracket(runs: Sequence[SweepRun], best: SweepRun, noisy: Mapping[float, bool]) -> Bracket:
    """The edge of stability in a sweep; of several seeds the first that blows up counts."""
    rates = sorted({run.rate for run in runs})
    lost = {run.rate for run in runs if blows_up(run, best, noisy)}
    first = next((rate for rate in rates if rate in lost), None)
    below = [rate for rate in rates if first is None or rate < first]
    return Bracket(below[-1] if below else None, first)
