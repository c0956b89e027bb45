"""Signals that end a process, as a flag that a loop reads: none is raised into code that writes.

    with deferred() as stop:
        while working:
            stop.check()  # raises here, and nowhere else

Outside `deferred`, within `listening`, a signal raises at once: nothing is being written there.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


class Preempted(KeyboardInterrupt):
    """The process was told to end (SIGTERM): running trials are saved, then it ends."""


class EndedAtOnce(KeyboardInterrupt):
    """Ctrl-C was pressed a second time: what is not recorded yet is given up."""


class Stop:
    """Flag of whether this process was asked to end, and how."""

    def __init__(self) -> None:
        self._asked: type[KeyboardInterrupt] | None = None

    @property
    def asked(self) -> type[KeyboardInterrupt] | None:
        """The exception of `check`: `Preempted` (SIGTERM), KeyboardInterrupt (Ctrl-C) or None."""
        return self._asked

    def ask(self, kind: type[KeyboardInterrupt]) -> None:
        """Ask to end; SIGTERM outweighs Ctrl-C, because it saves more."""
        if self._asked is not Preempted:
            self._asked = kind

    def check(self) -> None:
        """Raise what was asked for, if anything was."""
        if self._asked is not None:
            raise self._asked


class OutOfTime(KeyboardInterrupt):
    """The time that a piece of work was given is over; nothing asked the process to end."""


class Limited(Stop):
    """A `Stop` that asks for `OutOfTime` too, once ``over`` returns True.

    What ends one piece of work so asks nothing of the next.
    """

    def __init__(self, outer: Stop, over: Callable[[], bool]) -> None:
        super().__init__()
        self._outer, self._over = outer, over

    @property
    def asked(self) -> type[KeyboardInterrupt] | None:
        """As of the signals; else `OutOfTime` from when the time was over."""
        if self._asked is None and self._over():
            self._asked = OutOfTime
        return self._outer.asked or self._asked

    def check(self) -> None:
        """Raise what was asked for, if anything was."""
        if (asked := self.asked) is not None:
            raise asked


class _Listener:
    """The handlers of one process: they set a flag while it is deferred, else they raise."""

    def __init__(self) -> None:
        self.stop = Stop()
        self.deferrals = 0
        self._interrupts = self._terminations = 0

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The handler of SIGINT and SIGTERM."""
        del frame
        if number == signal.SIGTERM:
            self._terminations += 1
            if self.deferrals:
                self.stop.ask(Preempted)
            elif self._terminations == 1:  # a scheduler repeats itself
                raise Preempted
            return
        self._interrupts += 1
        if not self.deferrals:
            raise KeyboardInterrupt
        if self._interrupts > 1:
            raise EndedAtOnce
        self.stop.ask(KeyboardInterrupt)


_listener: _Listener | None = None


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Within, SIGTERM raises `Preempted` and Ctrl-C KeyboardInterrupt, unless `deferred`.

    A handler that the caller has set stays. Outside the main thread nothing is done: no other
    may set a handler, and none hears a signal.
    """
    global _listener
    if _listener is not None or threading.current_thread() is not threading.main_thread():
        yield
        return
    mine = _Listener()
    usual = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    before = {n: handler for n, handler in usual.items() if signal.getsignal(n) is handler}
    _listener = mine
    try:
        for number in before:
            signal.signal(number, mine.handle)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _listener = None


@contextlib.contextmanager
def deferred() -> Iterator[Stop]:
    """Within, a signal only sets the flag, which `Stop.check` raises; nothing else does."""
    with listening():
        listener = _listener
        if listener is None or threading.current_thread() is not threading.main_thread():
            yield Stop()
            return
        listener.deferrals += 1
        try:
            yield listener.stop
        finally:
            listener.deferrals -= 1
