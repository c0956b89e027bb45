"""The warmup that a rate above the edge of stability needs (Tuning Playbook).

from experiments.procedures.warmup_search import warmup_search
outcome = warmup_search(study, "runs/warmup", batch_size=64)

1. unstable_base_learning_rate: from a sweep, unless it is given.
2. Base rate: 10 times that, then 100 times; where neither holds, that rate itself (ours).
3. For each warmup length over orders of magnitude, up to a tenth of max_train_steps: the rate
   rises from 0 to the base rate over warmup_steps, then stays for 2 warmup_steps. The shortest
   that does not blow up is taken.
4. It is prepended: max_train_steps + warmup_steps in all, and compared with the best rate without
   warmup by the best checkpoint of every seed.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from experiments.analysis import rate_sweep
from experiments.analysis.next_step import NextStep
from experiments.analysis.rate_sweep import Run
from experiments.procedures.budget import BudgetEnds, Cost
from experiments.procedures.diagnose import curve_table, ends_of
from experiments.procedures.fixes import WARMUP_SHARE, warmups
from experiments.procedures.outcome import Outcome, conclude
from experiments.procedures.procedure import PLAIN, Procedure, Running
from experiments.procedures.rates import Ends, metric_of, most, pilot, sweep
from experiments.procedures.variants import Base, base_of, held_study_file, title_of
from experiments.report import procedure_figures as figures
from experiments.report.procedure import Noted, Said
from experiments.report.tables import Table
from experiments.spec.fields import StudyFields

FACTORS, LAST_FACTOR = (10.0, 100.0), 1.0
"""Base rate over unstable_base_learning_rate."""
POST_WARMUP = 2
"""post_warmup_steps over warmup_steps."""
WARN_SHARE = 0.05
"""A longer warmup than this share of max_train_steps may need more steps after it."""
HELD_FILE = "warmup.py"
_LEVEL = -0.05
"""Natural logarithm of the last loss over that before training, below which a trial trains."""


@dataclasses.dataclass(frozen=True)
class Length:
    """One trial of the search: a base rate, a warmup, and what came of it."""

    factor: float
    rate: float
    warmup_steps: int
    run: Run

    @property
    def holds(self) -> bool:
        """Not unstable, and the loss ends below what it was before training."""
        steps, heights = np.asarray(self.run.curve.steps), self.run.curve.heights
        late = heights[steps >= 0.75 * self.run.curve.length]
        return self.run.judged.stable and len(late) > 0 and float(np.median(late)) < _LEVEL


@dataclasses.dataclass(frozen=True)
class Compared:
    """Best checkpoints of the seeds of one setting."""

    name: str
    rate: float
    warmup_steps: int
    values: tuple[float | None, ...]

    @property
    def median(self) -> float | None:
        """Median of the seeds; None where half of them have none."""
        kept = [value for value in self.values if value is not None]
        return statistics.median(kept) if 2 * len(kept) > len(self.values) else None


@dataclasses.dataclass(frozen=True)
class Found:
    """Findings of the stages."""

    base: Base
    unstable: float
    best_rate: float
    lengths: Sequence[Length] = ()
    compared: Sequence[Compared] = ()

    def shortest(self, factor: float) -> Length | None:
        """The shortest warmup that holds at a base rate."""
        held = [one for one in self.lengths if one.factor == factor and one.holds]
        return min(held, key=lambda one: one.warmup_steps, default=None)

    @property
    def worse(self) -> bool:
        """True where every seed of the chosen setting ends worse than all without warmup."""
        if (kept := self._kept()) is None:
            return False
        return min(kept[0], default=float("inf")) > max(kept[1], default=float("inf"))

    @property
    def better(self) -> bool:
        """True where every seed of the chosen setting ends better than all without warmup."""
        if (kept := self._kept()) is None or not kept[0] or not kept[1]:
            return False
        return max(kept[0]) < min(kept[1])

    def _kept(self) -> tuple[list[float], list[float]] | None:
        """Best checkpoints of the chosen setting and without warmup, smaller better."""
        sign, pair = (self.base.study.goal or self.base.study.workload.goal).sign, []
        if (mine := self.mine) is None:
            return None
        for one in (mine, self.compared[0]):
            pair.append([sign * value for value in one.values if value is not None])
        return pair[0], pair[1]

    @property
    def mine(self) -> Compared | None:
        """The comparison's row of the chosen setting."""
        if (one := self.chosen) is None:
            return None
        key = (one.rate, one.warmup_steps)
        return next((c for c in self.compared if (c.rate, c.warmup_steps) == key), None)

    @property
    def chosen(self) -> Length | None:
        """The setting with the best median checkpoint; before any was compared, the first held."""
        held = [one for f in (*FACTORS, LAST_FACTOR) if (one := self.shortest(f)) is not None]
        sign = (self.base.study.goal or self.base.study.workload.goal).sign
        medians = {(c.rate, c.warmup_steps): c.median for c in self.compared if c.warmup_steps}

        def rank(one: Length) -> float:
            median = medians.get((one.rate, one.warmup_steps))
            return float("inf") if median is None else sign * median

        return min(held, key=rank, default=None)


def warmup_search(
    study: StudyFields,
    folder: Path | str,
    *,
    batch_size: int | None = None,
    steps: int | None = None,
    rates: tuple[float, float] | None = None,
    factor: float = 2.0,
    unstable_rate: float | None = None,
    seeds: int = 3,
    subject: str = "STUDY",
    running: Running = PLAIN,
) -> Outcome:
    """The shortest warmup that holds, prepended and compared with none.

    Args:
      study, folder, batch_size, steps, rates, factor, subject, running: as of `diagnose`; ``steps``
        is max_train_steps.
      unstable_rate: unstable_base_learning_rate where it is known; the best rate without warmup is
        then taken to be half of it.
      seeds: trials of every setting that is compared.

    Raises:
      As `diagnose`.
    """
    base, ends = base_of(study, batch_size, steps), ends_of(study, rates, factor)
    if unstable_rate is not None and not unstable_rate > 0:
        raise ValueError(f"unstable_rate must be positive, got {unstable_rate!r}")
    asked = {"study": base.describe(), "steps": base.steps, "rates": list(ends.grid),
             "unstable_rate": unstable_rate, "seeds": seeds}  # fmt: skip
    with Procedure("warmup-search", folder, asked, running) as procedure:
        cost = _most(base, ends, unstable_rate, seeds)
        procedure.state_cost(cost)
        first_loss = pilot(procedure, base, ends, cost)
        ended = ""
        if unstable_rate is None:
            swept = sweep(procedure, base, ends, first_loss)
            found = Found(base, swept.unstable, swept.best.rate)
        else:
            found = Found(base, unstable_rate, unstable_rate / 2)
        try:
            found = dataclasses.replace(found, lengths=_lengths(procedure, found, first_loss))
            found = dataclasses.replace(
                found, compared=_compared(procedure, found, first_loss, seeds)
            )
        except BudgetEnds as end:
            ended = str(end)
        said = _said(found, subject, ended, procedure.folder)
        files = _files(found)
        return conclude(procedure, said, _values(found), not ended, files)


def _most(base: Base, ends: Ends, unstable: float | None, seeds: int) -> Cost:
    lengths = [3 * w for w in warmups(base.steps)] * (len(FACTORS) + 1)
    compare = seeds * (3 * base.steps + 2 * max(warmups(base.steps)))
    swept = most(base, ends) if unstable is None else Cost(2, 40)
    return swept + Cost(len(lengths) + 3 * seeds, sum(lengths) + compare)


def _lengths(procedure: Procedure, found: Found, first_loss: float) -> list[Length]:
    """Every warmup at 10 times the unstable rate, then 100, else at that rate itself."""
    tried: list[Length] = []
    for factor in (*FACTORS, LAST_FACTOR):
        if factor == LAST_FACTOR and any(one.holds for one in tried):
            break
        if factor == FACTORS[1] and not any(one.holds for one in tried):
            continue
        rate = float(f"{factor * found.unstable:.6g}")
        for warmup in warmups(found.base.steps):
            study = found.base.variant(
                f"x{factor:g}-warmup-{warmup}", (rate,), steps=(1 + POST_WARMUP) * warmup,
                schedule="constant", fixed=_with_warmup(found.base, warmup),
            )  # fmt: skip
            record = procedure.train(f"x{factor:g}-warmup-{warmup}", study)
            run = rate_sweep.runs_of(record, first_loss)[0]
            tried.append(Length(factor, rate, warmup, run))
            if tried[-1].holds:
                break  # longer ones are not the shortest
    return tried


def _with_warmup(base: Base, warmup: int) -> dict[str, float | str]:
    names = {row.name for row in base.study.resolved.rows}
    kept = {k: v for k, v in base.study.fixed.items() if k in names or k != "warmup_steps"}
    return {**kept, "warmup_steps": float(warmup)}


def _compared(procedure: Procedure, found: Found, first_loss: float, seeds: int) -> list[Compared]:
    """Without warmup at the best rate, and each base rate with its shortest warmup, by seeds."""
    base, first = found.base, found.base.study.seeds[0]
    settings = [("no warmup", found.best_rate, 0)]
    for factor in (*FACTORS, LAST_FACTOR):
        if (one := found.shortest(factor)) is not None:
            settings.append(
                (f"{factor:g}x, warmup {one.warmup_steps:,}", one.rate, one.warmup_steps)
            )
    if len(settings) == 1:
        return []
    done = []
    for name, rate, warmup in settings:
        study = base.variant(
            f"compare-{warmup}-{rate:.4g}", (rate,), steps=base.steps + warmup,
            seeds=range(first, first + seeds),
            fixed=_with_warmup(base, warmup) if warmup else base.study.fixed,
        )  # fmt: skip
        record = procedure.train(f"compare-{warmup}-{rate:.4g}", study)
        runs = rate_sweep.runs_of(record, first_loss)
        values = tuple(r.best if r.judged.kind != "divergence" else None for r in runs)
        done.append(Compared(name, rate, warmup, values))
    return done


def _files(found: Found) -> dict[str, str]:
    if (one := found.chosen) is None:
        return {}
    fixed = {**_with_warmup(found.base, one.warmup_steps), "learning_rate": one.rate}
    says = "The rate above the edge of stability that a warmup search made usable."
    total = found.base.steps + one.warmup_steps
    return {HELD_FILE: held_study_file(found.base, says, fixed=fixed, step_budget=total)}


def _values(found: Found) -> dict[str, Any]:
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
        "compared": [{**dataclasses.asdict(c), "median": c.median} for c in found.compared],
    }  # fmt: skip


def _said(found: Found, subject: str, ended: str, folder: Path) -> Said:
    base, one = found.base, found.chosen
    limit = int(WARMUP_SHARE * base.steps)
    noted = [Noted(ended)] if ended else []
    if one is None:
        answer = (
            f"No warmup of at most {limit:,} steps, a tenth of {base.steps:,}, holds at "
            f"{_factors(found)} the unstable rate of {found.unstable:.4g}."
        )
        step = NextStep(
            f"batchscale clip-threshold --study {subject}",
            "The playbook's next remedy is clipping; a longer run allows a longer warmup.",
        )
    else:
        total = base.steps + one.warmup_steps
        answer = (
            f"A warmup of {one.warmup_steps:,} steps holds at {one.rate:.4g}, {one.factor:g} times "
            f"the unstable rate of {found.unstable:.4g}; prepended, training takes "
            f"{base.steps:,} + {one.warmup_steps:,} = {total:,} steps. {_verdict(found)}"
        )
        if one.warmup_steps > WARN_SHARE * base.steps:
            noted.append(
                Noted(
                    f"That is more than {WARN_SHARE:.0%} of max_train_steps: it may have to be "
                    "raised to make up for the steps at low rates."
                )
            )
        pairs = f"warmup_steps={one.warmup_steps} learning_rate={one.rate:g}"
        noted.append(Noted(f"As options of run: --fix {pairs} --budget {total}steps."))
        step = NextStep(
            f"batchscale run {folder / HELD_FILE}", "It trains so from five initialisations."
        )
        if found.worse:
            step = NextStep(
                f"batchscale clip-threshold --study {subject}",
                "Training with warmup holds and ends worse: the best rate without it stands, and "
                "the playbook's next remedy is clipping.",
            )
    if ended:
        step = NextStep("", "The same command with a larger --budget goes on from here.")
    facts = {
        "Workload": base.study.workload.name, "Optimizer": base.study.optimizer,
        "Batch size": f"{base.batch_size}", "max_train_steps": f"{base.steps:,}",
        "Base rates": "10 times the unstable rate, then 100; else that rate (ours)",
        "Trials": "warmup_steps of a linear rise from 0, then 2 warmup_steps at the base rate",
    }  # fmt: skip
    tables = [_tried(found), *([_comparison(found)] if found.compared else [])]
    title = f"Warmup: {title_of(base)}"
    return Said(title, answer, noted, step, facts, tables, _figures(found))


def _factors(found: Found) -> str:
    factors = dict.fromkeys(f"{one.factor:g}" for one in found.lengths)
    return f"{' or '.join(factors)} times" if factors else "any multiple of"


def _verdict(found: Found) -> str:
    """The comparison with no warmup in a sentence."""
    if not found.compared or found.chosen is None:
        return ""
    without, mine = found.compared[0], found.mine
    if mine is None or mine.median is None or without.median is None:
        return "Its best checkpoints are not known for most seeds."
    said = "no different"
    if found.better or found.worse:
        said = f"{'better' if found.better else 'worse'} in every seed"
    return (
        f"By the best checkpoint of {len(mine.values)} seeds it is {said}: median "
        f"{metric_of(found.base)} {mine.median:.4g}, {without.median:.4g} at "
        f"{without.rate:.4g} without warmup."
    )


def _tried(found: Found) -> Table:
    rows = tuple(
        (f"{t.factor:g}", f"{t.rate:.4g}", f"{t.warmup_steps:,}", "yes" if t.holds else "no",
         t.run.judged.kind, t.run.judged.evidence)
        for t in found.lengths
    )  # fmt: skip
    columns = ("times unstable", "learning rate", "warmup steps", "holds", "class", "evidence")
    return Table("warmups", "Warmups tried", columns, rows, (True, True, True, False, False, False))


def _comparison(found: Found) -> Table:
    rows = tuple(
        (c.name, f"{c.rate:.4g}", "" if c.median is None else f"{c.median:.4g}",
         " ".join("-" if v is None else f"{v:.4g}" for v in c.values))
        for c in found.compared
    )  # fmt: skip
    columns = ("setting", "learning rate", "median best", "every seed")
    return Table("compared", "Best checkpoints", columns, rows, (False, True, True, False))


def _figures(found: Found) -> list[figures.Figure]:
    if not found.lengths:
        return []
    named = [(f"{t.factor:g}x, {t.warmup_steps:,}", t.run) for t in found.lengths]
    drawn = [
        figures.curves(
            "warmups",
            "Training with each warmup",
            "Training loss of every warmup tried: the rate rises over warmup_steps and stays for "
            "twice as long; a line ends where its trial diverged.",
            curve_table(named),
            series="times unstable, warmup",
            loss="training loss",
        )
    ]
    rows: list[Mapping[str, Any]] = [
        {"setting": c.name, "value": v} for c in found.compared for v in c.values if v is not None
    ]
    if rows:
        drawn.append(figures.by_setting(pl.DataFrame(rows), metric_of(found.base)))
    return drawn
