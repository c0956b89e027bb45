"""What a chunk of steps learns from: all training examples, or a window read ahead from disk.

A compiled program takes arrays of examples and the row numbers of every batch. Where the training
set lies on the device, the arrays are all of it and the rows are example numbers. Where it is
streamed, the arrays are a window, the examples of one chunk and of the step after it, always of one
shape; the program does not know the difference, and neither do its results.
"""

from __future__ import annotations

import collections
import copy
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from typing import Any, NamedTuple, Self

import jax
import numpy as np

from experiments.runtime.platform import cores
from experiments.training.evaluation import evaluation_data
from experiments.training.order import ExampleOrder
from workloads.datasets.base import RESIDENT_BYTES, Split, Stored, bytes_of, read, size_of

INITIAL_LOSS_EXAMPLES = 256
"""A trial's initial loss is taken on the first so many training examples."""
MAX_CHUNK_STEPS = 2048
MAX_CHUNK_EXAMPLES = 1 << 16
WINDOW_BYTES = 64 << 20
"""A window is about as large, and never less than two batches; about as much is read ahead."""
BLOCK_BYTES = 4 << 20
"""About what one call reads: small beside a batch of images, which all threads decode."""
Examples = Mapping[str, np.ndarray]


def chunk_steps(batch_size: int) -> int:
    """The most steps one call makes: bounds the index stream to 256 kB a slot."""
    return min(MAX_CHUNK_STEPS, max(1, MAX_CHUNK_EXAMPLES // batch_size))


def is_streamed(train: Split) -> bool:
    """Whether a training split is too large to lie on the device: `RESIDENT_BYTES`."""
    return bytes_of(train) > RESIDENT_BYTES


def readers() -> int:
    """Threads that read and decode: one a core."""
    return cores()


def read_all(split: Split, first: int | None = None) -> dict[str, np.ndarray]:
    """All examples of a split, or the first so many; several threads read what is stored."""
    if not isinstance(split, Stored):
        return {role: np.asarray(array[:first]) for role, array in split.items()}
    size = size_of(split) if first is None else min(first, size_of(split))
    numbers = np.arange(size)
    blocks = np.array_split(numbers, max(1, size // 256))
    with futures.ThreadPoolExecutor(readers(), "reader") as pool:
        parts = list(pool.map(split.read, blocks))
    return {role: np.concatenate([part[role] for part in parts]) for role in parts[0]}


class ResidentData(NamedTuple):
    """What of a dataset lies on the device, and where the rest is read.

    Attributes:
      train: training arrays, role -> [n, ...]: all, or the first few of a streamed split.
      evaluation: evaluation batches.
      examples: size of the training set.
      stored: the training split where it is streamed, else None.
    """

    train: dict[str, jax.Array]
    evaluation: dict[str, jax.Array]
    examples: int
    stored: Split | None = None

    @classmethod
    def put(
        cls,
        splits: Mapping[str, Split],
        train_evaluation_examples: int,
        stream: bool | None = None,
    ) -> ResidentData:
        """Copy the splits to the device, once for all programs.

        ``stream`` says whether the training split stays where it is; by its size where None.
        """
        split = splits["train"]
        streamed = is_streamed(split) if stream is None else stream
        first = max(INITIAL_LOSS_EXAMPLES, train_evaluation_examples)
        train = read_all(split, first if streamed else None)
        measured = {"validation": read_all(splits["validation"]), "train": train}
        evaluation = evaluation_data(measured, train_evaluation_examples)
        train, evaluation = jax.device_put((train, evaluation))
        return cls(train, evaluation, size_of(split), split if streamed else None)


class _Ahead:
    """The examples of one slot, in the order of its trial; blocks are read ahead by threads."""

    def __init__(self, pool: futures.Executor, train: Split, block: int, ahead: int):
        self._pool, self._train, self._block, self._examples = pool, train, block, ahead
        # Numbers of a block and what its reading returns; the front is what comes next.
        self._blocks: collections.deque[tuple[np.ndarray, futures.Future[Any]]]
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


def _done(rows: Examples) -> futures.Future[Any]:
    """A reading that has ended."""
    future: futures.Future[Any] = futures.Future()
    future.set_result(rows)
    return future


def _last(pieces: Sequence[Examples], count: int) -> Sequence[Examples]:
    """The last pieces that hold ``count`` examples."""
    held, first = 0, len(pieces)
    while held < count:
        first -= 1
        held += len(pieces[first]["inputs"])
    return pieces[first:]


class Window(NamedTuple):
    """What one call is given of the data."""

    train: Mapping[str, Any]  # role -> [n, ...]
    stream: np.ndarray  # int32 [steps + 1, N, B], rows of ``train``


class Feed:
    """The examples of a pack's chunks.

    Args:
      train: device-resident examples: all, or where ``stored`` is given the first few.
      stored: the training split that is streamed, None where nothing is.
      batch_size: B.
      slots: N.
      place: puts a window on the devices.

    Attributes:
      most_steps: the most steps of one chunk.
    """

    def __init__(
        self,
        train: Mapping[str, Any],
        stored: Split | None,
        batch_size: int,
        slots: int,
        place: Callable[[Examples], Any] = jax.device_put,
    ):
        self._train, self._place = train, place
        self.most_steps = chunk_steps(batch_size)
        self._pool: futures.ThreadPoolExecutor | None = None
        self._slots: list[_Ahead] = []
        if stored is None:
            return
        bytes_of_one = max(1, bytes_of(stored) // size_of(stored))
        fitting = WINDOW_BYTES // (slots * batch_size * bytes_of_one) - 1
        self.most_steps = max(1, min(self.most_steps, fitting))
        block = max(1, min(batch_size * self.most_steps, BLOCK_BYTES // bytes_of_one))
        # Of small batches of large examples more than a window, so that every thread has work.
        ahead = max(batch_size * self.most_steps, 2 * readers() * block // slots)
        self._pool = futures.ThreadPoolExecutor(readers(), "reader")
        self._slots = [_Ahead(self._pool, stored, block, ahead) for _ in range(slots)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        """End the reading threads, after the blocks they are at."""
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def window(
        self, numbers: np.ndarray, orders: Sequence[ExampleOrder | None], steps: int
    ) -> Window:
        """The data of a chunk of ``steps``.

        Args:
          numbers: int32 [most_steps + 1, N, B], example numbers of its batches; row ``steps`` is
            the batch after it, rows beyond are not read.
          orders: each slot's order, standing after that batch; None where a slot is idle.
          steps: of this chunk.

        Raises:
          DataError: whatever reading raises.
        """
        if self._pool is None:
            return Window(self._train, numbers)
        rows, slots, size = numbers.shape
        wanted = numbers[: steps + 1].swapaxes(0, 1).reshape(slots, -1)
        window = {
            role: np.zeros((slots, rows * size, *array.shape[1:]), array.dtype)
            for role, array in self._train.items()
        }
        stream = np.zeros(numbers.shape, np.int32)
        places = np.arange(rows * size, dtype=np.int32).reshape(rows, size)
        for i, (ahead, order) in enumerate(zip(self._slots, orders, strict=True)):
            if order is None:
                continue
            stream[: steps + 1, i] = i * rows * size + places[: steps + 1]
            filled = 0
            for piece in ahead.take(wanted[i], order, size):
                count = len(piece["inputs"])
                for role, array in window.items():
                    array[i, filled : filled + count] = piece[role]
                filled += count
        flat = {role: array.reshape(-1, *array.shape[2:]) for role, array in window.items()}
        return Window(self._place(flat), stream)
