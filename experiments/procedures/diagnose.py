"""Is training stable, and what limits the learning rate? (Tuning Playbook, failures of training)

from experiments.procedures.diagnose import diagnose
outcome = diagnose(study, "runs/diagnose", SweepOptions(batch_size=64))

1. sweep: one trial a rate, from the lowest to the first that blows up; lr* is the rate of the best
   value over training, unstable_base_learning_rate the first that blows up
   (analysis/rate_sweep.py).
2. probe: 500 steps at 2 lr*, after a warmup if one is held, every step evaluated: early
   instability shows.
3. above: 5 lr* and 10 lr* over the whole length: a sudden rise after a steady decline is a
   mid-training instability.
4. with ``fix``, the remedies in the playbook's order, tried at unstable_base_learning_rate
   (procedures/remedies.py).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from experiments.analysis import rate_sweep
from experiments.analysis.rate_sweep import SweepRun
from experiments.procedures import fixes, remedies
from experiments.procedures.budget import BudgetEnds, ProcedureCost
from experiments.procedures.diagnosis import (
    CHECK_FACTORS,
    PROBE_FACTOR,
    PROBE_STEPS,
    Diagnosis,
    said_of,
)
from experiments.procedures.outcome import ProcedureOutcome, conclude
from experiments.procedures.procedure import Procedure, planned
from experiments.procedures.rates import most, pilot, sweep
from experiments.procedures.sweep_options import SWEEP, SweepOptions, question
from experiments.procedures.variants import WARMUP, Base, held_study_file
from experiments.spec.fields import StudyFields
from experiments.spec.study import Study


def diagnose(
    study: StudyFields, folder: Path | str, options: SweepOptions = SWEEP, *, fix: bool = False
) -> ProcedureOutcome:
    """Sweep, probe, check, classify, and name what to do.

    Args:
      study: any question; its workload, optimizer and what it holds fixed stand.
      folder: made where it does not exist; the same call goes on in it.
      options: batch size, length, rates, and how it trains.
      fix: try the remedies in their order.

    Raises:
      ValueError: bad input, nothing is written.
      StudyError: no stable rate, none unstable, or nothing is learned.
      As `run_study`.
    """
    base, ends = options.base_of(study), options.ends_of(study)
    asked = question(base, ends, curvature=base.study.record_curvature)
    cost = most(base, ends) + planned(probe_of(base, ends.low)) + ProcedureCost(2, 2 * base.steps)
    cost += remedies.most(base, ends.low) if fix else ProcedureCost()
    with Procedure("diagnose", folder, asked, options.running) as procedure:
        procedure.state_cost(cost)
        first_loss = pilot(procedure, base, ends, cost)
        found = Diagnosis(base, sweep(procedure, base, ends, first_loss))
        ended = ""
        try:
            found = _looked_above(procedure, found)
            if fix:
                tried: list[fixes.Tried] = []
                found = dataclasses.replace(found, fixed=tried)
                remedies.try_all(procedure, base, found.sweep, tried)
        except BudgetEnds as end:
            ended = str(end)
        said = said_of(found, options.subject, ended, fix, procedure.folder)
        return conclude(procedure, said, _values(found), not ended, _files(found))


def probe_of(base: Base, best: float) -> Study:
    """500 steps at twice a rate, every one evaluated; a warmup that is held comes before them."""
    fixed, warmup = dict(base.study.fixed), base.warmup_steps
    if warmup:
        fixed[WARMUP] = float(warmup)  # the base's, whatever share of a shorter trial it would be
    return base.variant(
        "probe",
        (PROBE_FACTOR * best,),
        steps=warmup + PROBE_STEPS,
        every_step=True,
        record_curvature=base.study.record_curvature,
        fixed=fixed,
    )


def _looked_above(procedure: Procedure, found: Diagnosis) -> Diagnosis:
    """The probe at 2 lr*, then 5 and 10 lr* at full length."""
    base, best, first = found.base, found.sweep.best.rate, found.sweep.first_loss
    probe = procedure.train("probe", probe_of(base, best))
    runs = rate_sweep.runs_of(probe, first)
    found = dataclasses.replace(found, probe=runs, records=(probe,))
    above = procedure.train("above", base.variant("above", [f * best for f in CHECK_FACTORS]))
    return dataclasses.replace(
        found, above=rate_sweep.runs_of(above, first), records=(probe, above)
    )


def _values(found: Diagnosis) -> dict[str, Any]:
    best = found.sweep.best
    probed = found.probe[0] if found.probe else None
    return {
        "class": found.overall,
        "batch_size": found.base.batch_size,
        "best_learning_rate": best.rate,
        "best_value": best.best,
        "best_step": best.best_step,
        "largest_stable_rate": found.sweep.bracket.stable,
        "unstable_base_learning_rate": found.sweep.unstable,
        "first_loss": found.sweep.first_loss,
        "runs": [_row(run, found.sweep.lost(run)) for run in found.sweep.runs],
        "probe": None if probed is None else _row(probed, found.sweep.lost(probed)),
        "above": [_row(run, found.sweep.lost(run)) for run in found.above],
        "fixes": [dataclasses.asdict(tried) for tried in found.fixed],
    }


def _row(run: SweepRun, lost: bool) -> dict[str, Any]:
    return {
        "learning_rate": run.rate, "class": run.judged.kind, "onset": run.judged.onset,
        "evidence": run.judged.evidence, "blows_up": lost, "best_value": run.best,
        "trial": list(run.key),
    }  # fmt: skip


def _files(found: Diagnosis) -> dict[str, str]:
    """Study files: the largest stable rate, and the remedy that held."""
    base, lower = found.base, found.sweep.bracket.stable or found.sweep.best.rate
    fixed = {**base.study.fixed, "learning_rate": lower}
    says = "The largest rate that was stable in a diagnosis."
    files = {fixes.LOWER_FILE: held_study_file(base, says, fixed=fixed)}
    if (cured := found.cured) is not None:
        text = held_study_file(base, cured.sentence, **fixes.changes_of(base, cured))
        files[fixes.CURED_FILE] = text
    return files
