"""Findings in the courses of training and in the trials of a search beside its best one.

Thresholds: in most searches of a batch size, of at least 10 trials each, fewer than 3 within twice
the fewest steps (ours); at least 3 infeasible trials, all above every feasible rate, with the best
within a factor of 1.5 of that edge (ours; the Tuning Playbook asks for a best trial at the edge of
rates that are all infeasible); a rise of a metric from its least running median of 5 evaluations to
its last one by a tenth of all it fell and by 5 times its noise, with rank correlation 0.5 (ours; in
the Playbook it "starts rising"); noise in the last 40 % of the steps of 5 % of all the metric fell
(ours); counted trials, or lengths in units of what the budgets need, that differ by more than a
quarter between batch sizes (ours).
tests/analysis/test_verdict_alarms.py counts what each raises on sound records.
"""

from __future__ import annotations

import dataclasses

from experiments.analysis.findings import listed

GOOD_FACTOR, LEAST_GOOD, GOOD_OF = 2.0, 3, 10
NEAR_EDGE, LEAST_INFEASIBLE = 1.5, 3
RISE_SHARE, RISE_NOISE, RISE_CORRELATION = 0.1, 5.0, 0.5
LATE_NOISE, LATE_PART = 0.05, 0.4
UNEQUAL = 1.25


@dataclasses.dataclass(frozen=True)
class TooFewGood:
    """Batch sizes where next to no trial comes near the best one."""

    batch_sizes: tuple[int, ...]
    good: tuple[int, ...]
    of: tuple[int, ...]

    @property
    def sentence(self) -> str:
        """The number that come near, and what that means."""
        return (
            f"Only {min(self.good)} of {max(self.of)} trials of a search reach the goal within "
            f"{GOOD_FACTOR:g} times the fewest steps at {listed(self.batch_sizes)}: the best one "
            "may be luck, and more trials, or a space around it, would tell."
        )


@dataclasses.dataclass(frozen=True)
class UnstableAbove:
    """Batch sizes whose best trial lies just below rates at which every trial diverged."""

    batch_sizes: tuple[int, ...]
    edges: tuple[float, ...]
    factors: tuple[float, ...]

    @property
    def sentence(self) -> str:
        """The edge, and how near the best is to it."""
        return (
            "Every trial above some rate diverged and the best lies within a factor of "
            f"{max(self.factors):.3g} of that edge at {listed(self.batch_sizes)}: instability "
            "limits the rate; warmup or clipping may raise it."
        )


@dataclasses.dataclass(frozen=True)
class Overfitting:
    """Best trials whose validation metric gets worse while the training one does not."""

    batch_sizes: tuple[int, ...]
    rises: tuple[float, ...]

    @property
    def sentence(self) -> str:
        """The rise, and what it means."""
        return (
            "The validation metric of the best trial gets worse again at "
            f"{listed(self.batch_sizes)} (by up to {max(self.rises):.0%} of all it gained) while "
            "the training metric does not: overfitting; add or tune regularization."
        )


@dataclasses.dataclass(frozen=True)
class TrainingRises:
    """Best trials whose training metric gets worse late."""

    batch_sizes: tuple[int, ...]
    rises: tuple[float, ...]

    @property
    def sentence(self) -> str:
        """The rise, and what it means."""
        return (
            f"The training metric of the best trial gets worse again at {listed(self.batch_sizes)} "
            f"(by up to {max(self.rises):.0%} of all it gained): an instability, or a bug."
        )


@dataclasses.dataclass(frozen=True)
class LateVariance:
    """Best trials whose metric is noisy from one late evaluation to the next."""

    batch_sizes: tuple[int, ...]
    noises: tuple[float, ...]

    @property
    def sentence(self) -> str:
        """The noise, and the remedies."""
        return (
            f"Late in training the best trial's metric varies by {max(self.noises):.0%} of all it "
            f"gained from one evaluation to the next at {listed(self.batch_sizes)}: a decaying "
            "rate, averaged parameters, a larger batch or a larger validation set calms it."
        )


@dataclasses.dataclass(frozen=True)
class MixedBudgets:
    """Batch sizes trained for longer than the budgets need, by differing factors."""

    batch_sizes: tuple[int, ...]
    factors: tuple[float, ...]

    @property
    def sentence(self) -> str:
        """The batch sizes, and how to compare them."""
        return (
            f"Trials at {listed(self.batch_sizes)} are up to {max(self.factors):.3g} times as long "
            "as the budgets need, others are not: a best value over the whole training compares "
            "neither equal steps nor equal epochs; compare under one budget."
        )


@dataclasses.dataclass(frozen=True)
class UnequalTuning:
    """Batch sizes with fewer counted trials than others."""

    batch_sizes: tuple[int, ...]
    fewest: int
    most: int

    @property
    def sentence(self) -> str:
        """The batch sizes, and the counts."""
        return (
            f"Only {self.fewest} trials count at {listed(self.batch_sizes)}, {self.most} "
            "elsewhere: what was tuned less looks worse than it is."
        )


CurveFinding = (
    TooFewGood | UnstableAbove | Overfitting | TrainingRises | LateVariance | MixedBudgets
    | UnequalTuning
)  # fmt: skip
