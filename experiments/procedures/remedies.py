"""The remedies of procedures/fixes.py, tried in their order until one cures.

Each is tried at unstable_base_learning_rate, the first rate that blows up without it; it cures
where no trial of it is unstable there and none is left without progress.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from experiments.analysis import rate_sweep
from experiments.analysis.clip_threshold import threshold_from_norms
from experiments.analysis.question import TRIAL
from experiments.procedures.budget import ProcedureCost
from experiments.procedures.fixes import (
    ARCHITECTURE,
    Tried,
    architectures,
    other_optimizer,
    pairs,
    warmups,
)
from experiments.procedures.procedure import Procedure
from experiments.procedures.rates import Sweep, metric_of
from experiments.procedures.variants import RATE, Base, base_of, rate_grid, rate_range
from experiments.spec import space as spaces
from experiments.spec.study import as_typed

PERCENTILES = (90.0, 50.0, 10.0)
"""The playbook's threshold is the 90th percentile; where training stays unstable, lower ones."""
OTHER_RATES = 6


def most(base: Base) -> ProcedureCost:
    """The most that `try_all` costs."""
    lengths = [base.steps + max(warmups(base.steps))] * len(warmups(base.steps))
    lengths += [base.steps] * (len(PERCENTILES) + OTHER_RATES + len(ARCHITECTURE))
    return ProcedureCost(len(lengths), sum(lengths))


def try_all(procedure: Procedure, base: Base, found: Sweep, tried: list[Tried]) -> None:
    """Try the remedies in order into ``tried``, until one cures.

    Raises:
      BudgetEnds: with what was tried by then in ``tried``.
    """
    for remedy in (_warmup, _clipping, _optimizer, _architecture):
        tried.extend(remedy(procedure, base, found))
        if any(one.cured for one in tried):
            return
    lower = found.bracket.stable or found.best.rate
    tried.append(
        Tried(
            "a lower rate",
            True,
            f"A lower rate: at {lower:.4g} training is stable, as the sweep saw.",
            {RATE: lower},
        )
    )


def _warmup(procedure: Procedure, base: Base, found: Sweep) -> Iterator[Tried]:
    lengths = warmups(base.steps)
    space = {RATE: spaces.Choice((found.unstable,)), "warmup_steps": spaces.Choice(lengths)}
    study = base.variant(
        "fix-warmup",
        (found.unstable,),
        steps=base.steps + max(lengths),
        space=space,
        trials=len(lengths),
        fixed=_free(base, "warmup_steps"),
    )
    yield _first(procedure, study, "warmup_steps", sorted(lengths), found)


def _clipping(procedure: Procedure, base: Base, found: Sweep) -> Iterator[Tried]:
    thresholds = percentiles_of(found)
    space = {RATE: spaces.Choice((found.unstable,)), "clip_threshold": spaces.Choice(thresholds)}
    study = base.variant(
        "fix-clipping",
        (found.unstable,),
        space=space,
        trials=len(thresholds),
        clipping="global_norm",
        fixed=_free(base, "clip_threshold"),
    )
    yield _first(procedure, study, "clip_threshold", thresholds, found)


def percentiles_of(found: Sweep) -> tuple[float, ...]:
    """Thresholds from the norms of the best rate's trial, the highest percentile first."""
    best = found.best
    for record in found.records:
        norms = record.scan("norms")
        if norms is None:
            continue
        own = norms.filter(**dict(zip(TRIAL, best.key, strict=True))).collect()
        rate = record.trials.filter(**dict(zip(TRIAL, best.key, strict=True)))
        if len(own) and rate[RATE].to_list() == [best.rate]:
            values = [threshold_from_norms(own["gradient_norm"], p) for p in PERCENTILES]
            return tuple(dict.fromkeys(float(f"{v:.4g}") for v in values))
    raise ValueError("no gradient norms are recorded")


def _first(
    procedure: Procedure, study: Any, setting: str, order: Sequence[float], found: Sweep
) -> Tried:
    """The first setting, in order, at which the unstable rate holds."""
    name = {"warmup_steps": "warmup", "clip_threshold": "clipping"}[setting]
    record = procedure.train(f"fix-{name}", study)
    values = dict(record.trials.select("trial", setting).rows())
    runs = {values[run.key[2]]: run for run in rate_sweep.runs_of(record, found.first_loss)}
    for value in order:
        run = runs.get(float(value))
        if run is not None and run.judged.kind == "stable":
            return Tried(
                name,
                True,
                f"Cured by {name}: with {setting}={value:g} a rate of {run.rate:.4g} is stable "
                f"({run.judged.evidence}).",
                {setting: value, RATE: run.rate},
            )
    kinds = ", ".join(f"{v:g}: {runs[float(v)].judged.kind}" for v in order if float(v) in runs)
    return Tried(name, False, f"Not cured by {name} ({setting} {kinds}).")


def _optimizer(procedure: Procedure, base: Base, found: Sweep) -> Iterator[Tried]:
    other = other_optimizer(base.study.optimizer)
    typed = as_typed(base.study, optimizer=other, space=None, fixed={})
    changed = base_of(typed, base.batch_size, base.steps)
    low, high = rate_range(typed)
    rates = rate_grid(low, high, (high / low) ** (1 / (OTHER_RATES - 1)))[:OTHER_RATES]
    record = procedure.train("fix-optimizer", changed.variant(f"fix-{other}", rates))
    goal = record_goal(base)
    run = rate_sweep.best_run(rate_sweep.runs_of(record, found.first_loss), goal)
    best = found.best.best
    cured = (
        run is not None
        and run.judged.stable
        and run.best is not None
        and best is not None
        and goal.sign * run.best <= goal.sign * best
    )
    seen = "nothing" if run is None else f"{run.best:.4g} at a rate of {run.rate:.4g}"
    yield Tried(
        "another optimizer",
        cured,
        f"{'Cured' if cured else 'Not cured'} by another optimizer: {other} reaches a "
        f"{metric_of(base)} of {seen}, {base.study.optimizer} {best:.4g} at its best rate.",
        {} if run is None else {"optimizer": other, RATE: run.rate},
    )


def record_goal(base: Base) -> Any:
    """The goal of the procedure's studies."""
    return base.study.goal or base.study.workload.goal


def _architecture(procedure: Procedure, base: Base, found: Sweep) -> Iterator[Tried]:
    for options in architectures(base):
        workload = base.study.workload
        changed = dataclasses.replace(workload, model_options={**workload.model_options, **options})
        name = "-".join(str(v) for v in options.values())
        study = base.variant(f"fix-{name}", (found.unstable,), workload=changed)
        record = procedure.train(f"fix-{name}", study)
        run = rate_sweep.runs_of(record, found.first_loss)[0]
        cured = run.judged.kind == "stable"
        yield Tried(
            "architecture",
            cured,
            f"{'Cured' if cured else 'Not cured'} by the architecture: with {pairs(options)} a "
            f"rate of {run.rate:.4g} is {run.judged.kind} ({run.judged.evidence}).",
            {**options, RATE: run.rate} if cured else {},
        )
        if cured:
            return


def _free(base: Base, name: str) -> dict[str, float | str]:
    return {k: v for k, v in base.study.fixed.items() if k != name}
