"""The warmup that a rate above the edge of stability needs (Tuning Playbook).

from experiments.procedures.warmup_search import warmup_search
outcome = warmup_search(study, "runs/warmup", SweepOptions(batch_size=64))

1. unstable_base_learning_rate: from a sweep, unless it is given.
2. Base rate: 10 times that, then 100 times; where neither holds, that rate itself (ours).
3. For each warmup length over orders of magnitude, up to a tenth of max_train_steps: the rate
   rises from 0 to the base rate over warmup_steps, then stays for 2 warmup_steps. The shortest
   that does not blow up is taken.
4. It is prepended: max_train_steps + warmup_steps in all, and compared with the best rate without
   warmup by the best checkpoint of every seed.
5. The rates of the sweep from lr* on, once more with that warmup: final value against rate with and
   without it.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

from experiments.analysis import rate_sweep
from experiments.analysis.rate_sweep import SweepRun
from experiments.procedures.budget import BudgetEnds, ProcedureCost
from experiments.procedures.fixes import warmups
from experiments.procedures.outcome import ProcedureOutcome, conclude
from experiments.procedures.procedure import Procedure, planned
from experiments.procedures.rates import (
    EXTENSION_RATES,
    EXTENSIONS,
    SweepEnds,
    most,
    pilot,
    pilot_of,
    sweep,
)
from experiments.procedures.sweep_options import SWEEP, SweepOptions, question
from experiments.procedures.variants import RATE, WARMUP, Base, held_study_file
from experiments.procedures.warmup_found import (
    FACTORS,
    HELD_FILE,
    LAST_FACTOR,
    ComparedSetting,
    Length,
    WarmupFindings,
    said_of,
)
from experiments.spec.fields import StudyFields
from experiments.spec.study import Study, as_typed

POST_WARMUP = 2
"""post_warmup_steps over warmup_steps."""


def warmup_search(
    study: StudyFields,
    folder: Path | str,
    options: SweepOptions = SWEEP,
    *,
    unstable_rate: float | None = None,
    seeds: int = 3,
) -> ProcedureOutcome:
    """The shortest warmup that holds, prepended and compared with none; one that is held goes.

    Args:
      study, folder, options: as of `diagnose`; ``options.steps`` is max_train_steps.
      unstable_rate: unstable_base_learning_rate where it is known; the best rate without warmup is
        then taken to be half of it, and no sweep is made.
      seeds: trials of every setting that is compared.

    Raises:
      As `diagnose`.
    """
    base, ends = _without_warmup(options.base_of(study)), options.ends_of(study)
    if unstable_rate is not None and not 0 < unstable_rate < math.inf:
        raise ValueError(f"unstable_rate must be a positive number, got {unstable_rate!r}")
    asked = question(base, ends, unstable_rate=unstable_rate, seeds=seeds)
    cost = _most(base, ends, unstable_rate, seeds)
    with Procedure("warmup-search", folder, asked, options.running) as procedure:
        procedure.state_cost(cost)
        first_loss = pilot(procedure, base, ends, cost)
        ended = ""
        if unstable_rate is None:
            swept = sweep(procedure, base, ends, first_loss)
            runs = [run for run in swept.runs if run.rate >= swept.best.rate]
            found = WarmupFindings(base, swept.unstable, swept.best.rate, swept=runs)
        else:
            found = WarmupFindings(base, unstable_rate, unstable_rate / 2)
        try:
            found = dataclasses.replace(found, lengths=_lengths(procedure, found, first_loss))
            found = dataclasses.replace(
                found, compared=_compared(procedure, found, first_loss, seeds)
            )
            found = dataclasses.replace(found, with_warmup=_swept(procedure, found, first_loss))
        except BudgetEnds as end:
            ended = str(end)
        said = said_of(found, options.subject, ended, procedure.folder)
        return conclude(procedure, said, _values(found), not ended, _files(found))


def _without_warmup(base: Base) -> Base:
    fixed = {name: value for name, value in base.study.fixed.items() if name != WARMUP}
    return dataclasses.replace(base, study=as_typed(base.study, fixed=fixed))


def _most(base: Base, ends: SweepEnds, unstable: float | None, seeds: int) -> ProcedureCost:
    rate = unstable or ends.low
    lengths = [planned(trial_of(base, LAST_FACTOR, rate, w)) for w in warmups(base.steps)]
    cost = sum(lengths * (len(FACTORS) + 1), ProcedureCost())
    longest = max(warmups(base.steps))
    cost += planned(_compared_at(base, rate, 0, seeds))
    cost += sum([planned(_compared_at(base, rate, longest, seeds))] * len(FACTORS), ProcedureCost())
    if unstable is not None:
        return planned(pilot_of(base, ends)) + cost
    rates = len(ends.grid) + (0 if ends.stated else EXTENSIONS * EXTENSION_RATES)
    return most(base, ends) + cost + ProcedureCost(rates, rates * (base.steps + longest))


def trial_of(base: Base, factor: float, unstable: float, warmup: int) -> Study:
    """A warmup to a multiple of the unstable rate, and twice as long at it."""
    return base.variant(
        f"x{factor:g}-warmup-{warmup}",
        (float(f"{factor * unstable:.6g}"),),
        steps=(1 + POST_WARMUP) * warmup,
        schedule="constant",
        fixed=_with_warmup(base, warmup),
    )


def _lengths(procedure: Procedure, found: WarmupFindings, first_loss: float) -> list[Length]:
    """Every warmup at 10 times the unstable rate, then 100, else at that rate itself."""
    tried: list[Length] = []
    for factor in (*FACTORS, LAST_FACTOR):
        if factor == LAST_FACTOR and any(one.holds for one in tried):
            break
        if factor == FACTORS[1] and not any(one.holds for one in tried):
            continue
        rate = float(f"{factor * found.unstable:.6g}")
        for warmup in warmups(found.base.steps):
            study = trial_of(found.base, factor, found.unstable, warmup)
            record = procedure.train(f"x{factor:g}-warmup-{warmup}", study)
            run = rate_sweep.runs_of(record, first_loss)[0]
            tried.append(Length(factor, rate, warmup, run))
            if tried[-1].holds:
                break  # longer ones are not the shortest
    return tried


def _with_warmup(base: Base, warmup: int) -> dict[str, float | str]:
    return {**base.study.fixed, WARMUP: float(warmup)} if warmup else {**base.study.fixed}


def _compared_at(base: Base, rate: float, warmup: int, seeds: int) -> Study:
    """A rate, its warmup prepended, from so many seeds."""
    first = base.study.seeds[0]
    return base.variant(
        f"compare-{warmup}-{rate:.4g}", (rate,), steps=base.steps + warmup,
        seeds=range(first, first + seeds), fixed=_with_warmup(base, warmup),
    )  # fmt: skip


def _compared(
    procedure: Procedure, found: WarmupFindings, first_loss: float, seeds: int
) -> list[ComparedSetting]:
    """Without warmup at the best rate, and each base rate with its shortest warmup, by seeds."""
    settings = [("no warmup", found.best_rate, 0)]
    for factor in (*FACTORS, LAST_FACTOR):
        if (one := found.shortest(factor)) is not None:
            settings.append(
                (f"{factor:g}x, warmup {one.warmup_steps:,}", one.rate, one.warmup_steps)
            )
    if len(settings) == 1:
        return []
    sign = (found.base.study.goal or found.base.study.workload.goal).sign
    done = []
    for name, rate, warmup in settings:
        study = _compared_at(found.base, rate, warmup, seeds)
        record = procedure.train(f"compare-{warmup}-{rate:.4g}", study)
        runs = rate_sweep.runs_of(record, first_loss)
        values = tuple(r.best if r.judged.kind != "divergence" else None for r in runs)
        done.append(ComparedSetting(name, rate, warmup, values, sign))
    return done


def _swept(procedure: Procedure, found: WarmupFindings, first_loss: float) -> list[SweepRun]:
    """The rates of the sweep from lr* on, once more with the warmup that was chosen."""
    one, base = found.chosen, found.base
    if one is None or not found.swept:
        return []
    study = base.variant(
        f"rates-warmup-{one.warmup_steps}", [run.rate for run in found.swept],
        steps=base.steps + one.warmup_steps, fixed=_with_warmup(base, one.warmup_steps),
    )  # fmt: skip
    record = procedure.train(f"rates-warmup-{one.warmup_steps}", study)
    return rate_sweep.runs_of(record, first_loss)


def _files(found: WarmupFindings) -> dict[str, str]:
    if (one := found.chosen) is None:
        return {}
    fixed = {**_with_warmup(found.base, one.warmup_steps), RATE: one.rate}
    says = "The rate above the edge of stability that a warmup search made usable."
    total = found.base.steps + one.warmup_steps
    return {HELD_FILE: held_study_file(found.base, says, fixed=fixed, step_budget=total)}


def _values(found: WarmupFindings) -> dict[str, Any]:
    one = found.chosen
    total = None if one is None else found.base.steps + one.warmup_steps
    return {
        "unstable_base_learning_rate": found.unstable,
        "best_rate_without_warmup": found.best_rate,
        "max_train_steps": found.base.steps,
        "warmup_steps": one and one.warmup_steps,
        "learning_rate": one and one.rate,
        "total_steps": total,
        "tried": [
            {"factor": t.factor, "learning_rate": t.rate, "warmup_steps": t.warmup_steps,
             "class": t.run.judged.kind, "evidence": t.run.judged.evidence, "holds": t.holds}
            for t in found.lengths
        ],
        "compared": [
            {"name": c.name, "rate": c.rate, "warmup_steps": c.warmup_steps,
             "values": list(c.values), "median": c.median}
            for c in found.compared
        ],
        "with_warmup": [
            {"learning_rate": r.rate, "class": r.judged.kind, "best_value": r.best}
            for r in found.with_warmup
        ],
    }  # fmt: skip
