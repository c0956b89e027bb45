"""Progressive search with a surrogate (Liu et al. 2018, arXiv 1712.00559): simple ones first.

The level of a code is the number of its choices that are not the first option: what a space lists
first ("none" of an edge, the least depth) counts as absent. All codes of level 1 are evaluated;
then, level by level, the best codes of a level with one choice more are candidates, and the
surrogate, `bayesian`'s Gaussian process fitted to all results, chooses those to be evaluated. When
no level is left, the search goes on as `bayesian` does.
"""

from __future__ import annotations

from collections.abc import Iterator

from experiments.search.architecture.space import Code, Space
from experiments.search.architecture.strategies.base import Fresh, History, Strategy, kept, nothing
from experiments.search.architecture.strategies.bayesian import bayesian, most_promising
from experiments.search.architecture.streams import Stream


def progressive(beam: int = 12) -> Strategy:
    """``beam`` codes of every level from the second on are evaluated, and expanded.

    Raises:
      ValueError: a beam below 1.
    """
    if beam < 1:
        raise ValueError(f"beam is a whole number from 1 on, got {beam}")
    after = bayesian(first=1)

    def propose(memory: None, history: History, count: int) -> list[Code]:
        for reached in range(1, len(history.space.sizes) + 1):
            found = _of_level(history, reached, beam, count)
            if found:
                return found
        return after.propose(memory, history, count)

    return Strategy(nothing, propose, kept)


def level(code: Code) -> int:
    """Count the choices that are not the first option."""
    return sum(option != 0 for option in code)


def _of_level(history: History, reached: int, beam: int, count: int) -> list[Code]:
    """Codes of a level that are to be evaluated next; none where it is done."""
    made = [result for result in history.results if level(result.code) == reached]
    if reached == 1:
        fresh = Fresh(history, count)
        simplest = (0,) * len(history.space.sizes)
        order = Stream("progressive order", history.seed)
        for code in order.shuffled(list(_expanded(simplest, history.space))):
            fresh.offer(code)
        return fresh.codes
    wanted = min(count, beam - len(made))
    if wanted <= 0:
        return []
    below = [result for result in history.results if level(result.code) == reached - 1]
    pool = Fresh(history, beam * sum(history.space.sizes))
    for result in sorted(below, key=lambda result: result.value)[:beam]:
        for code in _expanded(result.code, history.space):
            pool.offer(code)
    return most_promising(history, pool.codes, wanted) if pool.codes else []


def _expanded(code: Code, space: Space) -> Iterator[Code]:
    """The code with one choice more that is not the first option."""
    for place, size in enumerate(space.sizes):
        if code[place] == 0:
            for option in range(1, size):
                yield (*code[:place], option, *code[place + 1 :])
