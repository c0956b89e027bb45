"""The engine against a hand-written loop, against itself in other modes, and under divergence."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.engine_factory import (
    resident_digits,
    same_bits,
    tiny_program,
    tiny_study,
    tiny_trial,
    train,
)
from support.engine_twin import iterates, validation_curve
from support.tolerances import FLOAT32_SOLVES, FLOAT32_SUMS

from experiments.spec.trial import Status, evaluation_steps
from experiments.training import pace
from experiments.training.evaluation import evaluation_data
from experiments.training.layout import Execution
from experiments.training.program import Program
from optimizers import OPTIMIZERS
from optimizers.norms import all_finite

ONE_IMAGE = 1.1 / 384
"""One of the 384 images of the validation split may fall on the other side of a tie."""

# Float32 sums in another order differ by some 1e-7 a step; 60 steps of training amplify that.
MODES_AGREE = 2e-4
ROUNDING = 1e-6
"""Of float32 sums over some hundred examples in another order."""


def test_engine_equals_a_hand_written_float64_loop():
    trial = tiny_trial(1, batch_size=48, train_steps=60)  # 48 straddles the epochs' ends
    grid = evaluation_steps(60)
    found = train([trial])[1].evaluations
    assert found["step"].tolist() == grid
    entropies, errors = validation_curve(iterates(trial, tiny_program()), grid)
    np.testing.assert_allclose(found["validation/cross_entropy"], entropies, rtol=MODES_AGREE)
    np.testing.assert_allclose(found["validation/classification_error"], errors, atol=ONE_IMAGE)


@pytest.mark.parametrize(("mode", "slots"), [("loop", 1), ("packed", 4), ("loop", 2)])
def test_modes_agree(mode, slots):
    trials = [tiny_trial(i, learning_rate=0.01 * (i + 1)) for i in range(3)]
    scanned, other = train(trials), train(trials, mode, slots)
    for index, result in scanned.items():
        assert result.status == other[index].status == Status.COMPLETE
        for name, values in result.evaluations.items():
            atol = 1.1 / 256 if name.endswith("error") else 0.0
            np.testing.assert_allclose(
                values, other[index].evaluations[name], rtol=MODES_AGREE, atol=atol
            )


def test_bits_do_not_depend_on_slot_neighbours_or_start():
    """Eight trials, two of which diverge, through four slots in three orders."""
    rates = [0.01, 1e6, 0.03, 0.05, 1e9, 0.02, 0.04, 0.1]
    trials = [tiny_trial(i, batch_size=7, learning_rate=rate) for i, rate in enumerate(rates)]
    reference = train(trials, "packed", 4)
    assert [reference[i].status == Status.INFEASIBLE for i in range(8)] == [
        i in (1, 4) for i in range(8)
    ]
    for order in ([7, 6, 5, 4, 3, 2, 1, 0], [1, 4, 0, 2, 6, 3, 7, 5]):
        permuted = train([trials[i] for i in order], "packed", 4)
        for index in range(8):
            assert same_bits(reference[index].evaluations, permuted[index].evaluations), index


def test_bits_do_not_depend_on_how_steps_are_cut_into_chunks(monkeypatch):
    trial = tiny_trial(0, batch_size=16, train_steps=90)
    one = train([trial])[0]
    monkeypatch.setattr(pace, "TARGET_CHUNK_SECONDS", 0.0)  # one step a chunk
    other = train([trial])[0]
    assert same_bits(one.evaluations, other.evaluations)


def test_one_compilation_per_batch_size_and_plan_whatever_the_hyperparameters():
    program = Program(tiny_study().config("off"), resident_digits(), 1e4)
    for batch_size in (8, 64):
        trials = [
            tiny_trial(i, batch_size, 20 + i, learning_rate=0.1 / (i + 1), momentum=0.1 * i)
            for i in range(5)
        ]
        train(trials, program=program)
        train(trials, "packed", 2, program=program)
    expected = {("chunk", b, n): 1 for b in (8, 64) for n in (1, 2)}
    assert dict(program.traces) == expected


@pytest.mark.parametrize("mode", ["scan", "loop"])
def test_divergence_is_data_and_stops_only_its_own_trial(mode):
    trials = [tiny_trial(0), tiny_trial(1, learning_rate=1e30), tiny_trial(2)]
    results = train(trials, mode, 2 if mode == "loop" else 1)
    assert [results[i].status for i in range(3)] == ["COMPLETE", "INFEASIBLE", "COMPLETE"]
    diverged = results[1]
    assert 1 <= diverged.steps <= 3
    assert all(diverged.evaluations["step"] < diverged.steps)
    alone = train([trials[0]], mode, 2 if mode == "loop" else 1)[0]
    assert same_bits(alone.evaluations, results[0].evaluations)


def test_a_loss_above_the_recorded_threshold_is_a_divergence():
    study = tiny_study()
    strict = Program(study.config("off"), resident_digits(), divergence_factor=1.0001)
    # A step far too long raises the loss at once, but to a finite value.
    trial = tiny_trial(0, batch_size=64, learning_rate=3.0, momentum=0.0)
    assert train([trial], program=strict)[0].status == Status.INFEASIBLE
    assert train([trial])[0].status == Status.COMPLETE


@pytest.mark.parametrize("name", [n for n in OPTIMIZERS if n not in ("newton", "hessian_free")])
@pytest.mark.parametrize("poison", [np.inf, np.nan])
def test_a_gradient_that_is_not_finite_leaves_a_mark_for_ever(name, poison):
    """Evaluations look for that mark, so no divergence between two of them is missed."""
    optimizer = OPTIMIZERS[name]
    values = {
        h.name: h.default if h.default is not None else 0.1 for h in optimizer.hyperparameters
    }
    rule = optimizer.transformation(values)
    params = {"w": jnp.ones((4, 4)), "b": jnp.ones(4)}
    state = rule.init(params)
    grads = {"w": jnp.full((4, 4), 0.1), "b": jnp.full(4, 0.1)}
    bad = {"w": grads["w"].at[0, 0].set(poison), "b": grads["b"]}

    def quadratic(p):
        return sum(jnp.sum(x**2) for x in jax.tree.leaves(p))

    for gradient in (grads, bad, grads, grads, grads):
        extra = {"value": jnp.float32(1.0), "grad": gradient, "value_fn": quadratic}
        accepts = {} if name != "lbfgs" else extra
        updates, state = rule.update(gradient, state, params, **accepts)
        params = jax.tree.map(jnp.add, params, updates)
    assert not all_finite((params, state))


def test_norms_at_every_step_and_at_evaluations():
    trial = tiny_trial(0, batch_size=32, train_steps=30)
    every = train([trial], program=tiny_program("every"))[0]
    assert every.norms is not None
    assert every.norms["step"].tolist() == list(range(1, 31))
    looped = train([trial], "loop", program=tiny_program("every"))[0]
    at_evaluations = train([trial], program=tiny_program("evaluations"))[0]
    assert at_evaluations.norms is None
    for name in ("gradient_norm", "update_norm", "parameter_norm", "learning_rate"):
        np.testing.assert_allclose(every.norms[name], looped.norms[name], rtol=FLOAT32_SOLVES)
        # An evaluation at step s measures the gradient of step s + 1 at the same parameters.
        steps = at_evaluations.evaluations["step"]
        inside = steps < 30
        np.testing.assert_allclose(
            at_evaluations.evaluations[name][inside],
            every.norms[name][steps[inside]],
            rtol=FLOAT32_SOLVES,
        )
    first = every.norms
    # Nesterov's first update: eta (gamma g + g).
    np.testing.assert_allclose(
        first["update_norm"][0], 0.05 * 1.9 * first["gradient_norm"][0], rtol=FLOAT32_SUMS
    )


@pytest.mark.parametrize(("validation", "train_examples"), [(5, 3), (1000, 300), (1024, 0), (7, 7)])
def test_evaluation_batches_hold_every_example_once_and_padding_weighs_nothing(
    validation, train_examples
):
    total = {"validation": validation, "train": 2000}
    splits = {
        name: {"inputs": np.arange(n) + 10_000 * (name == "train"), "targets": np.ones(n)}
        for name, n in total.items()
    }
    data = evaluation_data(splits, train_examples)
    real = data["weights"] > 0
    assert data["weights"].sum() == validation + train_examples
    for column, count in ((0, validation), (1, train_examples)):
        mine = data["inputs"][real & (data["split"][..., column] > 0)]
        offset = 10_000 * column
        assert sorted(mine) == list(range(offset, offset + count))
    assert not data["inputs"][~real].any()


def test_means_are_exact_with_padding_and_several_batches():
    """The same trial, evaluated in one batch and in several uneven ones."""
    trial, program = tiny_trial(0, train_steps=10), tiny_program()
    one = train([trial])[0].evaluations
    assert program.evaluation(100)["weights"].shape == (7, 92)
    several = train([trial], execution=Execution("scan", evaluation_batch=100))[0].evaluations
    for name, values in one.items():
        np.testing.assert_allclose(values, several[name], rtol=ROUNDING)


def test_every_slot_keeps_its_own_length_and_grid():
    trials = [dataclasses.replace(tiny_trial(i), train_steps=10 + 13 * i) for i in range(5)]
    for result in train(trials, "packed", 2).values():
        assert result.steps == result.trial.train_steps
        assert result.evaluations["step"].tolist() == evaluation_steps(result.trial.train_steps)


def test_slots_must_be_a_power_of_two():
    with pytest.raises(ValueError, match="slots must be a power of two, got 3"):
        train([tiny_trial(0)], "packed", 3)
