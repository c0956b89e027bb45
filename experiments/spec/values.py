"""Values that a user gives: taken in their normal form, or refused in one line. Imports no jax.

Every error names the field, the value and what is allowed, whatever the value's type.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Collection, Mapping
from typing import Any

MOST_STEPS = 2**31 - 1
"""The engine counts steps in int32."""
MOST_EXAMPLES = 2**53
"""The largest count that float64, and so JSON, holds exactly."""
LARGEST_SEED = 2**63 - 1
"""Tables hold seeds in Int64."""
LONGEST_NAME = 100
MOST_MEMBERS = 1_000_000
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=,%-]*")
CONTROLS = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Characters by which a text moves a terminal's cursor, colours or hides others, or turns them;
tabs and ends of lines may stay."""
SHOWN = 80  # characters of a refused value


def refuse(field: str, allowed: str, value: object) -> ValueError:
    """The error of a bad value, in one line."""
    shown = " ".join(repr(value).split())
    if len(shown) > SHOWN:
        shown = f"{shown[: SHOWN - 3]}..."
    return ValueError(f"{field} must be {allowed}, got {shown}")


def file_name(field: str, value: object) -> str:
    """``value``, a name that is safe as the name of a file or folder."""
    if (
        not isinstance(value, str)
        or len(value) > LONGEST_NAME
        or not _NAME.fullmatch(value)
        or value.endswith(".")
    ):
        raise refuse(
            field,
            f"a file name of 1 to {LONGEST_NAME} letters, digits and _ . + = , % - that begins "
            "with a letter, a digit or _",
            value,
        )
    return value


def whole(field: str, value: object, low: int, high: int | None = None) -> int:
    """``value`` as an int; ValueError where it is not a whole number in low..high."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or number < low or (high is not None and number > high):
        allowed = f"of at least {low}" if high is None else f"in {low}..{high}"
        if number is not None and high is not None and number < low:
            allowed = f"of at least {low}"
        raise refuse(field, f"a whole number {allowed}", value)
    return number


def real(field: str, value: object) -> float | int:
    """``value``, a finite number."""
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise refuse(field, "a finite number", value)
    try:
        number = value if isinstance(value, (int, float)) else float(value)  # such as numpy's
        finite = math.isfinite(number)
    except (TypeError, ValueError, OverflowError):
        finite = False
    if not finite:
        raise refuse(field, "a finite number", value)
    return number


def members(field: str, allowed: str, value: object) -> tuple[Any, ...]:
    """Members of a tuple, list, set or range; no text, mapping or iterator."""
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Collection):
        raise refuse(field, allowed, value)
    try:
        many = len(value) > MOST_MEMBERS
    except (TypeError, OverflowError) as error:
        raise refuse(field, allowed, value) from error
    if many:
        raise ValueError(f"{field} may hold at most {MOST_MEMBERS:,}, got {len(value):,}")
    return tuple(value)
