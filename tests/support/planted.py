"""Planted functions for samplers, and a search that runs on one: nothing is trained."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping

import numpy as np

from experiments.search.rounds import RoundProgress, counts
from experiments.search.samplers.base import Ask, Box, Outcome, Sampler, Seen
from experiments.spec.space import Choice, Distribution, Integer, Real

SPACE: dict[str, Distribution] = {
    "learning_rate": Real(1e-4, 1.0, "log"),
    "momentum": Real(0.0, 0.999, "reverse_log"),
}
MIXED: dict[str, Distribution] = {
    "learning_rate": Real(1e-4, 1.0, "log"),
    "units": Integer(16, 512, "log"),
    "kind": Choice(("a", "b", "c")),
}
FINITE: dict[str, Distribution] = {"rate": Choice((0.1, 0.01, 0.001)), "layers": Integer(1, 3)}

Planted = Callable[[int, tuple[float, ...]], tuple[Outcome, float]]


def valley(batch_size: int, point: tuple[float, ...]) -> tuple[Outcome, float]:
    """A tilted narrow valley whose optimum moves with the batch size; its floor is 100 steps.

    Infeasible where the effective rate is too high, which is near the optimum of large batches.
    """
    rate, momentum = point
    effective = 0.6 * rate + 0.4 * momentum  # a valley along it: they trade off against each other
    best = 0.35 + 0.03 * math.log2(batch_size)
    if effective > best + 0.12:
        return "infeasible", math.inf
    excess = 800 * (effective - best) ** 2 + 4 * (momentum - 0.6) ** 2
    steps = 100 * 2 ** min(excess, 8.0)
    return ("reached", steps) if steps < 20_000 else ("censored", 20_000)


def mixed(batch_size: int, point: tuple[float, ...]) -> tuple[Outcome, float]:
    """Optimum at the second choice; hyperparameters in the order kind, learning_rate, units."""
    del batch_size
    kind, rate, units = point
    excess = 8 * (rate - 0.4) ** 2 + 4 * (units - 0.7) ** 2 + (0 if 1 / 3 <= kind < 2 / 3 else 1)
    return "reached", 100 * 2**excess


@dataclasses.dataclass
class Run:
    """A search that ended: its trials, and per round what was asked and proposed."""

    seen: list[Seen]
    rounds: list[dict[int, int]]
    boxes: dict[int, Box]
    exhausted: set[int]

    def best(self, batch_size: int) -> float:
        """Fewest steps of a batch size."""
        return min(
            trial.value
            for trial in self.seen
            if trial.batch_size == batch_size and trial.outcome == "reached"
        )


def search(
    propose: Sampler,
    planted: Planted,
    *,
    seed: int = 0,
    total: int = 24,
    batch_sizes: tuple[int, ...] = (4, 16, 64),
    space: Mapping[str, Distribution] = SPACE,
    adaptive: bool = True,
    shuffled: bool = False,
    limits: Mapping[str, tuple[float, float]] | None = None,
) -> Run:
    """A whole search; with ``shuffled`` the trials of a round end in another order."""
    run = Run([], [], {}, set())
    while True:
        progress = {b: progress_of(run, b) for b in batch_sizes}
        wanted = counts(total, progress, adaptive=adaptive, exhausted=run.exhausted)
        if not wanted:
            return run
        found = propose(
            Ask(
                seed,
                len(run.rounds),
                total,
                space,
                wanted,
                tuple(run.seen),
                run.boxes,
                limits or {},
            )
        )
        run.rounds.append({b: len(points) for b, points in found.points.items()})
        run.boxes = {**run.boxes, **found.boxes}
        run.exhausted |= found.exhausted
        ended = [
            Seen(b, progress[b].started + i, point, *planted(b, point))
            for b, points in found.points.items()
            for i, point in enumerate(points)
        ]
        if shuffled:
            order = np.random.default_rng(len(run.rounds)).permutation(len(ended))
            ended = [ended[i] for i in order]
        run.seen = ended + run.seen if shuffled else run.seen + ended


def progress_of(run: Run, batch_size: int) -> RoundProgress:
    """What has ended at a batch size, as the schedule of rounds wants it."""
    own = sorted((t for t in run.seen if t.batch_size == batch_size), key=lambda t: t.index)
    last = run.rounds[-1].get(batch_size, 0) if run.rounds else 0
    bad = [trial.outcome == "infeasible" for trial in own]
    return RoundProgress(len(own), len(own) - sum(bad), sum(bad[len(bad) - last :]))
