"""Independent uniform points: trial i of a batch size is f(seed, batch size, i)."""

from __future__ import annotations

from experiments.search.samplers.base import Ask, Proposal
from experiments.search.samplers.distinct import Picker, proposal
from experiments.search.samplers.streams import uniforms


def propose(ask: Ask) -> Proposal:
    """The next points, independent from one batch size to another too."""
    pickers = []
    for batch_size, count in ask.counts.items():
        picker = Picker(ask, batch_size)
        begin = len(ask.of(batch_size))
        for index in range(begin, begin + count):
            picker.offer(
                uniforms("random", ask.seed, batch_size, index, shape=(len(ask.space),)), "random"
            )
        pickers.append(picker)
    return proposal(ask, pickers)
