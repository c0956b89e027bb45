"""A row: what one field of a study holds, and what it means everywhere else. Imports no jax."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from experiments.spec import kinds

NEVER: Any = object()
"""Equal to no value of a field."""
Role = Literal["asks", "grows", "notes"]


@dataclasses.dataclass(frozen=True)
class Option:
    """The option of a command that changes a field.

    Attributes:
      flag: its name; several fields may share one.
      metavar, help: as argparse shows them.
      change: how its words change the study, a key of ``CHANGES`` in commands/chosen.py.
      several: whether it takes several words.
    """

    flag: str
    metavar: str
    help: str
    change: Literal[
        "value", "values", "only", "count", "flag", "off", "part", "budget", "fix", "rule", "from"
    ] = "value"
    several: bool = False


@dataclasses.dataclass(frozen=True)
class FieldRow:
    """The meaning of one field of a study.

    Attributes:
      name: the field.
      kind: what it holds.
      meaning: one sentence, with units.
      role: "asks": part of the question, another value is another study; "grows": may change
        while the folder stays the same study's; "notes": said about the study, free to change.
      static: compiled into a trial's programs (a field of `TrialConfig`).
      compared: equal in all studies of a comparison.
      required: has no default.
      default: what it holds where nothing is given.
      neutral: a value that is left out of identities, `NEVER` where there is none:
        it changes nothing, and records from before the field do not hold it.
      unrecorded: whether a neutral value is left out of the record too.
      option: of ``batchscale run``.
      also: further options that change the same field.
      shown: what the report calls it, "" where the report says it elsewhere or not.
    """

    name: str
    kind: kinds.Kind
    meaning: str
    role: Role = "asks"
    static: bool = False
    compared: bool = False
    required: bool = False
    default: Any = None
    neutral: Any = NEVER
    unrecorded: bool = False
    option: Option | None = None
    also: tuple[Option, ...] = ()
    shown: str = ""


def row(kind: kinds.Kind, meaning: str, **properties: Any) -> Any:
    """A dataclass field with its row."""
    default = properties.get("default", dataclasses.MISSING)
    metadata = {"row": {"kind": kind, "meaning": meaning, **properties}}
    compare = properties.get("role") != "notes"
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata=metadata, compare=compare)
    if isinstance(default, dict):
        return dataclasses.field(
            default_factory=lambda: dict(default), metadata=metadata, compare=compare
        )
    return dataclasses.field(default=default, metadata=metadata, compare=compare)


def part(meaning: str, default: str, help: str, option: str = "part", **properties: Any) -> Any:
    """A dataclass field that names a row of a table of `PARTS`."""
    flag = properties.pop("flag")
    return row(
        kinds.Part(),
        meaning,
        default=default,
        static=True,
        option=Option(flag, "NAME", help, option),  # type: ignore[arg-type]
        **properties,
    )


def rows_of(fields: type) -> dict[str, FieldRow]:
    """Name -> row, in the order of declaration."""
    found = {}
    for name in (field.name for field in dataclasses.fields(fields)):
        declared = (c.__dict__.get("__dataclass_fields__", {}).get(name) for c in fields.__mro__)
        rows = [f.metadata["row"] for f in declared if f and "row" in f.metadata]
        if rows:  # else it says how a study was read, not what was asked
            found[name] = FieldRow(name=name, required="default" not in rows[0], **rows[0])
    return found
