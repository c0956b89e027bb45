"""Search spaces of the archive's study.json <-> distributions of ours.

    DOUBLE   min_value, max_value, scale     <-> Real
    INTEGER  min_value, max_value, scale     <-> Integer
    DISCRETE feasible_points                 <-> Choice of numbers

with ``scale`` LINEAR_SCALE, LOG_SCALE, REVERSE_LOG_SCALE, or "" where none is stated (linear).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from experiments.records.files import RecordError
from experiments.spec.space import Choice, Distribution, Integer, Real, ZeroOrLog

_Scale = Literal["linear", "log", "reverse_log"]
SCALES: dict[str, _Scale] = {
    "": "linear",
    "LINEAR_SCALE": "linear",
    "LOG_SCALE": "log",
    "REVERSE_LOG_SCALE": "reverse_log",
}
_NAMES = {scale: name for name, scale in SCALES.items()}
_FIELDS = {
    "DISCRETE": ("feasible_points", "type"),
    "DOUBLE": ("max_value", "min_value", "scale", "type"),
    "INTEGER": ("max_value", "min_value", "scale", "type"),
}


def distribution(config: Any, where: str) -> Distribution:
    """One entry of ``parameter_configs``.

    Args:
      config: the entry.
      where: the file and the parameter, for the message.

    Raises:
      RecordError: it is none of the layout.
    """
    kind = config.get("type") if isinstance(config, dict) else None
    if kind not in _FIELDS:
        raise RecordError(f"{where} must have a type of {', '.join(_FIELDS)}, got {kind!r}")
    if missing := [name for name in _FIELDS[kind] if name not in config and name != "scale"]:
        raise RecordError(f"{where} of type {kind} lacks {missing[0]}")
    if unknown := [name for name in config if name not in _FIELDS[kind]]:
        raise RecordError(f"{where} of type {kind} has the unknown field {unknown[0]!r}")
    try:
        if kind == "DISCRETE":
            return Choice(tuple(_number(value) for value in config["feasible_points"]))
        scale = config.get("scale", "")
        if scale not in SCALES:
            known = ", ".join(name for name in SCALES if name)
            raise RecordError(f"{where} must have a scale of {known}, got {scale!r}")
        low, high = _number(config["min_value"]), _number(config["max_value"])
        if low == high:
            return Choice((low,))
        if kind == "INTEGER" and SCALES[scale] != "reverse_log":
            if not low.is_integer() or not high.is_integer():
                raise ValueError(f"the ends must be whole, got {low!r} and {high!r}")
            return Integer(int(low), int(high), SCALES[scale])
        return Real(low, high, SCALES[scale])
    except (TypeError, ValueError) as error:
        raise RecordError(f"{where} cannot be read ({error})") from error


def _number(value: object) -> float:
    plain = isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool))
    if plain and abs(value) <= sys.float_info.max:  # type: ignore[arg-type]
        return float(value)  # type: ignore[arg-type]
    raise ValueError(f"a value must be a finite number, got {value!r}")


def union(found: Sequence[Distribution]) -> Distribution:
    """The range that covers the search spaces of a hyperparameter at all batch sizes.

    The common one where they are equal; else the smallest range of the first one's scale, or the
    choice of all values. The archive has a space a batch size, a record of ours one in all.
    """
    first = found[0]
    if all(each == first for each in found):
        return first
    if all(isinstance(each, Choice) for each in found):
        return Choice(tuple(sorted({v for each in found for v in each.values})))  # type: ignore
    low = min(_ends(each)[0] for each in found)
    high = max(_ends(each)[1] for each in found)
    ranges = [each for each in found if not isinstance(each, Choice)]
    if all(isinstance(each, Integer) for each in found):
        return Integer(int(low), int(high), ranges[0].scale)
    scale = ranges[0].scale
    fits = {"linear": True, "log": low > 0, "reverse_log": high < 1}[scale]
    return Real(low, high, scale if fits else "linear")


def _ends(each: Distribution) -> tuple[float, float]:
    if isinstance(each, Choice):
        numbers = [float(value) for value in each.values]
        return min(numbers), max(numbers)
    return float(each.low), float(each.high)


def config(searched: Distribution) -> dict[str, Any]:
    """The entry of ``parameter_configs`` that says a distribution.

    Zero or a log range has no counterpart: it becomes a DOUBLE from zero without a scale.

    Raises:
      RecordError: a choice of words, which the layout cannot hold.
    """
    if isinstance(searched, Choice):
        if any(isinstance(value, str) for value in searched.values):
            raise RecordError(f"a choice of {searched.values!r} has no place in the layout")
        return {"feasible_points": [float(v) for v in searched.values], "type": "DISCRETE"}
    if isinstance(searched, ZeroOrLog):
        return {"max_value": searched.high, "min_value": 0.0, "scale": "", "type": "DOUBLE"}
    kind = "INTEGER" if isinstance(searched, Integer) else "DOUBLE"
    ends = {"max_value": searched.high, "min_value": searched.low}
    return {**ends, "scale": _NAMES[searched.scale], "type": kind}


def space_of(studies: Mapping[Path, Mapping[str, Any]]) -> dict[str, Distribution]:
    """The space of a workload from the ``parameter_configs`` of its study files."""
    found: dict[str, list[Distribution]] = {}
    for path, configs in studies.items():
        for name, entry in configs.items():
            found.setdefault(name, []).append(distribution(entry, f"{path}: parameter {name}"))
    return {name: union(each) for name, each in sorted(found.items())}
