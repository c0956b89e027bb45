"""The words of the Tuning Playbook's initial configuration, each judged by what was measured.

"Simple, relatively fast, and relatively low-resource-consumption ... a result much better than
chance": the words are the Playbook's, the numbers that decide are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from experiments.analysis.sanity import Check

SECONDS = 600.0
"""A trial longer than this is not fast."""
MEMORY_SHARE = 0.5
"""Of the device's memory: more is not little."""
ERROR_SHARE, LOSS_SHARE = 0.5, 0.8
"""Of a constant predictor's error or cross entropy: above it is not much better than chance."""


def constant_predictor(targets: np.ndarray, metric: str) -> float | None:
    """The least value of a metric on ``targets`` that a predictor without inputs can have.

    With shares p_k of the classes (of the tokens that count): 1 - max p_k for
    ``classification_error``, -sum p_k log p_k for ``cross_entropy``; None for another metric.
    """
    if not np.issubdtype(targets.dtype, np.integer):
        return None
    shares = np.bincount(targets[targets >= 0]).astype(np.float64)
    shares = shares[shares > 0] / shares.sum()
    if metric == "classification_error":
        return float(1 - shares.max())
    return float(-np.sum(shares * np.log(shares))) if metric == "cross_entropy" else None


def simple(parameters: int, examples: int) -> Check:
    """One hyperparameter is tuned; nothing is scheduled, clipped or averaged."""
    said = f"constant rate, no clipping, no averaging; one hyperparameter tuned; {parameters:,} "
    said += f"parameters, {examples:,} training examples"
    return Check("simple", "pass", said, values={"parameters": parameters})


def fast(seconds_per_step: float, steps: int, reached: int | None, batch_size: int) -> Check:
    """A trial takes minutes at most.

    Args:
      seconds_per_step: of one trial.
      steps: of a trial.
      reached: the step of the best value.
      batch_size: examples per step.
    """
    whole = seconds_per_step * steps
    said = (
        f"{batch_size / seconds_per_step:,.0f} examples/s, {1e3 * seconds_per_step:.3g} ms a step"
    )
    said += f"; {whole:.3g} s a trial"
    if reached is not None:
        said += f", {seconds_per_step * reached:.3g} s to its best value"
    values = {"seconds_per_step": seconds_per_step, "seconds": whole}
    if whole > SECONDS:
        return Check("fast", "warn", said, "begin smaller: fewer --steps, a smaller model, a part "
                     "of the data (train_examples)", values)  # fmt: skip
    return Check("fast", "pass", said, values=values)


def little_resource(needed: int, there: int) -> Check:
    """Memory of a trial is a part of the device's."""
    share = needed / there if there else math.inf
    said = f"{needed / 1e6:,.1f} MB of {there / 1e9:,.1f} GB ({share:.1%})"
    values = {"bytes": needed, "share": share}
    if share > MEMORY_SHARE:
        return Check("little resource", "warn", said, "a smaller --batch-size or model", values)
    return Check("little resource", "pass", said, values=values)


def better_than_chance(best: float, chance: float | None, metric: str, rates: Sequence[float],
                       rate: float) -> Check:  # fmt: skip
    """The best trial is much better than the best constant predictor, off the ends of the sweep."""
    name = "much better than chance"
    values = {"best": best, "constant": chance, "learning_rate": rate}
    at = f"{metric.replace('_', ' ')} {best:.4g} at a rate of {rate:.3g}"
    if chance is None:
        return Check(name, "not applicable", f"{at}; no constant predictor is known of this metric",
                     values=values)  # fmt: skip
    said = f"{at}; the best constant predictor {chance:.4g}"
    share = ERROR_SHARE if metric == "classification_error" else LOSS_SHARE
    if best >= chance:
        return Check(name, "fail", said, "no better than chance: batchscale check looks for a "
                     "defect", values)  # fmt: skip
    if best > share * chance:
        return Check(name, "warn", said, "better, but not much: more --steps", values)
    if rate in (min(rates), max(rates)):
        return Check(name, "warn", f"{said}; the rate is an end of the sweep", "widen --rates",
                     values)  # fmt: skip
    return Check(name, "pass", said, values=values)
