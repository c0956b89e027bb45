"""Regularised evolution (Real et al. 2019, arXiv 1802.01548): the oldest dies, not the worst."""

from __future__ import annotations

from experiments.search.architecture.space import Code
from experiments.search.architecture.strategies.base import Fresh, History, Strategy, kept, nothing
from experiments.search.architecture.streams import Stream

TRIES = 50
"""Mutations drawn for one that is new; then the child is mutated on."""


def evolution(population: int = 10, sample: int = 3) -> Strategy:
    """Mutate the best of a tournament within the newest ``population`` architectures.

    The first ``population`` are uniform. Then, for each child: ``sample`` members are drawn with
    replacement, and one choice of the best of them becomes another option, so that the child is
    another architecture. 10 and 3 are NATS-Bench's; Real et al. have 100 and 25.

    Raises:
      ValueError: a size below 1.
    """
    if population < 1 or sample < 1:
        raise ValueError(
            f"population and sample are whole numbers from 1 on, got {population} and {sample}"
        )

    def propose(memory: None, history: History, count: int) -> list[Code]:
        del memory
        fresh, stream = Fresh(history, count), history.stream("evolution")
        missing = population - len(history.results)
        if missing > 0:
            fresh.wanted = min(count, missing)
            return fresh.fill(stream)
        members = history.results[-population:]
        while not fresh.full:
            drawn = [members[stream.below(population)] for _ in range(sample)]
            parent = min(drawn, key=lambda result: result.value).code
            if not _offer_child(fresh, parent, stream):
                return fresh.fill(stream)
        return fresh.codes

    return Strategy(nothing, propose, kept)


def _offer_child(fresh: Fresh, parent: Code, stream: Stream) -> bool:
    """Tell whether a new child was found; where all near ones are known it lies further away."""
    space = fresh.history.space
    for attempt in range(TRIES):
        neighbours = space.neighbours(parent)
        if not neighbours:
            return False
        new = [code for code in neighbours if fresh.new(code)]
        if new:
            return fresh.offer(new[stream.below(len(new))])
        parent = neighbours[stream.below(len(neighbours))]
        del attempt
    return False
