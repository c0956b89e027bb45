"""A record as a process that trains knows it: its study, its plans, how its trials ended."""

from __future__ import annotations

import abc
import json
from collections.abc import Iterable, Mapping
from typing import Any

from experiments.spec.trial import Status

Key = tuple[int, int, int]
_CODES = {status: code for code, status in enumerate(Status, start=1)}
_STATUSES = {code: status for status, code in _CODES.items()}


class RecordState(abc.ABC):
    """The study and its plans; `Writer` and `Follower` add the trials."""

    @property
    @abc.abstractmethod
    def study(self) -> dict[str, Any]:
        """A copy of what study.json holds now."""

    @abc.abstractmethod
    def recorded(self) -> dict[Key, tuple[Status, str]]:
        """(batch size, seed, index) -> (status, identity) of every committed trial."""

    def add_plan(self, plan: Mapping[str, Any]) -> int:
        """Index of ``plan`` (JSON values) among the recorded plans, appended where it is new."""
        plain, study = json.loads(json.dumps(dict(plan))), self.study
        if plain not in study["plans"]:
            study["plans"].append(plain)
            self._keep(study)
        return int(study["plans"].index(plain))

    def add_round(self, found: Mapping[str, Any], trials: int = 0) -> None:
        """Append a round of a search (JSON values) to the recorded ones.

        ``trials``: wanted by then, of a search that does not know its rounds beforehand.
        """
        study = self.study
        study.setdefault("rounds", []).append(json.loads(json.dumps(dict(found))))
        if trials > study["study"].get("trials", 0):
            study["study"]["trials"] = trials
        self._keep(study)

    @abc.abstractmethod
    def _keep(self, grown: dict[str, Any]) -> None:
        """Let `study` be this from now on, on disk where that is this process's part."""


class TrialStates:
    """Statuses of the recorded trials: one byte a trial, more only for INCOMPLETE ones.

    Attributes:
      incomplete: INCOMPLETE trials -> number of the newest group that holds them.
    """

    def __init__(self) -> None:
        self._codes: dict[tuple[int, int], bytearray] = {}
        self.incomplete: dict[Key, int] = {}

    def get(self, key: Key) -> Status | None:
        """The status of a trial, None where it is not recorded."""
        codes = self._codes.get(key[:2], b"")
        return _STATUSES.get(codes[key[2]]) if key[2] < len(codes) else None

    def add(self, trials: Iterable[tuple[Key, Status]], group: int) -> None:
        """Trials that group ``group``, the newest, holds."""
        for key, status in trials:
            codes = self._codes.setdefault(key[:2], bytearray())
            codes.extend(bytes(max(0, key[2] + 1 - len(codes))))
            codes[key[2]] = _CODES[status]
            if status == Status.INCOMPLETE:
                self.incomplete[key] = group
            else:
                self.incomplete.pop(key, None)

    def merged(self, groups: Iterable[int], into: int) -> None:
        """Groups were merged into another."""
        gone = set(groups)
        for key, group in self.incomplete.items():
            if group in gone:
                self.incomplete[key] = into
