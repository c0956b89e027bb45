"""Findings of the checks of a study; each says in one sentence what was seen.

Thresholds: the best trial within 5 % of either end of a searched range, on the range's own scale
(ours); more than half of the trials infeasible (ours; the Tuning Playbook says "a very
large fraction"); the best step in the first 10 % or the last 25 % of training, more than half of
the updates clipped (both the Playbook's); examples at a larger batch size more than 20 % below
those at the smallest, steps more than 50 % above those at a smaller one (ours: the luck of 24
trials does so in some 1 % of studies; tests/analysis/test_verdict.py).
"""

from __future__ import annotations

import dataclasses

EDGE_SHARE = 0.05
INFEASIBLE_SHARE = 0.5
CLIPPED_SHARE = 0.5
EARLY_SHARE, LATE_SHARE = 0.10, 0.75
FEWER_EXAMPLES = 0.2
MORE_STEPS = 0.5


@dataclasses.dataclass(frozen=True)
class EdgeOptimum:
    """Best trials near one end of a searched range; ``proposed`` is None at the legal limit."""

    hyperparameter: str
    end: str
    batch_sizes: tuple[int, ...]
    searched: tuple[float, float]
    proposed: tuple[float, float] | None

    @property
    def sentence(self) -> str:
        """Say what was seen, and the range to search next."""
        bound = self.searched[self.end == "upper"]
        seen = (
            f"The best {self.hyperparameter} lies within {EDGE_SHARE:.0%} of the {self.end} end "
            f"of its range ({number(bound)}) at {listed(self.batch_sizes)}"
        )
        if self.proposed is None:
            return f"{seen}; the range already ends at the legal limit."
        low, high = self.proposed
        return f"{seen}; search [{number(low)}, {number(high)}] next."


@dataclasses.dataclass(frozen=True)
class MostlyInfeasible:
    """Batch sizes more than half of whose trials diverged, of all that ended, stopped or not."""

    batch_sizes: tuple[int, ...]
    shares: tuple[float, ...]

    @property
    def sentence(self) -> str:
        """Say how many diverged, and where."""
        worst = max(self.shares)
        return (
            f"More than {INFEASIBLE_SHARE:.0%} of the trials diverged at "
            f"{listed(self.batch_sizes)} (at worst {worst:.0%}); "
            "the search space reaches far into unstable training, or there is a bug."
        )


@dataclasses.dataclass(frozen=True)
class BestStep:
    """Best measurements in the first 10 % (``"early"``) or last 25 % (``"late"``) of training."""

    when: str
    batch_sizes: tuple[int, ...]
    of: int

    @property
    def sentence(self) -> str:
        """Say whether training is too long or too short."""
        several = f"{len(self.batch_sizes)} of {self.of} batch sizes"
        every = len(self.batch_sizes) == self.of > 1
        where = "at every batch size" if every else f"at {several} ({_numbers(self.batch_sizes)})"
        if self.when == "early":
            return (
                f"The best trial is at its best in the first {EARLY_SHARE:.0%} of training {where};"
                " far fewer steps would do."
            )
        return (
            f"The best trial is still improving in the last {1 - LATE_SHARE:.0%} of training "
            f"{where}; its best value is bounded by the length."
        )


@dataclasses.dataclass(frozen=True)
class Shortfall:
    """Searches with fewer trials that count than planned.

    ``counted``: those of each. ``exhausted``: all of them have started the most trials a search may
    start, or, ``finite``, all points of their space, so that running the study again would add
    none. ``early``: trials may stop early, so that not only COMPLETE ones count.
    """

    batch_sizes: tuple[int, ...]
    counted: tuple[int, ...]
    planned: int
    exhausted: bool
    finite: bool = False
    early: bool = False

    @property
    def sentence(self) -> str:
        """Say how many are missing, and where."""
        fewest, most = min(self.counted), max(self.counted)
        found = f"Only {fewest}" if fewest == most else f"Only {fewest} to {most}"
        found = "None" if most == 0 else found
        why = "too many diverged" if self.exhausted else "the study is not finished"
        why = "the space holds no other point" if self.finite else why
        trials = "trials that count" if self.early else "COMPLETE trials"
        return (
            f"{found} of the planned {self.planned} {trials} at "
            f"{listed(self.batch_sizes)} ({why}); what is shown there uses those there are."
        )


@dataclasses.dataclass(frozen=True)
class Unreached:
    """Batch sizes where no search reached the goal, or, ``some``, where half or more did not."""

    batch_sizes: tuple[int, ...]
    some: bool = False

    @property
    def sentence(self) -> str:
        """Say where the goal was missed."""
        if self.some:
            return (
                "Half of the searches or more missed the goal at "
                f"{listed(self.batch_sizes)}; the steps that a "
                "typical search needs there exceed the length of the trials (censored)."
            )
        return (
            f"No trial reached the goal at {listed(self.batch_sizes)}; "
            "steps to result there exceed the length of the trials (censored)."
        )


@dataclasses.dataclass(frozen=True)
class MostlyClipped:
    """Best trials more than half of whose steps were clipped."""

    batch_sizes: tuple[int, ...]
    shares: tuple[float, ...]

    @property
    def sentence(self) -> str:
        """Say how many steps were clipped, and what that means."""
        return (
            f"More than {CLIPPED_SHARE:.0%} of the best trial's steps were clipped at "
            f"{listed(self.batch_sizes)} (at most {max(self.shares):.0%}); clipping then sets "
            "the step's length: a lower learning rate or a higher threshold may do as well."
        )


@dataclasses.dataclass(frozen=True)
class UntunedSmallest:
    """A larger batch size that needs far fewer examples than the smallest one."""

    batch_size: int
    larger: int
    fewer: float

    @property
    def sentence(self) -> str:
        """Say how many fewer, and what that means for the line."""
        return (
            f"Batch size {self.larger} needs {self.fewer:.0%} fewer examples to the goal than the "
            f"smallest, {self.batch_size}: the smallest was not tuned to its end, and the "
            "perfect-scaling line through it lies too high (the fitted one leans on all points)."
        )


@dataclasses.dataclass(frozen=True)
class NonMonotone:
    """Batch sizes that need far more steps than a smaller one."""

    batch_sizes: tuple[int, ...]
    smaller: int
    more: float

    @property
    def sentence(self) -> str:
        """Say where the steps rise, and what that means."""
        return (
            f"{listed(self.batch_sizes).capitalize()} need{'s' * (len(self.batch_sizes) == 1)} up "
            f"to {self.more:.0%} more steps than the smaller batch size {self.smaller}: a larger "
            "batch tuned as well does not, so there the search fell short or the goal lies at its "
            "limit."
        )


@dataclasses.dataclass(frozen=True)
class OneSearch:
    """A study with one seed; ``limited`` says whether another search is bounded from above."""

    limited: bool

    @property
    def sentence(self) -> str:
        """Say what one search cannot tell."""
        bounded = (
            "the upper limits say how much later"
            if self.limited
            else "nor, with this sampler, later"
        )
        return (
            "One search cannot say how much earlier another would reach the goal "
            f"({bounded}), nor how far its critical batch sizes and regimes would lie from these."
        )


@dataclasses.dataclass(frozen=True)
class PoorFit:
    """Points that do not lie on the curve of which the headline is read.

    Attributes:
      probability: that chance alone misses it by more.
      largest: the batch size at which the searches' mean is farthest from it.
      miss: by which factor it lies above (above one) or below it there.
      limit, convex: end of perfect scaling by that curve and by the best convex one.
    """

    probability: float
    largest: int
    miss: float
    limit: float
    convex: float

    @property
    def sentence(self) -> str:
        """The place where the curve misses, and the other reading there is."""
        share = f"{abs(self.miss - 1):.0%} {'above' if self.miss > 1 else 'below'}"
        return (
            "The points do not lie on the curve that the headline is read from (lack of fit, "
            f"p = {self.probability:.1g}; at batch size {self.largest} they lie {share} it): its "
            f"end of perfect scaling, {self.limit:.3g}, may be biased by the form; that of the "
            f"best convex curve, {self.convex:.3g}, is not, and is wide."
        )


@dataclasses.dataclass(frozen=True)
class Inconclusive:
    """A thing that the record cannot tell, and why, in one sentence."""

    sentence: str


Finding = (
    EdgeOptimum
    | MostlyInfeasible
    | BestStep
    | Shortfall
    | Unreached
    | MostlyClipped
    | UntunedSmallest
    | NonMonotone
    | OneSearch
    | PoorFit
    | Inconclusive
)


def number(value: float) -> str:
    """Four digits; just below one, two digits of what is missing to it (0.99995, not 1)."""
    return f"{1 - float(f'{1 - value:.2g}'):.12g}" if 0.9 < value < 1 else f"{value:.4g}"


def listed(batch_sizes: tuple[int, ...]) -> str:
    """'batch size 8' or 'batch sizes 1, 2 and 8'."""
    return f"batch size{'s' if len(batch_sizes) > 1 else ''} {_numbers(batch_sizes)}"


def _numbers(batch_sizes: tuple[int, ...]) -> str:
    """'8' or '1, 2 and 8'."""
    *most, last = (str(b) for b in batch_sizes)
    return f"{', '.join(most)} and {last}" if most else last
