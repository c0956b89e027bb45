"""Schedules of the batch size: phases of constant size, cut in examples consumed.

They replace a decay of the rate. A phase ends at the first step by which its examples are
consumed; the engine compiles one step for each distinct batch size. Imports no jax.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from schedules.base import Schedule
from schedules.durations import Duration

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

    >>> phases = smith(128, cuts=(60_000, 120_000), factor=5, max_batch_size=1000)
    >>> [(phase.batch_size, phase.rate_multiplier) for phase in phases]
    [(128, 1.0), (640, 1.0), (1000, 0.3125)]
    """
    return _grow(batch_size, cuts, factor, 1.0, max_batch_size)


def seesaw(
    batch_size: int, cuts: Sequence[int], factor: float = 2.0, max_batch_size: int | None = None
) -> tuple[Phase, ...]:
    """Seesaw: where the rate would be divided by f, divide it by sqrt(f) and grow the batch by f.

    Invariant: rate / sqrt(B) is at every example what the decayed rate's would be: the
    displacement per example of a normalised update, such as Adam's, where noise dominates the
    gradient. What ``max_batch_size`` forbids the batch, the rate does. (Meterez et al. 2025.)

    >>> seesaw(128, cuts=(60_000,), factor=4)[1]
    Phase(start_examples=60000, batch_size=512, rate_multiplier=0.5)
    """
    return _grow(batch_size, cuts, factor, 0.5, max_batch_size)


@dataclasses.dataclass(frozen=True)
class BatchSizeSchedule:
    """A row of the table: ``rule(batch_size, cuts, factor, max_batch_size) -> phases``.

    ``factor`` is the rule's own where none is given.
    """

    name: str
    rule: Callable[..., tuple[Phase, ...]]
    factor: float
    summary: str
    hyperparameters: tuple[()] = ()  # none that is a number of one trial: a batch size is compiled


BATCH_SIZE_SCHEDULES: dict[str, BatchSizeSchedule] = {
    schedule.name: schedule
    for schedule in (
        BatchSizeSchedule("constant", constant, 1.0, "one batch size throughout"),
        BatchSizeSchedule("smith", smith, 5.0, "B takes the factor that the rate would lose"),
        BatchSizeSchedule("seesaw", seesaw, 2.0, "B takes f where the rate loses sqrt(f)"),
    )
}


def cuts_of(shape: Shape, total_examples: int, factor: float, most: int = 64) -> tuple[int, ...]:
    """Examples consumed when a falling shape first reaches 1/f, 1/f^2, ... of its start.

    Args:
      shape: progress in [0, 1] -> multiplier, not increasing.
      total_examples: length of the trial.
      factor: f, above 1.
      most: cuts at most.

    >>> cuts_of(lambda progress: 0.01**progress, total_examples=1000, factor=10)
    (500,)
    """
    if not factor > 1:
        raise ValueError(f"factor must exceed 1, got {factor!r}")
    cuts: list[int] = []
    first, last = shape(0.0), shape(1.0)
    for number in range(1, most + 1):
        level = first / factor**number
        if last > level:
            break
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            if math.ceil(low * total_examples) == math.ceil(high * total_examples) > 0:
                break
            low, high = (low, middle) if shape(middle) <= level else (middle, high)
        if high >= 1.0 - 1e-12:
            break
        cuts.append(math.ceil(high * total_examples))
    return tuple(cuts)


def cuts_from(
    rate: Schedule,
    settings: Mapping[str, float],
    batch_size: int,
    total_examples: int,
    factor: float,
) -> tuple[int, ...]:
    """`cuts_of` a trial at one batch size over ``total_examples``, its warmup before them."""
    warmup = float(settings.get("warmup_steps", 0.0))
    steps = total_examples / batch_size - warmup
    still = {**settings, "warmup_steps": 0.0}

    def shape(progress: float) -> float:
        # Six digits: in float32 0.1^3 lies above a thousandth, and its cut would be missed.
        return float(f"{float(rate.multiplier(progress * steps, steps, still)):.6g}")

    if steps <= 0:
        return ()
    consumed = math.ceil(warmup * batch_size)
    return tuple(consumed + cut for cut in cuts_of(shape, total_examples - consumed, factor))


class Stretch(NamedTuple):
    """A phase in whole steps.

    Attributes:
      step: updates made before it.
      examples: examples consumed before it.
      batch_size, rate_multiplier: as `Phase`.
    """

    step: int
    examples: int
    batch_size: int
    rate_multiplier: float


def stretches(phases: Sequence[Phase]) -> tuple[Stretch, ...]:
    """The phases that make a step, where they begin; neighbours that are alike are one.

    >>> [(part.step, part.batch_size) for part in stretches(smith(8, cuts=(100,), factor=2))]
    [(0, 8), (13, 16)]
    """
    found: list[Stretch] = []
    step = examples = 0
    for phase, border in zip(phases, [*(p.start_examples for p in phases[1:]), None], strict=True):
        here = Stretch(step, examples, phase.batch_size, phase.rate_multiplier)
        if border is not None and border <= examples:
            continue
        if not found or here[2:] != found[-1][2:]:
            found.append(here)
        if border is not None:
            more = math.ceil((border - examples) / phase.batch_size)
            step, examples = step + more, examples + more * phase.batch_size
    return tuple(found)


def stretch_at(parts: Sequence[Stretch], step: int) -> Stretch:
    """The stretch of the update that follows ``step`` updates."""
    return [part for part in parts if part.step <= step][-1]


def examples_after(parts: Sequence[Stretch], steps: Any) -> Any:
    """Examples consumed by the first ``steps`` updates, int64 [n] of [n].

    >>> examples_after(stretches(smith(8, cuts=(100,), factor=2)), [13, 14])
    array([104, 120])
    """
    import numpy as np

    steps = np.asarray(steps, np.int64)
    at = np.searchsorted([part.step for part in parts], steps, side="right") - 1
    first, before, size = (np.array([part[i] for part in parts], np.int64)[at] for i in range(3))
    return before + (steps - first) * size


def updates(phases: Sequence[Phase], total_examples: int) -> int:
    """Steps that consume ``total_examples``, phase borders kept to whole steps.

    >>> updates(smith(8, cuts=(100,), factor=2), total_examples=200)
    19
    """
    part = [part for part in stretches(phases) if part.examples < total_examples][-1]
    return part.step + math.ceil((total_examples - part.examples) / part.batch_size)


def steps_of(
    duration: Duration, phases: Sequence[Phase], train_size: int, train_steps: int | None = None
) -> int:
    """Steps that ``duration`` lasts from the start of a trial with these phases, rounded up.

    Examples and epochs are consumed at the batch size of each phase. ``train_size`` is in
    examples, ``train_steps`` the trial's length, needed for a fraction.

    >>> steps_of(Duration(200, "examples"), smith(8, cuts=(100,), factor=2), train_size=1000)
    19
    """
    if len(phases) == 1 or duration.unit not in ("examples", "epochs"):
        return duration.steps(phases[0].batch_size, train_size, train_steps)
    examples = duration.steps(1, train_size)
    return updates(phases, examples) if examples else 0


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
