"""What a researcher would otherwise write for the quickstart study: no line of ours but the data.

The same net, optimizer, trials, steps and evaluations, with Flax, Optax and the usual loops.
Run as a script, this file trains one trial in a process of its own.
"""

from __future__ import annotations

import functools
import json
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn


class BaselineNet(nn.Module):
    """A fully connected net."""

    hidden: tuple[int, ...]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for width in self.hidden:
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(10)(x)


class LoopBaseline:
    """One net and dataset; trains a trial by a Python loop or by a jitted loop."""

    def __init__(self, hidden: tuple[int, ...], splits: Any, train_evaluation_examples: int):
        self.net = BaselineNet(hidden)
        self.x = jnp.asarray(splits["train"]["inputs"])
        self.y = jnp.asarray(splits["train"]["targets"])
        subset = slice(train_evaluation_examples)
        self.evaluated = [
            (
                jnp.asarray(splits["validation"]["inputs"]),
                jnp.asarray(splits["validation"]["targets"]),
            ),
            (self.x[subset], self.y[subset]),
        ]
        self.step = jax.jit(self._step, donate_argnums=0)
        self.evaluate = jax.jit(self._evaluate)
        self.advance = jax.jit(self._advance, donate_argnums=0)

    def start(self, seed: int, hyperparameters: dict[str, float]) -> Any:
        """(parameters, velocity)."""
        params = self.net.init(jax.random.key(seed), self.x[:1])
        return params, self._rule(hyperparameters).init(params)

    @staticmethod
    def _rule(hyperparameters: Any) -> optax.GradientTransformation:
        return optax.sgd(
            hyperparameters["learning_rate"], momentum=hyperparameters["momentum"], nesterov=True
        )

    def _step(self, state: Any, hyperparameters: Any, x: Any, y: Any, indices: Any) -> Any:
        params, velocity = state

        def loss(params: Any) -> jax.Array:
            logits = self.net.apply(params, x[indices])
            return optax.softmax_cross_entropy_with_integer_labels(logits, y[indices]).mean()

        value, grads = jax.value_and_grad(loss)(params)
        updates, velocity = self._rule(hyperparameters).update(grads, velocity, params)
        return (optax.apply_updates(params, updates), velocity), value

    def _evaluate(self, params: Any) -> list[jax.Array]:
        found = []
        for x, y in self.evaluated:
            logits = self.net.apply(params, x)
            found += [
                optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(),
                jnp.mean(logits.argmax(-1) != y),
            ]
        return found

    def _advance(
        self, state: Any, hyperparameters: Any, x: Any, y: Any, indices: Any, count: Any
    ) -> Any:
        """``count`` steps in one call, then an evaluation: the jitted loop one writes by hand."""

        def body(i: jax.Array, carry: Any) -> Any:
            return self._step(carry, hyperparameters, x, y, indices[i])[0]

        state = jax.lax.fori_loop(0, count, body, state)
        return state, self._evaluate(state[0])

    def batches(self, seed: int, batch_size: int, steps: int) -> np.ndarray:
        """Example numbers [steps, B], a permutation an epoch."""
        rng = np.random.default_rng(seed)
        epochs = -(-steps * batch_size // len(self.x))
        order = np.concatenate([rng.permutation(len(self.x)) for _ in range(epochs)])
        return order[: steps * batch_size].reshape(steps, batch_size).astype(np.int32)

    def python_loop(
        self, seed: int, hyperparameters: dict[str, float], batch_size: int, grid: list[int]
    ) -> list[list[float]]:
        """A trial by one call a step, hyperparameters traced."""
        state, values = self.start(seed, hyperparameters), _traced(hyperparameters)
        due, rows = set(grid), []
        for step, indices in enumerate(self.batches(seed, batch_size, grid[-1]), 1):
            state, _ = self.step(state, values, self.x, self.y, indices)
            if step in due:
                rows.append([float(value) for value in self.evaluate(state[0])])
        return rows

    def jitted_loop(
        self, seed: int, hyperparameters: dict[str, float], batch_size: int, grid: list[int]
    ) -> list[list[float]]:
        """A trial by one call an evaluation."""
        state, values = self.start(seed, hyperparameters), _traced(hyperparameters)
        most = max(np.diff([0, *grid]))
        batches = self.batches(seed, batch_size, grid[-1])
        batches = np.concatenate([batches, np.zeros((most, batch_size), np.int32)])
        rows, at = [], 0
        for step in grid:
            part = batches[at : at + most]
            state, found = self.advance(state, values, self.x, self.y, part, step - at)
            rows.append([float(value) for value in found])
            at = step
        return rows


def _traced(hyperparameters: dict[str, float]) -> dict[str, np.float32]:
    return {name: np.float32(value) for name, value in hyperparameters.items()}


@functools.cache
def quickstart_baseline() -> LoopBaseline:
    """The baseline of the quickstart study."""
    from experiments.studies.quickstart import STUDY
    from workloads.datasets import load

    hidden = tuple(STUDY.workload.model_options["hidden_sizes"])
    return LoopBaseline(
        hidden, load(STUDY.workload.dataset).splits, STUDY.train_evaluation_examples
    )


if __name__ == "__main__":
    task = json.loads(sys.argv[1])
    print(json.dumps(quickstart_baseline().python_loop(**task)[-1]))
