"""Strategies that do not look at results: random, and a grid."""

from __future__ import annotations

import math

from experiments.search.architecture.space import Code
from experiments.search.architecture.strategies.base import Fresh, History, Strategy, kept, nothing
from experiments.search.architecture.streams import Stream


def random() -> Strategy:
    """Uniform legal codes, without replacement: the baseline of every other strategy."""

    def propose(memory: None, history: History, count: int) -> list[Code]:
        del memory
        return Fresh(history, count).fill(history.stream("random"))

    return Strategy(nothing, propose, kept)


def grid() -> Strategy:
    """Every legal code once, in strides that spread them over the space.

    Strides are the whole number next to codes / golden ratio that shares no factor with the number
    of codes (a one-dimensional lattice); the seed moves the first one.
    """

    def propose(memory: None, history: History, count: int) -> list[Code]:
        del memory
        space, fresh = history.space, Fresh(history, count)
        total = space.codes
        stride = max(1, round(total * 0.6180339887498949))
        while math.gcd(stride, total) > 1:
            stride += 1
        # Codes proposed earlier lie at the first places; illegal ones and copies between them.
        first = Stream("grid", history.seed).below(total)
        for place in range(total):
            if fresh.full:
                break
            fresh.offer(space.code_at((first + place * stride) % total))
        return fresh.codes

    return Strategy(nothing, propose, kept)
