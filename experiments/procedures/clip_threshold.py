"""A clipping threshold, and whether clipping is the remedy at all (Tuning Playbook).

from experiments.procedures.clip_threshold import clip_threshold
outcome = clip_threshold(study, "runs/clip", SweepOptions(batch_size=64))

1. A sweep of the rate, every step's unclipped gradient norm recorded: the norms of the best rate's
   trial give the threshold, their 90th percentile.
2. At the first rate that blows up: no clipping, that threshold, lower percentiles one after the
   other while training stays unstable, AutoClip over a window, and AGC.
3. A setting that clips more than half of all updates only bounds the step: a lower rate instead.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from experiments.analysis import rate_sweep
from experiments.analysis.clip_threshold import PERCENTILE, threshold_from_norms
from experiments.analysis.question import TRIAL
from experiments.procedures.budget import BudgetEnds, ProcedureCost
from experiments.procedures.clip_found import HELD_FILE, ClipFindings, ClipSetting, said_of
from experiments.procedures.outcome import ProcedureOutcome, conclude
from experiments.procedures.procedure import Procedure
from experiments.procedures.rates import Sweep, most, pilot, sweep
from experiments.procedures.sweep_options import SWEEP, SweepOptions, question
from experiments.procedures.variants import RATE, changed, held_study_file
from experiments.records.reader import Record
from experiments.spec.fields import StudyFields

LOWER_PERCENTILES = (75.0, 50.0, 25.0, 10.0)
"""Tried in this order after the stated one while training stays unstable."""
OTHERS: Mapping[str, Mapping[str, float]] = {
    "none": {},
    "window_autoclip": {"clip_percentile": 90.0, "clip_window": 256.0},
    "agc": {"clip_ratio": 0.01},
}
"""Clippings beside the fixed threshold, with what they hold."""


def clip_threshold(
    study: StudyFields,
    folder: Path | str,
    options: SweepOptions = SWEEP,
    *,
    percentile: float = PERCENTILE,
) -> ProcedureOutcome:
    """Train what it takes, and find the threshold; other arguments and errors as of `diagnose`.

    Args:
      percentile: of the unclipped norms of the best rate's trial.
    """
    if not 0 <= percentile <= 100:
        raise ValueError(f"percentile must lie in [0, 100], got {percentile!r}")
    base, ends = options.base_of(study), options.ends_of(study)
    base = dataclasses.replace(base, study=changed(base.study, clipping="none"))
    asked = question(base, ends, percentile=percentile)
    trials = 1 + len(LOWER_PERCENTILES) + len(OTHERS)
    cost = most(base, ends) + ProcedureCost(trials, trials * base.steps)
    with Procedure("clip-threshold", folder, asked, options.running) as procedure:
        procedure.state_cost(cost)
        first_loss = pilot(procedure, base, ends, cost)
        swept = sweep(procedure, base, ends, first_loss)
        found = ClipFindings(base, swept, _norms(swept), percentile)
        settings: list[ClipSetting] = []
        ended = ""
        try:
            _try(procedure, found, settings)
        except BudgetEnds as end:
            ended = str(end)
        found = dataclasses.replace(found, settings=settings)
        said = said_of(found, options.subject, ended, procedure.folder)
        return conclude(procedure, said, _values(found), not ended, _files(found))


def _norms(found: Sweep) -> pl.DataFrame:
    """Norms of every step of the best rate's trial."""
    key = dict(zip(TRIAL, found.best.key, strict=True))
    for record in found.records:
        own = record.trials.filter(**key)
        if own[RATE].to_list() != [found.best.rate]:
            continue
        norms = record.scan("norms")
        assert norms is not None, "a sweep records the norms of every step"
        return norms.filter(**key).sort("step").collect()
    raise AssertionError("the best run is one of the sweep's")


def _try(procedure: Procedure, found: ClipFindings, settings: list[ClipSetting]) -> None:
    """No clipping, the threshold, lower ones while unstable, then the other rules."""
    settings.append(_train(procedure, found, "none", {}, None))
    for percentile, threshold in thresholds_of(found).items():
        held = {"clip_threshold": threshold}
        settings.append(_train(procedure, found, "global_norm", held, percentile))
        if settings[-1].holds:
            break
    for clipping, others in OTHERS.items():
        if clipping != "none":
            settings.append(_train(procedure, found, clipping, others, None))


def thresholds_of(found: ClipFindings) -> dict[float, float]:
    """Percentile -> threshold, to four digits: the stated one, then lower ones; none twice."""
    lower = [p for p in LOWER_PERCENTILES if p < found.percentile]
    known: dict[float, float] = {}
    for percentile in (found.percentile, *lower):
        threshold = float(f"{threshold_from_norms(found.norms['gradient_norm'], percentile):.4g}")
        if threshold not in known.values():
            known[percentile] = threshold
    return known


def _train(
    procedure: Procedure,
    found: ClipFindings,
    clipping: str,
    held: Mapping[str, float],
    percentile: float | None,
) -> ClipSetting:
    stage = f"{clipping}-{percentile:g}" if percentile is not None else clipping
    study = found.base.variant(
        f"clip-{stage}", (found.sweep.unstable,), clipping=clipping,
        fixed={**found.base.study.fixed, **held},
    )  # fmt: skip
    record: Record = procedure.train(f"clip-{stage}", study)
    run = rate_sweep.runs_of(record, found.sweep.first_loss)[0]
    shares = record.trials["clipped_share"] if "clipped_share" in record.trials.columns else None
    return ClipSetting(clipping, held, percentile, run, None if shares is None else shares[0])


def _files(found: ClipFindings) -> dict[str, str]:
    if (one := found.chosen) is None:
        return {}
    fixed = {**found.base.study.fixed, **one.held, RATE: one.run.rate}
    says = "A rate above the edge of stability that a clipping threshold made usable."
    return {HELD_FILE: held_study_file(found.base, says, fixed=fixed, clipping=one.clipping)}


def _values(found: ClipFindings) -> dict[str, Any]:
    one = found.chosen
    return {
        "threshold": found.threshold,
        "percentile": found.percentile,
        "best_learning_rate": found.sweep.best.rate,
        "unstable_base_learning_rate": found.sweep.unstable,
        "median_norm": float(found.norms["gradient_norm"].median() or 0.0),  # type: ignore[arg-type]
        "chosen_threshold": one and one.held["clip_threshold"],
        "lower_the_rate_instead": one is None or one.aggressive,
        "settings": [
            {"clipping": s.clipping, "held": dict(s.held), "percentile": s.percentile,
             "class": s.run.judged.kind, "evidence": s.run.judged.evidence, "clipped": s.clipped,
             "best_value": s.run.best, "holds": s.holds}
            for s in found.settings
        ],
    }  # fmt: skip
