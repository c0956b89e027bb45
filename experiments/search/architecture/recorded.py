"""Spaces as JSON values and back, so that a report can draw what a record names."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from experiments.search.architecture.cells import ChosenEdges, EveryEdge
from experiments.search.architecture.space import Space
from experiments.search.architecture.stacks import Stacked

BUILDS: dict[str, type[Any]] = {
    "every_edge": EveryEdge,
    "chosen_edges": ChosenEdges,
    "stacks": Stacked,
}


def space_to_json(space: Space) -> dict[str, Any]:
    """A space as JSON values; of one that a user's own function builds the choices alone.

    Fields that have their default are left out: earlier records do not have them.
    """
    kind = next((k for k, build in BUILDS.items() if type(space.build) is build), "")
    fields = non_defaults(space.build) if kind else {}
    return {
        "name": space.name,
        "choices": [[name, list(options)] for name, options in space.choices],
        "same": space.same,
        "build": kind,
        "fields": {name: _listed(value) for name, value in fields.items()},
    }


def space_from_json(data: Mapping[str, Any]) -> Space | None:
    """The space that was recorded; None where a user's own function builds its architectures."""
    if data["build"] not in BUILDS:
        return None
    build = BUILDS[data["build"]](**{name: _tupled(v) for name, v in data["fields"].items()})
    choices = tuple((name, tuple(options)) for name, options in data["choices"])
    return Space(data["name"], choices, build, data["same"])


def non_defaults(value: Any) -> dict[str, Any]:
    """Fields of a dataclass's value but those that have their default."""
    given = dataclasses.asdict(value)
    return {
        field.name: given[field.name]
        for field in dataclasses.fields(value)
        if field.default is dataclasses.MISSING or given[field.name] != field.default
    }


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
