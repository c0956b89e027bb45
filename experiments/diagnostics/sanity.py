"""CS231n's sanity checks and the Tuning Playbook's of the pipeline: what each of them measures.

Every function trains or evaluates a `Pipeline` a little and returns plain numbers; whether they are
right is decided from these alone (`experiments.analysis.sanity`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.diagnostics.pipeline import (
    BATCH_SIZE,
    CHUNK,
    Examples,
    Hyperparameters,
    Pipeline,
    first,
    is_regulariser,
    whole,
)
from experiments.training.state import TrainState, make_task
from experiments.training.step import make_step

ERROR = "classification_error"
STRENGTHS = (0.1, 0.3)
"""Of a penalty whose strength the workload states as 0."""
RATES = (1.0, 3.0, 10.0, 0.3)
"""Multiples of the rate at which twenty examples are tried."""

Numbers = dict[str, Any]


def initial_loss(pipeline: Pipeline, hyperparameters: Hyperparameters) -> Numbers:
    """The objective before the first step and of outputs that are all zero, on training examples.

    ``variance`` is the mean over places of the variance of an example's outputs over the last axis,
    by half of which a cross entropy of normal logits exceeds that of zero ones. ``numbers`` is the
    length of that axis; 0 where the outputs are one number an example (losses themselves).
    """
    state, examples = pipeline.start(hyperparameters), first(pipeline.train, 256)
    means, outputs = pipeline.measure(state, hyperparameters, examples, train=False)
    leaves = jax.tree.leaves(outputs)
    found: Numbers = {"loss": means["objective"], "classes": pipeline.classes, "numbers": 0}
    if len(leaves) != 1 or leaves[0].ndim < 2:
        return found
    losses = make_task(pipeline.config).losses
    batch = whole(examples)
    sums, counts = losses.objective(jnp.zeros_like(leaves[0]), batch, hyperparameters)
    return found | {
        "numbers": int(leaves[0].shape[-1]),
        "zero_loss": float(jnp.sum(sums) / jnp.sum(counts)),
        "variance": float(np.mean(np.var(np.asarray(leaves[0], np.float64), axis=-1))),
        "cross_entropy": "cross_entropy" in means,
    }


def input_matters(
    pipeline: Pipeline, states: Mapping[str, TrainState], hyperparameters: Hyperparameters
) -> Numbers:
    """Spread of outputs over examples relative to their size, at every state."""
    found: Numbers = {}
    for name, state in states.items():
        _, outputs = pipeline.measure(
            state, hyperparameters, first(pipeline.train, 64), train=False
        )
        arrays = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(outputs)]
        spread = max(float(np.max(np.std(a, axis=0))) for a in arrays)
        size = max(float(np.sqrt(np.mean(a**2))) for a in arrays)
        found[name] = spread / size if size > 0 else 0.0
    found["one_number"] = all(a.ndim < 2 for a in arrays)
    return found


def memorise(pipeline: Pipeline, learning_rate: float, steps: int) -> tuple[Numbers, TrainState]:
    """(what became of twenty examples with regularization off, the state at the best rate).

    ``steps`` at each of `RATES` times the rate, until the error is at its floor: the share of
    targets that equal inputs contradict, 0 where no inputs are equal.
    """
    examples = first(pipeline.train, BATCH_SIZE)
    count = len(examples["inputs"])
    rows = np.tile(np.arange(BATCH_SIZE) % count, (CHUNK, 1))
    floor = error_floor(examples["inputs"], examples["targets"])
    best: tuple[float, Numbers, TrainState] | None = None
    for factor in RATES:
        hyperparameters = pipeline.hyperparameters(factor * learning_rate)
        state = pipeline.start(hyperparameters)
        before = pipeline.measure(state, hyperparameters, examples, train=True)[0]
        for made in range(CHUNK, max(steps, CHUNK) + 1, CHUNK):
            state, _ = pipeline.advance(state, hyperparameters, examples, rows)
            means = pipeline.measure(state, hyperparameters, examples, train=True)[0]
            done = means.get(ERROR, 1.0) <= floor + 1e-6
            if done or not np.isfinite(means["objective"]):
                break
        error = means.get(ERROR)
        numbers = {
            "examples": count, "steps": made, "rate": factor * learning_rate, "floor": floor,
            "error": error, "before": before["objective"], "after": means["objective"],
        }  # fmt: skip
        score = means["objective"] if error is None else error
        score = score if np.isfinite(score) else np.inf
        if best is None or score < best[0]:
            best = (score, numbers, state)
        if done:
            break
    assert best is not None
    return best[1], best[2]


def error_floor(inputs: np.ndarray, targets: np.ndarray) -> float:
    """The least error of a function of the inputs: the share of targets in the minority among
    those of equal inputs. A sequence's target may depend on the tokens up to its place alone; a
    negative target counts nowhere."""
    counts: dict[bytes, dict[int, int]] = {}
    total = 0
    sequences = targets.ndim == 2 and inputs.ndim == 2 and inputs.shape == targets.shape
    for example, target in zip(inputs, targets, strict=True):
        if np.ndim(target) > 1 or not np.issubdtype(targets.dtype, np.integer):
            return 0.0
        for place, token in enumerate(np.atleast_1d(target)):
            if token < 0:
                continue
            seen = example[: place + 1] if sequences else example
            of = counts.setdefault(np.ascontiguousarray(seen).tobytes() + str(place).encode(), {})
            of[int(token)] = of.get(int(token), 0) + 1
            total += 1
    right = sum(max(of.values()) for of in counts.values())
    return 1 - right / total if total else 0.0


def penalties(
    pipeline: Pipeline, state: TrainState, learning_rate: float
) -> dict[str, list[tuple[float, float]]]:
    """Name -> (strength, the training objective) for every hyperparameter of the workload that
    regularizes, the others at 0, on the memorised examples."""
    examples = first(pipeline.train, BATCH_SIZE)
    off = pipeline.hyperparameters(learning_rate)
    found: dict[str, list[tuple[float, float]]] = {}
    for name, value in pipeline.config.workload.hyperparameters.items():
        if not is_regulariser(name):
            continue
        strengths = (0.0, *((value, min(2 * value, 0.9)) if value > 0 else STRENGTHS))
        found[name] = []
        for strength in strengths:
            given = {**off, name: jnp.float32(strength)}
            means = pipeline.measure(state, given, examples, train=True)[0]
            found[name].append((float(strength), means["objective"]))
    return found


def learned(pipeline: Pipeline, state: TrainState, hyperparameters: Hyperparameters) -> Numbers:
    """The validation error of a trained state beside that of the best constant predictor."""
    means, _ = pipeline.measure(state, hyperparameters, pipeline.validation, train=False)
    targets = pipeline.validation["targets"]
    if ERROR not in means or not np.issubdtype(targets.dtype, np.integer):
        return {"error": None, "loss": means["objective"]}
    counted = targets[targets >= 0]
    share = float(np.bincount(counted).max() / counted.size)
    return {
        "error": means[ERROR], "loss": means["objective"], "constant": 1 - share,
        "standard_error": float(np.sqrt(share * (1 - share) / counted.size)),
        "examples": int(counted.size),
    }  # fmt: skip


def shuffled_labels(pipeline: Pipeline, hyperparameters: Hyperparameters, steps: int) -> Numbers:
    """`learned` after training on targets that were dealt out at random among the examples."""
    targets = pipeline.train["targets"]
    random = np.random.default_rng(pipeline.seed)
    dealt = random.permutation(targets.ravel()).reshape(targets.shape)
    rows = pipeline.rows(steps)
    data: Examples = {**pipeline.train, "targets": dealt}
    state, _ = pipeline.advance(pipeline.start(hyperparameters), hyperparameters, data, rows)
    return learned(pipeline, state, hyperparameters)


def repeated(
    pipeline: Pipeline, hyperparameters: Hyperparameters, state: TrainState, rows: np.ndarray
) -> Numbers:
    """Bits that differ between ``state`` and the same steps from a start that is traced anew."""
    again, _ = pipeline.advance(
        pipeline.start(hyperparameters), hyperparameters, pipeline.train, rows
    )
    pairs = [
        (np.asarray(a), np.asarray(b))
        for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(again), strict=True)
    ]
    differ = sum(int(np.sum(a.view(np.uint8) != b.view(np.uint8))) for a, b in map(_flat, pairs))
    return {"bytes": sum(a.nbytes for a, _ in pairs), "differ": differ, "steps": len(rows)}


def _flat(pair: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    one, other = (np.ascontiguousarray(array).reshape(-1) for array in pair)
    return one, other


def evaluation_batches(
    pipeline: Pipeline, state: TrainState, hyperparameters: Hyperparameters
) -> Numbers:
    """Every validation metric, all examples at once and 17 at a time with a padded rest."""
    sizes = (len(pipeline.validation["inputs"]), 17)
    sums = [pipeline.evaluate(state, hyperparameters, size) for size in sizes]
    means = [{name: pair[0] / pair[1] for name, pair in found.items()} for found in sums]
    return {"sizes": sizes, "values": {n: (means[0][n], means[1][n]) for n in means[0]}}


def batch_norm(pipeline: Pipeline, state: TrainState, hyperparameters: Hyperparameters) -> Numbers:
    """Statistics of a batch that is cut as devices cut it, beside the whole's; and the loss with
    running averages beside that with a batch's own statistics.

    ``ghost`` is the ghost batch size, None for the whole batch; ``differ`` the largest relative
    difference between states of the whole batch and of its two halves, each of whole ghost batches.
    """
    if not jax.tree.leaves(state.model_state):
        return {"statistics": 0}
    model = make_task(pipeline.config).model
    batch = whole(pipeline.train)
    ghost = getattr(model, "ghost_batch_size", lambda batch: 1)(batch)
    found: Numbers = {
        "statistics": len(jax.tree.leaves(state.model_state)), "ghost": ghost, "differ": None,
        "training": pipeline.measure(state, hyperparameters, pipeline.train, train=True)[0],
        "evaluation": pipeline.measure(state, hyperparameters, pipeline.train, train=False)[0],
    }  # fmt: skip
    if ghost is None or 2 * ghost > len(pipeline.train["inputs"]):
        return found
    step = jax.jit(make_step(pipeline.config, False))
    cut = {role: array[: 2 * ghost] for role, array in batch.items()}
    halves = {role: array.reshape(2, ghost, *array.shape[1:]) for role, array in cut.items()}
    states = [step(state, hyperparameters, data)[0].model_state for data in (cut, halves)]
    pairs = zip(*(jax.tree.leaves(s) for s in states), strict=True)
    found["differ"] = max(
        float(np.max(np.abs(np.asarray(a) - np.asarray(b))) / (np.max(np.abs(a)) + 1e-12))
        for a, b in pairs
    )
    return found


def update_ratios(measured: Mapping[str, np.ndarray], ndims: Mapping[str, int]) -> Numbers:
    """PATH -> median of |update| / |parameter| over the last half of the steps.

    ``ndims``: PATH -> axes of the array; matrices and kernels are what the rule of thumb is of.
    """
    found = {}
    for name, ndim in ndims.items():
        update = np.asarray(measured[f"layers/{name}/update_norm"], np.float64)
        size = np.asarray(measured[f"layers/{name}/parameter_norm"], np.float64)
        half = len(update) // 2
        ratio = update[half:] / np.maximum(size[half:], 1e-30)
        found[name] = {"ratio": float(np.median(ratio)), "weights": ndim >= 2}
    return found
