"""What to make of a study: the Tuning Playbook's checks as code, and the next command to run."""

from __future__ import annotations

import dataclasses

import polars as pl

from experiments.analysis.best_hyperparameters import CLIPPED
from experiments.analysis.findings import (
    CLIPPED_SHARE,
    EARLY_SHARE,
    EDGE_SHARE,
    INFEASIBLE_SHARE,
    LATE_SHARE,
    BestStep,
    EdgeOptimum,
    Finding,
    MostlyClipped,
    MostlyInfeasible,
    Shortfall,
    Unreached,
)
from experiments.analysis.next_step import NextStep, next_step, widened
from experiments.analysis.question import Question
from experiments.spec import space as spaces
from experiments.spec.trial import MOST_STARTED


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Findings in order of weight, and what answers the weightiest.

    ``findings`` is empty where nothing speaks against the study as it is.
    """

    findings: tuple[Finding, ...]
    next: NextStep


def judge(question: Question, table: pl.DataFrame, best: pl.DataFrame) -> Verdict:
    """The verdict on one study.

    Args:
      table: rows of `steps_to_result`, all seeds.
      best: rows of `best_trials`, all seeds.
    """
    findings: tuple[Finding, ...] = (
        *shortfalls(question, table),
        *unreached(table),
        *edge_optima(question, best),
        *mostly_infeasible(table),
        *mostly_clipped(best),
        *best_steps(best),
    )
    return Verdict(findings, next_step(question, findings))


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


def mostly_infeasible(table: pl.DataFrame) -> list[MostlyInfeasible]:
    """Searches whose infeasible share exceeds one half."""
    ended = pl.col("complete") + pl.col("infeasible")
    share = (pl.col("infeasible") / ended).alias("share")
    rows = table.filter(ended > 0).select("batch_size", share)
    rows = rows.filter(pl.col("share") > INFEASIBLE_SHARE)
    if rows.is_empty():
        return []
    return [MostlyInfeasible(_unique(rows), tuple(rows["share"].to_list()))]


def mostly_clipped(best: pl.DataFrame) -> list[MostlyClipped]:
    """Searches whose best trial was clipped at more than half of its steps."""
    if CLIPPED not in best.columns:
        return []
    rows = best.filter(pl.col(CLIPPED) > CLIPPED_SHARE)
    return [MostlyClipped(_unique(rows), tuple(rows[CLIPPED].to_list()))] if len(rows) else []


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


def _typed(distribution: spaces.Range, value: float) -> float | int:
    return int(value) if isinstance(distribution, spaces.Integer) else value


def _unique(rows: pl.DataFrame) -> tuple[int, ...]:
    return tuple(rows["batch_size"].unique().sort().to_list())
