"""Progress of a study, for whoever shows it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence


@dataclasses.dataclass(frozen=True)
class StudyProgress:
    """The progress of a study, for a caller to show.

    Attributes:
      phase: what happens now, in words.
      complete, infeasible, wanted: trials, over all batch sizes; ``complete`` ones are COMPLETE
        or STOPPED, ``wanted`` so many.
      running: batch sizes being trained.
      share: done part of the work in [0, 1], by time.
      remaining_seconds: estimate, None before there is one.
      checked: whether the input has been found good: an error may still be all there is to say
        before that.
    """

    phase: str
    complete: int = 0
    infeasible: int = 0
    wanted: int = 0
    running: Sequence[int] = ()
    share: float = 0.0
    remaining_seconds: float | None = None
    checked: bool = True


Observer = Callable[[StudyProgress], None]
