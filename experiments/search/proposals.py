"""The rounds of one search: the points that are known, and those that are proposed next."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from experiments.search import rounds
from experiments.search.fidelity import Pruner
from experiments.search.record import Points, Round
from experiments.search.samplers.base import Ask, Box, Outcome, Point, Proposal, Seen
from experiments.search.samplers.halton import point as halton_point
from experiments.search.samplers.table import SAMPLERS, sampler
from experiments.search.trials import SizeTrials
from experiments.spec.resolved import ResolvedStudy
from experiments.spec.space import Real
from experiments.spec.trial import MOST_STARTED
from optimizers import OPTIMIZERS


class Proposals:
    """The points of one search at all batch sizes.

    Args:
      study: the question.
      seed: of the search.
      sizes: batch size -> its trials.

    Attributes:
      rounds: those that were added, in their order.
    """

    def __init__(self, study: ResolvedStudy, seed: int, sizes: Mapping[int, SizeTrials]):
        self._study, self._seed, self._sizes = study, seed, sizes
        self._names = sorted(study.space)
        self._adaptive = SAMPLERS[study.sampler].adaptive
        self._pruner = Pruner.of(study)
        self._in_rounds = self._adaptive or study.stop == "race" or self._pruner is not None
        # Point i of a free Halton sequence is a formula of i; all others are recorded.
        self._listed = self._in_rounds or study.sampler != "halton"
        self.rounds: list[Round] = []
        self._points: Points = {}
        self._boxes: dict[int, Box] = {}
        self._exhausted: set[int] = set()

    def add(self, found: Round) -> None:
        """Take a recorded round."""
        self.rounds.append(found)
        for batch_size, points in found.proposal.points.items():
            known: list[Point] = self._points.setdefault(batch_size, [])
            self._sizes[batch_size].begin_round(len(known), len(points))
            known.extend(points)
        self._boxes |= found.proposal.boxes
        self._exhausted |= found.proposal.exhausted

    # What is known.

    def position(self, batch_size: int, index: int) -> Mapping[str, float]:
        """Return the point of trial ``index``: hyperparameter -> position in its range."""
        if self._listed:
            return dict(zip(self._names, self._points[batch_size][index], strict=True))
        return halton_point(self._seed, index, self._names)

    def known(self, batch_size: int) -> int:
        """Count the trials whose points are known."""
        if self._listed:
            return len(self._points.get(batch_size, ()))
        return self._limit(batch_size)

    def to_come(self, batch_size: int) -> int:
        """Count the trials that are proposed later, if nothing more is replaced."""
        if batch_size in self._exhausted:
            return 0
        if self._pruner is not None:
            return max(0, sum(self._pruner.sizes(self._study.trials)) - self.known(batch_size))
        counted = self.known(batch_size) - self._sizes[batch_size].replaced()
        return max(0, self._study.trials - counted)

    def _limit(self, batch_size: int) -> int:
        """Count the trials that may have been started by now, where nothing waits for rounds."""
        wanted = self._study.trials
        return min(wanted + self._sizes[batch_size].replaced(), MOST_STARTED * wanted)

    # What is proposed next.

    def wanted(self, batch_size: int) -> int:
        """Count the points that are missing at a batch size that waits for no other trial."""
        if not self._listed or batch_size in self._exhausted:
            return 0
        if self._in_rounds:
            return self._counts((batch_size,)).get(batch_size, 0)
        known, limit = self.known(batch_size), self._limit(batch_size)
        if known >= limit:
            return 0
        # One at a time, so that they do not depend on how many had ended when they were asked for.
        return self._study.trials - known if known < self._study.trials else 1

    def due(self) -> dict[int, int]:
        """Batch size -> points to be proposed now; empty where none are, or trials must end first.

        In rounds that is when all trials of the study's batch sizes have ended.
        """
        sizes = self._study.batch_sizes
        if self._in_rounds:
            waits = any(self._waits(batch_size) for batch_size in sizes)
            return {} if waits else self._counts(sizes)
        wanted = {b: count for b in sizes if (count := self.wanted(b))}
        known = {self.known(b) for b in wanted}
        return {b: count for b, count in wanted.items() if self.known(b) == min(known)}

    def propose(self, counts: Mapping[int, int]) -> Round:
        """The points that are `due`; `add` makes them startable once they are recorded."""
        number = len(self.rounds)
        if self._study.sampler == "halton":
            return Round(self._seed, number, self._quasi_random(counts))
        ask = Ask(
            self._seed,
            number if self._in_rounds else self.known(min(counts)),
            self._study.trials,
            self._study.space,
            counts,
            self._seen(),
            self._boxes,
            _limits(self._study) if self._study.expand else {},
            coordinates=OPTIMIZERS[self._study.optimizer].coordinates,
        )
        return Round(self._seed, number, sampler(self._study.sampler)(ask))

    def _waits(self, batch_size: int) -> bool:
        """Tell whether trials of earlier rounds have not all ended."""
        own, known = self._sizes[batch_size], self.known(batch_size)
        # With a pruner a trial may wait for others, put aside and neither running nor to start.
        aside = self._pruner is not None and any(i not in own.ended for i in range(known))
        return aside or own.running or own.next(known) is not None

    def _counts(self, batch_sizes: Iterable[int]) -> dict[int, int]:
        """Batch size -> trials of the next round."""
        if self._pruner is not None:
            found = {b: self._population(b) for b in batch_sizes if b not in self._exhausted}
            return {batch_size: size for batch_size, size in found.items() if size}
        progress = {}
        for batch_size in batch_sizes:
            started, own = self.known(batch_size), self._sizes[batch_size]
            counted, newest = started - own.replaced(), own.replaced(started - own.last)
            progress[batch_size] = rounds.RoundProgress(started, counted, newest)
        return rounds.counts(
            self._study.trials, progress, adaptive=self._adaptive, exhausted=self._exhausted
        )

    def _population(self, batch_size: int) -> int:
        """Count the trials of the pruner's next population."""
        assert self._pruner is not None, "only pruners decide for populations"
        number, started = len(self._sizes[batch_size].rounds), self.known(batch_size)
        return self._pruner.following(number, started, self._study.trials)

    def _quasi_random(self, counts: Mapping[int, int]) -> Proposal:
        """The next points of the sequence, those that it has without rounds."""
        whole = ((0.0, 1.0),) * len(self._names)
        points = {}
        for batch_size, count in counts.items():
            first = self.known(batch_size)
            found = [halton_point(self._seed, first + i, self._names) for i in range(count)]
            points[batch_size] = tuple(tuple(at[name] for name in self._names) for at in found)
        sources = {b: ("quasi-random",) * len(found) for b, found in points.items()}
        return Proposal(points, dict.fromkeys(counts, whole), sources)

    def _seen(self) -> tuple[Seen, ...]:
        """All trials that were proposed, with what they have shown."""
        found = []
        for batch_size, points in self._points.items():
            own = self._sizes[batch_size]
            for index, point in enumerate(points):
                outcome: tuple[Outcome, float] = ("infeasible", math.inf)
                if self._in_rounds and index in own.ended:
                    outcome = own.outcome(index)
                found.append(Seen(batch_size, index, point, *outcome))
        return tuple(found)


def _limits(study: ResolvedStudy) -> dict[str, tuple[float, float]]:
    """Hyperparameter -> the legal values that a box may be widened to."""
    found = {}
    for row in study.rows:
        distribution = study.space.get(row.name)
        if isinstance(distribution, Real):
            # On the other scales an open end is infinitely far.
            linear = distribution.scale == "linear"
            low = math.nextafter(row.low, math.inf) if linear and row.low_open else row.low
            high = math.nextafter(row.high, -math.inf) if linear and row.high_open else row.high
            found[row.name] = (low, high)
    return found
