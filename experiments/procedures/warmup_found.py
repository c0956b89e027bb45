"""The findings of a warmup search (procedures/warmup_search.py), and their words and figures."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from experiments.analysis import rate_sweep
from experiments.analysis.next_step import NextStep
from experiments.analysis.rate_sweep import SweepRun
from experiments.procedures import proposed
from experiments.procedures.fixes import WARMUP_SHARE
from experiments.procedures.rates import curve_table, metric_of
from experiments.procedures.variants import Base, title_of
from experiments.report import procedure_figures as figures
from experiments.report.procedure import Noted, Said
from experiments.report.tables import Table

FACTORS, LAST_FACTOR = (10.0, 100.0), 1.0
"""Base rate over unstable_base_learning_rate."""
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
    run: SweepRun

    @property
    def holds(self) -> bool:
        """Not unstable, and the loss ends below what it was before training."""
        steps, heights = np.asarray(self.run.curve.steps), self.run.curve.heights
        late = heights[steps >= 0.75 * self.run.curve.length]
        return self.run.judged.stable and len(late) > 0 and float(np.median(late)) < _LEVEL


@dataclasses.dataclass(frozen=True)
class ComparedSetting:
    """Best checkpoints of the seeds of one setting.

    Attributes:
      name, rate, warmup_steps: of the setting.
      values: of every seed; None where it diverged, worse than any value.
      sign: of the goal, 1 where smaller values are better.
    """

    name: str
    rate: float
    warmup_steps: int
    values: tuple[float | None, ...]
    sign: float = 1.0

    @property
    def ranked(self) -> list[float]:
        """The values, smaller better, infinite where a seed diverged."""
        return [math.inf if value is None else self.sign * value for value in self.values]

    @property
    def median(self) -> float | None:
        """Median of the seeds; None where it is no better than diverging."""
        middle = statistics.median(self.ranked)
        return self.sign * middle if math.isfinite(middle) else None


@dataclasses.dataclass(frozen=True)
class WarmupFindings:
    """Findings of the stages.

    Attributes:
      base: the study at ``max_train_steps``.
      unstable, best_rate: of the sweep without warmup, or as they were given.
      lengths: warmups tried at the base rates.
      compared: best checkpoints, those without warmup first.
      swept, with_warmup: a trial a rate, from lr* on, without warmup and with the one that was
        found; none where no sweep was made.
    """

    base: Base
    unstable: float
    best_rate: float
    lengths: Sequence[Length] = ()
    compared: Sequence[ComparedSetting] = ()
    swept: Sequence[SweepRun] = ()
    with_warmup: Sequence[SweepRun] = ()

    def shortest(self, factor: float) -> Length | None:
        """The shortest warmup that holds at a base rate."""
        held = [one for one in self.lengths if one.factor == factor and one.holds]
        return min(held, key=lambda one: one.warmup_steps, default=None)

    @property
    def worse(self) -> bool:
        """True where every seed of the chosen setting ends worse than all without warmup."""
        if (mine := self.mine) is None:
            return False
        return min(mine.ranked) > max(self.compared[0].ranked)

    @property
    def better(self) -> bool:
        """True where every seed of the chosen setting ends better than all without warmup."""
        if (mine := self.mine) is None:
            return False
        return max(mine.ranked) < min(self.compared[0].ranked)

    @property
    def mine(self) -> ComparedSetting | None:
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


def said_of(found: WarmupFindings, subject: str, ended: str, folder: Path) -> Said:
    """The answer, findings, next command, facts, tables and figures of a warmup search."""
    base, one = found.base, found.chosen
    limit = int(WARMUP_SHARE * base.steps)
    noted = [Noted(ended)] if ended else []
    if one is None:
        answer = (
            f"No warmup of at most {limit:,} steps, a tenth of {base.steps:,}, holds at "
            f"{_factors(found)} the unstable rate of {found.unstable:.4g}."
        )
        step = NextStep(
            proposed.clipping(subject),
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
            proposed.run_file(folder / HELD_FILE), "It trains so from five initialisations."
        )
        noted += _against_rates(found)
        if found.worse:
            step = NextStep(
                proposed.clipping(subject),
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


def _factors(found: WarmupFindings) -> str:
    factors = dict.fromkeys(f"{one.factor:g}" for one in found.lengths)
    return f"{' or '.join(factors)} times" if factors else "any multiple of"


def _verdict(found: WarmupFindings) -> str:
    """The comparison with no warmup in a sentence."""
    if not found.compared or found.chosen is None:
        return ""
    without, mine = found.compared[0], found.mine
    if mine is None:
        return ""
    said = "no different"
    if found.better or found.worse:
        said = f"{'better' if found.better else 'worse'} in every seed"
    return (
        f"By the best checkpoint of {len(mine.values)} seeds it is {said}: median "
        f"{metric_of(found.base)} {_middle(mine)}, {_middle(without)} at "
        f"{without.rate:.4g} without warmup."
    )


def _value(value: float | None) -> str:
    return "diverged" if value is None else f"{value:.4g}"


def _middle(one: ComparedSetting) -> str:
    return "none (it diverges)" if one.median is None else f"{one.median:.4g}"


def _against_rates(found: WarmupFindings) -> list[Noted]:
    """The best rate with the warmup and without, of the trials of the figure."""
    goal = found.base.study.goal or found.base.study.workload.goal
    pair = [rate_sweep.best_run(runs, goal) for runs in (found.with_warmup, found.swept)]
    if (one := pair[0]) is None or (other := pair[1]) is None:
        return []
    return [
        Noted(
            f"Over the rates of the sweep, one trial each, the best {metric_of(found.base)} with "
            f"that warmup is {one.best:.4g} at {one.rate:.4g}; without it {other.best:.4g} at "
            f"{other.rate:.4g}."
        )
    ]


def _tried(found: WarmupFindings) -> Table:
    rows = tuple(
        (f"{t.factor:g}", f"{t.rate:.4g}", f"{t.warmup_steps:,}", "yes" if t.holds else "no",
         t.run.judged.kind, t.run.judged.evidence)
        for t in found.lengths
    )  # fmt: skip
    columns = ("times unstable", "learning rate", "warmup steps", "holds", "class", "evidence")
    return Table("warmups", "Warmups tried", columns, rows, (True, True, True, False, False, False))


def _comparison(found: WarmupFindings) -> Table:
    rows = tuple(
        (c.name, f"{c.rate:.4g}", _middle(c), " ".join(map(_value, c.values)))
        for c in found.compared
    )
    columns = ("setting", "learning rate", "median best", "every seed")
    return Table("compared", "Best checkpoints", columns, rows, (False, True, True, False))


def _figures(found: WarmupFindings) -> list[figures.Figure]:
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
    if found.with_warmup:
        drawn.append(_value_against_rate(found))
    rows: list[Mapping[str, Any]] = [
        {"setting": c.name, "value": v} for c in found.compared for v in c.values if v is not None
    ]
    if rows:
        drawn.append(figures.by_setting(pl.DataFrame(rows), metric_of(found.base)))
    return drawn


def _value_against_rate(found: WarmupFindings) -> figures.Figure:
    """The Playbook's Figure 4: what each rate comes to, with and without warmup."""
    one = found.chosen
    assert one is not None, "rates are swept with the warmup that was chosen"
    lines = {"none": found.swept, f"{one.warmup_steps:,} steps": found.with_warmup}
    rows = [
        (r.rate, None if r.judged.kind == "divergence" else r.best, r.judged.kind, name, *r.key)
        for name, runs in lines.items()
        for r in runs
    ]
    schema = {
        "rate": pl.Float64, "value": pl.Float64, "kind": pl.String, "group": pl.String,
        "batch_size": pl.Int64, "seed": pl.Int64, "trial": pl.Int64,
    }  # fmt: skip
    marks = {"lr*": found.best_rate, "unstable": found.unstable}
    return figures.value_against_rate(
        pl.DataFrame(rows, schema=schema, orient="row"), metric_of(found.base), marks, "warmup"
    )
