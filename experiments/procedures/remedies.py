"""The remedies of procedures/fixes.py, tried in their order until one cures.

Each is tried at unstable_base_learning_rate, the first rate that blows up without it; it cures
where no trial of it is unstable there and none is left without progress.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments.analysis import rate_sweep
from experiments.analysis.clip_threshold import threshold_from_norms
from experiments.analysis.question import TRIAL
from experiments.procedures.budget import ProcedureCost
from experiments.procedures.fixes import (
    Tried,
    architectures,
    other_optimizer,
    pairs,
    warmups,
)
from experiments.procedures.procedure import Procedure, planned
from experiments.procedures.rates import Sweep, metric_of
from experiments.procedures.variants import (
    RATE,
    WARMUP,
    Base,
    base_of,
    changed,
    rate_grid,
    rate_range,
)
from experiments.spec import space as spaces
from experiments.spec.study import Study

PERCENTILES = (90.0, 50.0, 10.0)
"""The playbook's threshold is the 90th percentile; where training stays unstable, lower ones."""
OTHER_RATES = 6


def most(base: Base, rate: float) -> ProcedureCost:
    """The most that `try_all` costs; ``rate`` stands for one that is not known yet."""
    studies = [
        warmup_of(base, rate),
        clipping_of(base, rate, [float(k + 1) for k in range(len(PERCENTILES))]),
        optimizer_of(base),
        *(architecture_of(base, rate, options) for options in architectures(base)),
    ]
    return sum(map(planned, studies), ProcedureCost())


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
    study = warmup_of(base, found.unstable)
    yield _first(procedure, study, WARMUP, sorted(warmups(base.steps)), found)


def warmup_of(base: Base, rate: float) -> Study:
    """Every warmup length at a rate, in trials of one length."""
    lengths = warmups(base.steps)
    return base.variant(
        "fix-warmup",
        (rate,),
        steps=base.steps + max(lengths),
        space={RATE: spaces.Choice((rate,)), WARMUP: spaces.Choice(lengths)},
        trials=len(lengths),
        fixed=_free(base, WARMUP),
    )


def _clipping(procedure: Procedure, base: Base, found: Sweep) -> Iterator[Tried]:
    thresholds = percentiles_of(found)
    study = clipping_of(base, found.unstable, thresholds)
    yield _first(procedure, study, "clip_threshold", thresholds, found)


def clipping_of(base: Base, rate: float, thresholds: Sequence[float]) -> Study:
    """Every threshold at a rate, in place of whatever clips in the base."""
    return base.variant(
        "fix-clipping",
        (rate,),
        space={RATE: spaces.Choice((rate,)), "clip_threshold": spaces.Choice(tuple(thresholds))},
        trials=len(thresholds),
        clipping="global_norm",
        fixed=_free(base, "clip_threshold"),
    )


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
    procedure: Procedure, study: Study, setting: str, order: Sequence[float], found: Sweep
) -> Tried:
    """The first setting, in order, at which the unstable rate holds."""
    name = {WARMUP: "warmup", "clip_threshold": "clipping"}[setting]
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
    record = procedure.train("fix-optimizer", optimizer_of(base))
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


def optimizer_of(base: Base) -> Study:
    """The other optimizer at rates of its own range; what it has too of what is held stays."""
    other = other_optimizer(base.study.optimizer)
    typed = changed(base.study, optimizer=other, space=None)
    low, high = rate_range(typed)
    rates = rate_grid(low, high, (high / low) ** (1 / (OTHER_RATES - 1)))[:OTHER_RATES]
    return base_of(typed, base.batch_size, base.steps).variant(f"fix-{other}", rates)


def record_goal(base: Base) -> Any:
    """The goal of the procedure's studies."""
    return base.study.goal or base.study.workload.goal


def _architecture(procedure: Procedure, base: Base, found: Sweep) -> Iterator[Tried]:
    for options in architectures(base):
        study = architecture_of(base, found.unstable, options)
        name = "-".join(str(v) for v in options.values())
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


def architecture_of(base: Base, rate: float, options: Mapping[str, Any]) -> Study:
    """A rate with other options of the model."""
    workload, name = base.study.workload, "-".join(str(v) for v in options.values())
    other = dataclasses.replace(workload, model_options={**workload.model_options, **options})
    return base.variant(f"fix-{name}", (rate,), workload=other)


def _free(base: Base, name: str) -> dict[str, float | str]:
    return {k: v for k, v in base.study.fixed.items() if k != name}
