"""Training data of a chunk of steps: all examples, or a window read ahead from disk.

A compiled program takes arrays of examples and the row numbers of every batch. Where the training
set lies on the device, the arrays are all of it and the rows are example numbers. Where it is
streamed, the arrays are a window, the examples of one chunk and of the step after it, always of one
shape; the program does not know the difference, and neither do its results.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent import futures
from typing import NamedTuple, Self

import jax
import numpy as np

from experiments.runtime.platform import cores
from experiments.training.computation import INITIAL_LOSS_EXAMPLES
from experiments.training.evaluation import evaluation_data
from experiments.training.order import ExampleOrder
from experiments.training.prefetch import Examples, Prefetcher
from experiments.training.pytrees import EVALUATION_DATA_SPEC
from experiments.training.sharding import Leaf, P, Sharding
from workloads.datasets.base import RESIDENT_BYTES, Split, Stored, bytes_of, size_of

MAX_CHUNK_STEPS = 2048
MAX_CHUNK_EXAMPLES = 1 << 16
WINDOW_BYTES = 64 << 20
"""A window is about as large, and never less than two batches; about as much is read ahead."""
BLOCK_BYTES = 4 << 20
"""About what one call reads: small beside a batch of images, which all threads decode."""


def chunk_steps(batch_size: int) -> int:
    """The most steps one call makes: bounds the index stream to 256 kB a slot."""
    return min(MAX_CHUNK_STEPS, max(1, MAX_CHUNK_EXAMPLES // batch_size))


def is_streamed(train: Split) -> bool:
    """Tell whether a training split exceeds `RESIDENT_BYTES`, the most that lies on a device."""
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


class ResidentData:
    """The arrays of a dataset on devices, and the split that is streamed from disk; thread-safe.

    Every set of devices holds the data once, whatever programs run there.

    Attributes:
      train: training arrays on the default device, role -> [n, ...]: all, or the first few of a
        streamed split.
      examples: size of the training set.
      stored: the training split where it is streamed, else None.
      evaluation_examples: validation and training examples of one evaluation.
    """

    def __init__(
        self,
        train: Examples,
        measured: Mapping[str, Examples],
        examples: int,
        stored: Split | None = None,
    ):
        self.train: Mapping[str, jax.Array] = jax.device_put(dict(train))
        self.examples, self.stored = examples, stored
        self._measured = measured
        self.evaluation_examples = sum(len(split["inputs"]) for split in measured.values())
        self._lock = threading.Lock()
        self._train: dict[Hashable, Mapping[str, jax.Array]] = {(): self.train}
        self._evaluation: dict[tuple[Hashable, ...], Mapping[str, jax.Array]] = {}

    @classmethod
    def put(
        cls,
        splits: Mapping[str, Split],
        train_evaluation_examples: int,
        stream: bool | None = None,
        *,
        spare: Split | None = None,
    ) -> ResidentData:
        """Copy the splits to the device, once for all programs.

        Args:
          splits: ``train`` and ``validation``.
          train_evaluation_examples: training examples of one evaluation.
          stream: whether the training split stays where it is; by its size where None.
          spare: examples to lie behind the training examples, which none draws before
            `with_spare`; left out where the training split is streamed.
        """
        split = splits["train"]
        streamed = is_streamed(split) if stream is None else stream
        first = max(INITIAL_LOSS_EXAMPLES, train_evaluation_examples)
        train = read_all(split, first if streamed else None)
        # A copy: the slice of an array would keep all of it in the host's memory.
        few = {role: array[:train_evaluation_examples].copy() for role, array in train.items()}
        if spare is not None and not streamed:
            further = read_all(spare)
            train = {role: np.concatenate([x, further[role]]) for role, x in train.items()}
        measured = {"validation": read_all(splits["validation"]), "train": few}
        return cls(train, measured, size_of(split), split if streamed else None)

    def with_spare(self) -> ResidentData:
        """The same arrays, of which the spare examples train too.

        Raises:
          ValueError: there are none.
        """
        rows = len(self.train["inputs"])
        if self.stored is not None or rows == self.examples:
            raise ValueError("no spare examples lie behind the training examples")
        found = copy.copy(self)
        found.examples = rows
        return found

    def train_on(self, sharding: Sharding) -> Mapping[str, jax.Array]:
        """`train` on every device of ``sharding``."""
        with self._lock:
            devices = sharding.device_ids
            if devices not in self._train:
                self._train[devices] = sharding.put(self.train, P())
            return self._train[devices]

    @property
    def evaluation_shapes(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """One evaluation batch of two examples, [1, 2, ...]."""
        few = {role: array[:2] for role, array in self._measured["validation"].items()}
        batches = evaluation_data({"validation": few, "train": few}, 0)
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), batches)

    def evaluation_on(self, sharding: Sharding, batch: int) -> Mapping[str, jax.Array]:
        """The evaluation batches [batches, E, ...] of at most ``batch`` examples, cut over the
        devices of ``sharding``."""
        key = *_cut_of(sharding), batch
        with self._lock:
            if key not in self._evaluation:
                train_examples = len(self._measured["train"]["inputs"])
                batches = evaluation_data(self._measured, train_examples, batch)
                padded = _padded(batches, sharding.layout.data)
                self._evaluation[key] = sharding.put(padded, EVALUATION_DATA_SPEC)
            return self._evaluation[key]

    def keep(self, shardings: Iterable[Sharding]) -> None:
        """Forget what lies on other devices, or cut otherwise, than these shardings say."""
        kept = list(shardings)
        devices, cuts = {(), *(s.device_ids for s in kept)}, {_cut_of(s) for s in kept}
        with self._lock:
            self._train = {k: v for k, v in self._train.items() if k in devices}
            self._evaluation = {k: v for k, v in self._evaluation.items() if k[:-1] in cuts}


def _cut_of(sharding: Sharding) -> tuple[Hashable, ...]:
    """Return the key under which evaluation batches are shared: devices and their use."""
    layout = sharding.layout
    return sharding.device_ids, layout.how, layout.trials, layout.data


def _padded(batches: Examples, parts: int) -> Examples:
    """Evaluation batches whose examples divide by the devices; padding has weight zero."""
    missing = -batches["weights"].shape[1] % parts
    if not missing:
        return batches
    return {
        role: np.pad(x, [(0, 0), (0, missing)] + [(0, 0)] * (x.ndim - 2))
        for role, x in batches.items()
    }


class ChunkWindow(NamedTuple):
    """The training data of one call."""

    train: Mapping[str, Leaf]  # role -> [n, ...]
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
      window_bytes: what the window of one chunk takes on a device; 0 where nothing is streamed.
    """

    def __init__(
        self,
        train: Mapping[str, Leaf],
        stored: Split | None,
        batch_size: int,
        slots: int,
        place: Callable[[Examples], Mapping[str, Leaf]] = jax.device_put,
    ):
        self._train, self._place = train, place
        self.most_steps = chunk_steps(batch_size)
        self._pool: futures.ThreadPoolExecutor | None = None
        self._slots: list[Prefetcher] = []
        self.window_bytes = 0
        if stored is None:
            return
        bytes_of_one = max(1, bytes_of(stored) // size_of(stored))
        fitting = WINDOW_BYTES // (slots * batch_size * bytes_of_one) - 1
        self.most_steps = max(1, min(self.most_steps, fitting))
        self.window_bytes = (self.most_steps + 1) * slots * batch_size * bytes_of_one
        block = max(1, min(batch_size * self.most_steps, BLOCK_BYTES // bytes_of_one))
        # Of small batches of large examples more than a window, so that every thread has work.
        ahead = max(batch_size * self.most_steps, 2 * readers() * block // slots)
        self._pool = futures.ThreadPoolExecutor(readers(), "reader")
        self._slots = [Prefetcher(self._pool, stored, block, ahead) for _ in range(slots)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        """End the reading threads, after the blocks they are at."""
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def window(
        self, numbers: np.ndarray, orders: Sequence[ExampleOrder | None], steps: int
    ) -> ChunkWindow:
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
            return ChunkWindow(self._train, numbers)
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
        return ChunkWindow(self._place(flat), stream)
