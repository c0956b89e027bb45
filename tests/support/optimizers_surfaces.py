"""Two small deterministic problems and a loop, for tests of whole optimizers."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optimizers import OPTIMIZERS

CURVATURES = np.geomspace(1.0, 0.05, 8, dtype=np.float32)


def quadratic(params: Any) -> jax.Array:
    """1/2 sum h w^2, h from 1 to 1/20: a kernel of six entries and a bias of two."""
    w = jnp.concatenate([params["kernel"].ravel(), params["bias"]])
    return 0.5 * jnp.sum(CURVATURES.astype(w.dtype) * w * w)


def rosenbrock(params: Any) -> jax.Array:
    """(1 - x)^2 + 100 (y - x^2)^2, zero at (1, 1)."""
    x, y = params["kernel"][0]
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


PROBLEMS = {
    "quadratic": (quadratic, {"kernel": np.ones((2, 3)), "bias": np.ones(2)}),
    "rosenbrock": (rosenbrock, {"kernel": np.array([[-1.2, 1.0]])}),
}


def final_loss(name: str, problem: str, steps: int, hp: dict[str, float]) -> jax.Array:
    """Loss after ``steps`` full-gradient steps, the rate decaying linearly to zero.

    Schedule-free and second-order rules keep their rate; the first are evaluated where they ask.
    """
    optimizer = OPTIMIZERS[name]
    loss, start = PROBLEMS[problem]
    start = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), start)
    keeps_rate = optimizer.evaluation_params or optimizer.needs_value_fn

    def step(carry, t):
        params, state = carry
        decayed = 1.0 if keeps_rate else 1.0 - t / steps
        rule = optimizer.transformation({**hp, "learning_rate": hp["learning_rate"] * decayed})
        value, gradient = jax.value_and_grad(loss)(params)
        extra = {"value": value, "value_fn": loss} if optimizer.needs_value_fn else {}
        updates, state = rule.update(gradient, state, params, **extra)
        return (optax.apply_updates(params, updates), state), value

    state = optimizer.transformation(hp).init(start)
    (params, state), _ = jax.lax.scan(step, (start, state), jnp.arange(steps, dtype=jnp.float32))
    return loss(optimizer.parameters_to_evaluate(state, params))
