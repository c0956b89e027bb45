"""The uncertainty of an ensemble's metrics: a bootstrap over examples.

Examples are drawn with replacement, 1,000 times, the same ones for the ensemble and for the single
model beside it (200 times for the calibration error, which is sorted anew in each); the 2.5 % and
97.5 % quantiles are the interval of a metric and of its difference.
It covers the choice of examples alone: another training of the members would differ too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from experiments.diagnostics.ensembles import averaged, calibration

DRAWS = 1000
_ENDS = (0.025, 0.975)


@dataclasses.dataclass(frozen=True)
class MetricInterval:
    """A metric of an ensemble with its 95 % interval, and its difference from a single model.

    Attributes:
      value, low, high: of the metric.
      difference, difference_low, difference_high: ensemble minus single.
    """

    value: float
    low: float
    high: float
    difference: float
    difference_low: float
    difference_high: float


def intervals(
    logits: np.ndarray, single: np.ndarray, labels: np.ndarray, seed: int = 0, draws: int = DRAWS
) -> dict[str, MetricInterval]:
    """``accuracy, nll, brier, ece`` of an ensemble against a single model.

    Args:
      logits: [members, examples, classes].
      single: [1, examples, classes].
      labels: [examples].
      seed, draws: of the bootstrap.
    """
    both = [_examples(x, labels) for x in (logits, single)]
    random = np.random.default_rng(seed)
    rows = random.integers(0, len(labels), (draws, len(labels)))
    found = {}
    for name in ("accuracy", "nll", "brier"):
        one, other = (table[name] for table in both)
        means = one[rows].mean(axis=1), other[rows].mean(axis=1)
        found[name] = _interval(one.mean(), other.mean(), means)
    eces = [np.array([_ece(table, labels, row) for row in rows[: draws // 5]]) for table in both]
    whole = np.arange(len(labels))
    found["ece"] = _interval(_ece(both[0], labels, whole), _ece(both[1], labels, whole), eces)
    return found


def _examples(logits: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Each example's share of every metric, and the probabilities."""
    logs = averaged(logits)
    probabilities = np.exp(logs)
    hot = np.eye(logs.shape[1])[labels]
    return {
        "accuracy": (logs.argmax(axis=1) == labels).astype(float),
        "nll": -logs[np.arange(len(labels)), labels],
        "brier": ((probabilities - hot) ** 2).sum(axis=1),
        "probabilities": probabilities,
    }


def _ece(table: dict[str, np.ndarray], labels: np.ndarray, rows: np.ndarray) -> float:
    return calibration(table["probabilities"][rows], labels[rows]).ece


def _interval(value: float, other: float, draws: Sequence[np.ndarray]) -> MetricInterval:
    one, single = np.asarray(draws)
    low, high = map(float, np.quantile(one, _ENDS))
    below, above = map(float, np.quantile(one - single, _ENDS))
    return MetricInterval(float(value), low, high, float(value - other), below, above)
