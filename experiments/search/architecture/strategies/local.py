"""Local search: take the first better neighbour; start again where there is none.

White et al. 2020 (arXiv 2005.02960) show it to be hard to beat on tables of cells. Neighbours
differ in one choice. A neighbour that is known already is moved to without an evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.search.architecture.space import Code, Space
from experiments.search.architecture.strategies.base import Fresh, History, ScoredCode, Strategy
from experiments.search.architecture.streams import Stream


def local() -> Strategy:
    """First improvement in random order, with uniform restarts."""
    return Strategy(_begin, _propose, _observe)


def _begin(space: Space, seed: int) -> ScoredCode | None:
    del space, seed
    return None


def _propose(current: ScoredCode | None, history: History, count: int) -> list[Code]:
    fresh = Fresh(history, count)
    if current is not None:
        # The order belongs to the place, not to the round: it goes on where it was.
        order = Stream("local order", history.seed, *current.code)
        for code in order.shuffled(history.space.neighbours(current.code)):
            fresh.offer(code)
    return fresh.codes or fresh.fill(history.stream("local restart"))


def _observe(
    current: ScoredCode | None, history: History, results: Sequence[ScoredCode]
) -> ScoredCode | None:
    """The place of the search: None where it is to start again."""
    if not results:
        return current
    best = min(results, key=lambda result: result.value)
    after = history.extended(results)
    if current is None or best.value < current.value:
        current = best
    while True:
        neighbours = after.space.neighbours(current.code)
        values = [(after.value(code), code) for code in neighbours]
        better = [(v, code) for v, code in values if v is not None and v < current.value]
        if not better:
            break
        value, code = min(better)
        current = ScoredCode(code, value)
    return current if any(value is None for value, _ in values) else None
