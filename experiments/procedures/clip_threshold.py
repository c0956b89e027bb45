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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from experiments.analysis import rate_sweep
from experiments.analysis.clip_threshold import PERCENTILE, threshold_from_norms
from experiments.analysis.findings import CLIPPED_SHARE
from experiments.analysis.next_step import NextStep
from experiments.analysis.question import TRIAL
from experiments.analysis.rate_sweep import Run
from experiments.procedures.budget import BudgetEnds, Cost
from experiments.procedures.outcome import Outcome, conclude
from experiments.procedures.procedure import Procedure
from experiments.procedures.rates import Sweep, curve_table, metric_of, most, pilot, sweep
from experiments.procedures.sweep_options import SWEEP, SweepOptions, question
from experiments.procedures.variants import RATE, Base, held_study_file, title_of
from experiments.records.reader import Record
from experiments.report import procedure_figures as figures
from experiments.report.figure import Figure
from experiments.report.procedure import Noted, Said
from experiments.report.tables import Table
from experiments.spec.fields import StudyFields

LOWER_PERCENTILES = (75.0, 50.0, 25.0, 10.0)
"""Tried in this order after the stated one while training stays unstable."""
OTHERS: Mapping[str, Mapping[str, float]] = {
    "none": {},
    "window_autoclip": {"clip_percentile": 90.0, "clip_window": 256.0},
    "agc": {"clip_ratio": 0.01},
}
"""Clippings beside the fixed threshold, with what they hold."""
HELD_FILE = "clipped.py"


@dataclasses.dataclass(frozen=True)
class Setting:
    """A clipping at the unstable rate, and what came of it.

    Attributes:
      clipping, held: the row of `optimizers.CLIPPINGS` and its numbers.
      percentile: of the norms, that a fixed threshold lies at; None otherwise.
      run: its trial.
      clipped: share of its steps that were clipped; None without clipping or where it diverged
        before its first step.
    """

    clipping: str
    held: Mapping[str, float]
    percentile: float | None
    run: Run
    clipped: float | None

    @property
    def name(self) -> str:
        """'global norm at 0.42 (90 %)'."""
        if self.percentile is not None:
            return f"global norm at {self.held['clip_threshold']:.4g} ({self.percentile:g} %)"
        return {"none": "no clipping", "agc": "AGC, ratio 0.01"}.get(
            self.clipping, "AutoClip, window of 256, 90 %"
        )

    @property
    def holds(self) -> bool:
        """Training is stable and gets somewhere."""
        return self.run.judged.kind == "stable"

    @property
    def aggressive(self) -> bool:
        """More than half of the updates clipped."""
        return self.clipped is not None and self.clipped > CLIPPED_SHARE


@dataclasses.dataclass(frozen=True)
class Found:
    """Findings of the stages."""

    base: Base
    sweep: Sweep
    norms: pl.DataFrame
    percentile: float
    settings: Sequence[Setting] = ()

    @property
    def threshold(self) -> float:
        """The percentile of the best rate's norms."""
        return threshold_from_norms(self.norms["gradient_norm"], self.percentile)

    @property
    def chosen(self) -> Setting | None:
        """The highest fixed threshold that holds."""
        fixed = [one for one in self.settings if one.percentile is not None and one.holds]
        return max(fixed, key=lambda one: one.held["clip_threshold"], default=None)


def clip_threshold(
    study: StudyFields,
    folder: Path | str,
    options: SweepOptions = SWEEP,
    *,
    percentile: float = PERCENTILE,
) -> Outcome:
    """Train what it takes, and find the threshold; other arguments and errors as of `diagnose`.

    Args:
      percentile: of the unclipped norms of the best rate's trial.
    """
    if not 0 <= percentile <= 100:
        raise ValueError(f"percentile must lie in [0, 100], got {percentile!r}")
    base, ends = options.base_of(study), options.ends_of(study)
    base = dataclasses.replace(base, study=dataclasses.replace(
        base.study, clipping="none", fixed=_unclipped(base)))  # fmt: skip
    asked = question(base, ends, percentile=percentile)
    with Procedure("clip-threshold", folder, asked, options.running) as procedure:
        trials = 1 + len(LOWER_PERCENTILES) + len(OTHERS)
        cost = most(base, ends) + Cost(trials, trials * base.steps)
        procedure.state_cost(cost)
        first_loss = pilot(procedure, base, ends, cost)
        swept = sweep(procedure, base, ends, first_loss)
        found = Found(base, swept, _norms(swept), percentile)
        settings: list[Setting] = []
        ended = ""
        try:
            _try(procedure, found, settings)
        except BudgetEnds as end:
            ended = str(end)
        found = dataclasses.replace(found, settings=settings)
        said = _said(found, options.subject, ended, procedure.folder)
        return conclude(procedure, said, _values(found), not ended, _files(found))


def _unclipped(base: Base) -> dict[str, float | str]:
    ours = ("clip_threshold", "clip_percentile", "clip_window", "clip_ratio")
    return {k: v for k, v in base.study.fixed.items() if k not in ours}


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


def _try(procedure: Procedure, found: Found, settings: list[Setting]) -> None:
    """No clipping, the threshold, lower ones while unstable, then the other rules."""
    settings.append(_train(procedure, found, "none", {}, None))
    for percentile in (found.percentile, *LOWER_PERCENTILES):
        if percentile > found.percentile:
            continue
        threshold = threshold_from_norms(found.norms["gradient_norm"], percentile)
        held = {"clip_threshold": float(f"{threshold:.4g}")}
        settings.append(_train(procedure, found, "global_norm", held, percentile))
        if settings[-1].holds:
            break
    for clipping, others in OTHERS.items():
        if clipping != "none":
            settings.append(_train(procedure, found, clipping, others, None))


def _train(
    procedure: Procedure,
    found: Found,
    clipping: str,
    held: Mapping[str, float],
    percentile: float | None,
) -> Setting:
    stage = f"{clipping}-{percentile:g}" if percentile is not None else clipping
    study = found.base.variant(
        f"clip-{stage}", (found.sweep.unstable,), clipping=clipping,
        fixed={**found.base.study.fixed, **held},
    )  # fmt: skip
    record: Record = procedure.train(f"clip-{stage}", study)
    run = rate_sweep.runs_of(record, found.sweep.first_loss)[0]
    shares = record.trials["clipped_share"] if "clipped_share" in record.trials.columns else None
    return Setting(clipping, held, percentile, run, None if shares is None else shares[0])


def _files(found: Found) -> dict[str, str]:
    if (one := found.chosen) is None:
        return {}
    fixed = {**found.base.study.fixed, **one.held, RATE: one.run.rate}
    says = "A rate above the edge of stability that a clipping threshold made usable."
    return {HELD_FILE: held_study_file(found.base, says, fixed=fixed, clipping=one.clipping)}


def _values(found: Found) -> dict[str, Any]:
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


def _said(found: Found, subject: str, ended: str, folder: Path) -> Said:
    base, one, swept = found.base, found.chosen, found.sweep
    answer = (
        f"The gradient norm's {found.percentile:g}th percentile in training at the best rate, "
        f"{swept.best.rate:.4g}, is {found.threshold:.4g}. "
    )
    lower = NextStep(
        f"batchscale diagnose {subject}", "A lower rate instead; it names the largest stable one."
    )
    noted = [Noted(ended)] if ended else []
    if one is None and not ended:
        answer += f"At {swept.unstable:.4g}, the first rate that blows up, no threshold holds."
        step = lower
    elif one is None:
        step = NextStep("", "The same command with a larger --budget goes on from here.")
    else:
        answer += (
            f"At {swept.unstable:.4g}, the first rate that blows up, clipping at "
            f"{one.held['clip_threshold']:.4g} (the {one.percentile:g}th percentile) holds and "
            f"clips {one.clipped or 0:.0%} of the updates."
        )
        step = NextStep(
            f"batchscale run {folder / HELD_FILE}", "It trains so from five initialisations."
        )
        if one.aggressive:
            noted.append(
                Noted(
                    f"More than {CLIPPED_SHARE:.0%} of the updates are clipped: extremely "
                    "aggressive; clipping then sets the step's length. Lower the rate instead."
                )
            )
            step = lower
        pairs = f"clip_threshold={one.held['clip_threshold']:g} learning_rate={one.run.rate:g}"
        noted.append(Noted(f"As options of run: --clipping global_norm --fix {pairs}."))
    facts = {
        "Workload": base.study.workload.name, "Optimizer": base.study.optimizer,
        "Batch size": f"{base.batch_size}", "Steps": f"{base.steps:,}",
        "Norms": f"{len(found.norms):,} steps, before any clipping",
    }  # fmt: skip
    title = f"Clipping: {title_of(base)}"
    return Said(title, answer, noted, step, facts, (_table(found),), _figures(found))


def _table(found: Found) -> Table:
    rows = tuple(
        (s.name, "" if s.clipped is None else f"{s.clipped:.0%}",
         "" if s.run.best is None else f"{s.run.best:.4g}", s.run.judged.kind,
         s.run.judged.evidence)
        for s in found.settings
    )  # fmt: skip
    columns = ("clipping", "clipped", "best value", "class", "evidence")
    title = f"At {found.sweep.unstable:.4g} ({metric_of(found.base)})"
    return Table("clippings", title, columns, rows, (False, True, True, False, False))


def _figures(found: Found) -> list[Figure]:
    marks = {
        f"{p:g} %": threshold_from_norms(found.norms["gradient_norm"], p)
        for p in dict.fromkeys((50.0, found.percentile))
    }
    drawn = norm_figures(found.norms, marks, f"{found.sweep.best.rate:.4g}")
    if found.settings:
        drawn.append(
            figures.curves(
                "clipped_curves",
                "Training at the unstable rate",
                f"Training loss at {found.sweep.unstable:.4g} under each clipping; a line ends "
                "where its trial diverged.",
                curve_table([(s.name, s.run) for s in found.settings]),
                series="clipping",
                loss="training loss",
            )
        )
    return drawn


def norm_figures(norms: pl.DataFrame, marks: Mapping[str, float], rate: str) -> list[Figure]:
    """Norm against step, and its histogram with the thresholds."""
    table = norms.select("step", "gradient_norm").with_columns(
        series=pl.lit(rate), threshold=pl.lit(list(marks.values())[-1])
    )
    against = figures.beside_the_loss(
        table,
        {"gradient_norm": "unclipped gradient norm"},
        "The norm of the whole gradient at every step, before any clipping, in training at the "
        "best rate. Dashed: the threshold.",
        {"gradient_norm": "threshold"},
    )
    against = dataclasses.replace(against, name="norm_against_step", title="Gradient norm")
    return [against, figures.norm_histogram(norms["gradient_norm"], marks)]
