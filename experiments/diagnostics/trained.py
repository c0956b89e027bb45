"""A trained model as a `Problem`: what training minimised, or a metric, of its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.diagnostics.problem import Chunk, Outputs, Params, Problem, in_chunks, require_wide
from experiments.spec.trial import TrialConfig
from experiments.training.state import TrainState, key_of, make_task, to_evaluate

OBJECTIVE = "objective"


def problem_of(
    config: TrialConfig,
    state: TrainState,
    hyperparameters: Mapping[str, Any],
    examples: Mapping[str, np.ndarray],
    rows: int,
    *,
    quantity: str = OBJECTIVE,
) -> tuple[Problem, Params]:
    """(the mean of ``quantity`` over ``examples`` as a function of the parameters, the parameters).

    The model is in evaluation mode: dropout off, batch norm with its running statistics, the
    preprocessing of evaluation. Parameters and running statistics are those that an evaluation
    reads (`experiments.training.state.to_evaluate`): averages where the trial has an averaging.

    Args:
      config, state, hyperparameters: a trained trial.
      examples: ``inputs`` and ``targets`` [n, ...].
      rows: the most examples of a chunk.
      quantity: "objective", what training minimised (label smoothing included); or a metric's
        name, such as "cross_entropy", the plain loss. A metric that counts errors has gradient 0.

    Raises:
      ValueError: no example, an unknown quantity, parameters or activations that are neither
        float32 nor float64.
    """
    params, model_state = to_evaluate(config, state, hyperparameters)
    iterate = state._replace(params=params, model_state=model_state)
    chunks = jax.tree.map(jnp.asarray, in_chunks(examples, rows))
    problem = problem_of_iterate(config, iterate, hyperparameters, chunks, quantity=quantity)
    jax.eval_shape(problem.loss, params)  # an unknown quantity is refused here
    return problem, params


def problem_of_iterate(
    config: TrialConfig,
    state: TrainState,
    hyperparameters: Mapping[str, Any],
    chunks: Chunk,
    *,
    quantity: str = OBJECTIVE,
    axis_name: str | None = None,
) -> Problem:
    """`problem_of` the parameters themselves that are trained, ``state.params``, with the running
    statistics beside them, over examples that are cut into ``chunks`` already.

    Raises:
      ValueError: parameters or activations that are neither float32 nor float64.
    """
    require_wide(state.params)
    if config.precision.compute == "bfloat16":
        raise ValueError("activations must be float32 or float64 to be diagnosed, got bfloat16")
    task, model_state = make_task(config), state.model_state
    key = key_of(jnp.asarray(state.key))

    def prepared(chunk: Chunk) -> Any:
        places = jnp.arange(chunk["weights"].shape[0], dtype=jnp.int32)
        return task.preprocess({**chunk, "position": places}, key, False)

    def outputs(params: Params, chunk: Chunk) -> Outputs:
        with jax.default_matmul_precision(config.precision.matmul):
            return task.model.apply(
                params,
                model_state,
                prepared(chunk),
                key=key,
                train=False,
                hyperparameters=hyperparameters,
            )[0]

    def sums(outputs: Outputs, chunk: Chunk) -> tuple[jax.Array, jax.Array]:
        batch = prepared(chunk)
        if quantity == OBJECTIVE:
            losses, counts = task.losses.objective(outputs, batch, hyperparameters)
        else:
            losses, counts = _metric(task.losses.metrics(outputs, batch), quantity)
        weights = chunk["weights"].astype(losses.dtype)
        # A weight of zero must silence a padded example whatever its loss.
        kept = jnp.where(weights > 0, weights * losses, 0)
        return jnp.sum(kept), jax.lax.stop_gradient(jnp.sum(weights * counts))

    return Problem(outputs, sums, chunks, axis_name)


def _metric(found: Mapping[str, Any], name: str) -> Any:
    if name not in found:
        known = ", ".join((OBJECTIVE, *found))
        raise ValueError(f"quantity must be one of {known}, got {name!r}")
    return found[name]
