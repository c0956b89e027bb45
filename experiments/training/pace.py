"""Steps that one call makes, from what the calls before took."""

from __future__ import annotations

TARGET_CHUNK_SECONDS = 0.05
FIRST_CHUNK_STEPS = 8


class ChunkPace:
    """The pace of a pack at one batch size."""

    def __init__(self) -> None:
        self._seconds_per_step: float | None = None

    @property
    def steps(self) -> int:
        """Steps that take about `TARGET_CHUNK_SECONDS`; a few while nothing is known."""
        if self._seconds_per_step is None:
            return FIRST_CHUNK_STEPS
        return max(1, int(TARGET_CHUNK_SECONDS / self._seconds_per_step))

    def observe(self, steps: int, seconds: float) -> None:
        """Take what a chunk took."""
        # The first chunk compiles; a guess from it would make chunks too short for ever.
        found, known = seconds / steps, self._seconds_per_step
        self._seconds_per_step = found if known is None else min(found, 2 * known)
