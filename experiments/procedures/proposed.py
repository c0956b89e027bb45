"""The commands that a procedure proposes, each one line for a shell.

A *subject* is what `words_of` makes of the words that were typed (commands/subject.py): quoted for
a shell already, the study or workload first, then options.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path


def run_file(path: Path) -> str:
    """The command that runs a study file."""
    return shlex.join(["batchscale", "run", str(path)])


def procedure(kind: str, subject: str, *flags: str) -> str:
    """The command of a procedure on a subject, with further words."""
    return " ".join(["batchscale", kind, subject, *map(shlex.quote, flags)])


def clipping(subject: str) -> str:
    """The command ``clip-threshold``, which takes its subject as an option."""
    return procedure("clip-threshold --study", subject)


def in_another(folder: Path, suffix: str) -> tuple[str, str]:
    """The option that leads to a folder beside this one, which holds another question."""
    return "--out", str(folder.with_name(f"{folder.name}-{suffix}"))


def values(subject: str, option: str) -> list[str]:
    """The words that follow an option of a subject; none where it is not there."""
    words = shlex.split(subject)
    if option not in words:
        return []
    return words[words.index(option) + 1 : _end(words, option)]


def with_values(subject: str, option: str, chosen: Sequence[str]) -> str:
    """The subject with these words in place of an option's own, without the option where none."""
    words = shlex.split(subject)
    if option in words:
        del words[words.index(option) : _end(words, option)]
    return shlex.join([*words, *([option, *chosen] if chosen else [])])


def _end(words: Sequence[str], option: str) -> int:
    """The place after the words of an option: that of the next one."""
    first = words.index(option) + 1
    return next((i for i in range(first, len(words)) if words[i].startswith("--")), len(words))
