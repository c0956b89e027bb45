"""Ensembles of classifiers: what averaging the predictions of K members is worth.

The prediction of an ensemble is the mean of its members' probabilities, never of their logits:

    p(c | x) = 1/K sum_k softmax(z_k(x))_c

With labels y and N examples

    nll            -1/N sum log p(y | x), in nats
    brier          1/N sum_x sum_c (p(c | x) - [c = y])^2, in [0, 2] (Brier 1950)
    ece            sum_b n_b / N |accuracy_b - confidence_b|, over bins of the largest probability
                   (Guo et al. 2017, arXiv 1706.04599)
    disagreement   share of (pair of members, example) with different predicted classes

Arrays in and out are NumPy's, float64; logits are [members, examples, classes].
"""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
from scipy.special import log_softmax, logsumexp

BINS = 15
SUBSETS = 64


@dataclasses.dataclass(frozen=True)
class ReliabilityDiagram:
    """Confidence against accuracy, in bins ((b - 1) / bins, b / bins] of the largest probability.

    Attributes:
      ece: the expected calibration error, in [0, 1].
      edges: [bins + 1] from 0 to 1.
      counts: [bins] examples.
      confidence, accuracy: [bins] means; NaN in an empty bin.
    """

    ece: float
    edges: np.ndarray
    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


@dataclasses.dataclass(frozen=True)
class Quality:
    """Metrics of the averaged prediction of ``members``; disagreement is NaN for one member."""

    members: int
    accuracy: float
    nll: float
    brier: float
    calibration: ReliabilityDiagram
    disagreement: float


@dataclasses.dataclass(frozen=True)
class BySize:
    """Means over subsets of K members, and their standard deviations between subsets.

    Attributes:
      sizes: [sizes] K = 1, 2, ..., members.
      subsets: [sizes] how many were averaged; all of them, or a random choice.
      mean, deviation: metric -> [sizes]; the deviation is NaN for one subset. Subsets share
        members, so it is no standard error.
    """

    sizes: np.ndarray
    subsets: np.ndarray
    mean: dict[str, np.ndarray]
    deviation: dict[str, np.ndarray]


def quality(logits: np.ndarray, labels: np.ndarray, bins: int = BINS) -> Quality:
    """The metrics of the ensemble of all members.

    Args:
      logits: [members, examples, classes], finite.
      labels: [examples] whole numbers in 0..classes - 1.
      bins: of the calibration, equal widths.

    Raises:
      ValueError: another shape, no example, a logit that is not finite, a label out of range.
    """
    return _quality(_log_probabilities(logits, labels), labels, bins)


def by_size(
    logits: np.ndarray, labels: np.ndarray, *, seed: int = 0, subsets: int = SUBSETS,
    bins: int = BINS,
) -> BySize:  # fmt: skip
    """The metrics against the number of members.

    Args:
      logits, labels, bins: as in `quality`.
      seed: of the choice of subsets.
      subsets: the most of a size; where there are more, so many different ones are drawn.

    Raises:
      ValueError: as `quality`; subsets below 1.
    """
    if subsets < 1:
        raise ValueError(f"subsets must be at least 1, got {subsets!r}")
    logs = _log_probabilities(logits, labels)
    random = np.random.default_rng(seed)
    rows: list[list[dict[str, float]]] = []
    for size in range(1, len(logs) + 1):
        chosen = _subsets(random, len(logs), size, subsets)
        rows.append([_scalars(_quality(logs[list(c)], labels, bins)) for c in chosen])
    names = list(rows[0][0])
    columns = {n: [np.array([found[n] for found in row]) for row in rows] for n in names}
    return BySize(
        np.arange(1, len(logs) + 1),
        np.array([len(row) for row in rows]),
        {n: np.array([c.mean() for c in cs]) for n, cs in columns.items()},
        {
            n: np.array([c.std(ddof=1) if len(c) > 1 else np.nan for c in cs])
            for n, cs in columns.items()
        },
    )


def averaged(logits: np.ndarray) -> np.ndarray:
    """log of the mean probability [examples, classes] of logits [members, examples, classes]."""
    return _averaged(log_softmax(np.asarray(logits, np.float64), axis=-1))


def _averaged(logs: np.ndarray) -> np.ndarray:
    return np.asarray(logsumexp(logs, axis=0) - math.log(len(logs)))


def calibration(
    probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS
) -> ReliabilityDiagram:
    """Of probabilities [examples, classes].

    Raises:
      ValueError: no bin.
    """
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins!r}")
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    sums = (np.bincount(place, weights=w, minlength=bins) for w in (confidence, right))
    with np.errstate(invalid="ignore"):
        means = [total / counts for total in sums]
    gaps = np.where(counts > 0, np.abs(means[0] - means[1]), 0.0)
    ece = float(np.sum(counts * gaps) / len(labels))
    return ReliabilityDiagram(ece, np.linspace(0, 1, bins + 1), counts, *means)


def disagreement(classes: np.ndarray) -> float:
    """Mean over pairs of members of the share of examples where classes [members, examples]
    differ; NaN for one member."""
    members, examples = classes.shape
    if members == 1:
        return math.nan
    # n_c members that say c make n_c (n_c - 1) / 2 pairs that agree.
    votes = (classes[:, :, None] == np.unique(classes)[None, None, :]).sum(axis=0)
    agreeing = (votes * (votes - 1)).sum()
    return float(1 - agreeing / (members * (members - 1) * examples))


def _quality(logs: np.ndarray, labels: np.ndarray, bins: int) -> Quality:
    mean = _averaged(logs)
    probabilities = np.exp(mean)
    hot = np.eye(mean.shape[1])[labels]
    return Quality(
        members=len(logs),
        accuracy=float((mean.argmax(axis=1) == labels).mean()),
        nll=float(-mean[np.arange(len(labels)), labels].mean()),
        brier=float(((probabilities - hot) ** 2).sum(axis=1).mean()),
        calibration=calibration(probabilities, labels, bins),
        disagreement=disagreement(logs.argmax(axis=2)),
    )


def _scalars(found: Quality) -> dict[str, float]:
    return {
        "accuracy": found.accuracy,
        "nll": found.nll,
        "brier": found.brier,
        "ece": found.calibration.ece,
        "disagreement": found.disagreement,
    }


def _subsets(
    random: np.random.Generator, members: int, size: int, most: int
) -> list[tuple[int, ...]]:
    """All subsets of a size in lexicographic order, or ``most`` different random ones."""
    if math.comb(members, size) <= most:
        return list(itertools.combinations(range(members), size))
    drawn: set[tuple[int, ...]] = set()
    while len(drawn) < most:
        drawn.add(tuple(sorted(random.choice(members, size, replace=False).tolist())))
    return sorted(drawn)


def _log_probabilities(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    if logits.ndim != 3 or 0 in logits.shape:
        raise ValueError(
            "logits must be [members, examples, classes] with at least one of each, "
            f"got the shape {logits.shape}"
        )
    if labels.shape != logits.shape[1:2]:
        raise ValueError(f"labels must be [{logits.shape[1]}], got the shape {labels.shape}")
    if not np.isfinite(logits).all():
        member = int(np.argmax(~np.isfinite(logits).all(axis=(1, 2))))
        raise ValueError(f"logits must be finite, those of member {member} are not")
    if labels.min() < 0 or labels.max() >= logits.shape[2]:
        raise ValueError(f"labels must lie in 0..{logits.shape[2] - 1}")
    return np.asarray(log_softmax(logits, axis=-1))
