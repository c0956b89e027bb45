"""The searches of a study as far as its record holds them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from experiments.records.follower import Follower
from experiments.records.store import Writer, read
from experiments.records.tables import TRIAL_KEY
from experiments.runtime import hosts
from experiments.search.record import Ended, Round
from experiments.search.search import Search
from experiments.spec.resolved import ResolvedStudy
from experiments.spec.trial import Status
from workloads.base import Goal

FINAL = (Status.COMPLETE, Status.INFEASIBLE, Status.STOPPED)
"""How trials ended that are not tried again."""


def recorded_searches(
    study: ResolvedStudy, checksum: str, writer: Writer | Follower, folder: Path
) -> list[Search]:
    """One search for each seed, with what is recorded already."""
    rounds = [Round.from_json(found) for found in writer.study.get("rounds", [])]
    prunes = study.pruner != "none"
    learns = any(found.seed in study.seeds for found in rounds) or study.stop != "never"
    passed = hosts.from_first(lambda: _measured(study.goal, folder)) if learns else {}
    curves = hosts.from_first(lambda: _curves(study.goal, folder)) if prunes else {}
    ended: dict[int, dict[tuple[int, int], Ended]] = {seed: {} for seed in study.seeds}
    for (batch_size, seed, index), (status, _) in writer.recorded().items():
        if seed in ended and status in FINAL:
            key = (batch_size, seed, index)
            known = passed.get(key, (0, None, 0))
            how = Ended(status, *known)
            if prunes:
                reason, measured = curves.get(key, ("", ()))
                how = dataclasses.replace(how, reason=reason, measured=measured)
            ended[seed][batch_size, index] = how
    full = writer.study["study"]["seeds"][: study.full_searches]  # growth appends searches
    return [
        Search(
            study,
            seed,
            checksum,
            full=study.stop == "never" or seed in full,
            recorded=[found for found in rounds if found.seed == seed],
            ended=ended[seed],
        )
        for seed in study.seeds
    ]


def _curves(
    goal: Goal, folder: Path
) -> dict[tuple[int, int, int], tuple[str, tuple[tuple[int, float], ...]]]:
    """(batch size, seed, index) -> why it stopped, its (step, value) pairs."""

    record = read(folder)
    rows = record.scan("evaluations")
    assert rows is not None, "a record always has the table"
    if goal.column not in rows.collect_schema().names():
        return {}
    pairs = rows.sort("step").group_by(TRIAL_KEY, maintain_order=True).agg("step", goal.column)
    table = record.trials.select(*TRIAL_KEY, "reason").join(
        pairs.collect(), on=TRIAL_KEY, how="left"
    )
    found = {}
    for b, s, i, reason, steps, values in table.iter_rows():
        measured = tuple(zip(steps or (), values or (), strict=True))
        found[b, s, i] = (reason or "", measured)
    return found


def _measured(goal: Goal, folder: Path) -> dict[tuple[int, int, int], tuple[int, int | None, int]]:
    """(batch size, seed, index) -> steps, first evaluation past the goal, if any, the last one."""
    import polars as pl

    record = read(folder)
    rows = record.scan("evaluations")
    assert rows is not None, "a record always has the table"
    step, nowhere = pl.col("step"), pl.lit(None, dtype=pl.Int64)
    known = goal.column in rows.collect_schema().names()
    passed = step.filter(goal.better(pl.col(goal.column))).min() if known else nowhere
    found = rows.group_by(TRIAL_KEY).agg(passed.alias("passed"), step.max()).collect()
    table = record.trials.select(*TRIAL_KEY, "steps").join(found, on=TRIAL_KEY, how="left")
    return {(b, s, i): (n, passed, last or 0) for b, s, i, n, passed, last in table.iter_rows()}
