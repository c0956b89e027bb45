"""Standard output and error whose failures do not reach the work.

A pipe that nobody reads any more, a full disk under ``> file``, no terminal at all: what is
printed is lost then, and training and reports go on.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO


class Steady:
    """A text stream that keeps the first error of writing, and writes nothing after it."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream if stream is not None else io.StringIO()  # (no output at all)
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        """As of a stream."""
        if self.error is None:
            try:
                self._stream.write(text)
            except OSError as error:
                self._lost(error)
        return len(text)

    def flush(self) -> None:
        """As of a stream."""
        if self.error is None:
            try:
                self._stream.flush()
            except OSError as error:
                self._lost(error)

    def _lost(self, error: OSError) -> None:
        """Nothing more goes there, not even what the interpreter flushes at its end."""
        self.error = error
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def steady() -> Iterator[tuple[Steady, Steady]]:
    """Within, `sys.stdout` and `sys.stderr` are `Steady`: (output, errors)."""
    before = sys.stdout, sys.stderr
    output, errors = Steady(before[0]), Steady(before[1])
    sys.stdout, sys.stderr = output, errors
    try:
        yield output, errors
    finally:
        output.flush()
        errors.flush()
        sys.stdout, sys.stderr = before
