"""The Tuning Playbook's checks that look at courses of training and at all trials of a search."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import polars as pl

from experiments.analysis.best_hyperparameters import EFFECTIVE, with_effective_rate
from experiments.analysis.curve_findings import (
    GOOD_FACTOR,
    GOOD_OF,
    LATE_NOISE,
    LATE_PART,
    LEAST_GOOD,
    LEAST_INFEASIBLE,
    NEAR_EDGE,
    RISE_CORRELATION,
    RISE_NOISE,
    RISE_SHARE,
    UNEQUAL,
    CurveFinding,
    LateVariance,
    MixedBudgets,
    Overfitting,
    TooFewGood,
    TrainingRises,
    UnequalTuning,
    UnstableAbove,
)
from experiments.analysis.question import SEARCH, TRIAL, Question
from experiments.analysis.searches import counted_of
from experiments.analysis.view import View
from experiments.spec.trial import Status

_MEDIAN_OF = 5
_FEWEST_EVALUATIONS = 12


def too_few_good(passed: pl.DataFrame) -> list[CurveFinding]:
    """Batch sizes where, in most searches of at least 10 trials, fewer than 3 come within twice
    the fewest steps.

    Args:
      passed: rows of `crossings`.
    """
    near = pl.col("step") <= GOOD_FACTOR * pl.col("step").min()
    counts = passed.group_by(SEARCH).agg(near.sum().alias("good"), pl.len().alias("of"))
    counts = counts.filter((pl.col("of") >= GOOD_OF) & (pl.col("good") > 0))
    few = pl.col("good") < LEAST_GOOD
    sizes = counts.group_by("batch_size").agg(
        few.mean().alias("share"), pl.col("good").min(), pl.col("of").max()
    )
    found = sizes.filter(pl.col("share") > 0.5).sort("batch_size")
    rows = found.select("batch_size", "good", "of").rows()
    return [TooFewGood(*map(tuple, zip(*rows, strict=True)))] if rows else []


def unstable_above(view: View, best: pl.DataFrame) -> list[CurveFinding]:
    """Batch sizes whose best trials, of half of the searches, lie at the edge of divergence."""
    trials = with_effective_rate(view.record.trials)
    if EFFECTIVE not in trials.columns or EFFECTIVE not in best.columns:
        return []
    rows = []
    for batch_size, own in _by_size(trials):
        diverged = pl.col("status") == Status.INFEASIBLE.value
        lost, kept = own.filter(diverged)[EFFECTIVE], own.filter(~diverged)[EFFECTIVE]
        if len(lost) < LEAST_INFEASIBLE or kept.is_empty():
            continue
        edge = float(lost.min())  # type: ignore[arg-type]
        largest = float(kept.max())  # type: ignore[arg-type]
        if edge <= largest:
            continue
        mine = best.filter(pl.col("batch_size") == batch_size)[EFFECTIVE].drop_nulls()
        factors = largest / mine
        middle = float(factors.median() or math.inf)  # type: ignore[arg-type]
        if middle <= NEAR_EDGE:
            rows.append((batch_size, edge, middle))
    return [UnstableAbove(*map(tuple, zip(*rows, strict=True)))] if rows else []


def of_curves(view: View, best: pl.DataFrame) -> list[CurveFinding]:
    """Findings in the courses of the best trials that trained to their full length.

    Args:
      best: rows of `best_trials`.
    """
    goal = view.goal
    train = goal.column.replace(f"{goal.split}/", "train/", 1)
    others = [train] if train in view.columns and train != goal.column else []
    keys = best.join(view.trained.select(TRIAL), on=TRIAL, how="semi").select(TRIAL)
    rows = view.measurements(*others).join(keys.lazy(), on=TRIAL, how="semi").collect()
    overfit: dict[int, list[float]] = {}
    rising: dict[int, list[float]] = {}
    noisy: dict[int, list[float]] = {}
    for key, own in rows.sort("step").partition_by(TRIAL, as_dict=True).items():
        values = goal.sign * own["value"].to_numpy().astype(float)
        if len(values) < _FEWEST_EVALUATIONS or not np.isfinite(values).all():
            continue
        trained = goal.sign * own[train].to_numpy().astype(float) if others else values
        risen = rise(values) if others else None
        worse = rise(trained)
        for table, share in (
            (rising, worse),
            (overfit, risen if worse is None else None),
            (noisy, late_noise(values, own["step"].to_numpy())),
        ):
            table.setdefault(int(key[0]), []).append(share or 0.0)
    kinds = ((TrainingRises, rising), (Overfitting, overfit), (LateVariance, noisy))
    return [kind(*found) for kind, table in kinds if (found := _mostly(table))]


def rise(values: np.ndarray) -> float | None:
    """Share of all that was gained which is lost again by the end; None where that is noise.

    Args:
      values: of a metric that is to fall, at the evaluations of a trial.
    """
    middle = _running_median(values)
    at = int(np.argmin(middle))
    after = values[at:]
    gained = float(middle[0] - middle[at])
    risen = float(middle[-1] - middle[at])
    if gained <= 0 or len(after) < _MEDIAN_OF:
        return None
    noise = _noise(values[len(values) // 2 :])
    pairs = np.sign(after[:, None] - after[None, :])[np.triu_indices(len(after), 1)]
    rises = -float(pairs.mean()) >= RISE_CORRELATION
    far = risen >= max(RISE_SHARE * gained, RISE_NOISE * noise)
    return risen / gained if rises and far else None


def late_noise(values: np.ndarray, steps: np.ndarray) -> float | None:
    """Noise of the last 40 % of the steps over all that was gained; None where below 5 %."""
    middle = _running_median(values)
    gained = float(middle[0] - middle.min())
    if gained <= 0:
        return None
    late = values[steps >= (1 - LATE_PART) * steps[-1]]
    share = _noise(late if len(late) > _MEDIAN_OF else values[-_MEDIAN_OF - 1 :]) / gained
    return share if share >= LATE_NOISE else None


def mixed_budgets(question: Question) -> list[CurveFinding]:
    """Batch sizes that are trained beyond both budgets, where others are not or by less."""
    if question.batch_size_schedule != "constant" or question.imported:
        return []
    over = {
        b: steps / max(question.step_budget, math.ceil(question.example_budget / b))
        for b, steps in question.train_steps.items()
    }
    least = min(over.values(), default=1.0)
    rows = [(b, factor) for b, factor in sorted(over.items()) if factor > UNEQUAL * least]
    return [MixedBudgets(*map(tuple, zip(*rows, strict=True)))] if rows else []


def unequal_tuning(view: View, table: pl.DataFrame) -> list[CurveFinding]:
    """Batch sizes with fewer counted trials, all searches together, than the most by a quarter.

    Args:
      table: rows of `steps_to_result`.
    """
    counted = table.select("batch_size", counted_of(view))
    sums = counted.group_by("batch_size").agg(pl.col("counted").sum())
    sums = sums.filter(pl.col("counted") > 0).sort("batch_size")
    most = sums["counted"].max()
    fewer = sums.filter(UNEQUAL * pl.col("counted") < most) if len(sums) else sums
    if fewer.is_empty():
        return []
    sizes, counts = tuple(fewer["batch_size"]), fewer["counted"]
    return [UnequalTuning(sizes, int(counts.min()), int(most))]  # type: ignore[arg-type]


def _mostly(table: dict[int, list[float]]) -> tuple[tuple[int, ...], tuple[float, ...]] | None:
    """(batch sizes at which more than half of the searches show it, the largest of each)."""
    hit = {
        b: max(found) for b, found in table.items() if 2 * sum(f > 0 for f in found) > len(found)
    }
    return (tuple(sorted(hit)), tuple(hit[b] for b in sorted(hit))) if hit else None


def _by_size(table: pl.DataFrame) -> Iterator[tuple[int, pl.DataFrame]]:
    for size in table["batch_size"].unique().sort():
        yield int(size), table.filter(pl.col("batch_size") == size)


def _running_median(values: np.ndarray) -> np.ndarray:
    """Medians of 5 neighbours, the first value first."""
    windows = np.lib.stride_tricks.sliding_window_view(values, _MEDIAN_OF)
    return np.concatenate([values[:1], np.median(windows, axis=1)])


def _noise(values: np.ndarray) -> float:
    """Standard deviation of independent noise, from the successive differences' median."""
    return 1.4826 * float(np.median(np.abs(np.diff(values)))) / math.sqrt(2)
