"""Covariance matrix adaptation (Hansen 2016) by cmaes, one a batch size.

The mean starts at the best point of the first round, which is that of the sampler `rounds`. Later
trials are told in generations, in the order of their indices, so the state is rebuilt from the
record; trials beyond the last full generation wait for the next round. A choice is a coordinate
like any other, taken in the order of its values.
"""

from __future__ import annotations

import cmaes
import numpy as np

from experiments.search.samplers.base import Ask, Proposal, Seen, excesses
from experiments.search.samplers.distinct import Picker, proposal
from experiments.search.samplers.rounds import first_points
from experiments.search.samplers.streams import seed_of

SIGMA = 0.2
"""First standard deviation, of a range of 1."""


def propose(ask: Ask) -> Proposal:
    """The next round's points at every batch size."""
    pickers = []
    for batch_size in ask.counts:
        picker = Picker(ask, batch_size)
        trials = ask.of(batch_size)
        if not trials:
            first_points(ask, picker)
        else:
            state = _state(ask, batch_size, trials)
            for _ in range(8 * picker.wanted):
                picker.offer(state.ask()[: len(ask.space)], "model")
        pickers.append(picker)
    return proposal(ask, pickers)


def _state(ask: Ask, batch_size: int, trials: list[Seen]) -> cmaes.CMA:
    """The state after all full generations, with a stream of this round's own."""
    dimensions = len(ask.space)
    padded = max(dimensions, 2)  # cmaes wants two dimensions: of one, the second is idle
    excess = excesses(ask, trials)
    points = np.full((len(trials), padded), 0.5)
    points[:, :dimensions] = [trial.point for trial in trials]
    first = min(-(-ask.total // 3), len(trials))
    box = np.array([*ask.box(batch_size), *[(0.0, 1.0)] * (padded - dimensions)])
    population = 4 + int(3 * np.log(padded))
    state = cmaes.CMA(
        mean=points[int(np.argmin(excess[:first]))],
        sigma=SIGMA,
        bounds=box,
        seed=seed_of("cma", ask.seed, ask.round, batch_size),
        population_size=population,
    )
    for begin in range(first, len(trials) - population + 1, population):
        rows = slice(begin, begin + population)
        # tell() sorts the list that it is given.
        state.tell(list(zip(points[rows], excess[rows].tolist(), strict=True)))
    return state
