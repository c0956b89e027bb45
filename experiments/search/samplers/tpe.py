"""Tree-structured Parzen estimators (Bergstra et al. 2011) by Optuna, one a batch size.

A sampler made anew from (seed, round, batch size) and told all earlier trials in the order of
their indices proposes the same points, so nothing of Optuna's own is stored. The first round is
that of the sampler `rounds`.
"""

from __future__ import annotations

import math

import optuna

from experiments.search.samplers.base import Ask, Proposal, excesses
from experiments.search.samplers.distinct import Picker, proposal
from experiments.search.samplers.rounds import first_points
from experiments.search.samplers.streams import seed_of
from experiments.spec.space import Choice, Distribution

WORST = 10.0
"""Value told of a trial that says nothing of how good it is (Optuna takes no infinity)."""


def _distribution(
    distribution: Distribution, low: float, high: float
) -> optuna.distributions.BaseDistribution:
    """Positions, or of a choice which one."""
    if isinstance(distribution, Choice):
        return optuna.distributions.CategoricalDistribution(range(len(distribution.values)))
    return optuna.distributions.FloatDistribution(low, high)


def _told(distribution: Distribution, position: float) -> float:
    if isinstance(distribution, Choice):
        return min(int(position * len(distribution.values)), len(distribution.values) - 1)
    return position


def _position(distribution: Distribution, told: float) -> float:
    if isinstance(distribution, Choice):
        return (told + 0.5) / len(distribution.values)
    return told


def propose(ask: Ask) -> Proposal:
    """The next round's points at every batch size."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pickers = []
    for batch_size in ask.counts:
        picker = Picker(ask, batch_size)
        trials = ask.of(batch_size)
        if not trials:
            first_points(ask, picker)
            pickers.append(picker)
            continue
        ranges = {
            name: _distribution(ask.space[name], low, high)
            for name, (low, high) in zip(ask.names, ask.box(batch_size), strict=True)
        }
        sampler = optuna.samplers.TPESampler(
            seed=seed_of("tpe", ask.seed, ask.round, batch_size), n_startup_trials=0
        )
        study = optuna.create_study(sampler=sampler)
        for trial, excess in zip(trials, excesses(ask, trials), strict=True):
            told = {
                name: _told(ask.space[name], position)
                for name, position in zip(ask.names, trial.point, strict=True)
            }
            value = float(excess) if math.isfinite(excess) else WORST
            study.add_trial(
                optuna.trial.create_trial(params=told, distributions=ranges, value=value)
            )
        for _ in range(8 * picker.wanted):
            if picker.full:
                break
            asked = study.ask(ranges)
            picker.offer(
                [_position(ask.space[name], asked.params[name]) for name in ask.names], "model"
            )
        pickers.append(picker)
    return proposal(ask, pickers)
