"""The Tuning Playbook's initial configuration: simple, fast, little resource, better than chance.

A popular optimizer with its usual numbers, a constant rate, a moderate number of steps; the rate is
swept over three decades, and each word is judged by a measurement. What comes out is a study file
to go on from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from experiments.analysis import start_rules
from experiments.analysis.next_step import NextStep
from experiments.analysis.rate_sweep import SweepRun, best_run, runs_of
from experiments.analysis.sanity import Check, answer
from experiments.analysis.study_file import study_file
from experiments.planning.feasibility import predict
from experiments.planning.probe import probe_trial
from experiments.procedures.bench import BenchRequest, load_dataset, step_time, study_around
from experiments.procedures.outcome import ProcedureOutcome, conclude
from experiments.procedures.procedure import PLAIN, Procedure, Running, planned
from experiments.procedures.proposed import run_file
from experiments.procedures.rates import SweepEnds, pilot, pilot_of
from experiments.procedures.variants import RATE, Base, base_of
from experiments.report.procedure import Noted, Said
from experiments.report.procedure_figures import value_against_rate
from experiments.report.tables import Table
from experiments.runtime.compilation import switched
from experiments.runtime.memory import device_bytes
from experiments.spec.errors import StudyError
from experiments.spec.space import Real
from experiments.training.feed import ResidentData
from experiments.training.program import Program
from experiments.training.state import parameter_count
from workloads.base import Workload
from workloads.datasets.base import read, size_of

RATES, FACTOR = (1e-4, 1e-1), 10**0.5
FILE = "start.py"
TRIALS = 8
"""Of the study to go on from: its rate is searched a decade around what was found."""


@dataclasses.dataclass(frozen=True)
class Started:
    """An initial configuration.

    Attributes:
      base: its study.
      runs: a trial a rate.
      best: of these.
      checks: each word of the Playbook's.
    """

    base: Base
    runs: Sequence[SweepRun]
    best: SweepRun
    checks: Sequence[Check]


def start(
    workload: Workload,
    folder: Path | str,
    asked: BenchRequest | None = None,
    *,
    batch_size: int | None = None,
    rates: tuple[float, float] = RATES,
    subject: str = "",
    running: Running = PLAIN,
) -> tuple[ProcedureOutcome, Sequence[Check]]:
    """Find an initial configuration of a workload; write ``folder/start.py`` and a report.

    Args:
      workload: of any kind.
      folder: of the record of the sweep, the verdict, the report and the study file.
      asked: optimizer, steps, seed and data; its rate is not used.
      batch_size: examples per step; 64 where None.
      rates: ends of the sweep.
      subject: the words that name the workload on a command line.
      running: how it trains and what it may cost.

    Returns:
      (the end of the procedure, the words with their evidence).

    Raises:
      ValueError, StudyError, DataError, RecordError: as `run_study`, or no rate gives a finite
        value.
    """
    asked = asked or BenchRequest()
    sizes = {} if batch_size is None else {"batch_sizes": (batch_size,)}
    base = base_of(study_around(workload, asked, **sizes))
    ends = SweepEnds(*rates, FACTOR, stated=True)
    grid = ends.grid
    sweep = base.variant("start", grid)
    cost = planned(pilot_of(base, ends)) + planned(sweep)
    with Procedure("start", folder, {**base.describe(), "rates": list(grid)}, running) as procedure:
        procedure.state_cost(cost)
        first_loss = pilot(procedure, base, ends, cost)
        record = procedure.train("rates", sweep)
        goal = workload.goal
        runs = sorted(runs_of(record, first_loss), key=lambda run: run.rate)
        best = best_run(runs, goal)
        if best is None or best.best is None:
            raise StudyError(
                f"no rate in [{grid[0]:.4g}, {grid[-1]:.4g}] gives a finite {goal.metric}: lower "
                f"--rates, or look for a defect: batchscale check {subject or workload.name}"
            )
        with switched():
            checks = _judged(base, asked, best, grid)
        found = Started(base, runs, best, checks)
        values = {
            "learning_rate": best.rate, "best": best.best, "best_step": best.best_step,
            "first_loss": first_loss,
            "checks": [dataclasses.asdict(one) for one in checks],
        }  # fmt: skip
        said = _said(found, Path(folder))
        return conclude(procedure, said, values, files={FILE: _file(found)}), checks


def _judged(base: Base, asked: BenchRequest, best: SweepRun, grid: Sequence[float]) -> list[Check]:
    study = base.study.resolved
    workload, goal = study.workload, study.workload.goal
    dataset = load_dataset(workload, asked.data_dir)
    examples = read(dataset.splits["train"], np.arange(1))
    seconds, _ = step_time(study, dataset)
    data = ResidentData.put(dataset.splits, study.train_evaluation_examples)
    program = Program(study.config("off"), data, study.divergence_factor)
    needed = predict(program, probe_trial(study, base.batch_size, 0))
    memory = needed.resident_bytes + needed.program_bytes
    split = dataset.splits[goal.split]
    targets = read(split, np.arange(size_of(split)))["targets"]
    chance = start_rules.constant_predictor(targets, goal.metric)
    assert best.best is not None
    return [
        start_rules.simple(parameter_count(study.config("off"), examples), study.train_size),
        start_rules.fast(seconds, base.steps, best.best_step, base.batch_size),
        start_rules.little_resource(memory, device_bytes()[0] + needed.resident_bytes),
        start_rules.better_than_chance(best.best, chance, goal.metric, grid, best.rate),
    ]


def _file(found: Started) -> str:
    """A study that searches the rate a decade around the best one."""
    rate = found.best.rate
    low, high = (float(f"{rate * factor:.3g}") for factor in (10**-0.5, 10**0.5))
    around = {RATE: Real(low, high, "log")}
    name = f"{found.base.study.workload.name}-start"[:100]
    says = f"An initial configuration: a constant rate near {rate:.3g}, to be beaten."
    fields: dict[str, Any] = {"name": name, "space": around, "trials": TRIALS, "sampler": "halton"}
    return study_file(found.base.study, says, **fields)


def _said(found: Started, folder: Path) -> Said:
    base, best = found.base, found.best
    goal = base.study.workload.goal
    metric = f"{goal.split} {goal.metric.replace('_', ' ')}"
    rows = [(r.rate, r.best, r.judged.kind, *r.key) for r in found.runs]
    schema = ["rate", "value", "kind", "batch_size", "seed", "trial"]
    table = pl.DataFrame(rows, schema=schema, orient="row")
    cells = tuple((one.name, one.result, one.evidence) for one in found.checks)
    command = run_file(folder / FILE)
    return Said(
        title=f"start: {base.study.workload.name}",
        answer=f"{base.study.optimizer} at a constant rate of {best.rate:.3g}, batch size "
        f"{base.batch_size}, {base.steps:,} steps: {metric} {best.best:.4g}. "
        f"{answer(found.checks)}",
        noted=[
            Noted(f"{one.name} ({one.result}): {one.evidence}. {one.advice}")
            for one in found.checks
            if one.result in ("warn", "fail")
        ],
        next=NextStep(command, "It searches the rate around it, the baseline of what follows.",
                      FILE, _file(found)),
        facts={"Rates": ", ".join(f"{run.rate:.3g}" for run in found.runs)},
        tables=[Table("words", "Words", ("word", "result", "evidence"), cells, (False,) * 3)],
        figures=[value_against_rate(table, metric, {"chosen": best.rate})],
    )  # fmt: skip
