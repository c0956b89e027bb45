"""The error that ends a study, and an error of user code said in one line."""

from __future__ import annotations

from experiments.spec.values import CONTROLS


class StudyError(Exception):
    """A study that cannot go on, in one line; what finished is recorded."""


def inert(text: str) -> str:
    """The text with every character that steers a terminal written as its escape."""
    return CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, inert; its type's name where it has none."""
    return inert((str(error).strip().splitlines() or [type(error).__name__])[0].strip())


def in_one_line(error: BaseException) -> str:
    """Type and first line of an exception in a user's code, inert."""
    first = (str(error).strip().splitlines() or ["no message"])[0]
    return f"{type(error).__name__}: {inert(first)}"
