"""What a process that does not write sees of a record: a copy of what the writing one told it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Self

from experiments.records.store import Held, Writer
from experiments.spec.trial import Status, TrialResult


def told(writer: Writer) -> bytes:
    """What `Follower` is made from."""
    recorded = [[*key, status, identity] for key, (status, identity) in writer.recorded().items()]
    return json.dumps({"study": writer.study, "recorded": recorded}).encode()


class Follower(Held):
    """Takes a `Writer`'s place in a process that only trains: it keeps plans and drops results."""

    def __init__(self, data: bytes) -> None:
        content = json.loads(data)
        self._study = content["study"]
        self._recorded = {
            (batch_size, seed, index): (Status(status), identity)
            for batch_size, seed, index, status, identity in content["recorded"]
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        """Nothing is held."""

    def commit(self, results: Sequence[TrialResult]) -> None:
        """Process 0 records them."""
        del results
