"""A record as a process that does not write it knows it: by what the writing one broadcast."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any, Self

from experiments.records.state import Key, RecordState
from experiments.records.store import Writer
from experiments.spec.trial import Status, TrialResult


def broadcast(writer: Writer) -> bytes:
    """The state of a record, to make a `Follower` from."""
    recorded = [[*key, status, identity] for key, (status, identity) in writer.recorded().items()]
    return json.dumps({"study": writer.study, "recorded": recorded}).encode()


class Follower(RecordState):
    """Takes a `Writer`'s place in a process that only trains: it keeps plans and drops results."""

    def __init__(self, data: bytes) -> None:
        content = json.loads(data)
        self._study = content["study"]
        self._recorded: dict[Key, tuple[Status, str]] = {
            (batch_size, seed, index): (Status(status), identity)
            for batch_size, seed, index, status, identity in content["recorded"]
        }

    @property
    def study(self) -> dict[str, Any]:
        """A copy: as the writer had it when this was made, with the plans and rounds since."""
        return copy.deepcopy(self._study)

    def _keep(self, grown: dict[str, Any]) -> None:
        self._study = grown

    def recorded(self) -> dict[Key, tuple[Status, str]]:
        """As the writer had it when this was made."""
        return dict(self._recorded)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        """Nothing is held."""

    def commit(self, results: Sequence[TrialResult]) -> None:
        """Process 0 records them."""
        del results
