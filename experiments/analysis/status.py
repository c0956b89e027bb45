"""Progress of a study, from its record alone, also while another process writes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import polars as pl

from experiments.analysis.question import SEARCH, StudyRecord
from experiments.analysis.searches import ENDED, spent
from experiments.analysis.steps_to_result import steps_to_result
from experiments.analysis.view import View, view_of
from experiments.search.fidelity import Pruner
from experiments.search.rounds import planned
from experiments.search.samplers.table import SAMPLERS


@dataclasses.dataclass(frozen=True)
class StudyStatus:
    """A study's progress.

    Attributes:
      table: one row a batch size: ``batch_size``; ``counted`` and ``wanted`` trials over all
        searches, of one that starts no more those that count; ``ended``, and the shares of them
        that are ``infeasible`` and ``stopped``; ``steps``, the fewest to the goal so far;
        ``best_value`` so far; ``seconds_left``, by the newest plan (null where none measured the
        batch size).
      rounds: seed -> (rounds proposed, those planned where nothing diverges); empty where the
        sampler proposes none.
    """

    table: pl.DataFrame
    rounds: Mapping[int, tuple[int, int]]

    @property
    def counted(self) -> int:
        """Trials that count."""
        return int(self.table["counted"].sum())

    @property
    def wanted(self) -> int:
        """Trials that are to count."""
        return int(self.table["wanted"].sum())

    @property
    def share(self) -> float:
        """Trials that count over those wanted."""
        return self.counted / max(self.wanted, 1)

    @property
    def seconds_left(self) -> float | None:
        """Wall-clock seconds left, by the newest plan; None before there is one."""
        left = self.table["seconds_left"]
        return None if left.null_count() else float(left.sum())


def study_status(record: StudyRecord | View) -> StudyStatus:
    """The progress of the study that ``record`` holds so far."""
    view = view_of(record)
    question = view.question
    seconds: dict[int, float] = {}
    for plan in view.record.study.get("plans", []):
        seconds |= {int(b): s for b, s in plan.get("seconds_per_step", {}).items()}
    table = steps_to_result(view)
    over, rows = spent(question, table), []
    for batch_size in question.batch_sizes:
        own = table.filter(pl.col("batch_size") == batch_size)
        short = {(b, s): n for b, s, n in own.select(*SEARCH, "missing").iter_rows()}
        missing = sum(n for search, n in short.items() if search not in over)
        wanted = view.wanted * len(own) - sum(short.values()) + missing
        ended = int(own.select(pl.sum_horizontal(ENDED).sum()).item() or 0)
        pace = seconds.get(batch_size)
        left = missing * _steps(view, batch_size)
        rows.append(
            {
                "batch_size": batch_size,
                "counted": wanted - missing,
                "wanted": wanted,
                "ended": ended,
                "infeasible": int(own["infeasible"].sum()) / max(ended, 1),
                "stopped": int(own["stopped"].sum()) / max(ended, 1),
                "steps": own["steps_to_result"].min(),
                "best_value": view.goal.best(own["best_value"]),
                "seconds_left": 0.0 if not missing else None if pace is None else left * pace,
            }
        )
    whole = ("batch_size", "counted", "wanted", "ended", "steps")
    schema = {k: pl.Int64 if k in whole else pl.Float64 for k in _COLUMNS}
    return StudyStatus(pl.DataFrame(rows, schema=schema), _rounds(view, over))


_COLUMNS = ("batch_size", "counted", "wanted", "ended", "infeasible", "stopped", "steps",
            "best_value", "seconds_left")  # fmt: skip


def _steps(view: View, batch_size: int) -> float:
    """Steps that a further trial may take: the mean of those that ended, else its length."""
    ended = view.countable.filter(pl.col("batch_size") == batch_size)["steps"]
    if view.prunes:
        ended = view.record.trials.filter(pl.col("batch_size") == batch_size)["steps"]
    if (view.stops or view.prunes) and len(ended):
        return float(ended.to_numpy().mean())
    return float(view.question.train_steps[batch_size])


def _rounds(view: View, over: set[tuple[int, int]]) -> dict[int, tuple[int, int]]:
    question = view.question
    pruner = Pruner.of(question)
    row = SAMPLERS.get(question.sampler)
    adaptive = row is not None and row.adaptive
    if not adaptive and question.stop != "race" and pruner is None:
        return {}
    recorded: list[Mapping[str, Any]] = view.record.study.get("rounds", [])
    sizes = planned(question.trials, adaptive=adaptive) if pruner is None else (
        pruner.sizes(question.trials)
    )  # fmt: skip
    least = len(sizes)
    counts = {seed: sum(r["seed"] == seed for r in recorded) for seed in question.seeds}
    ended = {
        seed
        for seed in question.seeds
        if all((batch_size, seed) in over for batch_size in question.batch_sizes)
    }
    return {
        seed: (count, count if seed in ended else max(count, least))
        for seed, count in counts.items()
    }
