"""Options of a dataset: the keyword arguments of the function that loads it, by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from workloads.registry import unknown_name

COMMON = ("train_examples", "validation_examples")
"""Options of every dataset: keep only the first so many of a split."""


def defaults(loader: Callable[..., Any]) -> dict[str, Any]:
    """Option -> its default, of the dataset that ``loader`` loads."""
    parameters = inspect.signature(loader).parameters.values()
    return {p.name: p.default for p in parameters if p.name != "data_dir"}


def check_names(name: str, loader: Callable[..., Any], options: Iterable[str]) -> None:
    """Refuse (UnknownNameError) what is no option of the dataset called ``name``."""
    known = {*defaults(loader), *COMMON}
    for option in options:
        if option not in known:
            raise unknown_name(f"option of dataset {name}", option, known)


def parse(name: str, loader: Callable[..., Any], texts: Mapping[str, str]) -> dict[str, Any]:
    """Options typed on a command line, each of the type of its default.

    Whole numbers as ``64``, several of them as ``224,224,3``, words as they are.

    Raises:
      UnknownNameError: no such option.
      ValueError: a text that is no value of this option's type.
    """
    check_names(name, loader, texts)
    types = defaults(loader)
    return {option: _value(option, text, types.get(option, 0)) for option, text in texts.items()}


def _value(option: str, text: str, default: Any) -> Any:
    if isinstance(default, str):
        return text
    try:
        if isinstance(default, tuple):
            return [int(part) for part in text.split(",")]
        return int(text)
    except ValueError as error:
        several = "whole numbers with commas between" if isinstance(default, tuple) else ""
        raise ValueError(f"{option} must be {several or 'a whole number'}, got {text!r}") from error
