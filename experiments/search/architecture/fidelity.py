"""Lower fidelity: architectures judged by a smaller training, and what that judgement is worth.

A fidelity is a share of the data, of the points of an image, of the width, of the epochs. What it
is worth is the rank correlation of its values with those of full training, measured on
architectures trained both ways: near 1 it orders them alike, near 0 it says nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from workloads.architectures import Skeleton

Arrays = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""Split -> (inputs [n, ...], targets [n, ...])."""


@dataclasses.dataclass(frozen=True)
class Fidelity:
    """A cheaper training.

    Attributes:
      data: share of the training examples, the first of each class so that shares of classes stay.
      coarser: points of an image that become one, along each side (their mean).
      width: share of the skeleton's width.
      epochs: share of the epochs.

    Raises:
      ValueError: a share outside (0, 1], ``coarser`` below 1.
    """

    data: float = 1.0
    coarser: int = 1
    width: float = 1.0
    epochs: float = 1.0

    def __post_init__(self) -> None:
        for name in ("data", "width", "epochs"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in (0, 1], got {getattr(self, name)!r}")
        if type(self.coarser) is not int or self.coarser < 1:
            raise ValueError(f"coarser must be a whole number from 1 on, got {self.coarser!r}")

    def skeleton(self, full: Skeleton) -> Skeleton:
        """The skeleton of the cheaper training.

        Raises:
          ValueError: images whose sides are no multiples of ``coarser``.
        """
        shape = full.shape
        if self.coarser > 1:
            if len(shape) != 3 or shape[0] % self.coarser or shape[1] % self.coarser:
                raise ValueError(
                    f"coarser {self.coarser} needs images whose sides are multiples of it, "
                    f"got {shape}"
                )
            shape = (shape[0] // self.coarser, shape[1] // self.coarser, shape[2])
        width = max(1, round(self.width * full.width))
        return dataclasses.replace(full, shape=shape, width=width)

    def arrays(self, full: Arrays, skeleton: Skeleton) -> Arrays:
        """The examples of the cheaper training; ``skeleton`` is that of the full one."""
        self.skeleton(skeleton)  # refuses what does not fit
        found = {}
        for split, (inputs, targets) in full.items():
            kept = self._kept(targets) if split == "train" else slice(None)
            found[split] = self._coarse(inputs[kept], skeleton), targets[kept]
        return found

    def _kept(self, targets: np.ndarray) -> np.ndarray:
        """Rows of the first examples of every class, in their order."""
        rows = []
        for label in np.unique(targets):
            own = np.flatnonzero(targets == label)
            rows.append(own[: max(1, round(self.data * len(own)))])
        return np.sort(np.concatenate(rows))

    def _coarse(self, inputs: np.ndarray, skeleton: Skeleton) -> np.ndarray:
        if self.coarser == 1:
            return inputs
        k, (height, across, channels) = self.coarser, skeleton.shape
        blocks = inputs.reshape(-1, height // k, k, across // k, k, channels)
        small = blocks.mean((2, 4), dtype=np.float64).astype(inputs.dtype)
        return small.reshape(len(inputs), -1) if inputs.ndim == 2 else small


class RankCorrelation(NamedTuple):
    """Agreement of two orders of the same architectures.

    Attributes:
      spearman: correlation of the ranks, ties having their mean rank.
      kendall: tau-b.
      low, high: 95 % interval of ``spearman``, from resampled architectures.
      best: share of the top tenth by full training that is in the top tenth by the cheaper one.
    """

    spearman: float
    kendall: float
    low: float
    high: float
    best: float

    def __str__(self) -> str:
        return (
            f"rank correlation {self.spearman:.2f} ({self.low:.2f} to {self.high:.2f}), Kendall "
            f"{self.kendall:.2f}, {self.best:.0%} of the best tenth found"
        )


def rank_correlation(
    cheap: np.ndarray, full: np.ndarray, *, draws: int = 1000, seed: int = 0
) -> RankCorrelation:
    """Agreement of ``cheap`` [n] with ``full`` [n], values of the same architectures.

    Raises:
      ValueError: unequal lengths, fewer than 10 architectures, a value that is NaN.
    """
    from scipy.stats import kendalltau, rankdata

    cheap, full = np.asarray(cheap, float), np.asarray(full, float)
    if cheap.shape != full.shape or cheap.ndim != 1 or len(cheap) < 10:
        raise ValueError(
            f"two values each of at least 10 architectures, got shapes {cheap.shape} and "
            f"{full.shape}"
        )
    if np.isnan(cheap).any() or np.isnan(full).any():
        raise ValueError("a value is NaN; that of an architecture that diverged is infinity")
    spread = np.random.default_rng(seed).integers(0, len(cheap), (draws, len(cheap)))
    again = np.array([_pearson(rankdata(cheap[r]), rankdata(full[r])) for r in spread])
    low, high = np.nanquantile(again, [0.025, 0.975])
    count = max(1, len(cheap) // 10)
    tops = [set(np.lexsort((np.arange(len(v)), v))[:count].tolist()) for v in (cheap, full)]
    return RankCorrelation(
        float(_pearson(rankdata(cheap), rankdata(full))),
        float(kendalltau(cheap, full).statistic),
        float(low),
        float(high),
        len(tops[0] & tops[1]) / count,
    )


def _pearson(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    power = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / power if power else float("nan")
