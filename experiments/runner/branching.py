"""Branches of a recorded trial at larger batch sizes: its critical batch size, measured locally.

    from experiments.runner.branching import Branching, branch
    found = branch("runs/quickstart", (64, 3), Branching(window=8192), say=print)
    found.answers[1].factor * 64     # the critical batch size at that step

What is compared is in `experiments.analysis.branching`. Every branch starts with the same state and
at the same place in the order of examples; the rate is that of the step it leaves, held constant.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

from experiments.analysis.branching import WINDOWS, Branched, critical_factor
from experiments.analysis.summary import summarise
from experiments.diagnostics.gradient_statistics import gradient_statistics
from experiments.diagnostics.stability import threshold_now
from experiments.runner.trained import (
    OpenedRecord,
    Say,
    TrainedTrial,
    reopen,
    trained_to,
    trial_row,
    unsaid,
    with_data,
)
from experiments.runtime.compilation import switched
from experiments.spec.trial import TrialConfig
from experiments.training.order import ExampleOrder
from experiments.training.state import TrainState, gather
from experiments.training.step import make_step
from optimizers import OPTIMIZERS

Rate = Literal["auto", "linear", "sqrt"]
FACTORS = (1, 2, 4, 8, 16, 32)


@dataclasses.dataclass(frozen=True)
class Branching:
    """The branches asked for.

    Attributes:
      window: W, examples of each branch; it is trained for twice as many.
      tolerance: a share of the unbranched smoothed loss.
      factors: k; those whose batch exceeds the training set are left out.
      step: at which branches leave; the middle of the trial where None.
      rate: "linear" (times k), "sqrt", or "auto": sqrt for rules that divide by a root of squared
        gradients, else linear.
    """

    window: int
    tolerance: float = 0.01
    factors: tuple[int, ...] = FACTORS
    step: int | None = None
    rate: Rate = "auto"

    def __post_init__(self) -> None:
        if self.window < 1:
            raise ValueError(f"window must be at least 1 example, got {self.window!r}")
        if not (0 <= self.tolerance < math.inf):
            raise ValueError(f"tolerance must be at least 0 and finite, got {self.tolerance!r}")
        if min(self.factors, default=0) < 1 or 1 not in self.factors:
            raise ValueError(f"factors must be at least 1, and 1 among them, got {self.factors}")


def branch(
    folder: Path | str,
    trial: tuple[int, int],
    asked: Branching,
    *,
    seed: int | None = None,
    data_dir: str | None = None,
    warn: Callable[[str], None] = warnings.warn,
    say: Say = unsaid,
) -> Branched:
    """Branch a trial of a record; nothing in ``folder`` is changed.

    Raises:
      ValueError: no such trial or step; a rule that searches along lines; a window below a step of
        the largest factor.
      StudyError, RecordError, DataError: one clear line.
    """
    record, study = reopen(folder)
    row = trial_row(record, study, trial[0], seed, trial[1])
    step = row["steps"] // 2 if asked.step is None else asked.step
    if not 1 <= step <= row["steps"]:
        raise ValueError(f"step must lie in 1..{row['steps']} (the trial's), got {step}")
    if OPTIMIZERS[study.optimizer].needs_value_fn:
        raise ValueError(f"{study.optimizer} searches along lines: it has no rate to multiply")
    if study.batch_size_schedule != "constant":
        raise ValueError("the batch of this trial grows by itself: nothing is left to branch")
    factors = [k for k in sorted({*asked.factors}) if k * trial[0] <= study.train_size]
    if asked.window * WINDOWS[0] < factors[-1] * trial[0]:
        raise ValueError(
            f"window must be at least {2 * factors[-1] * trial[0]:,} examples, two steps of the "
            f"largest batch, got {asked.window:,}"
        )
    with switched(study.precision.float64):
        opened = with_data(folder, record, study, data_dir)
        say(
            f"{len(factors)} branches of trial {trial[0]}/{trial[1]} at step {step:,}, "
            f"{2 * asked.window:,} examples each, after {step:,} steps to get there"
        )
        trained = trained_to(opened, row, step, warn=warn)
        return _branched(opened, trained, asked, factors)


def _branched(
    opened: OpenedRecord, trained: TrainedTrial, asked: Branching, factors: list[int]
) -> Branched:
    rate, batch_size = rate_rule(trained.config, asked.rate), trained.trial.batch_size
    start = _held(trained)
    losses = {}
    for k in factors:
        steps = math.ceil(WINDOWS[-1] * asked.window / (k * batch_size))
        order = ExampleOrder(trained.trial.seed, trained.trial.index, opened.data.examples)
        order.take(trained.step * batch_size)
        rows = order.take(steps * k * batch_size).reshape(steps, k * batch_size)
        found = branch_losses(*start, opened.data.train, rows, rate_multiplier=multiplier(rate, k))
        losses[k] = np.asarray(found, np.float64)
    windows = [int(share * asked.window) for share in WINDOWS]
    answers = [critical_factor(losses, batch_size, w, asked.tolerance) for w in windows]
    summary = summarise(opened.record)
    curve = summary.curve.select("batch_size", "median", "low", "high")
    return Branched(
        trained.name,
        batch_size,
        trained.step,
        rate,
        losses,
        tuple(answers),
        _noise_scale(opened, trained),
        summary.critical.limit,
        summary.critical.noise,
        curve.filter(pl.col("median").is_finite()).sort("batch_size"),
    )


def rate_rule(config: TrialConfig, asked: Rate) -> str:
    """Choose "linear" or "sqrt" by what the rule does with a gradient's scale."""
    if asked != "auto":
        return asked
    one = {row.name: 0.5 for row in OPTIMIZERS[config.optimizer].hyperparameters}
    bound = threshold_now(config.optimizer, one)
    return "linear" if bound is not None and bound.matrix == "hessian" else "sqrt"


def multiplier(rate: str, factor: int) -> float:
    """The factor of the rate at ``factor`` times the batch."""
    return float(factor) if rate == "linear" else math.sqrt(factor)


def _held(trained: TrainedTrial) -> tuple[TrialConfig, TrainState, dict[str, jax.Array]]:
    """The trial with its rate and momentum of this step held constant."""
    now = trained.numbers_now
    config = dataclasses.replace(trained.config, schedule="constant", momentum_schedule="constant")
    if "warmup_steps" in now:
        now["warmup_steps"] = jnp.zeros_like(now["warmup_steps"])
    return config, trained.state._replace(plateau=()), now


def branch_losses(
    config: TrialConfig,
    state: TrainState,
    hyperparameters: Mapping[str, Any],
    train: Mapping[str, jax.Array],
    rows: np.ndarray,
    *,
    rate_multiplier: float,
) -> jax.Array:
    """The batch losses [steps] of a branch over example numbers ``rows`` [steps, k B]."""
    step = make_step(config)
    rate = hyperparameters["learning_rate"] * rate_multiplier
    values = {**hyperparameters, "learning_rate": jnp.asarray(rate, jnp.result_type(float))}

    @jax.jit
    def run(state: TrainState, values: Any, train: Any, rows: jax.Array) -> jax.Array:
        def one(state: TrainState, row: jax.Array) -> tuple[TrainState, jax.Array]:
            state, measured = step(state, values, gather(train, row))
            return state, measured["loss"]

        return jax.lax.scan(one, state, rows)[1]

    return run(state, values, train, jnp.asarray(rows))


def _noise_scale(opened: OpenedRecord, trained: TrainedTrial) -> float:
    from experiments.runner.curvature_parts import problem_on

    count = min(opened.study.train_evaluation_examples, opened.dataset.size("train"))
    if count < 2:
        return math.nan
    found = gradient_statistics(*problem_on(opened, trained, "train", "objective", count))
    return found.norm_test(1.0)
