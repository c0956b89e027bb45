"""The top eigenvalue of the curvature while a trial trains, beside the bound of its update rule.

At an evaluation are recorded

    largest     lambda_1 of H, the Hessian of the objective over the evaluated training examples;
                or of D^-1/2 H D^-1/2 where the rule divides its step by D
    error       |A y - lambda_1 y|, y the Ritz vector: lambda_1 is that near an eigenvalue of A
    threshold   above which the rule is unstable on a quadratic (`experiments.diagnostics.
                stability`), at the rate and the momentum of the next step; NaN where it has none

by `CURVATURE_STEPS` Lanczos steps with full reorthogonalisation, from the same random vector each
time. Measured is the iterate that the gradient is taken at, in evaluation mode (dropout off, batch
norm with its running statistics); label smoothing is part of the objective.

A measurement costs 2 `CURVATURE_STEPS` gradients of those examples, and as many vectors of the
parameters' size in every slot of a pack (`experiments.planning.curvature`).
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from experiments.diagnostics.curvature.operators import hessian, preconditioned
from experiments.diagnostics.curvature.spectrum import ends
from experiments.diagnostics.preconditioners import divisor
from experiments.diagnostics.problem import Chunk, flat
from experiments.diagnostics.stability import threshold_now
from experiments.diagnostics.trained import problem_of_iterate
from experiments.spec.resolved import ResolvedStudy
from experiments.spec.trial import CURVATURE, CURVATURE_STEPS, TrialConfig
from experiments.training.computation import Measurement
from experiments.training.evaluation import SPLITS
from experiments.training.feed import ResidentData
from experiments.training.state import Batch, Hyperparameters, Measurements, TrainState
from experiments.training.step import scheduled


def curvature_of(study: ResolvedStudy, data: ResidentData) -> tuple[Measurement, ...]:
    """The measurement that a study which records the curvature asks of its programs; else none.

    Its columns, under ``measured/curvature/``, are ``largest``, ``error`` and ``threshold``,
    float32 or wider []. It is due at the first evaluation, at every ``record_curvature``-th after
    it, and at a trial's last.
    """
    if not study.record_curvature:
        return ()
    longest = max(map(study.length, study.batch_sizes))
    steps = np.asarray(study.grid(longest)[:: study.record_curvature], np.int32)
    examples = min(study.train_evaluation_examples, data.examples)
    measured = functools.partial(_measured, study.config("off"), examples)

    def due(state: TrainState) -> jax.Array:
        return jnp.any(state.step == steps) | (state.step == state.train_steps)

    return (Measurement(CURVATURE, measured, "evaluation", due),)


def _measured(
    config: TrialConfig,
    examples: int,
    state: TrainState,
    hyperparameters: Hyperparameters,
    evaluation: Batch,
    *,
    axis_name: str | None = None,
) -> Measurements:
    chunks = _training_examples(evaluation, examples)
    problem = problem_of_iterate(config, state, hyperparameters, chunks, axis_name=axis_name)
    operator = hessian(problem, state.params)
    threshold = threshold_now(config.optimizer, scheduled(config, state, hyperparameters))
    like = flat(state.params)[0]
    if threshold is not None and threshold.matrix == "preconditioned":
        parts = divisor(config.optimizer, state.opt_state, state.step, hyperparameters)
        operator = preconditioned(operator, jnp.concatenate([part.ravel() for part in parts]))
    found = ends(operator, like, jax.random.key(0), CURVATURE_STEPS)
    bound = jnp.asarray(jnp.nan if threshold is None else threshold.value, like.dtype)
    return {"largest": found.largest, "error": found.largest_error, "threshold": bound}


def _training_examples(evaluation: Batch, examples: int) -> Chunk:
    """The training examples among those of an evaluation, in chunks of at most its batch.

    Where devices share them, each has some: room is made for all, and empty places weigh zero.
    """
    weights = evaluation["weights"] * evaluation["split"][..., SPLITS.index("train")]
    rows = weights.shape[1]
    chunks = math.ceil(min(examples, weights.size) / rows)
    size = min(rows, math.ceil(min(examples, weights.size) / chunks))
    chosen = jnp.argsort(weights.ravel() <= 0, stable=True)[: chunks * size]
    data = {name: evaluation[name] for name in evaluation.keys() - {"weights", "split"}}

    def picked(x: jax.Array) -> jax.Array:
        return x.reshape(-1, *x.shape[2:])[chosen].reshape(chunks, size, *x.shape[2:])

    return {name: picked(x) for name, x in {**data, "weights": weights}.items()}
