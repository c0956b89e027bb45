"""Objectives other than the metric: rescaled ones, and one whose gradients are mostly zero."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from support.engine_factory import TINY, resident_digits, tiny_study, tiny_trial, train

from experiments.spec.trial import Status
from experiments.training.program import Program
from workloads.base import Losses
from workloads.losses import CLASSIFICATION

ONE_EXAMPLE = 1.01 / 384
"""Rounding turns the class of one of the validation examples."""
EPSILON_OF_ADAMW = 0.02
"""Muon leaves the biases to AdamW, whose epsilon of 1e-8 stills them at a scale of 1e-10."""
FAR_FROM_CHANCE = 0.4
"""Chance is .9; a clipping that a threshold of zero stilled ends above .7."""
HOW_FAR = {"muon": EPSILON_OF_ADAMW, "shampoo": ONE_EXAMPLE}


def scaled(factor):
    """Cross entropy times ``factor``, the metrics as they are."""

    def objective(outputs, batch, hyperparameters):
        total, count = CLASSIFICATION.objective(outputs, batch, hyperparameters)
        return factor * total, count

    return Losses(objective, CLASSIFICATION.metrics)


def margin(outputs, batch, hyperparameters):
    """max(0, 1 + the best other logit - the label's): zero once an example is told well."""
    label = jax.nn.one_hot(batch["targets"], outputs.shape[-1], dtype=bool)
    other = jnp.max(jnp.where(label, -jnp.inf, outputs), axis=-1)
    losses = jnp.maximum(0.0, 1.0 + other - jnp.max(jnp.where(label, outputs, -jnp.inf), axis=-1))
    return losses, jnp.ones_like(losses)


FACTORS = {"SMALL": 1e-10, "LARGE": 1e10}
SMALL, LARGE = (scaled(factor) for factor in FACTORS.values())
HINGE = Losses(margin, CLASSIFICATION.metrics)


def error(losses, batch_size, steps, values, **changes):
    """Validation error after ``steps`` of a net of 16 units, which must be COMPLETE."""
    workload = dataclasses.replace(TINY, losses=f"{__name__}:{losses}")
    study = tiny_study(workload=workload, batch_sizes=(batch_size,), **changes)
    program = Program(study.config("off"), resident_digits(), study.divergence_factor)
    trial = tiny_trial(0, batch_size, steps, **values)
    result = train([trial], program=program, grid=lambda steps: [steps])[0]
    assert result.status == Status.COMPLETE
    return float(result.evaluations["validation/classification_error"][-1])


@pytest.mark.parametrize("optimizer", HOW_FAR)
def test_training_does_not_depend_on_the_objectives_scale(optimizer):
    values = {"learning_rate": 0.02, "weight_decay": 0.0, "adam_learning_rate_factor": 0.3,
              "epsilon": 1e-4}  # fmt: skip
    small, large = (error(losses, 64, 60, values, optimizer=optimizer) for losses in FACTORS)
    assert small == pytest.approx(large, abs=HOW_FAR[optimizer]) and large < 0.25


@pytest.mark.parametrize("clipping", ["autoclip", "window_autoclip"])
def test_gradients_that_are_mostly_zero_do_not_still_training(clipping):
    """Hinge loss, one example a step: three of four gradients are zero by the end."""
    values = {"learning_rate": 0.02, "clip_percentile": 10.0, "clip_window": 64.0}
    assert error("HINGE", 1, 2000, values, optimizer="sgd", clipping=clipping) < FAR_FROM_CHANCE
