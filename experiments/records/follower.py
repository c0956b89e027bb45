"""What a process that does not write sees of a record: a copy of what the writing one told it."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from typing import Any, Self

from experiments.records.store import Key, Writer
from experiments.trial import Status, TrialResult


def told(writer: Writer) -> bytes:
    """What `Follower` is made from."""
    recorded = [[*key, status, identity] for key, (status, identity) in writer.recorded().items()]
    return json.dumps({"study": writer.study, "recorded": recorded}).encode()


class Follower:
    """Takes a `Writer`'s place in a process that only trains: it keeps plans and drops results."""

    def __init__(self, data: bytes) -> None:
        content = json.loads(data)
        self._study = content["study"]
        self._recorded: dict[Key, tuple[Status, str]] = {
            (batch_size, seed, index): (Status(status), identity)
            for batch_size, seed, index, status, identity in content["recorded"]
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        """Nothing is held."""

    @property
    def study(self) -> dict[str, Any]:
        """What study.json holds (a copy)."""
        return copy.deepcopy(self._study)

    def recorded(self) -> dict[Key, tuple[Status, str]]:
        """As `Writer.recorded`."""
        return dict(self._recorded)

    def add_plan(self, plan: Mapping[str, Any]) -> int:
        """As `Writer.add_plan`, without the disk."""
        plain = json.loads(json.dumps(dict(plan)))
        if plain not in self._study["plans"]:
            self._study["plans"].append(plain)
        return int(self._study["plans"].index(plain))

    def commit(self, results: Sequence[TrialResult]) -> None:
        """Process 0 records them."""
        del results
