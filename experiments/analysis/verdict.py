"""What to make of a study: the Tuning Playbook's checks as code, and the next command to run.

Each check returns a finding whose ``sentence`` says in one line what was seen and what it asks
for. Thresholds: the best trial within 5 % of either end of a searched range, on the range's own
scale (ours); more than half of a search's trials infeasible (ours; the Playbook says "a very
large fraction"); the best step in the first 10 % or the last 25 % of training (the Playbook's).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

import polars as pl

from experiments import space as spaces
from experiments.analysis.question import Question
from optimizers import OPTIMIZERS
from optimizers.base import Hyperparameter
from schedules import SCHEDULES
from schedules.base import Setting

EDGE_SHARE = 0.05
INFEASIBLE_SHARE = 0.5
EARLY_SHARE, LATE_SHARE = 0.10, 0.75
MOST_STARTED = 4
"""A search starts at most this many times the planned number of trials."""
_WIDEN = 0.5  # share of the range's width, on its scale, by which the end is moved


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
        """What was seen, and the range to search next."""
        bound = self.searched[self.end == "upper"]
        seen = (
            f"The best {self.hyperparameter} lies within {EDGE_SHARE:.0%} of the {self.end} end "
            f"of its range ({bound:g}) at {_listed(self.batch_sizes)}"
        )
        if self.proposed is None:
            return f"{seen}; the range already ends at the legal limit."
        low, high = self.proposed
        return f"{seen}; search [{low:.4g}, {high:.4g}] next."


@dataclasses.dataclass(frozen=True)
class MostlyInfeasible:
    """Searches more than half of whose finished trials diverged."""

    batch_sizes: tuple[int, ...]
    shares: tuple[float, ...]

    @property
    def sentence(self) -> str:
        """How many diverged, and where."""
        worst = max(self.shares)
        return (
            f"More than {INFEASIBLE_SHARE:.0%} of the trials diverged at "
            f"{_listed(self.batch_sizes)} (at worst {worst:.0%}); "
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
        """Whether training is too long or too short."""
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
    """Searches with fewer COMPLETE trials than planned.

    ``exhausted``: all of them have started the most trials a search may start, so that running
    the study again would add none.
    """

    batch_sizes: tuple[int, ...]
    complete: tuple[int, ...]
    planned: int
    exhausted: bool

    @property
    def sentence(self) -> str:
        """How many are missing, and where."""
        fewest, most = min(self.complete), max(self.complete)
        found = f"Only {fewest}" if fewest == most else f"Only {fewest} to {most}"
        found = "None" if most == 0 else found
        why = "too many diverged" if self.exhausted else "the study is not finished"
        return (
            f"{found} of the planned {self.planned} COMPLETE trials at "
            f"{_listed(self.batch_sizes)} ({why}); what is shown there uses those there are."
        )


@dataclasses.dataclass(frozen=True)
class Unreached:
    """Searches none of whose counted trials reached the goal."""

    batch_sizes: tuple[int, ...]

    @property
    def sentence(self) -> str:
        """Where the goal was missed."""
        return (
            f"No trial reached the goal at {_listed(self.batch_sizes)}; "
            "steps to result there exceed the length of the trials (censored)."
        )


Finding = EdgeOptimum | MostlyInfeasible | BestStep | Shortfall | Unreached


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Findings in order of weight, and one command that answers the first of them.

    Attributes:
      findings: empty where nothing speaks against the study as it is.
      command: what to type next; None where nothing is called for.
      reason: one sentence, why.
    """

    findings: tuple[Finding, ...]
    command: str | None
    reason: str


def judge(question: Question, table: pl.DataFrame, best: pl.DataFrame) -> Verdict:
    """The verdict on one study.

    Args:
      table: rows of `steps_to_result`, all seeds.
      best: rows of `best_trials`, all seeds.
    """
    findings: list[Finding] = [
        *shortfalls(question, table),
        *unreached(table),
        *edge_optima(question, best),
        *mostly_infeasible(table),
        *best_steps(best),
    ]
    command, reason = _next_command(question, findings)
    return Verdict(tuple(findings), command, reason)


def edge_optima(question: Question, best: pl.DataFrame) -> list[EdgeOptimum]:
    """One finding per searched range and end at which a best trial lies."""
    found = []
    for name, distribution in question.space.items():
        if isinstance(distribution, spaces.Choice) or name not in best.columns:
            continue
        positions = [
            (batch_size, distribution.position(_typed(distribution, value)))
            for batch_size, value in best.select("batch_size", name).iter_rows()
        ]
        near = {
            "lower": {b for b, at in positions if at <= EDGE_SHARE},
            "upper": {b for b, at in positions if at >= 1 - EDGE_SHARE},
        }
        for end, batch_sizes in near.items():
            if batch_sizes:
                proposed = widened(question, name, distribution, end)
                ends = (distribution.low, distribution.high)
                found.append(EdgeOptimum(name, end, tuple(sorted(batch_sizes)), ends, proposed))
    return found


def widened(
    question: Question, name: str, distribution: spaces.Real | spaces.Integer, end: str
) -> tuple[float, float] | None:
    """The range with one end moved out by half its width on its scale, within legal limits.

    None where the end already is the legal limit.
    """
    low, high = float(distribution.low), float(distribution.high)
    if distribution.scale == "log":
        step = (high / low) ** _WIDEN
        moved = high * step if end == "upper" else low / step
    elif distribution.scale == "reverse_log":
        step = ((1 - low) / (1 - high)) ** _WIDEN
        moved = 1 - (1 - high) / step if end == "upper" else 1 - (1 - low) * step
    else:
        step = (high - low) * _WIDEN
        moved = high + step if end == "upper" else low - step
    legal_low, legal_high = _legal(question, name)
    moved = min(max(moved, legal_low), legal_high)
    if isinstance(distribution, spaces.Integer):
        moved = round(moved)
    if moved == (high if end == "upper" else low):
        return None
    return (low, moved) if end == "upper" else (moved, high)


def mostly_infeasible(table: pl.DataFrame) -> list[MostlyInfeasible]:
    """Searches whose infeasible share exceeds one half."""
    ended = pl.col("complete") + pl.col("infeasible")
    share = (pl.col("infeasible") / ended).alias("share")
    rows = table.filter(ended > 0).select("batch_size", share)
    rows = rows.filter(pl.col("share") > INFEASIBLE_SHARE)
    if rows.is_empty():
        return []
    return [MostlyInfeasible(_unique(rows), tuple(rows["share"].to_list()))]


def best_steps(best: pl.DataFrame) -> list[BestStep]:
    """Where at least half of the searches are at their best early, or late, in training."""
    share = (pl.col("best_step") / pl.col("train_steps")).alias("share")
    rows = best.select("batch_size", share).drop_nulls()
    found = []
    for when, hit in (
        ("early", pl.col("share") <= EARLY_SHARE),
        ("late", pl.col("share") >= LATE_SHARE),
    ):
        there = rows.filter(hit)
        if len(there) and 2 * len(there) >= len(rows):
            found.append(BestStep(when, _unique(there), rows["batch_size"].n_unique()))
    return found


def shortfalls(question: Question, table: pl.DataFrame) -> list[Shortfall]:
    """Searches with fewer COMPLETE trials than planned."""
    rows = table.filter(pl.col("missing") > 0)
    if rows.is_empty():
        return []
    started = pl.col("complete") + pl.col("infeasible") + pl.col("incomplete")
    exhausted = rows.select((started >= MOST_STARTED * question.trials).all()).item()
    complete = tuple(rows["complete"].to_list())
    return [Shortfall(_unique(rows), complete, question.trials, bool(exhausted))]


def unreached(table: pl.DataFrame) -> list[Unreached]:
    """Searches that have COMPLETE trials, none of which reached the goal."""
    rows = table.filter(pl.col("censored_at").is_not_null())
    return [] if rows.is_empty() else [Unreached(_unique(rows))]


def _next_command(question: Question, findings: Iterable[Finding]) -> tuple[str | None, str]:
    by_kind: dict[type, Finding] = {}
    for finding in findings:
        by_kind.setdefault(type(finding), finding)
    run = f"batchscale run {question.name}"
    short = by_kind.get(Shortfall)
    if isinstance(short, Shortfall) and not short.exhausted:
        return run, "It resumes where the record ends; finished trials are not repeated."
    if short is not None:
        return f"batchscale run {question.name}_narrower.py", (
            "A copy of the study file under a new name, with a range that reaches less far into "
            "unstable training."
        )
    edge = by_kind.get(EdgeOptimum)
    if isinstance(edge, EdgeOptimum) and edge.proposed is not None:
        low, high = edge.proposed
        return f"batchscale run {question.name}_wider.py", (
            f"A copy of the study file under a new name, with {edge.hyperparameter} searched in "
            f"[{low:.4g}, {high:.4g}]: an optimum at the edge may lie beyond it."
        )
    if Unreached in by_kind:
        return f"batchscale run {question.name}_longer.py", (
            "A copy of the study file under a new name, with larger train_steps where the goal "
            "was not reached."
        )
    seeds = max(question.seeds) + 1
    return f"{run} --seed {seeds}", (
        "Nothing here asks for a changed study; a second search with another seed shows how much "
        "the result owes to the points it happened to draw."
    )


def _typed(distribution: spaces.Real | spaces.Integer, value: float) -> float | int:
    return int(value) if isinstance(distribution, spaces.Integer) else value


def _legal(question: Question, name: str) -> tuple[float, float]:
    rows: list[Hyperparameter | Setting] = []
    if question.optimizer in OPTIMIZERS:
        rows += OPTIMIZERS[question.optimizer].hyperparameters
    if question.schedule in SCHEDULES:
        rows += SCHEDULES[question.schedule].hyperparameters
    ranges = {row.name: (row.low, row.high) for row in rows}
    return ranges.get(name, (-math.inf, math.inf))


def _unique(rows: pl.DataFrame) -> tuple[int, ...]:
    return tuple(rows["batch_size"].unique().sort().to_list())


def _listed(batch_sizes: tuple[int, ...]) -> str:
    """'batch size 8' or 'batch sizes 1, 2 and 8'."""
    return f"batch size{'s' if len(batch_sizes) > 1 else ''} {_numbers(batch_sizes)}"


def _numbers(batch_sizes: tuple[int, ...]) -> str:
    """'8' or '1, 2 and 8'."""
    *most, last = (str(b) for b in batch_sizes)
    return f"{', '.join(most)} and {last}" if most else last
