"""The sweep of the learning rate that every procedure begins with, and the edge it brackets."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence

import polars as pl

from experiments.analysis import rate_sweep
from experiments.analysis.rate_sweep import Bracket, SweepRun
from experiments.analysis.training_stability import NOISE_BATCHES, settles_lower
from experiments.procedures.budget import ProcedureCost
from experiments.procedures.procedure import Procedure, planned
from experiments.procedures.variants import Base, rate_grid
from experiments.records.reader import Record
from experiments.spec.errors import StudyError
from experiments.spec.study import Study

PILOT_STEPS, PILOT_FACTOR = 20, 1e-9
"""A pilot of two trials at next to no rate: the loss before training, and the time of a step."""
EXTENSIONS, EXTENSION_RATES = 3, 3
"""Where no rate blows up, or none is stable, the sweep goes on at that end so often and so far."""
LOWEST, HIGHEST, MOST_RATES = 1e-30, 1e6, 1000
"""Of a sweep; no optimizer takes a rate above a million."""


@dataclasses.dataclass(frozen=True)
class SweepEnds:
    """Ends of a sweep.

    Attributes:
      low, high: its first ends.
      factor: from one rate to the next.
      stated: whether the user stated them: then nothing beyond them is tried.

    Raises:
      ValueError: a factor that is not finite or at most 1, ends that are not 0 < low < high within
        1e-30 and 1e6, or more than 1,000 rates.
    """

    low: float
    high: float
    factor: float = 2.0
    stated: bool = False

    def __post_init__(self) -> None:
        if not 1 < self.factor < math.inf:
            raise ValueError(f"factor must exceed 1 and be finite, got {self.factor!r}")
        if not LOWEST <= self.low < self.high <= HIGHEST:
            raise ValueError(
                f"rates must be two positive numbers, low < high, within {LOWEST:g} and "
                f"{HIGHEST:g}, got {self.low:g} {self.high:g}"
            )
        steps = math.log(self.high / self.low) / math.log(self.factor)
        if steps > MOST_RATES - 1:
            raise ValueError(
                f"factor must leave at most {MOST_RATES:,} rates in [{self.low:g}, {self.high:g}], "
                f"got {self.factor!r}, {steps:,.0f} of them"
            )

    @property
    def grid(self) -> tuple[float, ...]:
        """The rates."""
        return rate_grid(self.low, self.high, self.factor)


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Findings of a sweep.

    Attributes:
      runs: all trials, by rate.
      best: that of lr*.
      bracket: the edge of stability.
      noisy: rate -> whether a level without progress is gradient noise.
      first_loss: before training.
      records: of its stages.
    """

    runs: Sequence[SweepRun]
    best: SweepRun
    bracket: Bracket
    noisy: Mapping[float, bool]
    first_loss: float
    records: Sequence[Record]

    @property
    def unstable(self) -> float:
        """unstable_base_learning_rate."""
        assert self.bracket.unstable is not None, "sweep() raises where there is none"
        return self.bracket.unstable

    def lost(self, run: SweepRun) -> bool:
        """True where a run of the sweep blows up."""
        return rate_sweep.blows_up(run, self.best, self.noisy)


def pilot(procedure: Procedure, base: Base, ends: SweepEnds, cost: ProcedureCost) -> float:
    """The training loss before training, of two trials at next to no rate; their time is told."""
    began = time.perf_counter()
    study = pilot_of(base, ends)
    record = procedure.train("pilot", study, workers=1)  # the second trial compiles nothing
    runs = rate_sweep.runs_of(record, 1.0)
    losses = sorted(run.curve.losses[0] for run in runs if run.curve.losses)
    if not losses:
        raise StudyError(
            f"{base.study.workload.name} has no finite training loss before its first step: there "
            "is a bug in the model, the loss or the data"
        )
    per_step = record.trials["seconds"] / record.trials["steps"]
    procedure.state_time(cost, float(per_step.min()), time.perf_counter() - began)  # type: ignore[arg-type]
    return losses[len(losses) // 2]


def pilot_of(base: Base, ends: SweepEnds) -> Study:
    """The pilot's two trials."""
    rates = (ends.low * PILOT_FACTOR, 2 * ends.low * PILOT_FACTOR)
    return base.variant("pilot", rates, steps=min(PILOT_STEPS, base.steps))


def most(base: Base, ends: SweepEnds) -> ProcedureCost:
    """The most that `pilot` and `sweep` cost: the grid, its extensions, the check of noise.

    It is known, as the cost of every stage, before a folder is made: the studies of the stages are
    made for it, so that one that cannot be is refused with nothing on disk.
    """
    further = 0 if ends.stated else EXTENSIONS * EXTENSION_RATES
    noise = len(ends.grid) + further - 1  # those above the best, with a larger batch
    more = ProcedureCost(further + noise, (further + noise) * base.steps)
    return planned(pilot_of(base, ends)) + planned(base.variant("sweep", ends.grid)) + more


def sweep(procedure: Procedure, base: Base, ends: SweepEnds, first_loss: float) -> Sweep:
    """Sweep the rate to lr* and to the first rate that blows up.

    Raises:
      StudyError: no rate is stable, none blows up, or none teaches anything; in one line with
        what to do. What was trained stays recorded.
    """
    goal = base.study.goal or base.study.workload.goal
    found: list[SweepRun] = []
    rates, records = ends.grid, []
    for extension in range(EXTENSIONS + 1):
        record = procedure.train("sweep" if not extension else f"sweep-{extension}",
                                 base.variant("sweep", rates))  # fmt: skip
        records.append(record)
        found = sorted([*found, *rate_sweep.runs_of(record, first_loss)], key=lambda r: r.rate)
        further = _further(found, ends, goal_best := rate_sweep.best_run(found, goal))
        if further is None or ends.stated or extension == EXTENSIONS:
            break
        rates = further
    low, high = found[0].rate, found[-1].rate
    asked = f"--rates {low:.4g} {high:.4g}"
    if goal_best is None or found[0].judged.kind == "divergence":
        raise StudyError(
            f"no rate in [{low:.4g}, {high:.4g}] is stable from its lower end on: lower the range, "
            f"as with {asked.replace(f'{low:.4g}', f'{low / 1e3:.4g}', 1)}; where that diverges "
            "too, look for a bug (batchscale check)"
        )
    if not any(rate_sweep.learned(run) for run in found):
        raise StudyError(
            f"{base.study.workload.name} never learns: no rate in [{low:.4g}, {high:.4g}] lowers "
            f"the training loss by a tenth of {first_loss:.4g} in {base.steps:,} steps; more "
            "--steps, or look for a bug (batchscale check)"
        )
    noisy = _noise(procedure, base, found, goal_best)
    edge = rate_sweep.bracket(found, goal_best, noisy)
    if edge.unstable is None:
        raise StudyError(
            f"no rate in [{low:.4g}, {high:.4g}] blows up: nothing there limits the rate; raise "
            f"the range, as with --rates {low:.4g} {high * 1e3:.4g}"
        )
    return Sweep(found, goal_best, edge, noisy, first_loss, records)


def _further(
    found: Sequence[SweepRun], ends: SweepEnds, best: SweepRun | None
) -> tuple[float, ...] | None:
    """Rates beyond an end of the sweep that shows no edge; None where both ends show one."""
    low, high = found[0], found[-1]
    if best is None or low.judged.kind == "divergence":
        top = low.rate / ends.factor
        return rate_grid(top / ends.factor ** (EXTENSION_RATES - 1), top, ends.factor)
    if high.judged.kind != "divergence":
        first = high.rate * ends.factor
        return rate_grid(first, first * ends.factor ** (EXTENSION_RATES - 1), ends.factor)
    return None


def _noise(
    procedure: Procedure, base: Base, runs: Sequence[SweepRun], best: SweepRun
) -> Mapping[float, bool]:
    """Rate -> whether no progress there is noise: the same rates at 16 times the batch."""
    rates = sorted(set(rate_sweep.undecided(runs, best)))
    largest = base.study.resolved.train_size
    if not rates or NOISE_BATCHES * base.batch_size > largest:
        return dict.fromkeys(rates, False)
    study = base.variant("noise", rates, batch_size=NOISE_BATCHES * base.batch_size)
    record = procedure.train("noise-check", study)
    larger = {run.rate: run.curve for run in rate_sweep.runs_of(record, best.curve.first_loss)}
    own = {run.rate: run.curve for run in runs}
    return {rate: settles_lower(own[rate], larger[rate]) for rate in rates}


def curve_table(named: Sequence[tuple[str, SweepRun]]) -> pl.DataFrame:
    """Rows of a figure of curves: ``series, order, step, loss, kind``."""
    rows = [
        (name, order, step, loss, run.judged.kind)
        for order, (name, run) in enumerate(named)
        for step, loss in zip(run.curve.steps, run.curve.losses, strict=True)
    ]
    schema = {"series": pl.String, "order": pl.Int64, "step": pl.Int64, "loss": pl.Float64,
              "kind": pl.String}  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row")


def metric_of(base: Base) -> str:
    """'validation classification error'."""
    goal = base.study.goal or base.study.workload.goal
    return f"{goal.split} {goal.metric.replace('_', ' ')}"
