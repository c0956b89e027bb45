"""A full grid, for one or two hyperparameters (Tuning Playbook): its order is shuffled by seed."""

from __future__ import annotations

import itertools

import numpy as np

from experiments.search.samplers.base import Ask, Point, Proposal
from experiments.search.samplers.distinct import Picker, positions, proposal, size
from experiments.search.samplers.streams import uniforms


def axes(ask: Ask) -> list[np.ndarray]:
    """Positions per hyperparameter, so that their product holds at least N points where it can.

    A finite range with no more values than its share gives them all; the others share what is
    left alike, each point in the middle of its cell, e.g. 24 points of two ranges: 5 x 5.
    """
    levels: dict[str, int] = {}
    for name in sorted(ask.names, key=lambda name: size(ask.space[name])):
        left = len(ask.space) - len(levels)
        wanted = ask.total / np.prod([*levels.values(), 1])
        share = max(1, int(np.ceil(round(wanted ** (1 / left), 9))))
        levels[name] = int(min(share, size(ask.space[name])))
    return [
        np.array(positions(ask.space[name]))
        if levels[name] == size(ask.space[name])
        else (np.arange(levels[name]) + 0.5) / levels[name]
        for name in ask.names
    ]


def propose(ask: Ask) -> Proposal:
    """The next points of the shuffled grid; then random ones, as for a grid that was too small."""
    pickers = []
    for batch_size in ask.counts:
        picker = Picker(ask, batch_size)
        points: list[Point] = list(itertools.product(*axes(ask)))
        for row in np.argsort(uniforms("grid", ask.seed, shape=(len(points),)), kind="stable"):
            picker.offer(points[row], "grid")
        pickers.append(picker)
    return proposal(ask, pickers)
