"""Parsers of arguments that several commands take."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path


def whole_number(low: int) -> Callable[[str], int]:
    """A parser of whole numbers of at least ``low``."""

    def parse(text: str) -> int:
        if not text.lstrip("+-").isdigit() or int(text) < low:
            raise argparse.ArgumentTypeError(
                f"must be a whole number of at least {low}, got {text!r}"
            )
        return int(text)

    return parse


def positive(text: str) -> float:
    """A number above 0, ``inf`` among them."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")
    return value


def trial_key(text: str) -> tuple[int, int]:
    """``B/INDEX`` as (batch size, index)."""
    batch_size, slash, index = text.partition("/")
    if not (slash and batch_size.isdigit() and index.isdigit()):
        raise argparse.ArgumentTypeError(f"must be B/INDEX, such as 64/3, got {text!r}")
    return int(batch_size), int(index)


def mesh(text: str) -> tuple[int, int]:
    """``trials=T,data=D`` as (T, D)."""
    found = re.fullmatch(r"trials=([1-9]\d*),data=([1-9]\d*)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"must be trials=T,data=D, got {text!r}")
    return int(found[1]), int(found[2])


def settings(pairs: Sequence[str], option: str = "--set") -> dict[str, str]:
    """``KEY=VALUE ...`` as a dictionary; ValueError where one is neither."""
    parted = [text.partition("=") for text in pairs]
    for name, equals, value in parted:
        if not (name and equals and value):
            raise ValueError(f"{option} takes KEY=VALUE, got {name + equals + value!r}")
    return {name: value for name, _, value in parted}


def numbers(pairs: Sequence[str]) -> dict[str, float]:
    """``KEY=NUMBER ...`` as a dictionary; ValueError where one is neither or not finite."""
    found = {}
    for name, text in settings(pairs).items():
        try:
            found[name] = float(text)
        except ValueError:
            found[name] = math.nan
        if not math.isfinite(found[name]):
            raise ValueError(f"{name} must be a finite number, got {text!r}")
    return found


def check_output(path: Path | None) -> None:
    """Refuse a file that cannot be written, before time is spent on what goes into it.

    Raises:
      ValueError: its folder does not exist, or it is a folder itself.
      RecordError: nothing can be written in its folder.
    """
    from experiments.records.files import check_writable

    if path is None:
        return
    if not path.parent.is_dir():
        raise ValueError(f"folder {path.parent} of {path.name} does not exist")
    if path.is_dir():
        raise ValueError(f"{path} must be a file, and is a folder")
    check_writable(path.parent)
