"""No point twice: two points are the same where all their hyperparameters have equal values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from experiments.search.samplers.base import Ask, Box, Point, Proposal
from experiments.search.samplers.streams import uniforms
from experiments.spec.space import Choice, Distribution, Integer, ZeroOrLog

DIGITS = 9
"""Decimals of a real number's position that count."""


def size(distribution: Distribution) -> float:
    """Number of values."""
    if isinstance(distribution, Choice):
        return len(distribution.values)
    if isinstance(distribution, Integer):
        return len(distribution.values)
    return math.inf


def _identity(distribution: Distribution, position: float) -> Hashable:
    """Equal for positions of equal values."""
    zero = isinstance(distribution, ZeroOrLog) and distribution.value(position) == 0
    if zero or size(distribution) < math.inf:
        return distribution.value(position)
    return round(position, DIGITS)


def key(ask: Ask, point: Point) -> Hashable:
    """Equal for points of equal values."""
    return tuple(
        _identity(ask.space[name], position)
        for name, position in zip(ask.names, point, strict=True)
    )


def positions(distribution: Distribution) -> list[float]:
    """Positions of the values of a finite range."""
    if isinstance(distribution, Integer):
        return [distribution.position(x) for x in distribution.values]
    assert isinstance(distribution, Choice)
    return [distribution.position(value) for value in distribution.values]


def snapped(ask: Ask, points: np.ndarray) -> np.ndarray:
    """[k, d] positions; those of a finite range in the middle of their value's share."""
    found = np.array(points, float)
    for column, name in enumerate(ask.names):
        distribution = ask.space[name]
        if isinstance(distribution, (Choice, Integer)):
            values = map(distribution.value, found[:, column].tolist())
            found[:, column] = [distribution.position(value) for value in values]  # type: ignore[arg-type]
    return found


def every_point(ask: Ask) -> list[Point]:
    """All points of a finite space."""
    return list(itertools.product(*(positions(ask.space[name]) for name in ask.names)))


class Picker:
    """Takes points of one batch size that were never taken before."""

    def __init__(self, ask: Ask, batch_size: int):
        self.ask, self.batch_size = ask, batch_size
        self.wanted = ask.counts[batch_size]
        self.taken = {key(ask, trial.point) for trial in ask.of(batch_size)}
        self.points: list[Point] = []
        self.sources: list[str] = []
        self.exhausted = False

    @property
    def full(self) -> bool:
        """Tell whether enough points are there."""
        return len(self.points) >= self.wanted

    def offer(self, point: Sequence[float] | np.ndarray, source: str) -> bool:
        """Take a point unless it is known or enough are there; whether it was taken."""
        exact = self.ask.canonical(point)
        if self.full or key(self.ask, exact) in self.taken:
            return False
        self.taken.add(key(self.ask, exact))
        self.points.append(exact)
        self.sources.append(source)
        return True

    def complete(self) -> None:
        """Fill up with random points, of those that are left where the space is finite."""
        if self.full:
            return
        keys = (self.ask.seed, self.ask.round, self.batch_size)
        count = math.prod(size(self.ask.space[name]) for name in self.ask.names)
        if math.isfinite(count) and count <= 1_000_000:
            left = [
                point for point in every_point(self.ask) if key(self.ask, point) not in self.taken
            ]
            order = np.argsort(uniforms("left", *keys, shape=(len(left),)), kind="stable")
            for row in order:
                self.offer(left[row], "remaining")
            self.exhausted = not self.full
            return
        box = np.array(self.ask.box(self.batch_size))
        for row in uniforms("fill", *keys, shape=(100 * self.wanted, len(box))):
            self.offer(box[:, 0] + row * (box[:, 1] - box[:, 0]), "random")
        self.exhausted = not self.full


def proposal(ask: Ask, pickers: Iterable[Picker], boxes: dict[int, Box] | None = None) -> Proposal:
    """The proposal of what the pickers took, each filled up."""
    everyone = list(pickers)
    for picker in everyone:
        picker.complete()
    return Proposal(
        points={picker.batch_size: tuple(picker.points) for picker in everyone},
        boxes={
            p.batch_size: (boxes or {}).get(p.batch_size, ask.box(p.batch_size)) for p in everyone
        },
        sources={picker.batch_size: tuple(picker.sources) for picker in everyone},
        exhausted=frozenset(picker.batch_size for picker in everyone if picker.exhausted),
    )
