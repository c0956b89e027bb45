"""An evaluation fits where a training step does: its batch follows from memory and the plan."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from support.engine_factory import tiny_program, tiny_study, tiny_trial

import workloads
from experiments.planning import feasibility
from experiments.training import memory_use
from experiments.training.feed import ResidentData
from experiments.training.layout import SCAN, Execution, Layout
from experiments.training.lowering import lowered
from experiments.training.memory_use import EVALUATION_BYTES, evaluation_batch
from experiments.training.pack import initial_state
from experiments.training.program import Program

MEGABYTE = 1 << 20
VOCABULARY, LENGTH, BATCH = 2_000, 16, 4
ROUNDING = 1e-6
"""Of float32 sums over some hundred examples in another order."""


@pytest.fixture(scope="module")
def language_model():
    """The program of `lm1b_transformer` with a smaller net and vocabulary, on random sentences."""
    workload = workloads.get("lm1b_transformer_narrow_and_shallow")
    options = {**workload.model_options, "vocabulary": VOCABULARY}
    workload = dataclasses.replace(workload, model_options=options)
    tokens = np.random.default_rng(0).integers(1, VOCABULARY, (300, LENGTH), np.int32)
    split = {"inputs": tokens, "targets": tokens}
    data = ResidentData.put({"train": split, "validation": split}, 256)
    study = tiny_study(workload=workload, batch_sizes=(BATCH,))
    values = {name: value or 0.1 for name, value in study.hyperparameters.items()}
    trial = tiny_trial(0, BATCH, **values)
    return Program(study.config("off"), data, study.divergence_factor), trial


def test_a_language_model_evaluates_within_what_its_training_step_needs(
    language_model, monkeypatch
):
    """Where the budget is small the evaluation's batch is the step's, and so is the initial
    loss's; by the buffers of the compiled programs."""
    program, trial = language_model
    monkeypatch.setattr(memory_use, "EVALUATION_BYTES", MEGABYTE // 4)

    def temporary(name):
        return lowered(program, trial, SCAN, name).compile().memory_analysis().temp_size_in_bytes

    step = temporary("step")
    logits = BATCH * LENGTH * VOCABULARY * 4
    assert step > 2 * logits
    assert program.planned(SCAN, BATCH, trial.hyperparameters).evaluation_batch == BATCH
    pack = program.pack_shapes(1, trial.hyperparameters)
    state = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(pack))
    # Beside what a step needs the chunk holds its carry, a copy of the state; the program that
    # draws the parameters, which is not optimised, holds two.
    assert temporary("chunk") <= step + state + logits
    assert temporary("start") <= step + 2 * state + logits
    row = feasibility.predict(program, trial)
    assert row.evaluation_batch == BATCH
    whole = dataclasses.replace(Execution("scan"), evaluation_batch=556)
    assert feasibility.predict(program, trial, whole).program_bytes > 2 * row.program_bytes


def test_an_example_of_a_language_model_is_counted_by_its_scores(language_model):
    program, trial = language_model
    program.planned(Execution("scan"), BATCH, trial.hyperparameters)
    scores = LENGTH * VOCABULARY * 4
    assert program._example_bytes == memory_use.LIVE_ARRAYS * scores


@pytest.mark.parametrize(
    ("execution", "batch_size", "expected"),
    [
        (Execution("scan"), 8, 256),  # as the budget allows
        (Execution("scan"), 512, 512),  # as a step's batch, which needs more
        (Execution("scan"), 4096, 1024),  # never more than that
        (Execution("packed", 8), 8, 32),
        (Execution("scan", 1, Layout(micro_batch=300)), 4096, 300),
        (Execution("scan", 1, Layout("shard_map", data=4)), 8, 1024),
        (Execution("packed", 64, Layout("shard_map", 8, 2)), 128, 128),
        (Execution("packed", 512), 4, 4),
    ],
    ids=str,
)
def test_the_evaluation_batch_follows_from_the_budget_and_the_step(execution, batch_size, expected):
    assert evaluation_batch(execution, batch_size, EVALUATION_BYTES // 256) == expected


def test_the_initial_loss_is_the_same_in_micro_batches():
    program, trial = tiny_program(), tiny_trial(0)
    values, keys = program.numbers(trial.hyperparameters), np.arange(4, dtype=np.uint32)
    limits = [
        initial_state(
            program.computation,
            program.start_inputs(values, keys.reshape(2, 2), 10, batch=batch),
        ).loss_limit
        for batch in (256, 100, 1)
    ]
    np.testing.assert_allclose(limits, float(limits[0]), rtol=ROUNDING)
