"""Importance: a hyperparameter's part in making a trial one of the best of its batch size.

PED-ANOVA (Watanabe, Bansal & Hutter 2023, "PED-ANOVA: Efficiently Quantifying Hyperparameter
Importance in Arbitrary Subspaces", arXiv 2304.10255): of the n trials of a batch size, all searches
together, the best share g' is set against all, one hyperparameter d at a time, by the Pearson
divergence of their densities,

    V_d = g'^2 integral (p_d(x | best) / p_d(x | all) - 1)^2 p_d(x | all) dx,

x being the place in the searched range on its own scale. It is in closed form: no model of the
score is fitted. Importance is V_d over the sum of all. Densities are kernel estimates with Gaussian
kernels, cut off and made whole at the ends of the range, of Scott's width.

It is a statement about where the good trials lie, not a cause: a hyperparameter whose range is
narrow has no chance to matter, two that trade off against each other share the credit (or hide it),
and a sampler that learns has thinned out the bad places already. With few trials a divergence
arises by chance: ``chance`` is what 95 % of random choices of as many "best" trials stay below.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import polars as pl

from experiments.analysis.question import TRIAL
from experiments.analysis.view import View
from experiments.spec.space import Choice, Distribution
from experiments.spec.trial import Status

BEST_SHARE = 0.15
FEWEST, FEWEST_BEST = 16, 4
"""Trials of a batch size, and best ones among them, below which nothing is said."""
GRID = 128
_RANDOM_CHOICES = 199
_CHANCE = 0.95
_LEAST_WIDTH = 0.03


def pearson_divergence(
    positions: np.ndarray, chosen: np.ndarray, categories: int | None = None
) -> np.ndarray:
    """D(p(. | chosen) || p(. | all)) for every choice of trials.

    Args:
      positions: [n] places in the range; outside [0, 1] where it was widened.
      chosen: [choices, n] of booleans, each row with one or more.
      categories: of a choice among so many values: densities are shares, the chosen ones' with one
        more trial spread over the values as all are; None for a number.

    Returns:
      [choices]; 0 where the densities agree.
    """
    weights = chosen / chosen.sum(axis=1, keepdims=True)
    if categories is not None:
        of = np.minimum((positions * categories).astype(int), categories - 1)
        held = np.eye(categories)[of]
        share = held.mean(axis=0)
        count = chosen.sum(axis=1, keepdims=True)
        best = (weights @ held * count + share) / (count + 1)
        occurs = share > 0
        return ((best[:, occurs] - share[occurs]) ** 2 / share[occurs]).sum(axis=1)
    low, high = min(0.0, float(positions.min())), max(1.0, float(positions.max()))
    step = (high - low) / GRID
    at = low + (np.arange(GRID) + 0.5) * step
    every = _density(positions, at, step, np.full((1, len(positions)), 1 / len(positions)))[0]
    best = np.concatenate(
        [_density(positions, at, step, weights[i : i + 1]) for i in range(len(weights))]
    )
    return ((best - every) ** 2 / every).sum(axis=1) * step


def _density(positions: np.ndarray, at: np.ndarray, step: float, weights: np.ndarray) -> np.ndarray:
    """[1, grid] density of the weighted trials; the kernels' width is Scott's for those."""
    used = weights[0] > 0
    count, x = int(used.sum()), positions[used]
    width = max(float(x.std()) * count ** (-1 / 5), _LEAST_WIDTH)
    kernel = np.exp(-0.5 * ((at - x[:, None]) / width) ** 2)
    kernel /= kernel.sum(axis=1, keepdims=True) * step
    return weights[:, used] @ kernel


def importance(view: View) -> pl.DataFrame:
    """One row a batch size and searched hyperparameter.

    Columns: ``batch_size, hyperparameter``; ``trials`` and ``best`` ones among them;
    ``divergence``, D of the two densities (V without g'^2, which all share); ``importance``, its
    share in the sum; ``chance``, what 95 % of random choices stay below; ``beyond``, whether the
    divergence is above it. A batch size of fewer than 16 trials has no row, nor has a study with
    one searched hyperparameter: its share is all.
    """
    space = view.question.space
    rows: list[tuple[int | str | float | bool, ...]] = []
    if len(space) > 1:
        for (batch_size,), trials in _ranked(view).partition_by("batch_size", as_dict=True).items():
            if len(trials) >= FEWEST:
                rows += _rows(int(batch_size), trials, space)
    schema = {"batch_size": pl.Int64, "hyperparameter": pl.String, "trials": pl.Int64,
              "best": pl.Int64, "divergence": pl.Float64, "importance": pl.Float64,
              "chance": pl.Float64, "beyond": pl.Boolean}  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row").sort("batch_size", maintain_order=True)


def _rows(
    batch_size: int, trials: pl.DataFrame, space: Mapping[str, Distribution]
) -> list[tuple[int | str | float | bool, ...]]:
    n = len(trials)
    best = max(FEWEST_BEST, round(BEST_SHARE * n))
    generator = np.random.default_rng(batch_size)
    chosen = np.zeros((1 + _RANDOM_CHOICES, n), bool)
    chosen[0, :best] = True  # they are ranked
    for row in chosen[1:]:
        row[generator.choice(n, best, replace=False)] = True
    found = {}
    for name, distribution in space.items():
        if name in trials.columns:
            places = np.array([distribution.position(_typed(distribution, value))
                               for value in trials[name]])  # fmt: skip
            categories = len(distribution.values) if isinstance(distribution, Choice) else None
            found[name] = pearson_divergence(places, chosen, categories)
    whole = sum(divergence[0] for divergence in found.values())
    return [
        (batch_size, name, n, best, float(d[0]), float(d[0] / whole) if whole else 0.0,
         chance(d[1:]), bool(d[0] > chance(d[1:])))
        for name, d in found.items()
    ]  # fmt: skip


def chance(random: np.ndarray) -> float:
    """The bound that another random choice stays at or below with 95 %: an order statistic."""
    return float(np.sort(random)[math.ceil(_CHANCE * (len(random) + 1)) - 1])


def _typed(distribution: Distribution, value: float) -> float | int:
    return round(value) if isinstance(distribution, Choice) and value == round(value) else value


def _ranked(view: View) -> pl.DataFrame:
    """All ended trials of each batch size from the best to the worst.

    Those that reached the goal by their steps, then the others by their best value, then those
    that diverged; a trial that was stopped in a race counts as one that did not reach it.
    """
    trials = view.record.trials.filter(pl.col("status") != Status.INCOMPLETE.value)
    reached = view.outcomes.select(*TRIAL, "passed_step", "best_value")
    sign = view.goal.sign
    diverged = pl.col("status") == Status.INFEASIBLE.value
    return (
        trials.join(reached, on=TRIAL, how="left")
        .with_columns(
            lost=diverged & pl.col("passed_step").is_null(), rank=sign * pl.col("best_value")
        )
        .sort("batch_size", "lost", "passed_step", "rank", "seed", "trial", nulls_last=True)
    )
