"""Averages of the weights inside the engine: of every iterate, evaluated for the last one."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.averaging_weights import WEIGHTS
from support.engine_factory import TINY, resident_digits, same_bits, tiny_study, tiny_trial, train
from support.engine_twin import iterates, validation
from support.records_factory import make_record, make_study

from experiments.analysis.summary import summarise
from experiments.cli import build_parser
from experiments.commands.chosen import chosen_study
from experiments.records.store import read
from experiments.report.facts import facts
from experiments.runner.study import run_study
from experiments.spec.space import Real
from experiments.spec.trial import Status
from experiments.studies import get
from experiments.training.order import trial_keys
from experiments.training.program import Program
from experiments.training.state import gather, init_state, to_evaluate
from experiments.training.step import make_step
from optimizers import AVERAGINGS, OPTIMIZERS

NEARLY_ZERO = 1e-6
"""Of entries near 0 a relative error says nothing: float32 next to parameters of about 1."""

STEPS = 12
TWIN_AGREES = 2e-5
"""Float32 against float64 over a dozen steps."""
SETTINGS = {"ema": {"average_decay": 0.9}, "tail_mean": {"average_start": 4.0}, "window_mean": {}}


def averaging_program(name):
    study = tiny_study(averaging=name)
    return Program(study.config("off"), resident_digits(), study.divergence_factor)


def test_every_averaging_of_the_table_is_tried_here():
    assert SETTINGS.keys() == AVERAGINGS.keys() - {"none"}


@pytest.mark.parametrize("name", SETTINGS)
def test_what_is_evaluated_is_the_mean_of_the_iterates_packed_or_alone(name):
    program = averaging_program(name)
    trials = [
        tiny_trial(i, 48, train_steps=STEPS, learning_rate=0.2, **SETTINGS[name]) for i in range(3)
    ]
    every = lambda steps: range(1, steps + 1)
    packed = train(trials, "packed", 2, program=program, grid=every)  # the third in a used slot
    alone = train(trials[2:], "packed", 2, program=program, grid=every)
    assert same_bits(packed[2].evaluations, alone[2].evaluations)
    path = iterates(trials[2], program)
    for t in range(1, STEPS + 1):
        weights = WEIGHTS[name](t)
        mean = tuple(np.average(ws, axis=0, weights=weights) for ws in zip(*path[:t], strict=True))
        found = packed[2].evaluations["validation/cross_entropy"][t - 1]
        np.testing.assert_allclose(found, validation(mean)[0], rtol=TWIN_AGREES)
    last = validation(path[-1])[0]
    assert abs(packed[2].evaluations["validation/cross_entropy"][-1] - last) > 10 * TWIN_AGREES


def test_schedule_free_averages_its_own_evaluation_point_and_batch_norm_its_statistics():
    """The averages are those of what would be evaluated without an averaging, at every step."""
    workload = dataclasses.replace(
        TINY, model_options={**TINY.model_options, "normalization": "batch"}
    )
    study = tiny_study(workload=workload, optimizer="schedule_free_sgd", averaging="ema")
    config, data = study.config("off"), resident_digits().train
    plain = dataclasses.replace(config, averaging="none")
    values = {"learning_rate": 0.2, "beta": 0.9, "weight_decay": 0.0, "average_decay": 0.5}
    values = {name: jnp.float32(value) for name, value in values.items()}
    first = gather(data, jnp.zeros([1], jnp.int32))
    state = init_state(config, jnp.asarray(trial_keys(0, 0)), values, jnp.int32(STEPS), first)
    before = to_evaluate(config, state, values)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(before))
    step = jax.jit(make_step(config))
    seen = []
    for t in range(5):
        state, _ = step(state, values, gather(data, jnp.arange(32 * t, 32 * (t + 1))))
        seen.append(to_evaluate(plain, state, values))
    assert jax.tree.leaves(seen[-1][1])  # there are statistics
    weights = 0.5 ** np.arange(4, -1, -1.0)
    mean = jax.tree.map(lambda *xs: np.average(np.array(xs, float), 0, weights), *seen)
    got = to_evaluate(config, state, values)
    for ours, wanted in zip(jax.tree.leaves(got), jax.tree.leaves(mean), strict=True):
        np.testing.assert_allclose(ours, wanted, rtol=TWIN_AGREES, atol=NEARLY_ZERO)
    x = OPTIMIZERS["schedule_free_sgd"].parameters_to_evaluate(state.opt_state, state.params)
    apart = jax.tree.map(lambda one, other: jnp.max(jnp.abs(one - other)), x, state.params)
    assert max(jax.tree.leaves(apart)) > 1e-3  # its point is not where the gradient is taken


def test_an_average_does_not_hide_a_divergence():
    program = averaging_program("ema")
    result = train([tiny_trial(0, learning_rate=1e30, average_decay=0.9)], program=program)[0]
    assert result.status == Status.INFEASIBLE and result.steps <= 3
    finite = [np.isfinite(values).all() for values in result.evaluations.values()]
    assert all(finite)


def test_a_study_searches_the_decay_and_its_page_names_the_averaging(tmp_path):
    study = tiny_study(averaging="ema", batch_sizes=(64,), trials=2)
    assert study.space["average_decay"] == Real(0.9, 0.9999, "reverse_log")
    record = read(run_study(study, tmp_path / "averaged", execution="scan"))
    assert record.study["study"]["averaging"] == "ema"
    assert record.trials["average_decay"].n_unique() == 2
    summary = summarise(make_record(dataclasses.replace(make_study(), averaging="tail_mean")))
    assert ("Averaging", "tail mean") in facts(summary)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"averaging": "emma"}, "averaging 'emma' is unknown; did you mean 'ema'"),
        ({"averaging": "ema", "fixed": {"average_decay": 1.0}}, r"must lie in \[0, 1\), got 1.0"),
        ({"fixed": {"average_decay": 0.9}}, "hyperparameter 'average_decay' is unknown"),
    ],
)
def test_what_an_averaging_cannot_be_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny_study(**changes)


def test_the_command_line_puts_an_averaging_into_a_study():
    options = build_parser().parse_args(["run", "quickstart", "--averaging", "ema"])
    plain, averaged = get("quickstart").resolved, chosen_study(options).resolved
    assert averaged.name == "quickstart-ema" and averaged.averaging == "ema"
    assert averaged.space == {**plain.space, "average_decay": Real(0.9, 0.9999, "reverse_log")}
