"""Members of a comparison that sweep the learning rate: what each rate comes to, and the edge.

The loss before training is not recorded; that of a member is here the training loss at the first
evaluation of its lowest rate, the median of its seeds (initializations and architectures differ
between members, so each has its own).
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping

import polars as pl

from experiments.analysis.question import StudyRecord, read_question
from experiments.analysis.rate_sweep import (
    RATE,
    Bracket,
    SweepRun,
    best_run,
    bracket,
    runs_of,
)
from experiments.spec.space import Choice

FEWEST_RATES = 3


@dataclasses.dataclass(frozen=True)
class Swept:
    """A member's sweep.

    Attributes:
      table: one row a trial, by rate: ``rate, batch_size, seed, trial``; ``best`` and ``final``,
        the goal's metric at its best and at the last evaluation, null where the trial diverged
        (``final``) or nothing finite was measured; ``kind`` and ``onset``, the class of its
        training loss (analysis/training_stability.py); ``clipped``, the share of its steps.
      edge: between which rates training is lost, the first of several seeds counts.
      first_loss: the training loss that classes are relative to.
    """

    table: pl.DataFrame
    edge: Bracket
    first_loss: float


def sweeps_rates(record: StudyRecord) -> bool:
    """True where a study searches the learning rate alone, on a grid, at one batch size."""
    question = read_question(record)
    choices = question.space.get(RATE)
    return (
        list(question.space) == [RATE]
        and isinstance(choices, Choice)
        and len(choices.values) >= FEWEST_RATES
        and len(question.batch_sizes) == 1
    )


def swept(record: StudyRecord) -> Swept | None:
    """The sweep of a record; None before a trial of it has finished."""
    if record.trials.is_empty():
        return None
    first = _first_loss(record)
    runs, goal = runs_of(record, first), read_question(record).goal
    best = best_run(runs, goal)
    edge = Bracket(None, runs[0].rate) if best is None else bracket(runs, best, {})
    rows = [_row(record, run, goal.column) for run in runs]
    schema = {
        "rate": pl.Float64, "batch_size": pl.Int64, "seed": pl.Int64, "trial": pl.Int64,
        "best": pl.Float64, "final": pl.Float64, "kind": pl.String, "onset": pl.Int64,
        "clipped": pl.Float64,
    }  # fmt: skip
    return Swept(pl.DataFrame(rows, schema=schema, orient="row"), edge, first)


def medians(table: pl.DataFrame) -> pl.DataFrame:
    """One row a rate: medians of the seeds, null where half of them have no value; the classes.

    Columns ``rate, best, final, clipped``; ``kinds``, the class of every seed; ``low, high``, the
    range of ``final``.
    """
    rows = []
    for (rate,), own in table.partition_by("rate", as_dict=True, maintain_order=True).items():
        known = own["final"].drop_nulls()
        rows.append({
            "rate": rate, "best": _median(own["best"]), "final": _median(own["final"]),
            "clipped": _median(own["clipped"]), "kinds": own["kind"].to_list(),
            "low": known.min(), "high": known.max() if len(known) == len(own) else None,
        })  # fmt: skip
    return pl.DataFrame(rows, schema_overrides={
        name: pl.Float64 for name in ("best", "final", "clipped", "low", "high")})  # fmt: skip


def _median(values: pl.Series) -> float | None:
    known = values.drop_nulls().to_list()
    return statistics.median(known) if 2 * len(known) > len(values) else None


def _first_loss(record: StudyRecord) -> float:
    runs = runs_of(record, 1.0)
    lowest = [r.curve.losses[0] for r in runs if r.rate == runs[0].rate and r.curve.losses]
    return statistics.median(lowest) if lowest else 1.0


def _row(record: StudyRecord, run: SweepRun, column: str) -> tuple[object, ...]:
    key = dict(zip(("batch_size", "seed", "trial"), run.key, strict=True))
    rows = record.scan("evaluations")
    assert rows is not None, "a record always has the table"
    values = rows.filter(**key).sort("step").select(column).collect()[column]
    final = None
    if run.curve.diverged_at is None and len(values) and values.is_finite()[-1]:
        final = values[-1]
    clipped = None
    if "clipped_share" in record.trials.columns:
        clipped = record.trials.filter(**key)["clipped_share"][0]
    return (
        run.rate, *run.key, run.best, final, run.judged.kind, run.judged.onset, clipped,
    )  # fmt: skip


def swept_members(records: Mapping[str, StudyRecord]) -> dict[str, Swept]:
    """The sweeps of a comparison; none where a member is no sweep."""
    if not all(map(sweeps_rates, records.values())):
        return {}
    found = {label: swept(record) for label, record in records.items()}
    return {label: one for label, one in found.items() if one is not None}
