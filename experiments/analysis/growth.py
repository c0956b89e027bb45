"""Growing the batch in place of decaying the rate: what is equivalent, and where it fails.

Computed, not trained: numbers of updates from the schedules themselves, and losses of the noisy
quadratic model from its exact recursions (`workloads.oracles.growth`). Imports no jax.

- Smith et al. 2018: the scale of SGD's noise is g = eps N / (B (1 - m)); whatever keeps g at every
  example keeps the curve. So the rate may stay and the batch grow, a larger rate goes with a larger
  batch, a larger momentum too (B in proportion to eps / (1 - m)). It holds while a step is short
  against the curvature (eps h << 1) and B << N.
- Seesaw (Meterez et al. 2025): of a normalised update B grows by f where the rate loses sqrt(f). It
  holds while noise dominates the gradient, that is below the noise scale.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from schedules.batch_size import Phase, seesaw, smith, stretches, updates
from schedules.batch_size import constant as one_batch_size
from workloads.oracles.growth import GrowthPart, momentum_losses, normalised_losses, sgd_losses
from workloads.oracles.recursions import Spectrum, binned_spectrum, full_spectrum

CIFAR = 50_000
EPOCHS = 200
CUT_EPOCHS = (60, 120, 160)
"""Of a Wide ResNet on CIFAR-10, where the rate falls by five (Smith et al. 2018)."""
LARGEST = 5120
MOMENT = 0.9

HELD = 0.05
"""Losses along the way that differ by at most this share are called the same curve."""
PLACES = 16
"""Places along a curve at which losses are compared."""


def smith_table() -> pl.DataFrame:
    """The four schedules of Smith et al. 2018 on CIFAR-10, their updates computed.

    Columns: ``schedule, learning_rate, momentum, batch_size`` at the start, ``noise_scale`` =
    eps N / (B (1 - m)) at the start, ``largest_batch_size``, ``last_rate`` over the first, and
    ``updates`` of 200 epochs, drops at 60, 120 and 160. The rate takes what a batch of a tenth of
    the training set may not.
    """
    cuts = [CIFAR * epoch for epoch in CUT_EPOCHS]
    rows = []
    for name, rate, momentum, batch_size, grows in (
        ("decaying rate", 0.1, MOMENT, 128, False),
        ("increasing batch", 0.1, MOMENT, 128, True),
        ("larger first rate", 0.5, MOMENT, 640, True),
        ("larger momentum", 0.5, 0.98, 3200, True),
    ):
        phases = smith(batch_size, cuts, 5.0, LARGEST if grows else batch_size)
        rows.append(
            {
                "schedule": name,
                "learning_rate": rate,
                "momentum": momentum,
                "batch_size": batch_size,
                "noise_scale": rate * CIFAR / (batch_size * (1 - momentum)),
                "largest_batch_size": phases[-1].batch_size,
                "last_rate": phases[-1].rate_multiplier,
                "updates": exact_updates(phases, EPOCHS * CIFAR),
            }
        )
    return pl.DataFrame(rows)


def exact_updates(phases: Sequence[Phase], total_examples: int) -> int:
    """Examples over batch size, summed over the phases and rounded once, as the paper counts."""
    ends = [*(phase.start_examples for phase in phases[1:]), total_examples]
    pairs = zip(phases, ends, strict=True)
    return round(sum((end - phase.start_examples) / phase.batch_size for phase, end in pairs))


Losses = Callable[[Spectrum, Sequence[GrowthPart]], np.ndarray]


def _parts(phases: Sequence[Phase], rate: float, marks: Sequence[int]) -> list[GrowthPart]:
    """The steps between ``marks`` (examples), a part each where the batch does not change.

    Parts end at marks; where a phase ends in between there are two.
    """
    parts = stretches(phases)
    borders = sorted({*marks, *(part.examples for part in parts[1:])})
    found, at = [], 0
    for border in borders:
        part = [part for part in parts if part.examples <= at][-1]
        steps = round((border - at) / part.batch_size)
        found.append(GrowthPart(part.batch_size, rate * part.rate_multiplier, steps))
        at += steps * part.batch_size
    return found


def compared(
    losses: Losses,
    spectrum: Spectrum,
    one: tuple[Sequence[Phase], float],
    other: tuple[Sequence[Phase], float],
    total_examples: int,
) -> tuple[float, float]:
    """(largest |ratio of losses - 1| along the way, ratio at the end), of two schedules.

    Args:
      losses: expected losses after each part.
      one, other: phases and the peak rate; the ratio is ``other`` over ``one``.
      total_examples: where both end; they are compared at `PLACES` equal shares of it.
    """
    marks = [total_examples * (place + 1) // PLACES for place in range(PLACES)]
    curves = []
    for phases, rate in (one, other):
        parts = _parts(phases, rate, marks)
        reached = np.cumsum([part.batch_size * part.steps for part in parts])
        found = losses(spectrum, parts)
        curves.append(np.interp(marks, reached, np.log(found)))
    ratio = np.exp(curves[1] - curves[0])
    return float(np.max(np.abs(ratio - 1))), float(ratio[-1])


def equivalence_table(total_examples: int = 1 << 16, dimensions: int = 1000) -> pl.DataFrame:
    """Growing against decaying on the noisy quadratic model, where it holds and where it fails.

    The rate falls, or the batch grows, by two at a half, three quarters and seven eighths of the
    examples. Columns: ``claim``; ``learning_rate, batch_size`` at the start; ``updates_decay`` and
    ``updates_grow``; ``largest_difference`` of the losses along the way, ``final_ratio``, and
    ``holds``, whether they differ by at most `HELD` throughout.
    """
    spectrum = binned_spectrum(dimensions)
    cuts = [total_examples * share // 8 for share in (4, 6, 7)]
    rows = []

    def add(claim: str, losses: Losses, rate: float, one: Sequence[Phase],
            other: Sequence[Phase], *, other_rate: float) -> None:  # fmt: skip
        largest, final = compared(
            losses, spectrum, (one, rate), (other, other_rate), total_examples
        )
        made = [updates(phases, total_examples) for phases in (one, other)]
        rows.append(
            {
                "claim": claim, "learning_rate": rate, "batch_size": one[0].batch_size,
                "updates_decay": made[0], "updates_grow": made[1],
                "largest_difference": largest, "final_ratio": final, "holds": largest <= HELD,
            }
        )  # fmt: skip

    for rate in (0.02, 0.1, 0.5, 1.5):
        decay, grow = smith(8, cuts, 2.0, 8), smith(8, cuts, 2.0)
        add("smith", sgd_losses, rate, decay, grow, other_rate=rate)
    for rate in (0.01, 0.05, 0.2):
        slow, fast = one_batch_size(8), one_batch_size(64)
        add("batch in proportion to the rate", sgd_losses, rate, slow, fast, other_rate=8 * rate)
    for rate in (0.02, 0.1, 1.2):

        def by_momentum(spectrum: Spectrum, parts: Sequence[GrowthPart]) -> np.ndarray:
            plain = parts[0].batch_size == 8
            return sgd_losses(spectrum, parts) if plain else momentum_losses(spectrum, parts, 0.875)

        add("batch in proportion to 1/(1-m)", by_momentum, rate, one_batch_size(8),
            one_batch_size(64), other_rate=rate)  # fmt: skip
    for batch_size, rate in ((8, 0.02), (64, 0.06), (512, 0.16), (2048, 0.3)):
        decay, grow = smith(batch_size, cuts, 2.0, batch_size), seesaw(batch_size, cuts, 2.0)
        add("seesaw, normalised updates", normalised_losses, rate, decay, grow, other_rate=rate)
    for rate in (0.1, 0.5):  # a rule for normalised updates, given to plain SGD
        decay, grow = smith(8, cuts, 2.0, 8), seesaw(8, cuts, 2.0)
        add("seesaw, plain SGD", sgd_losses, rate, decay, grow, other_rate=rate)
    return pl.DataFrame(rows)


def order_table(
    learning_rate: float = 0.2, sizes: tuple[int, int] = (8, 256), dimensions: int = 10_000
) -> pl.DataFrame:
    """Small then large against large then small, exactly, at a constant rate.

    Columns: ``examples`` in all; ``share`` of them at the small batch size; ``small_then_large``
    and ``large_then_small``, expected losses at the end. Shares 0 and 1 are one batch size.
    """
    spectrum, rows = full_spectrum(dimensions), []
    small, large = sizes
    for examples in (1 << 16, 1 << 18, 1 << 20):
        for share in (0.0, 0.25, 0.5, 0.75, 0.875, 0.95, 0.98, 1.0):
            slow = round(share * examples / large) * large  # whole steps of either
            parts = [
                GrowthPart(small, learning_rate, slow // small),
                GrowthPart(large, learning_rate, (examples - slow) // large),
            ]
            first, second = (float(sgd_losses(spectrum, way)[-1]) for way in (parts, parts[::-1]))
            rows.append((examples, share, first, second))
    schema = {"examples": pl.Int64, "share": pl.Float64, "small_then_large": pl.Float64,
              "large_then_small": pl.Float64}  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row")


def tables() -> dict[str, pl.DataFrame]:
    """The three tables by name."""
    return {"smith": smith_table(), "equivalence": equivalence_table(), "order": order_table()}


TITLES = {
    "smith": (
        "Smith et al. 2018, Wide ResNet on CIFAR-10, 200 epochs: one noise scale "
        "eps N / (B (1 - m)), fewer updates"
    ),
    "equivalence": (
        "Noisy quadratic model: growing the batch by 2 where the rate would fall by 2; a claim "
        "holds where losses differ by at most 5 %"
    ),
    "order": (
        "Noisy quadratic model, rate 0.2: expected loss after so many examples, a share of them at "
        "B = 8, the rest at B = 256"
    ),
}
"""Name of a table -> what it shows."""
