"""The error that ends a study, and an error of user code said in one line."""

from __future__ import annotations


class StudyError(Exception):
    """A study that cannot go on, in one line; what finished is recorded."""


def first_line(error: BaseException) -> str:
    """The first line of an exception's message; its type's name where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].strip()


def in_one_line(error: BaseException) -> str:
    """Type and first line of an exception in a user's code."""
    first = (str(error).strip().splitlines() or ["no message"])[0]
    return f"{type(error).__name__}: {first}"
