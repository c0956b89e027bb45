"""Every optimizer reaches a stated loss on two surfaces within a stated number of steps."""

from __future__ import annotations

import jax
import pytest
from support.optimizers_surfaces import final_loss

from optimizers import OPTIMIZERS

# name -> (rate, loss to reach) on the quadratic from 1.09 in 100 steps, and on Rosenbrock's
# valley from 24.2 in 1000 steps; other hyperparameters at their defaults, decay 0. The losses are
# about ten times what was reached, so that other machines' rounding passes and a wrong sign, a
# missing bias correction or a lost momentum does not.
REACHED = {
    "sgd": (3.2, 1e-8, 0.0056, 0.1),
    "momentum": (1.0, 5e-5, 0.0032, 3e-6),
    "nesterov": (1.8, 5e-8, 0.0018, 3e-4),
    "corrected_momentum": (1.0, 5e-5, 0.0032, 3e-6),
    "cs231n_momentum": (0.56, 5e-4, 0.0032, 3e-6),
    "cs231n_nesterov": (1.8, 3e-7, 0.0018, 3e-4),
    "rmsprop": (0.1, 1e-3, 0.1, 1e-9),
    "adam": (0.32, 2e-5, 1.0, 2e-5),
    "nadam": (1.0, 1e-12, 1.0, 5e-3),
    "optax_adam": (0.32, 2e-5, 1.0, 2e-5),
    "optax_nadam": (1.0, 1e-12, 0.32, 1e-4),
    "adam_uncorrected": (0.18, 3e-5, 0.32, 2e-3),
    "cs231n_adagrad": (1.0, 1e-20, 1.3, 0.3),
    "cs231n_rmsprop": (0.1, 1e-20, 0.18, 0.1),
    "adamw": (0.32, 2e-5, 1.0, 2e-5),
    "nadamw": (1.0, 1e-12, 0.32, 1e-4),
    "lars": (56.0, 1e-3, 5.6, 1e-4),
    "lamb": (0.56, 1e-9, 0.056, 3e-3),
    "lion": (1.0, 1e-3, 0.018, 1e-4),
    "adafactor": (1.0, 1e-6, 0.18, 0.3),
    "muon": (0.56, 5e-4, 0.01, 1e-5),
    "shampoo": (1.0, 5e-5, 0.32, 0.03),
    "soap": (1.0, 1e-3, 0.1, 1e-7),
    "schedule_free_sgd": (5.6, 1e-6, 0.0056, 6e-3),
    "schedule_free_adamw": (1.0, 1e-12, 0.24, 1e-2),
    "lbfgs": (1.0, 1e-10, 1.0, 1e-8),
    "newton": (1.0, 1e-10, 1.0, 1e-8),
    "hessian_free": (1.0, 1e-10, 1.0, 1e-8),
}
STEPS = {
    "quadratic": dict.fromkeys(OPTIMIZERS, 100) | {"lbfgs": 25, "newton": 4, "hessian_free": 12},
    "rosenbrock": dict.fromkeys(OPTIMIZERS, 1000) | {"lbfgs": 40, "newton": 8, "hessian_free": 30},
}


def test_every_optimizer_has_its_row():
    assert set(REACHED) == set(OPTIMIZERS)


@pytest.mark.parametrize("problem", ["quadratic", "rosenbrock"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_reaches_its_loss(name, problem):
    quadratic_rate, quadratic_loss, rosenbrock_rate, rosenbrock_loss = REACHED[name]
    rate, loss = (
        (quadratic_rate, quadratic_loss)
        if problem == "quadratic"
        else (rosenbrock_rate, rosenbrock_loss)
    )
    hp = {row.name: row.default for row in OPTIMIZERS[name].hyperparameters}
    hp |= {"learning_rate": rate, "weight_decay": 0.0, "damping": 1e-6, "tolerance": 1e-2}
    steps = STEPS[problem][name]
    reached = float(jax.jit(lambda hp: final_loss(name, problem, steps, hp))(hp))
    assert reached < loss, f"{reached:.2e} after {steps} steps at rate {rate}"
