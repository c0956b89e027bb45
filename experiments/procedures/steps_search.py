"""The number of steps to train for (Tuning Playbook).

from experiments.procedures.steps_search import steps_search
outcome = steps_search(study, "runs/steps", SweepOptions(batch_size=64, steps=2000))

1. A sweep of constant rates, N steps each, without augmentation or regularization: the fastest
   trial to fit the training set perfectly gives max_train_steps. The best rate must not lie at an
   end of the sweep; where nothing fits the training set, N is doubled, twice at most.
2. The best step of every trial, after the fact: in the first tenth of training for all, far fewer
   steps would do; in the last quarter for all, more are needed.
3. The plan for two rounds, with what transfers between them, and how the schedule is extended.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from experiments.analysis import rate_sweep
from experiments.analysis.findings import EARLY_SHARE, LATE_SHARE
from experiments.analysis.next_step import NextStep
from experiments.analysis.question import TRIAL
from experiments.analysis.rate_sweep import Run
from experiments.procedures.budget import BudgetEnds, Cost
from experiments.procedures.outcome import Outcome, conclude
from experiments.procedures.procedure import Procedure
from experiments.procedures.rates import Ends, curve_table, metric_of, pilot
from experiments.procedures.sweep_options import SWEEP, SweepOptions, question
from experiments.procedures.variants import RATE, Base, held_study_file, plain, title_of
from experiments.records.reader import Record
from experiments.report import procedure_figures as figures
from experiments.report.figure import Figure
from experiments.report.procedure import Noted, Said
from experiments.report.tables import Table
from experiments.spec.errors import StudyError
from experiments.spec.fields import StudyFields

DOUBLINGS = 2
"""How often N is doubled where no rate fits the training set."""
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
class Found:
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
    runs: Sequence[Run] = ()
    fitted: dict[tuple[int, int, int], int] = dataclasses.field(default_factory=dict)
    error: str = ""

    @property
    def fastest(self) -> Run | None:
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


def steps_search(study: StudyFields, folder: Path | str, options: SweepOptions = SWEEP) -> Outcome:
    """max_train_steps from a constant-rate sweep; arguments and errors as of `diagnose`.

    ``options.steps`` is N; default: the study's step budget.
    """
    given, ends = options.base_of(study), options.ends_of(study)
    base = plain(given)
    asked = question(base, ends, schedule=given.study.schedule)
    with Procedure("steps-search", folder, asked, options.running) as procedure:
        cost = _most(base, ends)
        procedure.state_cost(cost)
        first_loss = pilot(procedure, base, ends, cost)
        found, ended = Found(base, base.steps), ""
        for doubling in range(DOUBLINGS + 1):
            length = base.steps * 2**doubling
            try:
                record = procedure.train(
                    f"sweep-{length}", base.variant(f"sweep-{length}", ends.grid, steps=length)
                )
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
        said = _said(found, given, options.subject, ended, procedure.folder)
        return conclude(procedure, said, _values(found), not ended, _files(found, given))


def _most(base: Base, ends: Ends) -> Cost:
    """Sweeps of N, 2 N and 4 N steps."""
    rates = len(ends.grid)
    steps = sum(base.steps * 2**doubling for doubling in range(DOUBLINGS + 1))
    return Cost(2 + rates * (DOUBLINGS + 1), 40 + rates * steps)


def _read(base: Base, length: int, record: Record, first_loss: float) -> Found:
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
    return Found(base, length, runs, fitted, error)


def _extended(given: Base, now: int, longer: int) -> tuple[dict[str, Any], str]:
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


def _files(found: Found, given: Base) -> dict[str, str]:
    run = found.fastest
    if run is None:
        return {}
    now = found.fitted[run.key]
    longer = math.ceil(now / SHORT_SHARE)
    fields, _ = _extended(given, now, longer)
    fields["fixed"] = {**fields["fixed"], RATE: run.rate}
    says = "The second round of a steps search: the production length, its schedule extended."
    return {ROUND_FILE: held_study_file(given, says, step_budget=longer, **fields)}


def _values(found: Found) -> dict[str, Any]:
    run = found.fastest
    return {
        "steps_tried": found.steps,
        "max_train_steps": None if run is None else found.fitted[run.key],
        "learning_rate": None if run is None else run.rate,
        "fits": found.error or "loss",
        "at_end_of_the_range": found.at_end,
        "best_steps": found.when,
        "runs": [
            {"learning_rate": r.rate, "class": r.judged.kind, "best_value": r.best,
             "best_step": r.best_step, "fits_at": found.fitted.get(r.key)}
            for r in found.runs
        ],
        "transfers": dict(TRANSFERS),
    }  # fmt: skip


def _said(found: Found, given: Base, subject: str, ended: str, folder: Path) -> Said:
    base, run = found.base, found.fastest
    fits = found.error.replace("/", " ").replace("_", " ") + " reaches 0" if found.error else (
        f"the training loss falls below {PERFECT_LOSS:.0%} of its first value"
    )  # fmt: skip
    noted = [Noted(ended)] if ended else []
    if run is None:
        answer = (
            f"No constant rate fits the training set within {found.steps:,} steps ({fits}): "
            "max_train_steps is longer, or the model is too small for this."
        )
        step = NextStep(
            f"batchscale steps-search {_longer(subject, 4 * found.steps)}",
            "Four times as long; in a new folder (--out).",
        )
    else:
        now = found.fitted[run.key]
        answer = (
            f"max_train_steps = {now:,}: at a constant rate of {run.rate:.4g} the training set is "
            f"fitted by then ({fits}), sooner than at any other of {len(found.runs)} rates."
        )
        longer = math.ceil(now / SHORT_SHARE)
        _, words = _extended(given, now, longer)
        noted += [
            Noted(
                f"Two rounds: first many short runs of about {now:,} steps for model and optimizer,"
                f" then few of the production length, some {longer:,} steps; check at 20 % of it."
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
            f"batchscale run {folder / ROUND_FILE}", "The second round, its schedule extended."
        )
    if found.at_end:
        noted.insert(0, Noted(
            f"The fastest rate is the {found.at_end} end of the sweep: widen it (--rates) before "
            "this is believed."))  # fmt: skip
    noted += _best_steps(found)
    facts = {
        "Workload": base.study.workload.name, "Optimizer": base.study.optimizer,
        "Batch size": f"{base.batch_size}", "N": f"{found.steps:,} steps",
        "Held": "constant rate, no augmentation, no regularization: "
        + (", ".join(f"{k}={v}" for k, v in base.study.fixed.items()) or "nothing"),
    }  # fmt: skip
    title = f"Steps: {title_of(base)}"
    return Said(title, answer, noted, step, facts, (_table(found),), _figures(found))


def _best_steps(found: Found) -> list[Noted]:
    if found.when == "early":
        return [Noted(f"Every stable trial is at its best in the first {EARLY_SHARE:.0%} of its "
                      f"{found.steps:,} steps: far fewer would do.")]  # fmt: skip
    if found.when == "late":
        last = f"the last {1 - LATE_SHARE:.0%} of its {found.steps:,} steps"
        return [Noted(f"Every stable trial is at its best in {last}: train longer and tune the "
                      "decay again.")]  # fmt: skip
    return []


def _longer(subject: str, steps: int) -> str:
    words = subject.split()
    if "--steps" in words:
        at = words.index("--steps")
        del words[at : at + 2]
    return " ".join([*words, "--steps", str(steps)])


def _table(found: Found) -> Table:
    rows = tuple(
        (f"{r.rate:.4g}", "" if r.key not in found.fitted else f"{found.fitted[r.key]:,}",
         "" if r.best is None else f"{r.best:.4g}",
         "" if r.best_step is None else f"{r.best_step / r.curve.length:.0%}", r.judged.kind)
        for r in found.runs
    )  # fmt: skip
    columns = ("learning rate", "fits at step", f"best {metric_of(found.base)}", "best at", "class")
    return Table("rates", "Every rate", columns, rows, (True, True, True, True, False))


def _figures(found: Found) -> list[Figure]:
    rows = [(r.rate, found.fitted.get(r.key), r.judged.kind, *r.key) for r in found.runs]
    schema = {"rate": pl.Float64, "value": pl.Float64, "kind": pl.String, "batch_size": pl.Int64,
              "seed": pl.Int64, "trial": pl.Int64}  # fmt: skip
    table = pl.DataFrame(rows, schema=schema, orient="row")
    marks = {} if found.fastest is None else {"fastest": found.fastest.rate}
    against = figures.value_against_rate(table, "steps to fit the training set", marks)
    against = dataclasses.replace(
        against,
        name="fit_against_rate",
        title="Steps to a perfect fit against learning rate",
        caption="The first evaluation at which a trial at this constant rate fits the training "
        "set. Crosses at the top: it never did.",
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
