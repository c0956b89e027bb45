"""Reads the examples of one slot ahead of training, block by block, with several threads."""

from __future__ import annotations

import collections
import copy
from collections.abc import Mapping, Sequence
from concurrent import futures

import numpy as np

from experiments.training.order import ExampleOrder
from workloads.datasets.base import Split, read

Examples = Mapping[str, np.ndarray]


class Prefetcher:
    """The examples of one slot, in the order of its trial; blocks are read ahead by threads."""

    def __init__(self, pool: futures.Executor, train: Split, block: int, ahead: int):
        self._pool, self._train, self._block, self._examples = pool, train, block, ahead
        # Numbers of a block and what its reading returns; the front is what comes next.
        self._blocks: collections.deque[tuple[np.ndarray, futures.Future[Examples]]]
        self._blocks = collections.deque()
        self._order: ExampleOrder | None = None

    def take(self, numbers: np.ndarray, order: ExampleOrder, keep: int) -> Sequence[Examples]:
        """The examples of ``numbers`` [k], in pieces.

        ``order`` says what follows them, which is read ahead; it is not moved. The last ``keep``
        are asked for again next time.
        """
        pieces, done = [], 0
        while done < len(numbers):
            if not self._blocks:  # a trial's start, or another order than was read ahead
                self._order = None
                for first in range(done, len(numbers), self._block):
                    self._submit(numbers[first : first + self._block])
            known, reading = self._blocks.popleft()
            used = min(len(known), len(numbers) - done)
            if not np.array_equal(known[:used], numbers[done : done + used]):
                self._forget()
                continue
            rows = reading.result()
            pieces.append({role: array[:used] for role, array in rows.items()})
            if used < len(known):
                rest = {role: array[used:] for role, array in rows.items()}
                self._blocks.appendleft((known[used:], _done(rest)))
            done += used
        self._read_ahead(order)
        last = {r: np.concatenate([p[r] for p in _last(pieces, keep)])[-keep:] for r in pieces[0]}
        self._blocks.appendleft((numbers[-keep:], _done(last)))
        return pieces

    def _read_ahead(self, order: ExampleOrder) -> None:
        if self._order is None:
            self._order = copy.copy(order)
        waiting = sum(len(numbers) for numbers, _ in self._blocks)
        while waiting < self._examples:
            self._submit(self._order.take(self._block))
            waiting += self._block

    def _submit(self, numbers: np.ndarray) -> None:
        self._blocks.append((numbers, self._pool.submit(read, self._train, numbers)))

    def _forget(self) -> None:
        for _, reading in self._blocks:
            reading.cancel()
        self._blocks.clear()


def _done(rows: Examples) -> futures.Future[Examples]:
    """A reading that has ended."""
    future: futures.Future[Examples] = futures.Future()
    future.set_result(rows)
    return future


def _last(pieces: Sequence[Examples], count: int) -> Sequence[Examples]:
    """The last pieces that hold ``count`` examples."""
    held, first = 0, len(pieces)
    while held < count:
        first -= 1
        held += len(pieces[first]["inputs"])
    return pieces[first:]
