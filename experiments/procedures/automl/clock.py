"""The time that an automl has spent, over all processes that worked at it."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from experiments.records.files import write_whole

SPENT_FILE = "spent.json"
EVERY_SECONDS = 1.0

Clock = Callable[[], float]
"""Seconds since some moment, ascending."""


class Spent:
    """Seconds spent: those of earlier processes, and those since this one began.

    Args:
      folder: of the automl; nothing need be there.
      clock: of this process.
      began: the moment from which this process counts; now where None.
    """

    def __init__(self, folder: Path, clock: Clock = time.monotonic, began: float | None = None):
        self._path, self._clock = folder / SPENT_FILE, clock
        self._began = clock() if began is None else began
        self.before = _read(self._path)

    def __call__(self) -> float:
        """Seconds by now."""
        return self.before + self._clock() - self._began

    def keep(self) -> None:
        """Write them down, so that a kill loses none of them."""
        write_whole(self._path, json.dumps({"seconds": round(self(), 3)}).encode(), sync=False)

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Within, they are written down every second, by a thread of its own, and at the end."""
        over = threading.Event()

        def keep() -> None:
            while not over.wait(EVERY_SECONDS):
                with contextlib.suppress(OSError):  # a full disk is met, and said, by the record
                    self.keep()

        thread = threading.Thread(target=keep, name="spent", daemon=True)
        self.keep()
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            with contextlib.suppress(OSError):
                self.keep()


def _read(path: Path) -> float:
    try:
        return float(json.loads(path.read_text())["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0
