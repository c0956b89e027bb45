"""Schedules of the batch size: phases of constant size, cut in examples consumed.

They replace a decay of the rate. A phase ends at the first step by which its examples are
consumed; the engine compiles one step for each distinct batch size. Imports no jax.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

Shape = Callable[[float], float]


@dataclasses.dataclass(frozen=True)
class Phase:
    """Part of a trial at one batch size.

    Attributes:
      start_examples: examples consumed before it begins.
      batch_size: examples a step.
      rate_multiplier: of the peak learning rate.
    """

    start_examples: int
    batch_size: int
    rate_multiplier: float


def constant(batch_size: int) -> tuple[Phase, ...]:
    """One batch size, the peak rate: no schedule."""
    return _grow(batch_size, (), 1.0, 1.0, None)


def smith(
    batch_size: int, cuts: Sequence[int], factor: float = 5.0, max_batch_size: int | None = None
) -> tuple[Phase, ...]:
    """Grow the batch where the rate would be cut (Smith et al. 2018, arXiv 1711.00489).

    At each cut (examples consumed) where the rate would be divided by ``factor``, the batch is
    multiplied by it instead, up to ``max_batch_size`` (the paper: a tenth of the training set);
    what the batch cannot take the rate does. Invariant: rate / B, hence the noise scale
    eps N / (B (1 - m)), is at every example what the decayed rate's would be, up to rounding of
    B to a whole number (for which the rate makes up).
    """
    return _grow(batch_size, cuts, factor, 1.0, max_batch_size)


def seesaw(
    batch_size: int, cuts: Sequence[int], factor: float = 2.0, max_batch_size: int | None = None
) -> tuple[Phase, ...]:
    """Seesaw: where the rate would be divided by f, divide it by sqrt(f) and grow the batch by f.

    Invariant: rate / sqrt(B) is at every example what the decayed rate's would be: the
    displacement per example of a normalised update, such as Adam's, where noise dominates the
    gradient. What ``max_batch_size`` forbids the batch, the rate does. (Meterez et al. 2025.)
    """
    return _grow(batch_size, cuts, factor, 0.5, max_batch_size)


BATCH_SIZE_SCHEDULES: dict[str, Callable[..., tuple[Phase, ...]]] = {
    "constant": constant,
    "smith": smith,
    "seesaw": seesaw,
}


def cuts_of(shape: Shape, total_examples: int, factor: float, most: int = 64) -> tuple[int, ...]:
    """Examples consumed when a falling shape first reaches 1/f, 1/f^2, ... of its start.

    Args:
      shape: progress in [0, 1] -> multiplier, not increasing.
      total_examples: length of the trial.
      factor: f, above 1.
      most: cuts at most.
    """
    if not factor > 1:
        raise ValueError(f"factor must exceed 1, got {factor!r}")
    cuts: list[int] = []
    for number in range(1, most + 1):
        level = shape(0.0) / factor**number
        if shape(1.0) > level:
            break
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (low, middle) if shape(middle) <= level else (middle, high)
        if high >= 1.0 - 1e-12:
            break
        cuts.append(math.ceil(high * total_examples))
    return tuple(cuts)


def phase_at(phases: Sequence[Phase], examples: int) -> Phase:
    """The phase of the step that begins with ``examples`` consumed."""
    return [phase for phase in phases if phase.start_examples <= examples][-1]


def updates(phases: Sequence[Phase], total_examples: int) -> int:
    """Steps that consume ``total_examples``, phase borders kept to whole steps."""
    borders = [phase.start_examples for phase in phases[1:]] + [total_examples]
    consumed = steps = 0
    for phase, border in zip(phases, borders, strict=True):
        more = max(0, math.ceil((min(border, total_examples) - consumed) / phase.batch_size))
        steps, consumed = steps + more, consumed + more * phase.batch_size
    return steps


def _grow(
    batch_size: int,
    cuts: Sequence[int],
    factor: float,
    power: float,
    max_batch_size: int | None,
) -> tuple[Phase, ...]:
    """Phases that keep rate / B^power at decayed rate / (first B)^power.

    The batch takes ``factor`` at each cut as long as it may; the rate takes the rest.
    """
    _check(batch_size, cuts, factor, max_batch_size)
    highest = math.inf if max_batch_size is None else max_batch_size
    phases = []
    for number, start in enumerate((0, *cuts)):
        size = round(min(batch_size * factor**number, highest))
        rate = (size / batch_size) ** power / factor**number
        phases.append(Phase(start, size, rate))
    return tuple(phases)


def _check(batch_size: int, cuts: Sequence[int], factor: float, max_batch_size: int | None) -> None:
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size!r}")
    if factor < 1:
        raise ValueError(f"factor must be at least 1, got {factor!r}")
    if max_batch_size is not None and max_batch_size < batch_size:
        raise ValueError(
            f"max_batch_size must be at least the batch size {batch_size}, got {max_batch_size!r}"
        )
    if list(cuts) != sorted(set(cuts)) or any(cut <= 0 for cut in cuts):
        raise ValueError(f"cuts must increase from above 0, got {tuple(cuts)!r}")
