"""Several processes, on one host or many, that train one study together (jax.distributed).

All make the same calls in the same order, because all take the same decisions: what depends on a
clock or a disk is decided by process 0 and told to the others here. In a single process every
function of this module returns what it was given.
"""

from __future__ import annotations

import pickle
import signal
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np

from experiments.runtime.stderr import nothing_on_stderr

HEARTBEAT_SECONDS = 10
"""A process that has been silent so long is given up, and the others end."""
_PIECE = 1 << 26  # bytes told at a time: each process receives as many from every other
T = TypeVar("T")


def join(coordinator: str, processes: int, process_id: int, seconds: int) -> None:
    """Meet the other processes; before anything else uses jax.

    Args:
      coordinator: HOST:PORT where process 0 listens.
      processes: how many there are.
      process_id: which this one is.
      seconds: to wait for all of them.

    Where they do not come, jax's runtime ends the process by SIGABRT. Its own handler of SIGTERM
    gives way to the one that was set before.
    """
    with nothing_on_stderr():  # a failure is reported there as a stack of C++
        jax.distributed.initialize(
            coordinator,
            processes,
            process_id,
            initialization_timeout=seconds,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    handler = signal.getsignal(signal.SIGTERM)
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def leave() -> None:
    """Part from the others, once all have come here."""
    jax.distributed.shutdown()


def several() -> bool:
    """Tell whether there are other processes."""
    return jax.process_count() > 1


def first() -> bool:
    """Tell whether this process decides and records."""
    return jax.process_index() == 0


def index() -> int:
    """Number of this process."""
    return jax.process_index()


def count() -> int:
    """Number of processes."""
    return jax.process_count()


def _gathered(values: Any) -> np.ndarray:
    """[processes, ...]: the values of every process."""
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(values))


def agreed_number(value: int) -> int:
    """Process 0's number."""
    if not several():
        return value
    high, low = _gathered(np.array(divmod(value, 1 << 30), np.int32))[0]
    return (int(high) << 30) + int(low)


def all_true(value: bool) -> bool:
    """Tell whether it is true everywhere."""
    return bool(_gathered(np.int32(value)).all()) if several() else value


def agreed(data: bytes) -> bytes:
    """Process 0's bytes, in every process."""
    if not several():
        return data
    pieces, size = [], agreed_number(len(data))
    for begin in range(0, size, _PIECE):
        mine = np.zeros(min(_PIECE, size - begin), np.uint8)
        if first():
            mine[:] = np.frombuffer(data, np.uint8, len(mine), begin)
        pieces.append(_gathered(mine)[0].tobytes())
    return b"".join(pieces)


def from_first(make: Callable[[], T]) -> T:
    """Return or raise in every process what ``make``, called by process 0 alone, does there."""
    if not several():
        return make()
    found, error = None, None
    if first():
        try:
            found = make()
        except Exception as failed:  # noqa: BLE001 (the others must hear of any)
            error = failed
    found, error = pickle.loads(agreed(pickle.dumps((found, error))))
    if error:
        raise error
    return found
