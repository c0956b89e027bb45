"""The number of steps to train for (Tuning Playbook).

from experiments.procedures.steps_search import steps_search
outcome = steps_search(study, "runs/steps", SweepOptions(batch_size=64, steps=2000))

1. A sweep of constant rates, N steps each, without augmentation or regularization: the fastest
   trial to fit the training set perfectly gives max_train_steps (of a large set the first examples
   stand for it, and the verdict says so). The best rate must not lie at an end of the sweep; where
   nothing fits the training set, N is doubled, twice at most.
2. The best step of every trial, after the fact: in the first tenth of training for all, far fewer
   steps would do; in the last quarter for all, more are needed.
3. The plan for two rounds, with what transfers between them, and how the schedule is extended.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import polars as pl

from experiments.analysis import rate_sweep
from experiments.analysis.question import TRIAL
from experiments.procedures.budget import BudgetEnds, ProcedureCost
from experiments.procedures.outcome import ProcedureOutcome, conclude
from experiments.procedures.procedure import Procedure, planned
from experiments.procedures.rates import SweepEnds, pilot, pilot_of
from experiments.procedures.steps_found import (
    PERFECT_LOSS,
    ROUND_FILE,
    SHORT_SHARE,
    TRANSFERS,
    StepsFindings,
    extended,
    said_of,
)
from experiments.procedures.sweep_options import SWEEP, SweepOptions, question
from experiments.procedures.variants import RATE, Base, held_study_file, plain
from experiments.records.reader import Record
from experiments.spec.errors import StudyError
from experiments.spec.fields import StudyFields
from experiments.spec.study import Study, as_typed

DOUBLINGS = 2
"""How often N is doubled where no rate fits the training set."""
FEWEST, MOST = 1024, 65_536
"""Training examples on which a fit is judged at least, and at most (they lie on the device)."""
EVALUATIONS = 3
"""A step takes about as long as three evaluations of its batch."""


def steps_search(
    study: StudyFields, folder: Path | str, options: SweepOptions = SWEEP
) -> ProcedureOutcome:
    """max_train_steps from a constant-rate sweep; arguments and errors as of `diagnose`.

    ``options.steps`` is N; default: the study's step budget.
    """
    given, ends = options.base_of(study), options.ends_of(study)
    base = judged_on(plain(given))
    asked = question(base, ends, schedule=given.study.schedule)
    cost = _most(base, ends)
    with Procedure("steps-search", folder, asked, options.running) as procedure:
        procedure.state_cost(cost)
        first_loss = pilot(procedure, base, ends, cost)
        found, ended = StepsFindings(base, base.steps), ""
        for doubling in range(DOUBLINGS + 1):
            length = base.steps * 2**doubling
            try:
                record = procedure.train(f"sweep-{length}", _sweep_of(base, ends, length))
            except BudgetEnds as end:
                if not found.runs:
                    raise
                ended = str(end)
                break
            found = _read(base, length, record, first_loss)
            if found.fastest is not None:
                break
        if not any(rate_sweep.learned(run) for run in found.runs):
            raise StudyError(
                f"{base.study.workload.name} never learns: no rate in [{ends.low:.4g}, "
                f"{ends.high:.4g}] lowers the training loss by a tenth in {found.steps:,} steps; "
                "another range (--rates), or look for a bug (batchscale check)"
            )
        said = said_of(found, given, options.subject, ended, procedure.folder)
        return conclude(procedure, said, _values(found), not ended, _files(found, given))


def judged_on(base: Base) -> Base:
    """``base`` with all training examples evaluated, or as many as take no longer than training.

    A perfect fit of a few examples is none of the training set. Of N examples in K steps of B with
    E evaluations those are min(N, max(3 K B / E, 1024)), the first of the set.
    """
    study = base.study.resolved
    bearable = EVALUATIONS * base.steps * base.batch_size // len(study.grid(base.steps))
    wanted = max(study.train_evaluation_examples, FEWEST, min(bearable, MOST))
    examples = min(study.train_size, wanted)
    return Base(as_typed(base.study, train_evaluation_examples=examples), base.steps)


def _most(base: Base, ends: SweepEnds) -> ProcedureCost:
    """Sweeps of N, 2 N and 4 N steps."""
    lengths = [base.steps * 2**doubling for doubling in range(DOUBLINGS + 1)]
    sweeps = [planned(_sweep_of(base, ends, length)) for length in lengths]
    return sum(sweeps, planned(pilot_of(base, ends)))


def _sweep_of(base: Base, ends: SweepEnds, length: int) -> Study:
    return base.variant(f"sweep-{length}", ends.grid, steps=length)


def _read(base: Base, length: int, record: Record, first_loss: float) -> StepsFindings:
    """The trials of a sweep, and when each fits the training set."""
    measured = record.scan("evaluations")
    assert measured is not None, "a record always has the table"
    names = measured.collect_schema().names()
    error = next((n for n in names if n.startswith("train/") and n.endswith("error")), "")
    runs = rate_sweep.runs_of(record, first_loss)
    fitted = {}
    if error:
        perfect = measured.filter(pl.col(error) == 0.0).group_by(TRIAL).agg(pl.col("step").min())
        rows = perfect.collect().select(*TRIAL, "step").rows()
        fitted = {(b, s, i): step for b, s, i, step in rows}
    else:
        for run in runs:
            below = [
                step
                for step, loss in zip(run.curve.steps, run.curve.losses, strict=True)
                if loss <= PERFECT_LOSS * first_loss
            ]
            if below:
                fitted[run.key] = below[0]
    kept = {run.key for run in runs if run.judged.kind != "divergence"}
    fitted = {key: step for key, step in fitted.items() if key in kept}
    return StepsFindings(base, length, runs, fitted, error)


def _files(found: StepsFindings, given: Base) -> dict[str, str]:
    run = found.fastest
    if run is None:
        return {}
    now = found.fitted[run.key]
    longer = math.ceil(now / SHORT_SHARE)
    fields, _ = extended(given, now, longer)
    fields["fixed"] = {**fields["fixed"], RATE: run.rate}
    says = "The second round of a steps search: the production length, its schedule extended."
    return {ROUND_FILE: held_study_file(given, says, step_budget=longer, **fields)}


def _values(found: StepsFindings) -> dict[str, Any]:
    run = found.fastest
    return {
        "steps_tried": found.steps,
        "max_train_steps": None if run is None else found.fitted[run.key],
        "learning_rate": None if run is None else run.rate,
        "fits": found.error or "loss",
        "judged_on": found.examples,
        "training_examples": found.base.study.resolved.train_size,
        "at_end_of_the_range": found.at_end,
        "best_steps": found.when,
        "runs": [
            {"learning_rate": r.rate, "class": r.judged.kind, "best_value": r.best,
             "best_step": r.best_step, "fits_at": found.fitted.get(r.key)}
            for r in found.runs
        ],
        "transfers": dict(TRANSFERS),
    }  # fmt: skip
