"""The trials of one seed at all batch sizes: which may start, which have ended, what comes next.

A sampler that learns proposes rounds: round r goes over all batch sizes at once, and its points
are f(seed, r, the results of earlier rounds of this seed). It is asked for when all trials of the
round before have ended, recorded before any of its own starts, and never computed again. Points of
other samplers do not wait for results: trial i starts once i < N + the number INFEASIBLE so far, at
most 4N. Either way the set that is started in the end is the same whatever the timing.

Where trials race, every sampler goes in rounds: the bound of a trial follows from the trials of
earlier rounds of its search and batch size, so it is known before the trial starts. One counting
rule holds for all searches of a study: of a trial that trains to full length a sampler is told, and
the N count, what it would have shown had it stopped.
"""

from __future__ import annotations

import bisect
import dataclasses
import heapq
import math
from collections.abc import Iterable, Mapping

from experiments.search import rounds
from experiments.search.record import Ended, Points, Round
from experiments.search.samplers.base import Ask, Box, Outcome, Point, Proposal, Seen
from experiments.search.samplers.halton import point as halton_point
from experiments.search.samplers.table import SAMPLERS, sampler
from experiments.spec.resolved import ResolvedStudy
from experiments.spec.space import Real
from experiments.spec.trial import MOST_STARTED, Status, Trial, TrialResult


@dataclasses.dataclass
class _Size:
    """The trials of one batch size.

    Attributes:
      ended: index -> how it ended; INCOMPLETE ones are not tried again by this process.
      running: indices that were started and have not ended.
      again: a heap of indices below ``following`` that may start again.
      following: no index from here on was ever started.
      replaced: ended ones that do not count among the N, as those that diverged.
      last: points of the newest round that this batch size took part in.
      rounds: first index of each of its rounds.
      bounds: first index of a round -> the race's bound of its trials.
    """

    ended: dict[int, Ended] = dataclasses.field(default_factory=dict)
    running: set[int] = dataclasses.field(default_factory=set)
    again: list[int] = dataclasses.field(default_factory=list)
    following: int = 0
    replaced: set[int] = dataclasses.field(default_factory=set)
    last: int = 0
    rounds: list[int] = dataclasses.field(default_factory=list)
    bounds: dict[int, int | None] = dataclasses.field(default_factory=dict)


class Search:
    """One search. Not thread-safe: the coordinator holds its lock.

    Args:
      study: the question.
      seed: of the search.
      checksum: of the dataset.
      full: whether its trials train to full length, whatever the study says of stopping.
      recorded: its rounds so far, in their order.
      ended: (batch size, index) -> how it ended, of trials recorded already.
    """

    def __init__(
        self,
        study: ResolvedStudy,
        seed: int,
        checksum: str,
        full: bool = True,
        recorded: Iterable[Round] = (),
        ended: Mapping[tuple[int, int], Ended] | None = None,
    ):
        self.study, self.seed, self.checksum = study, seed, checksum
        self.full = full
        self.adaptive = SAMPLERS[study.sampler].adaptive
        self.in_rounds = self.adaptive or study.stop == "race"
        # Point i of a free Halton sequence is a formula of i; all others are recorded.
        self._listed = self.in_rounds or study.sampler != "halton"
        self.rounds: list[Round] = []
        self._points: Points = {}
        self._boxes: dict[int, Box] = {}
        self._exhausted: set[int] = set()
        self._sizes = {batch_size: _Size() for batch_size in study.batch_sizes}
        for found in recorded:
            self.add(found)
        for (batch_size, index), how in (ended or {}).items():
            self._of(batch_size).ended[index] = how
        for batch_size, own in self._sizes.items():
            own.replaced = {i for i in own.ended if not self._counts_among(batch_size, i)}

    def _of(self, batch_size: int) -> _Size:
        """A batch size may be recorded and not asked for this time."""
        return self._sizes.setdefault(batch_size, _Size())

    # What has ended.

    def ended(self, batch_size: int) -> dict[int, Ended]:
        """Index -> how it ended."""
        return self._of(batch_size).ended

    def count(self, status: Status, batch_size: int | None = None) -> int:
        """Trials of the study's batch sizes, or of this one, that ended so."""
        sizes = self.study.batch_sizes if batch_size is None else (batch_size,)
        return sum(how.status == status for b in sizes for how in self._of(b).ended.values())

    def race_bound(self, batch_size: int, index: int) -> int | None:
        """Steps after which the race ends a trial, or would; None: its length comes first."""
        if self.study.stop != "race":
            return None
        own = self._of(batch_size)
        first = own.rounds[bisect.bisect_right(own.rounds, index) - 1]
        if first not in own.bounds:
            earlier = [own.ended[i].passed for i in range(first) if i in own.ended]
            fewest = min((steps for steps in earlier if steps is not None), default=None)
            length = self.study.length(batch_size)
            bound = rounds.race_bound(fewest, length, self.study.race_factor)
            own.bounds[first] = bound if bound < length else None
        return own.bounds[first]

    def outcome(self, batch_size: int, index: int) -> tuple[Outcome, float]:
        """What a sampler is told of a trial: its steps to the goal, or more than its last.

        Where trials stop, of every trial what it shows by then, before it diverges.
        """
        how = self._of(batch_size).ended[index]
        if how.status == Status.INCOMPLETE:
            return "infeasible", math.inf
        bound = self.race_bound(batch_size, index)
        diverged = how.status == Status.INFEASIBLE
        if diverged and self.study.stop == "never":
            return "infeasible", math.inf
        if how.passed is not None and (bound is None or how.passed <= bound):
            return "reached", float(how.passed)
        if diverged and (bound is None or how.steps <= bound):
            return "infeasible", math.inf
        if bound is None or how.last <= bound:
            return "censored", float(how.last)
        grid = self.study.grid(self.study.length(batch_size))
        return "censored", float(grid[bisect.bisect_right(grid, bound) - 1])

    def _counts_among(self, batch_size: int, index: int) -> bool:
        """Whether a trial that has ended counts among the N, or will once it is tried again."""
        if self._of(batch_size).ended[index].status == Status.INCOMPLETE:
            return True
        return self.outcome(batch_size, index)[0] != "infeasible"

    def _replaced(self, batch_size: int, first: int = 0) -> int:
        """Trials from index ``first`` on that do not count among the N."""
        replaced = self._of(batch_size).replaced
        return sum(i >= first for i in replaced) if first else len(replaced)

    # What may start.

    def limit(self, batch_size: int) -> int:
        """Trials that may have been started by now, where nothing waits for rounds."""
        wanted = self.study.trials
        return min(wanted + self._replaced(batch_size), MOST_STARTED * wanted)

    def proposed(self, batch_size: int) -> int:
        """Trials whose points are known."""
        if self._listed:
            return len(self._points.get(batch_size, ()))
        return self.limit(batch_size)

    def _next(self, batch_size: int) -> int | None:
        """The lowest index that may start, if any."""
        own = self._of(batch_size)
        while own.following in own.ended or own.following in own.running:
            own.following += 1
        if own.again:
            return own.again[0]
        return own.following if own.following < self.proposed(batch_size) else None

    def running(self, batch_size: int) -> bool:
        """Whether a trial was started and has not ended."""
        return bool(self._of(batch_size).running)

    def startable(self, batch_size: int) -> bool:
        """Whether a trial may start now."""
        return self._next(batch_size) is not None

    def unfinished(self, batch_size: int) -> bool:
        """Whether trials may start, now or once others have ended."""
        wanted = self._wanted(batch_size)
        return self.startable(batch_size) or bool(wanted) or bool(self._of(batch_size).running)

    def remaining_steps(self, batch_size: int) -> int:
        """Trial-steps of trials that have not ended, at most, if nothing more diverges."""
        own, proposed = self._of(batch_size), self.proposed(batch_size)
        counted = proposed - self._replaced(batch_size)
        exhausted = batch_size in self._exhausted
        later = 0 if exhausted else max(0, self.study.trials - counted)
        waiting = proposed - sum(index < proposed for index in own.ended)
        length = self.study.length(batch_size)
        if self.full or not own.rounds:
            return (waiting + later) * length
        bound = self.race_bound(batch_size, own.rounds[-1]) or length
        return (waiting + later) * bound

    def trial(self, batch_size: int, index: int) -> Trial:
        """Trial ``index``, at its point."""
        names = sorted(self.study.space)
        if self._listed:
            position = dict(zip(names, self._points[batch_size][index], strict=True))
        else:
            position = halton_point(self.seed, index, names)
        trial = self.study.trial(batch_size, self.seed, index, position, self.checksum)
        if self.study.stop == "never":
            return trial
        bound = self.race_bound(batch_size, index)
        return dataclasses.replace(trial, stops=not self.full, race_bound=bound)

    def start(self, batch_size: int) -> Trial | None:
        """The next trial, or None where none may start now."""
        index = self._next(batch_size)
        if index is None:
            return None
        own = self._of(batch_size)
        if own.again:
            heapq.heappop(own.again)
        own.running.add(index)
        return self.trial(batch_size, index)

    def release(self, trial: Trial) -> None:
        """Put back an unfinished trial, so that it can start again."""
        own = self._of(trial.batch_size)
        if trial.index in own.running:
            own.running.remove(trial.index)
            heapq.heappush(own.again, trial.index)

    def end(self, result: TrialResult) -> None:
        """Take a result."""
        own = self._of(result.trial.batch_size)
        own.running.discard(result.trial.index)
        own.ended[result.trial.index] = Ended.of(result, self.study.goal)
        if not self._counts_among(result.trial.batch_size, result.trial.index):
            own.replaced.add(result.trial.index)

    # What is proposed next.

    def _wanted(self, batch_size: int) -> int:
        """Points that are missing at a batch size that waits for no other trial."""
        if not self._listed or batch_size in self._exhausted:
            return 0
        if self.in_rounds:
            return self._counts((batch_size,)).get(batch_size, 0)
        proposed, limit = self.proposed(batch_size), self.limit(batch_size)
        if proposed >= limit:
            return 0
        # One at a time, so that they do not depend on how many had ended when they were asked for.
        return self.study.trials - proposed if proposed < self.study.trials else 1

    def _counts(self, batch_sizes: Iterable[int]) -> dict[int, int]:
        progress = {}
        for batch_size in batch_sizes:
            started, last = self.proposed(batch_size), self._of(batch_size).last
            progress[batch_size] = rounds.Progress(
                started,
                started - self._replaced(batch_size),
                self._replaced(batch_size, started - last),
            )
        return rounds.counts(
            self.study.trials, progress, adaptive=self.adaptive, exhausted=self._exhausted
        )

    def due(self) -> dict[int, int]:
        """Batch size -> points to be proposed now; empty where none are, or trials must end first.

        In rounds that is when all trials of the study's batch sizes have ended.
        """
        sizes = self.study.batch_sizes
        if self.in_rounds:
            waits = any(self._of(b).running or self.startable(b) for b in sizes)
            return {} if waits else self._counts(sizes)
        wanted = {b: count for b in sizes if (count := self._wanted(b))}
        known = {self.proposed(b) for b in wanted}
        return {b: count for b, count in wanted.items() if self.proposed(b) == min(known)}

    def propose(self, counts: Mapping[int, int]) -> Round:
        """The points that are `due`; `add` makes them startable once they are recorded."""
        number = len(self.rounds)
        if self.study.sampler == "halton":
            return Round(self.seed, number, self._quasi_random(counts))
        asked = number if self.in_rounds else self.proposed(min(counts))
        ask = Ask(
            self.seed,
            asked,
            self.study.trials,
            self.study.space,
            counts,
            self._seen(),
            self._boxes,
            _limits(self.study) if self.study.expand else {},
        )
        return Round(self.seed, number, sampler(self.study.sampler)(ask))

    def _quasi_random(self, counts: Mapping[int, int]) -> Proposal:
        """The next points of the sequence, those that it has without rounds."""
        names = sorted(self.study.space)
        whole = ((0.0, 1.0),) * len(names)
        points = {}
        for batch_size, count in counts.items():
            first = self.proposed(batch_size)
            found = [halton_point(self.seed, first + i, names) for i in range(count)]
            points[batch_size] = tuple(tuple(at[name] for name in names) for at in found)
        sources = {b: ("quasi-random",) * len(found) for b, found in points.items()}
        return Proposal(points, dict.fromkeys(counts, whole), sources)

    def _seen(self) -> tuple[Seen, ...]:
        found = []
        for batch_size, points in self._points.items():
            for index, point in enumerate(points):
                outcome: tuple[Outcome, float] = ("infeasible", math.inf)
                if self.in_rounds and index in self._of(batch_size).ended:
                    outcome = self.outcome(batch_size, index)
                found.append(Seen(batch_size, index, point, *outcome))
        return tuple(found)

    def add(self, found: Round) -> None:
        """Take a recorded round."""
        self.rounds.append(found)
        for batch_size, points in found.proposal.points.items():
            known: list[Point] = self._points.setdefault(batch_size, [])
            self._of(batch_size).rounds.append(len(known))
            self._of(batch_size).last = len(points)
            known.extend(points)
        self._boxes |= found.proposal.boxes
        self._exhausted |= found.proposal.exhausted


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
