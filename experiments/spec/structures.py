"""Kinds of values that have a structure: workloads, and mappings of hyperparameters and lengths.

Each has the three functions of a `Kind`. Imports no jax.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.spec import space as spaces
from experiments.spec.kinds import Typed
from experiments.spec.values import MOST_EXAMPLES, MOST_STEPS, real, refuse, whole
from workloads.base import Goal, Workload


class WorkloadKind:
    """A workload: what is learned."""

    def check(self, field: str, value: Any) -> Workload:
        if not isinstance(value, Workload):
            raise refuse(field, "a Workload(...)", value)
        try:
            described = value.describe()
        except (TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{field} must be made of JSON values and code: {error}") from error
        for part in ("name", "dataset"):
            if not isinstance(described[part], str):
                raise refuse(f"{field} {part}", "a name", described[part])
        Typed(Goal).check(f"{field} goal", value.goal)
        if "train_examples" in (options := described["dataset_options"]):
            whole(f"{field} dataset_options train_examples", options["train_examples"], 1)
        FixedValues().check(f"{field} hyperparameters", value.hyperparameters)
        if not isinstance(value.search_spaces, Mapping):
            raise refuse(f"{field} search_spaces", "a mapping", value.search_spaces)
        for optimizer, space in value.search_spaces.items():
            SpaceKind().check(f"{field} search_spaces of {optimizer}", space)
        return value

    def record(self, value: Any) -> dict[str, Any]:
        return value.describe()

    def read(self, field: str, data: Any) -> Workload:
        try:
            return Workload.from_description(data)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{field} is not a described workload ({error})") from error


class SpaceKind:
    """Hyperparameter -> the range it is searched in; a range may be given as plain data."""

    def check(self, field: str, value: Any) -> dict[str, spaces.Distribution]:
        if not isinstance(value, Mapping):
            raise refuse(field, "a mapping from hyperparameters to ranges", value)
        found = {}
        for name, given in value.items():
            if not isinstance(name, str):
                raise refuse(f"a hyperparameter of {field}", "a name", name)
            if not isinstance(given, (Mapping, spaces.Distribution)):
                raise refuse(f"{field} of {name}", "a Real, Integer, ZeroOrLog or Choice", given)
            found[name] = spaces.from_json(given)
        return found

    def record(self, value: Any) -> dict[str, Any]:
        return {name: spaces.to_json(found) for name, found in value.items()}

    def read(self, field: str, data: Any) -> dict[str, spaces.Distribution]:
        return self.check(field, data)


class FixedValues:
    """Hyperparameter -> the number, or the duration, it is held at."""

    def check(self, field: str, value: Any) -> dict[str, float | str]:
        if not isinstance(value, Mapping):
            raise refuse(field, "a mapping from hyperparameters to numbers", value)
        found: dict[str, float | str] = {}
        for name, held in value.items():
            if not isinstance(name, str):
                raise refuse(f"a hyperparameter of {field}", "a name", name)
            found[name] = held if isinstance(held, str) else real(f"hyperparameter {name}", held)
        return found

    def record(self, value: Any) -> dict[str, float | str]:
        return dict(value)

    def read(self, field: str, data: Any) -> dict[str, float | str]:
        return self.check(field, data)


class Lengths:
    """Batch size -> steps."""

    def check(self, field: str, value: Any) -> dict[int, int]:
        if not isinstance(value, Mapping):
            raise refuse(field, "a mapping from batch sizes to steps", value)
        return {
            whole(f"a batch size of {field}", size, 1, MOST_EXAMPLES): whole(
                f"{field} of batch size {size}", steps, 1, MOST_STEPS
            )
            for size, steps in value.items()
        }

    def record(self, value: Any) -> dict[str, int]:
        return {str(size): steps for size, steps in value.items()}

    def read(self, field: str, data: Any) -> dict[int, int]:
        try:
            return {int(size): int(steps) for size, steps in data.items()}
        except (AttributeError, TypeError, ValueError) as error:
            raise refuse(field, "an object from batch sizes to steps", data) from error


class Code:
    """File -> sha256 of its text: the user's own code that a study is made of."""

    def check(self, field: str, value: Any) -> dict[str, str]:
        plain = isinstance(value, Mapping) and all(
            isinstance(word, str) for pair in value.items() for word in pair
        )
        if not plain:
            raise refuse(field, "a mapping from files to their sha256", value)
        return dict(value)

    def record(self, value: Any) -> dict[str, str]:
        return dict(value)

    def read(self, field: str, data: Any) -> dict[str, str]:
        return self.check(field, data)
