"""The findings of a clipping search (procedures/clip_threshold.py), their words and figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from experiments.analysis.clip_threshold import threshold_from_norms
from experiments.analysis.findings import CLIPPED_SHARE
from experiments.analysis.next_step import NextStep
from experiments.analysis.rate_sweep import SweepRun
from experiments.procedures import proposed
from experiments.procedures.rates import Sweep, curve_table, metric_of
from experiments.procedures.variants import Base, title_of
from experiments.report import procedure_figures as figures
from experiments.report.figure import Figure
from experiments.report.procedure import Noted, Said
from experiments.report.tables import Table

HELD_FILE = "clipped.py"


@dataclasses.dataclass(frozen=True)
class ClipSetting:
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
    run: SweepRun
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
class ClipFindings:
    """Findings of the stages."""

    base: Base
    sweep: Sweep
    norms: pl.DataFrame
    percentile: float
    settings: Sequence[ClipSetting] = ()

    @property
    def threshold(self) -> float:
        """The percentile of the best rate's norms."""
        return threshold_from_norms(self.norms["gradient_norm"], self.percentile)

    @property
    def chosen(self) -> ClipSetting | None:
        """The highest fixed threshold that holds."""
        fixed = [one for one in self.settings if one.percentile is not None and one.holds]
        return max(fixed, key=lambda one: one.held["clip_threshold"], default=None)


def said_of(found: ClipFindings, subject: str, ended: str, folder: Path) -> Said:
    """The answer, findings, next command, facts, table and figures of a clipping search."""
    base, one, swept = found.base, found.chosen, found.sweep
    answer = (
        f"The gradient norm's {found.percentile:g}th percentile in training at the best rate, "
        f"{swept.best.rate:.4g}, is {found.threshold:.4g}. "
    )
    lower = NextStep(
        proposed.procedure("diagnose", subject),
        "A lower rate instead; it names the largest stable one.",
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
            proposed.run_file(folder / HELD_FILE), "It trains so from five initialisations."
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


def _table(found: ClipFindings) -> Table:
    rows = tuple(
        (s.name, "" if s.clipped is None else f"{s.clipped:.0%}",
         "" if s.run.best is None else f"{s.run.best:.4g}", s.run.judged.kind,
         s.run.judged.evidence)
        for s in found.settings
    )  # fmt: skip
    columns = ("clipping", "clipped", "best value", "class", "evidence")
    title = f"At {found.sweep.unstable:.4g} ({metric_of(found.base)})"
    return Table("clippings", title, columns, rows, (False, True, True, False, False))


def _figures(found: ClipFindings) -> list[Figure]:
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
