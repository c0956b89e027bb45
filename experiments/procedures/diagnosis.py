"""The findings of a diagnosis (procedures/diagnose.py), and their words and figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from experiments.analysis import rate_sweep
from experiments.analysis.curvature import COLUMNS
from experiments.analysis.next_step import NextStep
from experiments.analysis.rate_sweep import SweepRun
from experiments.analysis.training_stability import smoothed
from experiments.diagnostics.stability import stability_threshold
from experiments.procedures import fixes, proposed
from experiments.procedures.rates import Sweep, curve_table, metric_of
from experiments.procedures.variants import Base, title_of
from experiments.records.reader import Record
from experiments.report import procedure_figures as figures
from experiments.report.figure import Figure
from experiments.report.procedure import Noted, Said
from experiments.report.tables import Table

PROBE_STEPS, PROBE_FACTOR, CHECK_FACTORS = 500, 2.0, (5.0, 10.0)
"""The playbook's: ~500 steps at 2 lr*, and a look at 5 and 10 lr*."""
NEAR = 10.0
"""An instability within this factor above lr* limits the rate."""


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """Findings of the stages of a diagnosis."""

    base: Base
    sweep: Sweep
    probe: Sequence[SweepRun] = ()
    above: Sequence[SweepRun] = ()
    records: tuple[Record, ...] = ()
    fixed: Sequence[fixes.Tried] = ()

    @property
    def cured(self) -> fixes.Tried | None:
        """The remedy that held, if any was tried and did."""
        return next((tried for tried in self.fixed if tried.cured), None)

    @property
    def overall(self) -> str:
        """The class of the first instability at or above lr* within tenfold; "stable" without."""
        seen = [*self.sweep.runs, *self.probe, *self.above]
        best = self.sweep.best.rate
        near = [r for r in seen if best <= r.rate <= NEAR * best * (1 + 1e-9)]
        kinds = [r.judged.kind for r in sorted(near, key=lambda r: r.rate) if not r.judged.stable]
        if kinds:
            return kinds[0]
        lost = [r for r in near if self.sweep.lost(r)]
        return "early instability" if lost else "stable"


def said_of(found: Diagnosis, subject: str, ended: str, fix: bool, folder: Path) -> Said:
    """The answer, findings, next command, facts, table and figures of a diagnosis."""
    base, edge, best = found.base, found.sweep.bracket, found.sweep.best
    optimizer = base.study.optimizer
    answer = (
        f"At batch size {base.batch_size} {optimizer} is best at a learning rate of {best.rate:.4g}"
        f" ({metric_of(base)} {best.best:.4g} at step {best.best_step:,}); training is stable up "
        f"to {edge.stable:.4g} and blows up at {edge.unstable:.4g}. "
    )
    if found.overall == "stable":
        answer += f"No instability within {NEAR:g} times the best rate: it does not limit it."
    else:
        answer += f"Above the best rate: {found.overall}."
    noted = [Noted(ended)] if ended else []
    noted += [Noted(text) for text in _sentences(found)]
    command = fixes.words(subject, base)
    remedies = fixes.proposals(base, found.sweep, found.overall, command, folder)
    cured = found.cured
    if found.fixed:
        noted += [Noted(tried.sentence) for tried in found.fixed]
    elif found.overall != "stable":
        noted += [Noted(p.sentence, p.command) for p in remedies]
    if ended:
        step = NextStep("", "The same command with a larger --budget goes on from here.")
    elif cured:
        run = proposed.run_file(folder / fixes.CURED_FILE)
        step = NextStep(run, f"It trains with what held, {cured.name}, from five initialisations.")
    elif found.overall == "stable":
        step = NextStep(
            proposed.procedure("steps-search", command),
            "The rate is limited by something other than instability; ask next how long to train.",
        )
    elif not fix:
        step = NextStep(
            proposed.procedure("diagnose", command, "--fix", "--out", str(folder)),
            "It tries the remedies in this order, and repeats nothing that is here.",
        )
    else:
        step = NextStep(remedies[-1].command, "No remedy held; a lower rate comes last.")
    return Said(
        f"Diagnosis: {title_of(base)}",
        answer, noted, step, _facts(found), (_table(found),), _figures(found),
    )  # fmt: skip


def _sentences(found: Diagnosis) -> list[str]:
    best = found.sweep.best.rate
    told = []
    for run in found.probe:
        told.append(
            f"Probe at {PROBE_FACTOR:g} times the best rate, {run.rate:.4g}, every step of "
            f"{run.curve.length} evaluated: {run.judged.kind} ({run.judged.evidence})."
        )
    for run in found.above:
        told.append(
            f"At {run.rate / best:.3g} times the best rate, {run.rate:.4g}: {run.judged.kind} "
            f"({run.judged.evidence})."
        )
    rates = [run.rate for run in found.sweep.runs]
    if best in (rates[0], rates[-1]):
        end = "lower" if best == rates[0] else "upper"
        told.append(f"The best rate is the {end} end of the sweep: what lies beyond is not known.")
    if noisy := [f"{rate:.4g}" for rate, noise in found.sweep.noisy.items() if noise]:
        told.append(
            f"At {', '.join(noisy)} training ends no lower than it began, and far lower with 16 "
            "times the batch: that is the noise of the gradient, no instability."
        )
    return told


def _facts(found: Diagnosis) -> dict[str, str]:
    base = found.base
    fixed = ", ".join(f"{k}={v}" for k, v in base.study.fixed.items()) or "nothing"
    return {
        "Workload": base.study.workload.name, "Optimizer": base.study.optimizer,
        "Schedule": base.study.schedule, "Clipping": base.study.clipping,
        "Batch size": f"{base.batch_size}", "Steps": f"{base.steps:,}", "Held": fixed,
        "Loss before training": f"{found.sweep.first_loss:.6g}",
        "Classes": "by the rule of experiments/analysis/training_stability.py (docs/playbook.md)",
    }  # fmt: skip


def _table(found: Diagnosis) -> Table:
    columns = ("learning rate", "times lr*", "best value", "class", "blows up", "evidence")
    rows = tuple(
        (
            f"{run.rate:.4g}", f"{run.rate / found.sweep.best.rate:.3g}",
            "" if run.best is None else f"{run.best:.4g}", run.judged.kind,
            "yes" if found.sweep.lost(run) else "", run.judged.evidence,
        )
        for run in sorted([*found.sweep.runs, *found.above], key=lambda r: r.rate)
    )  # fmt: skip
    return Table("rates", "Every rate", columns, rows, (True, True, True, False, False, False))


def _figures(found: Diagnosis) -> list[Figure]:
    base, best = found.base, found.sweep.best
    runs = sorted([*found.sweep.runs, *found.above], key=lambda r: r.rate)
    rows = [(r.rate, r.best, r.judged.kind, *r.key) for r in runs]
    schema = ["rate", "value", "kind", "batch_size", "seed", "trial"]
    marks = {"lr*": best.rate, "unstable": found.sweep.unstable}
    drawn = [
        figures.value_against_rate(
            pl.DataFrame(rows, schema=schema, orient="row"), metric_of(base), marks
        )
    ]
    loss = rate_sweep.loss_column(found.sweep.records[0]).replace("/", " ").replace("_", " ")
    near = [r for r in runs if r.rate >= best.rate][:8]
    drawn.append(
        figures.curves(
            "training_curves",
            "Training at the best rate and above",
            f"The {loss} of each trial; a line ends where its trial diverged. Click a rate in the "
            "legend to see it alone.",
            curve_table([(f"{r.rate:.4g}", r) for r in near]),
            series="learning rate",
            loss=loss,
        )
    )
    if found.records:
        drawn.append(_beside(found, loss))
    return drawn


def _beside(found: Diagnosis, title: str) -> Figure:
    """Loss, smoothed, with the norms of the probe; the sharpness where it is recorded."""
    probe, run = found.records[0], found.probe[0]
    norms = probe.scan("norms")
    measured = probe.scan("evaluations")
    assert norms is not None and measured is not None, "the probe records every step's norms"
    table = norms.select("step", "gradient_norm", "update_norm", "parameter_norm").collect()
    if len(run.curve.losses):
        smooth = smoothed(run.curve.losses, run.curve.steps, half_life=5.0)
        loss = pl.DataFrame(
            {"step": list(run.curve.steps), "loss": list(run.curve.losses), "smoothed": smooth}
        )
        table = table.join(loss, on="step", how="full", coalesce=True).sort("step")
    else:
        table = table.with_columns(loss=pl.lit(None, pl.Float64), smoothed=pl.lit(None, pl.Float64))
    quantities = {
        "smoothed": f"{title}, smoothed",
        "gradient_norm": "unclipped gradient norm",
        "update_norm": "update norm",
    }
    rules: dict[str, str] = {}
    sharp = _sharpness(probe)
    threshold = stability_threshold(found.base.study.optimizer, _numbers(found, run.rate))
    if sharp is not None and threshold is not None:
        table = table.join(sharp, on="step", how="left")
        quantities["largest"], rules["largest"] = f"sharpness ({threshold.matrix})", "threshold"
    caption = (
        f"The probe at {run.rate:.4g}, every step. The smoothed loss (half-life 5 steps) starts at "
        "its first value; the gradient is measured before any clipping."
    )
    if threshold is not None:
        caption += (
            f" {found.base.study.optimizer} at this rate is unstable where the largest eigenvalue "
            f"of the {threshold.matrix} matrix exceeds {threshold.value:.4g}"
            + ("." if sharp is not None else "; --record-curvature 25 records it.")
        )
    return figures.beside_the_loss(
        table.with_columns(series=pl.lit(f"{run.rate:.4g}")), quantities, caption, rules
    )


def _sharpness(record: Record) -> pl.DataFrame | None:
    """``step, largest, threshold`` of the evaluations that measured the curvature, if any did."""
    rows = record.scan("evaluations")
    assert rows is not None, "a record always has the table"
    if COLUMNS["largest"] not in rows.collect_schema():
        return None
    kept = {name: pl.col(COLUMNS[name]) for name in ("largest", "threshold")}
    return rows.select("step", **kept).filter(pl.col("largest").is_finite()).collect()


def _numbers(found: Diagnosis, rate: float) -> dict[str, float]:
    held = found.base.study.resolved.hyperparameters
    numbers = {k: float(v) for k, v in held.items() if isinstance(v, (int, float))}
    return {**numbers, "learning_rate": rate}
