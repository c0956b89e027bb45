"""Ensemble selection: members are added one by one, by what they do for the prediction together.

Caruana, Niculescu-Mizil, Crew and Ksikes (2004), Ensemble selection from libraries of models: from
the empty ensemble on, the member whose addition gives the least loss of the averaged probabilities
is added, again and again, with replacement; the ensemble with the least loss on the way is taken.
A member's weight is its share of the additions. Their remedy where few examples choose: the best
members are all in the ensemble from the start, and the first of the ensembles that are compared.
"""

from __future__ import annotations

import numpy as np

LEAST = 1e-12
"""A probability counts as this at least: one certain error does not outweigh all examples."""


def cross_entropy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """-1/N sum log max(p(y | x), `LEAST`), in nats.

    Args:
      probabilities: [examples, classes].
      labels: [examples] whole numbers.
    """
    own = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(own, LEAST)).mean())


def selected(
    probabilities: np.ndarray, labels: np.ndarray, additions: int, *, start: int = 0
) -> np.ndarray:
    """[members] weights that sum to 1; of equal members the first is added.

    Args:
      probabilities: [members, examples, classes] on examples that trained none of them.
      labels: [examples] whole numbers.
      additions: at most.
      start: the first so many members are in the ensemble from the start.

    Raises:
      ValueError: no member, or no addition.
    """
    if not len(probabilities) or additions < 1:
        raise ValueError(
            f"selection needs a member and an addition, got {len(probabilities)} and {additions!r}"
        )
    counts = (np.arange(len(probabilities)) < start).astype(int)
    held = int(counts.sum())
    total = probabilities[:held].sum(axis=0)
    best = cross_entropy(total / held, labels) if held else np.inf
    weights = counts.copy()
    for made in range(held + 1, held + additions + 1):
        losses = [cross_entropy((total + own) / made, labels) for own in probabilities]
        chosen = int(np.argmin(losses))
        counts[chosen] += 1
        total += probabilities[chosen]
        if losses[chosen] < best:
            best, weights = losses[chosen], counts.copy()
    return weights / weights.sum()
