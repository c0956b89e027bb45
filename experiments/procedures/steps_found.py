"""The findings of a steps search (procedures/steps_search.py), and their words and figures."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from experiments.analysis.findings import EARLY_SHARE, LATE_SHARE
from experiments.analysis.next_step import NextStep
from experiments.analysis.rate_sweep import SweepRun
from experiments.procedures import proposed
from experiments.procedures.rates import curve_table, metric_of
from experiments.procedures.variants import Base, title_of
from experiments.report import procedure_figures as figures
from experiments.report.figure import Figure
from experiments.report.procedure import Noted, Said
from experiments.report.tables import Table

PERFECT_LOSS = 0.01
"""A loss that has no error of its own fits perfectly below this share of its first value (ours)."""
SHORT_SHARE = 0.1
"""Exploratory rounds take about this share of the production length."""
TRANSFERS = (
    ("very likely", "warmup length, initialization"),
    ("likely", "model architecture"),
    ("might", "optimizer and its hyperparameters, data augmentation, regularization"),
    ("unlikely", "learning rate schedule"),
)
"""What a short round finds out for a long one (Tuning Playbook)."""
ROUND_FILE = "longer.py"


@dataclasses.dataclass(frozen=True)
class StepsFindings:
    """Findings of the stages.

    Attributes:
      base: without regularization, constant rate.
      steps: N of the last sweep.
      runs: its trials.
      fitted: trial -> the first step at which it fits the training set perfectly.
      error: the column whose zero is a perfect fit; "" where a small loss has to do.
    """

    base: Base
    steps: int
    runs: Sequence[SweepRun] = ()
    fitted: dict[tuple[int, int, int], int] = dataclasses.field(default_factory=dict)
    error: str = ""

    @property
    def examples(self) -> int:
        """Training examples that a fit is judged on, the first of the set."""
        study = self.base.study.resolved
        return min(study.train_evaluation_examples, study.train_size)

    @property
    def judged(self) -> str:
        """'the training set', or which examples of it."""
        size = self.base.study.resolved.train_size
        if self.examples == size:
            return "the training set"
        return f"the first {self.examples:,} of the {size:,} training examples"

    @property
    def fastest(self) -> SweepRun | None:
        """The trial that fits first, the lowest rate of several."""
        fits = [run for run in self.runs if run.key in self.fitted]
        return min(fits, key=lambda run: (self.fitted[run.key], run.rate), default=None)

    @property
    def at_end(self) -> str:
        """'lower' or 'upper' where the fastest rate is an end of the sweep, else ''."""
        rates = [run.rate for run in self.runs]
        if self.fastest is None or len(rates) < 2:
            return ""
        ends = {rates[0]: "lower", rates[-1]: "upper"}
        return ends.get(self.fastest.rate, "")

    @property
    def when(self) -> str:
        """'early' or 'late' where the best step of every learning trial lies there, else ''."""
        shares = [
            run.best_step / run.curve.length
            for run in self.runs
            if run.best_step and run.judged.kind == "stable"
        ]
        if not shares:
            return ""
        if max(shares) <= EARLY_SHARE:
            return "early"
        return "late" if min(shares) >= LATE_SHARE else ""


def extended(given: Base, now: int, longer: int) -> tuple[dict[str, Any], str]:
    """(changed fields, in words) of a schedule extended from ``now`` to ``longer`` steps."""
    schedule, fixed = given.study.schedule, dict(given.study.fixed)
    held = given.study.resolved.hyperparameters
    if schedule in ("linear", "warmup_stable_decay"):
        name = "decay_steps_factor" if schedule == "linear" else "decay_fraction"
        decay = float(held.get(name) or 1.0) * now
        factors = ("decay_steps_factor", "decay_fraction")
        kept = {k: v for k, v in fixed.items() if k not in factors}
        share = float(f"{min(1.0, decay / longer):.4g}")
        words = (
            f"linear: the decay keeps its {decay:,.0f} steps and the constant phase before it is "
            f"extended (warmup_stable_decay with decay_fraction {share:g})"
        )
        fields = {"schedule": "warmup_stable_decay", "fixed": {**kept, "decay_fraction": share}}
        return fields, words
    if schedule == "cosine":
        return {"fixed": fixed}, "cosine: the base rate stays and max_train_steps is extended"
    return {"fixed": fixed}, f"{schedule}: the rate stays and max_train_steps is extended"


def said_of(found: StepsFindings, given: Base, subject: str, ended: str, folder: Path) -> Said:
    """The answer, findings, next command, facts, table and figures of a steps search."""
    base, run = found.base, found.fastest
    fits = found.error.replace("/", " ").replace("_", " ") + " reaches 0" if found.error else (
        f"the training loss falls below {PERFECT_LOSS:.0%} of its first value"
    )  # fmt: skip
    noted = [Noted(ended)] if ended else []
    if run is None:
        answer = (
            f"No constant rate fits {found.judged} within {found.steps:,} steps ({fits}): "
            "max_train_steps is longer, or the model is too small for this."
        )
        longer = proposed.with_values(subject, "--steps", [str(4 * found.steps)])
        step = NextStep(
            proposed.procedure("steps-search", longer, *proposed.in_another(folder, "longer")),
            "Four times as long, in a folder of its own.",
        )
    else:
        now = found.fitted[run.key]
        answer = (
            f"max_train_steps = {now:,}: a constant rate of {run.rate:.4g} fits {found.judged} "
            f"by then ({fits}), sooner than any other of {len(found.runs)} rates."
        )
        length = math.ceil(now / SHORT_SHARE)
        _, words = extended(given, now, length)
        noted += [
            Noted(
                f"Two rounds: first many short runs of about {now:,} steps for model and optimizer,"
                f" then few of the production length, some {length:,} steps; check at 20 % of it."
            ),
            Noted(f"Extend the schedule so: {words}."),
            Noted(
                "What a short round says of a long one: "
                + "; ".join(f"{what} ({how})" for how, what in TRANSFERS)
                + "."
            ),
            Noted(
                "More gradient noise (a smaller batch, augmentation, dropout) asks for more steps, "
                "a better optimizer or schedule for fewer: look again when they change."
            ),
        ]
        step = NextStep(
            proposed.run_file(folder / ROUND_FILE), "The second round, its schedule extended."
        )
    if found.at_end:
        noted.insert(0, Noted(
            f"The fastest rate is the {found.at_end} end of the sweep: widen it (--rates) before "
            "this is believed."))  # fmt: skip
    noted += _best_steps(found)
    facts = {
        "Workload": base.study.workload.name, "Optimizer": base.study.optimizer,
        "Batch size": f"{base.batch_size}", "N": f"{found.steps:,} steps",
        "A fit is judged on": found.judged,
        "Held": "constant rate, no augmentation, no regularization: "
        + (", ".join(f"{k}={v}" for k, v in base.study.fixed.items()) or "nothing"),
    }  # fmt: skip
    title = f"Steps: {title_of(base)}"
    return Said(title, answer, noted, step, facts, (_table(found),), _figures(found))


def _best_steps(found: StepsFindings) -> list[Noted]:
    if found.when == "early":
        return [Noted(f"Every stable trial is at its best in the first {EARLY_SHARE:.0%} of its "
                      f"{found.steps:,} steps: far fewer would do.")]  # fmt: skip
    if found.when == "late":
        last = f"the last {1 - LATE_SHARE:.0%} of its {found.steps:,} steps"
        return [Noted(f"Every stable trial is at its best in {last}: train longer and tune the "
                      "decay again.")]  # fmt: skip
    return []


def _table(found: StepsFindings) -> Table:
    rows = tuple(
        (f"{r.rate:.4g}", "" if r.key not in found.fitted else f"{found.fitted[r.key]:,}",
         "" if r.best is None else f"{r.best:.4g}",
         "" if r.best_step is None else f"{r.best_step / r.curve.length:.0%}", r.judged.kind)
        for r in found.runs
    )  # fmt: skip
    columns = ("learning rate", "fits at step", f"best {metric_of(found.base)}", "best at", "class")
    return Table("rates", "Every rate", columns, rows, (True, True, True, True, False))


def _figures(found: StepsFindings) -> list[Figure]:
    rows = [(r.rate, found.fitted.get(r.key), r.judged.kind, *r.key) for r in found.runs]
    schema = {"rate": pl.Float64, "value": pl.Float64, "kind": pl.String, "batch_size": pl.Int64,
              "seed": pl.Int64, "trial": pl.Int64}  # fmt: skip
    table = pl.DataFrame(rows, schema=schema, orient="row")
    marks = {} if found.fastest is None else {"fastest": found.fastest.rate}
    against = figures.value_against_rate(table, f"steps to fit {found.judged}", marks)
    against = dataclasses.replace(
        against,
        name="fit_against_rate",
        title="Steps to a perfect fit against learning rate",
        caption="The first evaluation at which a trial at this constant rate fits "
        f"{found.judged}. Crosses at the top: it never did.",
    )
    named = [(f"{r.rate:.4g}", r) for r in found.runs]
    return [
        against,
        figures.curves(
            "training_curves", "Training at every constant rate",
            "Training loss of every rate; a line ends where its trial diverged.",
            curve_table(named), series="learning rate", loss="training loss",
        ),
    ]  # fmt: skip
