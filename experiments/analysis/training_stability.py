"""Stable or not: the training loss of one trial classified by a stated rule.

The playbook tells early from mid-training instability by eye. Here y_k is the logarithm of the
training loss at evaluation k (of losses that may be zero or negative: (L - L_0) over the size of
L_0), y_0 that before training, T the trial's length, and sigma a robust spread (1.4826 times the
median absolute deviation).

1. divergence: the trial is INFEASIBLE; or it *grows geometrically*: over the last half of its
   steps the rank correlation of y with the step is at least 0.8 and the fitted line rises by at
   least ln 2. Growth is a property of the slope, not of the level: the loss of stable training may
   settle far above its first value on a floor of gradient noise, where y has no slope.
2. early instability: within the first tenth of the steps y rises above y_0 by ln 2 and stands
   4 sigma above what the last half settles at: a rise that is followed by a fall.
3. mid-training instability: later, after a decline of ln 1.25 below y_0, one evaluation lies
   above *all* twelve before it by ln 2 and by 4 sigma of residuals from a line, those of the twelve
   and those of the last half of training.
4. no progress: at no time any of these, but the last quarter's median is not below y_0 + ln 0.9.
   At a rate above the best this may be a noise floor or a net that was broken in its first steps;
   a larger batch tells them apart (`settles_lower`).
5. stable otherwise.

All thresholds are ours, set so that floors of gradient noise raise next to no alarm
(tests/analysis/test_training_stability.py); the four kinds are the Tuning Playbook's.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

Kind = Literal[
    "stable", "no progress", "early instability", "mid-training instability", "divergence"
]
UNSTABLE: tuple[Kind, ...] = ("early instability", "mid-training instability", "divergence")
EARLY_PART = 0.1
GROWTH_CORRELATION, GROWTH_RISE = 0.8, math.log(2)
EARLY_RISE, SPREADS = math.log(2), 4.0
DECLINE, LATER_RISE, WINDOW = math.log(1.25), math.log(2), 12
NO_PROGRESS = math.log(0.9)
NOISE_BATCHES, NOISE_FALL = 16, 0.25
LEAST_SPREAD = 0.01


@dataclasses.dataclass(frozen=True)
class LossCurve:
    """The training loss of a trial.

    Attributes:
      steps, losses: of its evaluations, ascending.
      first_loss: before training.
      length: steps it was to make.
      diverged_at: the step whose loss or gradient diverged, None where none did.
    """

    steps: Sequence[int]
    losses: Sequence[float]
    first_loss: float
    length: int
    diverged_at: int | None = None

    @property
    def heights(self) -> np.ndarray:
        """y of every evaluation relative to y_0."""
        losses = np.asarray(self.losses, float)
        if self.first_loss > 0 and (losses > 0).all():
            return np.log(losses / self.first_loss)
        return (losses - self.first_loss) / max(abs(self.first_loss), 1.0)


@dataclasses.dataclass(frozen=True)
class Judged:
    """A class, and what it rests on.

    Attributes:
      kind: one of the five of the module.
      onset: the step at which the instability was first seen, None where there is none.
      evidence: one clause.
    """

    kind: Kind
    onset: int | None
    evidence: str

    @property
    def stable(self) -> bool:
        """True where nothing unstable was seen."""
        return self.kind not in UNSTABLE


def classify(curve: LossCurve) -> Judged:
    """The class of a trial by the module's rule."""
    steps, heights = np.asarray(curve.steps, float), curve.heights
    early = EARLY_PART * curve.length
    if curve.diverged_at is not None:
        when = "early, " if curve.diverged_at <= early else ""
        return Judged("divergence", curve.diverged_at, f"{when}at step {curve.diverged_at:,}")
    if len(steps) < 2:
        return Judged("stable", None, "too few evaluations to say")
    if (growth := _growth(steps, heights, curve.length)) is not None:
        onset, rise = int(steps[_least(heights)]), math.exp(growth)
        seen = f"the loss grows {rise:.3g}-fold over the last half, geometrically, without an end"
        return Judged("divergence", onset, seen)
    if (at := _early_peak(steps, heights, curve.length)) is not None:
        onset, rise = int(steps[at]), math.exp(heights[at])
        seen = f"{rise:.3g} times the first loss at step {onset:,}, then a fall"
        return Judged("early instability", onset, seen)
    if (at := _later_jump(steps, heights, early)) is not None:
        onset, rise = int(steps[at]), math.exp(heights[at] - heights[:at].min())
        seen = f"{rise:.3g} times its least value at step {onset:,}"
        return Judged("mid-training instability", onset, seen)
    level = float(np.median(heights[steps >= 0.75 * curve.length]))
    settled = f"settles at {math.exp(min(level, 700)):.3g} of the first loss"
    return Judged("no progress" if level >= NO_PROGRESS else "stable", None, settled)


def settles_lower(curve: LossCurve, larger: LossCurve) -> bool:
    """True where a level is gradient noise: it falls below a quarter at 16 times the batch.

    A floor of gradient noise falls as one over the batch size; a broken net does not. With the
    larger batch the loss may have overshot before it settled there.
    """
    if classify(larger).kind == "divergence":
        return False
    levels = [
        np.median(np.asarray(c.losses, float)[np.asarray(c.steps) >= 0.75 * c.length])
        for c in (curve, larger)
    ]
    return bool(levels[1] < NOISE_FALL * levels[0])


def smoothed(values: Sequence[float], steps: Sequence[int], half_life: float) -> np.ndarray:
    """An exponential average over steps that starts at the first value.

    z_0 = x_0, z_k = w z_(k-1) + (1 - w) x_k with w = 2^-((s_k - s_(k-1)) / half_life). (Started at
    zero it would rise in its first half-lives whatever the data do.)
    """
    kept, found = float(values[0]), [float(values[0])]
    for gap, value in zip(np.diff(steps), values[1:], strict=True):
        weight = 0.5 ** (gap / half_life)
        kept = weight * kept + (1 - weight) * value
        found.append(kept)
    return np.asarray(found)


def spread(values: np.ndarray) -> float:
    """1.4826 times the median absolute deviation, at least 0.01."""
    deviation = 1.4826 * float(np.median(np.abs(values - np.median(values))))
    return max(deviation, LEAST_SPREAD)


def _growth(steps: np.ndarray, heights: np.ndarray, length: int) -> float | None:
    """Rise of the fitted line over the last half where it grows geometrically."""
    late = steps >= length / 2
    x, y = steps[late], heights[late]
    if len(x) < 6:
        return None
    rise = float(np.polyfit(x, y, 1)[0] * (x[-1] - x[0]))
    pairs = np.sign(y[:, None] - y[None, :])[np.triu_indices(len(y), 1)]
    correlation = -float(pairs.mean())  # Kendall's tau
    grows = correlation >= GROWTH_CORRELATION and rise >= GROWTH_RISE
    return rise if grows else None


def _least(heights: np.ndarray) -> int:
    return int(np.argmin(heights))


def _early_peak(steps: np.ndarray, heights: np.ndarray, length: int) -> int | None:
    """The highest early evaluation where it stands above the start and above what follows."""
    first, late = steps <= max(EARLY_PART * length, 1), steps >= length / 2
    if not first.any() or not late.any():
        return None
    at = int(np.argmax(heights[first]))
    settled = heights[late]
    above = heights[at] - float(np.median(settled)) >= SPREADS * spread(settled)
    return at if heights[at] >= EARLY_RISE and above else None


def _later_jump(steps: np.ndarray, heights: np.ndarray, early: float) -> int | None:
    """The first later evaluation far above all of the window before it, after a decline."""
    late = steps >= steps[-1] / 2
    settled = _residual_spread(steps[late], heights[late])
    for at in range(WINDOW, len(steps)):
        if steps[at] <= early or heights[:at].min() > -DECLINE:
            continue
        before = slice(at - WINDOW, at)
        around = max(settled, _residual_spread(steps[before], heights[before]))
        needed = max(LATER_RISE, SPREADS * around)
        if heights[at] - heights[before].max() >= needed:
            return at
    return None


def _residual_spread(steps: np.ndarray, heights: np.ndarray) -> float:
    """Spread about a line whose slope is the median of all pairs' (Theil-Sen): a spike among the
    values does not hide itself."""
    if len(steps) < 3:
        return LEAST_SPREAD
    first, second = np.triu_indices(len(steps), 1)
    slope = np.median((heights[second] - heights[first]) / (steps[second] - steps[first]))
    return spread(heights - slope * steps)
