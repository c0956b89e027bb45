"""Growth of the batch in a study's trials: phases and length, from numbers that all share.

Imports no jax until cuts are taken from a schedule's shape, which it evaluates.
"""

from __future__ import annotations

import dataclasses
import functools

from schedules import BATCH_SIZE_SCHEDULES, SCHEDULES
from schedules.batch_size import Phase, constant, cuts_from, updates


@dataclasses.dataclass(frozen=True)
class Growth:
    """A batch-size schedule with its numbers.

    Attributes:
      name: of `schedules.BATCH_SIZE_SCHEDULES`.
      cuts: examples consumed where the batch grows; None takes them from ``rate``.
      factor: by which the rate would fall at a cut.
      highest: examples; no batch grows beyond it (a larger first one stays as it is).
      rate: the schedule of the learning rate whose shape has the cuts.
      settings: its numbers, warmup included, as (name, value) pairs.
    """

    name: str
    cuts: tuple[int, ...] | None
    factor: float
    highest: int
    rate: str
    settings: tuple[tuple[str, float], ...]

    def phases(self, batch_size: int, total_examples: int) -> tuple[Phase, ...]:
        """The phases of a trial that begins at ``batch_size`` and consumes ``total_examples``."""
        return _phases(self, batch_size, total_examples)

    def examples(self, batch_size: int, least_examples: int, least_steps: int) -> int:
        """The fewest examples, at least ``least_examples``, that take ``least_steps`` updates."""

        def enough(total: int) -> bool:
            return updates(self.phases(batch_size, total), total) >= least_steps

        low = high = least_examples
        while not enough(high):
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if enough(middle) else (middle, high)
        return high


@functools.cache
def _phases(growth: Growth, batch_size: int, total_examples: int) -> tuple[Phase, ...]:
    if growth.name == "constant":
        return constant(batch_size)
    cuts = growth.cuts
    if cuts is None:
        rate, settings = SCHEDULES[growth.rate], dict(growth.settings)
        cuts = cuts_from(rate, settings, batch_size, total_examples, growth.factor)
    highest = max(batch_size, growth.highest)
    return BATCH_SIZE_SCHEDULES[growth.name].rule(batch_size, cuts, growth.factor, highest)
