"""An outcome of a study against its expectation, and the sentences that tell it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

Found = Mapping[str, Any]
"""The entry of a study in results/studies.json."""


@dataclasses.dataclass(frozen=True)
class StudyVerdict:
    """An outcome, "yes", "in part", "no" or "not known", and sentences with the numbers of it."""

    outcome: str
    sentences: tuple[str, ...]

    @classmethod
    def of(cls, held: list[bool], *sentences: str) -> StudyVerdict:
        """From the claims that held; none: nothing was known to judge by."""
        if not held:
            return cls("not known", sentences)
        outcome = "yes" if all(held) else "in part" if any(held) else "no"
        return cls(outcome, sentences)
