"""Thresholds against the rules themselves, on a quadratic just below and just above."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.diagnostics.stability import stability_threshold
from optimizers import OPTIMIZERS

STEPS = 4000
NUMBERS = {
    "learning_rate": 0.02, "momentum": 0.8, "beta1": 0.9, "beta2": 0.95, "decay": 0.9,
    "epsilon": 1.0, "weight_decay": 2.0,
}  # fmt: skip
"""Epsilon is far above the roots of the squared gradients: what a rule divides by is 1."""
LINEAR = (
    "sgd", "momentum", "corrected_momentum", "cs231n_momentum", "nesterov", "cs231n_nesterov",
    "rmsprop", "cs231n_rmsprop", "cs231n_adagrad", "adam", "optax_adam", "adam_uncorrected",
    "adamw", "nadam", "optax_nadam", "nadamw",
)  # fmt: skip


def sizes_of(name: str, curvatures: jax.Array) -> jax.Array:
    """|theta| over its start, [steps, curvatures], on h theta^2 / 2 for every curvature h."""
    rule = OPTIMIZERS[name].transformation(NUMBERS)
    start = jnp.full(curvatures.shape, 1e-9)

    def step(carry, _):
        theta, state = carry
        updates, state = rule.update(curvatures * theta, state, theta)
        theta = optax.apply_updates(theta, updates)
        return (theta, state), jnp.abs(theta)

    _, sizes = jax.lax.scan(step, (start, rule.init(start)), length=STEPS)
    return sizes / start[None, :]


@pytest.mark.parametrize("name", LINEAR)
def test_a_rule_converges_just_below_its_threshold_and_diverges_just_above(name):
    with jax.enable_x64(True):
        threshold = stability_threshold(name, NUMBERS)
        curvatures = threshold.value * jnp.array([0.99, 1.01])
        below, above = np.asarray(jax.jit(sizes_of, static_argnums=0)(name, curvatures)).T
    assert below[-10:].max() < 1e-3  # one that oscillates may pass 0
    assert np.nanmax(above) > 1e3  # an adaptive rule that has diverged shrinks its steps


def test_thresholds_are_those_of_the_papers():
    values = {"learning_rate": 0.1, "momentum": 0.9, "beta1": 0.9}
    assert stability_threshold("sgd", values) == (pytest.approx(20), "hessian")
    assert stability_threshold("momentum", values) == (pytest.approx(38), "hessian")
    assert stability_threshold("nesterov", values).value == pytest.approx(2 * 1.9 / 2.8 / 0.1)
    assert stability_threshold("adam", values) == (pytest.approx(380), "preconditioned")


def test_rules_without_a_threshold_have_none_and_bad_input_is_one_line():
    assert {n for n in OPTIMIZERS if stability_threshold(n, NUMBERS)} == set(LINEAR)
    with pytest.raises(ValueError, match=r"learning_rate must be positive, got 0\.0"):
        stability_threshold("sgd", {"learning_rate": 0.0})
    with pytest.raises(ValueError, match="sgdd"):
        stability_threshold("sgdd", {"learning_rate": 0.1})
