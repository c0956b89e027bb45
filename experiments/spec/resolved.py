"""A study as everybody reads it: complete, checked, with what follows from its definition.

`experiments.spec.study.resolve` makes it from a `Study` as typed. Everything that determines the
science is here and goes into the record; how it is executed (packs, loops, threads) is a plan,
chosen later (experiments/planning/probe.py). Imports no jax.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from experiments.spec import space as spaces
from experiments.spec.complete import CompleteFields
from experiments.spec.fields import STATIC, read_fields
from experiments.spec.rows import rows_of
from experiments.spec.trial import RecordNorms, Trial, TrialConfig

IDENTITY_VERSION = 2
"""Version of what an identity covers; raise it when a change of code changes results.

2: the order of examples is a keyed permutation, computed at any place.
"""
_USER_MODULE = re.compile(r"\b(study_\w+)_[0-9a-f]{12}:")


@dataclasses.dataclass(frozen=True)
class ResolvedStudy(CompleteFields):
    """A complete study: its trials, its record, and what of it makes the study this one."""

    @property
    def hyperparameters(self) -> dict[str, float | str | None]:
        """Every hyperparameter of a trial with its fixed or default value; None if searched."""
        values: dict[str, float | str | None] = {row.name: row.default for row in self.rows}
        values |= {**self.workload.hyperparameters, **self.fixed}
        return {name: None if name in self.space else v for name, v in values.items()}

    def config(self, record_norms: RecordNorms) -> TrialConfig:
        """The static configuration of every trial of the study."""
        values = {name: getattr(self, name) for name in STATIC}
        return TrialConfig(record_norms=record_norms, **values)

    # The record, and what of it makes the study this one.

    def _stated(self) -> dict[str, Any]:
        """The fields as they are recorded: tables of lengths and of values are whole."""
        stated = {name: getattr(self, name) for name in rows_of(type(self))}
        held = {k: v for k, v in self.hyperparameters.items() if v is not None}
        stated |= {"train_steps": {b: self.length(b) for b in self.batch_sizes}, "fixed": held}
        if self.batch_size_schedule != "constant":
            growth = self.growth(self.batch_sizes[0])
            stated |= {"batch_size_factor": growth.factor, "max_batch_size": growth.highest}
        return stated

    def describe(self) -> dict[str, Any]:
        """The whole question as JSON values, for the record."""
        rows = rows_of(type(self))
        described = {
            name: rows[name].kind.record(value)
            for name, value in self._stated().items()
            if not (rows[name].unrecorded and value == rows[name].neutral)
        }
        return json.loads(json.dumps({**described, "train_size": self.train_size}))

    @classmethod
    def from_description(cls, described: Mapping[str, Any]) -> ResolvedStudy:
        """The study that `describe` described, as far as it determines its trials.

        Models and losses that a user's file defines are found once that file is loaded.

        Raises:
          ValueError: a field is missing, or is not what that field holds.
        """
        return cls(**read_fields(described, rows_of(cls)))

    @functools.cached_property
    def _asked(self) -> str:
        """Text of all that `identity` covers of the study."""
        rows, described = rows_of(type(self)), self.describe()
        asked = {
            name: value
            for name, value in described.items()
            if name == "train_size" or (rows[name].role == "asks" and value != rows[name].neutral)
        }
        asked["train_steps"] = {str(b): s for b, s in sorted(self.train_steps.items())}
        # A module of the user's file is named after the file's text, which `code` covers.
        return _USER_MODULE.sub(r"\1:", json.dumps(asked, sort_keys=True))

    def identity(self, dataset_checksum: str) -> str:
        """Hash of the question without what may grow (trials, seeds, batch sizes) and the notes.

        Two runs with one identity belong in one folder; anything else is another study.
        """
        return _digest(
            {"study": self._asked, "dataset": dataset_checksum, "schema": IDENTITY_VERSION}
        )

    def trial(
        self, batch_size: int, seed: int, index: int, point: Mapping[str, float], checksum: str
    ) -> Trial:
        """Trial ``index`` of a batch size and seed, at ``point`` of the unit cube.

        A position outside [0, 1], of a search whose box was widened, gives a value beyond the ends
        of its range, no further than is legal.
        """
        values = {**self.hyperparameters, **spaces.sample(self.space, point)}
        if any(not 0 <= position <= 1 for position in point.values()):
            for row in self.rows:
                if isinstance(self.space.get(row.name), spaces.Real):
                    values[row.name] = row.clipped(float(values[row.name]))  # type: ignore[arg-type]
        hyperparameters = self.numbers(values, batch_size)  # type: ignore[arg-type]
        return self.trial_at(batch_size, seed, index, hyperparameters, checksum)

    def trial_at(
        self,
        batch_size: int,
        seed: int,
        index: int,
        hyperparameters: Mapping[str, float],
        checksum: str,
    ) -> Trial:
        """Trial ``index`` of a batch size and seed with these hyperparameters, all of them."""
        length = self.length(batch_size)
        identity = _digest(
            {
                "study": self.identity(checksum),
                "batch_size": batch_size,
                "seed": seed,
                "index": index,
                "train_steps": length,
                "hyperparameters": dict(hyperparameters),
            }
        )
        return Trial(batch_size, seed, index, length, hyperparameters, identity)


def _digest(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:32]
