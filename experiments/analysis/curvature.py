"""The recorded curvature of trials, against the bound of their update rule.

A record whose study asked for ``record_curvature`` holds, at the evaluations that were due, the
largest eigenvalue lambda_1 of the (preconditioned) Hessian and the threshold above which the rule
is unstable on a quadratic (`experiments.diagnostics.curvature_in_training`). Their ratio is 1 at
the edge of stability (Cohen et al. 2021, arXiv 2103.00065). Small batches stay below it: their
noise keeps lambda_1 down where the bound of a full batch would not.

Imports no jax.
"""

from __future__ import annotations

import polars as pl

from experiments.analysis.question import TRIAL
from experiments.analysis.view import View
from experiments.spec.trial import CURVATURE, MEASURED

COLUMNS = {name: f"{MEASURED}{CURVATURE}/{name}" for name in ("largest", "error", "threshold")}
PRECONDITIONED = (
    "rmsprop", "cs231n_rmsprop", "cs231n_adagrad", "adam", "optax_adam", "adam_uncorrected",
    "adamw", "nadam", "optax_nadam", "nadamw",
)  # fmt: skip
"""Rules whose recorded eigenvalue is that of D^-1/2 H D^-1/2: they divide their step by D."""


def records_curvature(view: View) -> bool:
    """Tell whether the record holds the curvature."""
    return all(column in view.columns for column in COLUMNS.values())


def curvature_in_training(view: View, trials: pl.DataFrame) -> pl.DataFrame:
    """Measurements of the trials (rows of `TRIAL`), sorted by trial and step.

    Columns: `TRIAL`, ``step, examples, value`` (of the goal's metric), ``largest, error,
    threshold`` and ``ratio`` = largest / threshold, null for a rule without a threshold; where
    the rate is 0 the threshold is infinite and the ratio 0.
    """
    rows = view.measurements(*COLUMNS.values()).join(
        trials.select(TRIAL).lazy(), on=TRIAL, how="semi"
    )
    named = rows.rename({column: name for name, column in COLUMNS.items()})
    held = named.filter(pl.col("largest").is_finite()).with_columns(
        pl.col("threshold").fill_nan(None)
    )
    found = held.with_columns(ratio=pl.col("largest") / pl.col("threshold"))
    kept = (*TRIAL, "step", "examples", "value", *COLUMNS, "ratio")
    return found.select(kept).sort(*TRIAL, "step").collect()


def curvature_at_best(view: View, trials: pl.DataFrame) -> pl.DataFrame:
    """`curvature_in_training` where the goal's metric was best among the measured evaluations, the
    earliest of equal ones; one row a trial, with ``most``, the largest ratio of its training."""
    found = curvature_in_training(view, trials)
    most = found.group_by(TRIAL).agg(most=pl.col("ratio").max())
    ranked = found.filter(pl.col("value").is_finite()).sort(
        *TRIAL, view.goal.sign * pl.col("value"), "step"
    )
    return ranked.group_by(TRIAL, maintain_order=True).first().join(most, on=TRIAL, how="left")
