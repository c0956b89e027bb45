"""The protocol of a strategy: three pure functions of what one search has seen.

    memory = begin(space, seed)
    codes = propose(memory, history, count)
    memory = observe(memory, history, results)

`history` holds the results of all rounds before. A search is made again from its space, its seed
and its recorded rounds (`rebuilt`): what it proposes next is what it would have proposed without
the interruption. No architecture is proposed twice. A value is any number of which less is better;
infinity is that of an architecture that diverged or failed.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from experiments.search.architecture.space import DRAWS, LARGEST, Code, Space
from experiments.search.architecture.streams import Stream


class ScoredCode(NamedTuple):
    """An architecture that has been evaluated."""

    code: Code
    value: float


@dataclasses.dataclass(frozen=True)
class History:
    """Results that one search has seen, in the order of its proposals.

    Attributes:
      space: of the architectures.
      seed: the search's.
      round: rounds that have ended.
      results: of all of them.
      known: key of an architecture -> its value.
    """

    space: Space
    seed: int
    round: int = 0
    results: tuple[ScoredCode, ...] = ()
    known: Mapping[Hashable, float] = dataclasses.field(default_factory=dict)

    def stream(self, role: str) -> Stream:
        """Draws of this round."""
        return Stream(role, self.seed, self.round)

    @functools.cached_property
    def best(self) -> ScoredCode | None:
        """The least value so far; the earliest, if several."""
        return min(self.results, key=lambda result: result.value, default=None)

    def value(self, code: Code) -> float | None:
        """The value of this architecture, under whatever code; None if it is not known."""
        return self.known.get(self.space.key(code))

    def extended(self, results: Sequence[ScoredCode]) -> History:
        """With one more round."""
        known = dict(self.known)
        for result in results:
            if math.isnan(result.value):
                raise ValueError(
                    f"the value of {result.code} is NaN; a failed one is told as infinity"
                )
            key = self.space.key(result.code)
            if key is None:
                raise ValueError(f"{result.code}: {self.space.illegal(result.code)}")
            known[key] = result.value
        return dataclasses.replace(
            self, round=self.round + 1, results=(*self.results, *results), known=known
        )


class Strategy(NamedTuple):
    """Pure functions; the table is `experiments.search.architecture.strategies.table`."""

    begin: Callable[[Space, int], Any]
    propose: Callable[[Any, History, int], list[Code]]
    observe: Callable[[Any, History, Sequence[ScoredCode]], Any]


@dataclasses.dataclass(frozen=True)
class StrategySearch:
    """A search at the end of a round: a value."""

    strategy: Strategy
    history: History
    memory: Any

    def ask(self, count: int = 1) -> list[Code]:
        """Up to ``count`` codes for the next round; none when the space is exhausted.

        A strategy may give fewer where the rest depends on these. The same when asked again.
        """
        return self.strategy.propose(self.memory, self.history, count)

    def tell(self, results: Sequence[ScoredCode]) -> StrategySearch:
        """The search after one more round."""
        memory = self.strategy.observe(self.memory, self.history, results)
        return StrategySearch(self.strategy, self.history.extended(results), memory)


def begin(strategy: Strategy, space: Space, seed: int) -> StrategySearch:
    """A search that has seen nothing."""
    return StrategySearch(strategy, History(space, seed), strategy.begin(space, seed))


def rebuilt(
    strategy: Strategy, space: Space, seed: int, rounds: Iterable[Sequence[ScoredCode]]
) -> StrategySearch:
    """The search that has seen these rounds."""
    search = begin(strategy, space, seed)
    for results in rounds:
        search = search.tell(results)
    return search


def nothing(space: Space, seed: int) -> None:
    """The memory of a strategy that needs only the history."""
    del space, seed


def kept(memory: Any, history: History, results: Sequence[ScoredCode]) -> Any:
    """The memory as it was."""
    del history, results
    return memory


class Fresh:
    """Gathers codes of a round that are legal, not known and not proposed in it yet."""

    def __init__(self, history: History, wanted: int) -> None:
        """Nothing is gathered yet."""
        self.history, self.wanted = history, wanted
        self.codes: list[Code] = []
        self._keys: set[Hashable] = set()

    @property
    def full(self) -> bool:
        """Tell whether as many as wanted are there."""
        return len(self.codes) >= self.wanted

    def new(self, code: Code) -> bool:
        """Tell whether a code would be taken."""
        key = self.history.space.key(code)
        return key is not None and key not in self.history.known and key not in self._keys

    def offer(self, code: Code) -> bool:
        """Take a code if it is new and one is wanted; whether it was taken."""
        if self.full or not self.new(code):
            return False
        self._keys.add(self.history.space.key(code))
        self.codes.append(code)
        return True

    def fill(self, stream: Stream) -> list[Code]:
        """Fill up with uniform codes; fewer than wanted where the space has no more."""
        space = self.history.space
        while not self.full:
            if not any(self.offer(space.sample(stream)) for _ in range(DRAWS)):
                if space.codes > LARGEST:
                    break
                for code in stream.shuffled([c for c in space.enumerated() if self.new(c)]):
                    self.offer(code)
                break
        return self.codes
