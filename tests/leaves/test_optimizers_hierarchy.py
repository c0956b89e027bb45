"""The inclusion hierarchy as limits (Choi et al. 2019), and momentum correction (Goyal et al.)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.tolerances import FLOAT64_ROUNDING

from optimizers import OPTIMIZERS

STEPS = 60
GAMMA = 0.9
RATES = np.geomspace(0.05, 0.01, STEPS)


def path(name: str, hyperparameters) -> np.ndarray:
    """Parameters [steps, 10] of a noisy quadratic in float64; hyperparameters: t -> dict."""
    with jax.enable_x64(True):
        random = np.random.default_rng(0)
        curvature = jnp.asarray(1.0 / np.arange(1, 11))
        noise = jnp.asarray(0.1 * random.normal(size=(STEPS, 10)))
        given = [hyperparameters(t) for t in range(STEPS)]
        stacked = jax.tree.map(lambda *values: jnp.asarray(values, jnp.float64), *given)

        def step(carry, inputs):
            w, state = carry
            hp, disturbance = inputs
            rule = OPTIMIZERS[name].transformation(hp)
            updates, state = rule.update(curvature * w + disturbance, state, w)
            w = optax.apply_updates(w, updates)
            return (w, state), w

        w = jnp.asarray(random.normal(size=10))
        state = OPTIMIZERS[name].transformation(given[0]).init(w)
        return np.asarray(jax.jit(lambda: jax.lax.scan(step, (w, state), (stacked, noise))[1])())


def momentum_path(name: str = "momentum", gamma: float = GAMMA) -> np.ndarray:
    return path(name, lambda t: {"learning_rate": RATES[t], "momentum": gamma})


@pytest.mark.parametrize("name", ["momentum", "nesterov"])
def test_no_momentum_is_sgd(name):
    plain = path("sgd", lambda t: {"learning_rate": RATES[t]})
    assert np.array_equal(momentum_path(name, 0.0), plain)


@pytest.mark.parametrize("beta2", [0.0, 0.99])
@pytest.mark.parametrize(("special", "general"), [("momentum", "adam"), ("nesterov", "nadam")])
def test_large_epsilon_leads_to_momentum(special, general, beta2):
    """alpha_t = epsilon eta_t (1 - gamma^(t+1)) / ((1 - gamma) sqrt(1 - beta2^(t+1))): the error
    falls a hundredfold per hundredfold epsilon."""
    target = momentum_path(special)
    errors = []
    for epsilon in (1e2, 1e4, 1e6):

        def at(t, epsilon=epsilon):
            bias = (1 - GAMMA ** (t + 1)) / ((1 - GAMMA) * np.sqrt(1 - beta2 ** (t + 1)))
            return {"learning_rate": epsilon * RATES[t] * bias, "beta1": GAMMA,
                    "beta2": beta2, "epsilon": epsilon}  # fmt: skip

        errors.append(np.max(np.abs(path(general, at) - target)))
    ratios = np.divide(errors[:-1], errors[1:])
    assert errors[0] < 0.1
    assert np.all((ratios > 80) & (ratios < 125)), errors


def test_rmsprop_at_rho_one_is_momentum_at_a_constant_rate():
    constant = path("momentum", lambda t: {"learning_rate": 0.03, "momentum": GAMMA})
    given = {"learning_rate": 0.03, "momentum": GAMMA, "decay": 1.0, "epsilon": 0.0}
    assert np.max(np.abs(path("rmsprop", lambda t: given) - constant)) < FLOAT64_ROUNDING


def test_rmsprop_with_large_epsilon_leads_to_momentum_with_the_rate_inside():
    target = momentum_path("cs231n_momentum")
    errors = []
    for epsilon in (1e2, 1e4, 1e6):

        def at(t, epsilon=epsilon):
            return {"learning_rate": RATES[t] * epsilon**0.5, "momentum": GAMMA, "decay": 0.9,
                    "epsilon": epsilon}  # fmt: skip

        errors.append(np.max(np.abs(path("rmsprop", at) - target)))
    ratios = np.divide(errors[:-1], errors[1:])
    assert np.all((ratios > 80) & (ratios < 125)), errors


def test_momentum_correction_restores_momentum_when_the_rate_jumps():
    """With the rate inside the buffer, a drop of the rate is felt only after 1/(1-gamma) steps."""
    corrected, outside = momentum_path("corrected_momentum"), momentum_path("momentum")
    inside = momentum_path("cs231n_momentum")
    assert np.max(np.abs(corrected - outside)) < 1e-13
    assert np.max(np.abs(inside - outside)) > 1e-3
