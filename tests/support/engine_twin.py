"""The engine's twin: Nesterov momentum in float64 on the tiny net, as a paper says it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import jax
import numpy as np

from experiments.spec.trial import Trial
from experiments.training.order import ExampleOrder, trial_keys
from experiments.training.pack import initial_state
from experiments.training.program import Program
from workloads.datasets import load

Weights = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _start(trial: Trial, program: Program) -> Weights:
    """The engine's own initial parameters, told apart by their shapes."""
    values = program.numbers(trial.hyperparameters)
    keys = trial_keys(trial.seed, trial.index)
    state = initial_state(program.computation, program.start_inputs(values, keys, 1))
    by_shape = {leaf.shape: np.asarray(leaf, float) for leaf in jax.tree.leaves(state.params)}
    return by_shape[64, 16], by_shape[16,], by_shape[16, 10], by_shape[10,]


def _forward(theta: Weights, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(hidden activations, logarithms of the class probabilities)."""
    hidden = np.maximum(x @ theta[0] + theta[1], 0)
    logits = hidden @ theta[2] + theta[3]
    logits = logits - logits.max(1, keepdims=True)
    return hidden, logits - np.log(np.exp(logits).sum(1, keepdims=True))


def _gradient(theta: Weights, x: np.ndarray, y: np.ndarray) -> Weights:
    hidden, log_p = _forward(theta, x)
    delta = (np.exp(log_p) - np.eye(10)[y]) / len(x)
    back = (delta @ theta[2].T) * (hidden > 0)
    return x.T @ back, back.sum(0), hidden.T @ delta, delta.sum(0)


def iterates(
    trial: Trial,
    program: Program,
    multiplier: Callable[[int, Weights], float] = lambda t, theta: 1.0,
    momentum: Callable[[int], float] | None = None,
    batch_size: Callable[[int], int] | None = None,
) -> list[Weights]:
    """theta_1, theta_2, ... of v = gamma v + g, theta -= eta (gamma v + g), t = 0, 1, ...

    eta = learning rate * multiplier(t, theta_t), gamma = momentum(t); one epoch's permutation
    after the other, batch_size(t) examples at a time.
    """
    split = load("digits").splits["train"]
    x, y = split["inputs"].astype(float), split["targets"]
    theta = _start(trial, program)
    velocity: Iterable[np.ndarray] = [np.zeros_like(w) for w in theta]
    order = ExampleOrder(trial.seed, trial.index, len(x))
    path = []
    for t in range(trial.train_steps):
        batch = order.take(batch_size(t) if batch_size else trial.batch_size)
        gamma = momentum(t) if momentum else trial.hyperparameters["momentum"]
        eta = trial.hyperparameters["learning_rate"] * multiplier(t, theta)
        grads = _gradient(theta, x[batch], y[batch])
        velocity = [gamma * v + g for v, g in zip(velocity, grads, strict=True)]
        moves = [eta * (gamma * v + g) for v, g in zip(velocity, grads, strict=True)]
        theta = tuple(w - m for w, m in zip(theta, moves, strict=True))  # type: ignore[assignment]
        path.append(theta)
    return path


def validation(theta: Weights) -> tuple[float, float]:
    """(cross entropy, classification error) on the validation split."""
    split = load("digits").splits["validation"]
    x, y = split["inputs"].astype(float), split["targets"]
    log_p = _forward(theta, x)[1]
    return -np.mean(log_p[np.arange(len(y)), y]), np.mean(log_p.argmax(1) != y)


def validation_curve(path: Sequence[Weights], grid: Iterable[int]) -> np.ndarray:
    """`validation` of the iterates after these steps, [2, steps]."""
    return np.array([validation(path[step - 1]) for step in grid]).T
