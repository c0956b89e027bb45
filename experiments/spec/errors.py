"""What ends a study, and how an error of user code is said in one line."""

from __future__ import annotations


class StudyError(Exception):
    """A study that cannot go on, in one line; what finished is recorded."""


class Preempted(KeyboardInterrupt):
    """The process was told to end (SIGTERM): running trials are saved, then it ends."""


def in_one_line(error: Exception) -> str:
    """Type and first line of an exception in a user's code."""
    first_line = (str(error).strip().splitlines() or ["no message"])[0]
    return f"{type(error).__name__}: {first_line}"
