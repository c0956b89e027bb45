"""A comparison's numbers: the studies' searches side by side, and who cannot be told apart.

All members have the same number N of trials that count in every search (COMPLETE ones, where none
stop early), so that best-of-N is a fair statistic between them; where one has fewer, its row says
so.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from experiments.analysis.budgets import together
from experiments.analysis.findings import EdgeOptimum, MostlyInfeasible, Shortfall
from experiments.analysis.paired import paired_ratios
from experiments.analysis.profiles import profile_table, rank_stability, score_table
from experiments.analysis.question import Question
from experiments.analysis.searches import counted_trials
from experiments.analysis.steps_to_result import COUNTED_TO_RESULT
from experiments.analysis.summary import Summary, summarise
from experiments.records.comparisons import read_comparison
from experiments.records.schema import STUDY_FILE
from experiments.records.store import read
from experiments.spec.fields import COMPARED

FAIRNESS = (EdgeOptimum, Shortfall, MostlyInfeasible)
"""Findings that weaken a comparison: a member's search space, or its budget, was not enough."""


@dataclasses.dataclass(frozen=True)
class Compared:
    """A comparison read back.

    Attributes:
      name, question, expected: as in comparison.json.
      members: label -> summary, in order; only those whose record has begun.
      missing: labels whose record has not begun.
      table: one row a label and batch size: ``label, batch_size, searches``; ``steps_to_result``
        and ``best_value``, medians of the searches; ``steps_high`` and ``best_worst``, the unlucky
        end of their range, or of one search the upper prediction limit; ``censored_at``;
        ``complete``, trials that count (COMPLETE, where they do not stop), ``infeasible,
        missing``; null where unknown; with ``function_evaluations_to_result``, the
        fewest, where a member counts them (of a first-order rule they are its steps: one gradient
        each).
    """

    name: str
    question: str
    expected: str
    members: Mapping[str, Summary]
    missing: tuple[str, ...]
    table: pl.DataFrame

    @property
    def shared(self) -> Question:
        """Goal, batch sizes and budgets, which all members share."""
        return next(iter(self.members.values())).question

    @property
    def reference(self) -> str:
        """The member that others are held against: the first."""
        return next(iter(self.members))

    @property
    def counted(self) -> str:
        """N in words: '24 COMPLETE trials', or '24 trials that count' where some stop early."""
        early = any(found.view.stops or found.view.prunes for found in self.members.values())
        return f"{self.shared.trials} " + ("trials that count" if early else "COMPLETE trials")

    @functools.cached_property
    def ratios(self) -> pl.DataFrame:
        """Examples of every member over those of the reference, from paired searches."""
        return paired_ratios(self.members, self.reference)

    @functools.cached_property
    def scores(self) -> pl.DataFrame:
        """The members' scores by AlgoPerf's definition."""
        return score_table(self.members)

    @functools.cached_property
    def profile(self) -> pl.DataFrame:
        """The members' performance profiles over the batch sizes."""
        return profile_table(self.members)

    @functools.cached_property
    def stability(self) -> pl.DataFrame:
        """The likeness of the order after k trials to that after all."""
        return rank_stability(self.members)

    def findings(self) -> list[tuple[str, str]]:
        """(label, sentence) of what weakens the comparison."""
        return [
            (label, found.sentence)
            for label, summary in self.members.items()
            for found in summary.verdict.findings
            if isinstance(found, FAIRNESS)
        ]


@dataclasses.dataclass(frozen=True)
class Winner:
    """The best member at a batch size by one measure, and those its search cannot exclude.

    ``high``: the unlucky end of its range, or its upper prediction limit; None without one.
    ``near``: others whose value lies within it: a less lucky search of the winner would not have
    beaten them.
    """

    label: str
    value: float
    high: float | None
    near: tuple[str, ...]


def read_compared(folder: Path | str) -> Compared:
    """The comparison in ``folder``, from its records alone.

    Raises:
      RecordError: it, or the record of a study in it, cannot be read, or none has begun.
    """
    from experiments.records.files import RecordError

    folder, found = Path(folder), read_comparison(folder)
    labels = found["studies"]
    begun = [label for label in labels if (folder / label / STUDY_FILE).is_file()]
    if not begun:
        raise RecordError(f"no study of the comparison in {folder} has begun")
    members = {label: summarise(read(folder / label)) for label in begun}
    missing = tuple(label for label in labels if label not in members)
    return compared_of(members, found["name"], found["question"], found["expected"], missing)


def compared_of(
    members: Mapping[str, Summary],
    name: str,
    question: str,
    expected: str = "",
    missing: tuple[str, ...] = (),
) -> Compared:
    """The comparison of these members, whose questions must be comparable (`check_comparable`)."""
    counted = any(COUNTED_TO_RESULT in summary.steps.columns for summary in members.values())
    rows = [_rows(label, summary, counted) for label, summary in members.items()]
    return Compared(name, question, expected, members, missing, pl.concat(rows))


def check_comparable(members: Mapping[str, Summary]) -> None:
    """Refuse studies that differ in task, goal, budgets or tuning.

    Raises:
      ValueError: one line that names the field and both values.
    """
    (first, mine), *others = ((label, s.record.study["study"]) for label, s in members.items())
    for label, theirs in others:
        for field in ("goal", *COMPARED):  # (a workload has a goal too: name it first)
            ours, other = mine.get(field), theirs.get(field)
            if ours != other:
                if isinstance(ours, Mapping) and isinstance(other, Mapping):
                    keys = [k for k in {**ours, **other} if ours.get(k) != other.get(k)]
                    ours, other = ({k: held.get(k) for k in keys} for held in (ours, other))
                raise ValueError(
                    f"studies must agree in {field} to be compared in steps: {first} has {ours!r}, "
                    f"{label} has {other!r}"
                )


def _rows(label: str, summary: Summary, counted: bool = False) -> pl.DataFrame:
    """The rows of one member; with its function evaluations where ``counted``."""
    names = ["label", "batch_size", "searches", "steps_to_result", "steps_high", "censored_at",
             "best_value", "best_worst", "complete", "infeasible", "missing"]  # fmt: skip
    rows = summary.curve.join(_best(summary), on="batch_size", how="left").with_columns(
        pl.lit(label).alias("label"),
        pl.col("median").alias("steps_to_result"),
        pl.coalesce("high", "limit").alias("steps_high"),
        complete=pl.Series(
            [counted_trials(summary.view, row) for row in summary.curve.iter_rows(named=True)],
            dtype=pl.Int64,
        ),
    )
    if counted:
        own = COUNTED_TO_RESULT in summary.steps.columns
        made = pl.col(COUNTED_TO_RESULT if own else "steps_to_result").min()
        fewest = summary.steps.group_by("batch_size").agg(made.alias(COUNTED_TO_RESULT))
        rows, names = rows.join(fewest, on="batch_size", how="left"), [*names, COUNTED_TO_RESULT]
    return rows.select(names).sort("batch_size")


def _best(summary: Summary) -> pl.DataFrame:
    """The best value over training of each batch size, its searches together."""
    full = len(summary.view.full_seeds)
    begun = {b: min(n, full) for b, n in summary.curve.select("batch_size", "searches").iter_rows()}
    worst = pl.coalesce("limit", "high" if summary.question.goal.sign > 0 else "low")
    return together(summary.view, summary.full_values, begun).select(
        "batch_size", best_value="median", best_worst=worst
    )


def fewest_steps(compared: Compared, batch_size: int) -> Winner | None:
    """The member with the fewest steps to the goal; None if nobody reaches it."""
    rows = compared.table.filter(
        (pl.col("batch_size") == batch_size) & pl.col("steps_to_result").is_not_null()
    )
    return _winner(rows, "steps_to_result", "steps_high", 1.0)


def best_value(compared: Compared, batch_size: int) -> Winner | None:
    """The member with the best value of the goal's metric; None if nothing was measured."""
    rows = compared.table.filter(
        (pl.col("batch_size") == batch_size) & pl.col("best_value").is_not_null()
    )
    return _winner(rows, "best_value", "best_worst", compared.shared.goal.sign)


def _winner(rows: pl.DataFrame, column: str, worst: str, sign: float) -> Winner | None:
    if rows.is_empty():
        return None
    order = rows.with_columns(key=sign * pl.col(column)).sort("key", maintain_order=True)
    first = order.row(0, named=True)
    high = first[column] if first[worst] is None else first[worst]
    near = [
        row["label"]
        for row in order.iter_rows(named=True)
        if row["label"] != first["label"] and row["key"] <= sign * high
    ]
    return Winner(first["label"], float(first[column]), first[worst], tuple(near))
