"""Clipping inside the engine: after averaging, before the rule, counted, and free where absent."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest
from support.engine_factory import (
    resident_digits,
    same_bits,
    tiny_program,
    tiny_study,
    tiny_trial,
    train,
)
from support.records_factory import SPACE, make_record, make_study
from support.tolerances import FLOAT32_SOLVES, FLOAT64

from experiments.analysis.findings import EdgeOptimum, MostlyClipped
from experiments.analysis.summary import summarise
from experiments.cli import build_parser
from experiments.commands.chosen import chosen_study
from experiments.records.store import read
from experiments.report.facts import facts
from experiments.report.tables import hyperparameter_table
from experiments.runner.study import run_study
from experiments.spec.space import Real
from experiments.spec.trial import Status
from experiments.studies import get
from experiments.training.order import trial_keys
from experiments.training.program import Program
from experiments.training.state import gather, init_state
from experiments.training.step import make_step
from optimizers import CLIPPINGS

ON_THE_OTHER_SIDE = 1e-2
"""One step that is clipped in one mode and not in the other moves the curve by less."""
NEARLY_ZERO = 1e-7
"""Of entries near 0 a relative error says nothing: float32 next to parameters of about 1."""

ROUNDING = 1e-5
"""Float32 norms of 1,210 parameters, summed in another order."""
SETTINGS = {
    "global_norm": {"clip_threshold": 1.0},
    "autoclip": {"clip_percentile": 50.0},
    "window_autoclip": {"clip_percentile": 50.0, "clip_window": 8.0},
    "agc": {"clip_ratio": 0.5},
}


@functools.cache
def clipping_program(clipping="global_norm", record_norms="every"):
    """One program a configuration, shared by the tests here."""
    study = tiny_study(optimizer="sgd", clipping=clipping)
    return Program(study.config(record_norms), resident_digits(), study.divergence_factor)


def test_every_clipping_of_the_table_is_tried_here():
    assert SETTINGS.keys() == CLIPPINGS.keys() - {"none"}


@pytest.mark.parametrize("mode", ["scan", "loop"])
def test_the_step_uses_the_clipped_gradient_and_records_the_unclipped_norm(mode):
    trial = tiny_trial(0, batch_size=16, learning_rate=0.2, clip_threshold=1.0)
    result = train([trial], mode, program=clipping_program())[0]
    norms = result.norms
    unclipped = norms["gradient_norm"]
    assert 0 < np.mean(unclipped > 1.0) < 1  # the threshold separates the steps of this trial
    assert norms["clipped"].tolist() == (unclipped > 1.0).tolist()
    # Plain gradient descent moves by the rate times the norm of the gradient it was given.
    moved = 0.2 * np.minimum(unclipped, 1.0)
    np.testing.assert_allclose(norms["update_norm"], moved, rtol=ROUNDING)
    assert result.clipped_share == np.mean(norms["clipped"])


def test_norms_at_evaluations_say_whether_the_next_step_is_clipped():
    trial = tiny_trial(0, batch_size=16, learning_rate=0.2, clip_threshold=1.0)
    every = train([trial], program=clipping_program())[0]
    sparse = train([trial], program=clipping_program(record_norms="evaluations"))[0]
    steps = sparse.evaluations["step"][:-1]
    for name in ("gradient_norm", "clipped"):
        found, expected = sparse.evaluations[name][:-1], every.norms[name][steps]
        np.testing.assert_allclose(found, expected, rtol=ROUNDING)
    assert sparse.clipped_share == every.clipped_share  # counted at every step all the same


@pytest.mark.parametrize("clipping", SETTINGS)
def test_every_clipping_agrees_in_all_modes_and_starts_afresh_in_a_used_slot(clipping):
    program = clipping_program(clipping, "off")
    trials = [
        tiny_trial(i, 16, train_steps=40, learning_rate=0.2, **SETTINGS[clipping]) for i in range(3)
    ]
    scanned = train(trials, program=program)
    assert all(0 < result.clipped_share < 1 for result in scanned.values())
    alone = train(trials[2:], program=program)[2]
    assert same_bits(alone.evaluations, scanned[2].evaluations)
    assert alone.clipped_share == scanned[2].clipped_share
    # Step by step or many in one call is the same code under every clipping: one of them shows it.
    looped = [("loop", 1)] if clipping == "autoclip" else []
    for mode, slots in (*looped, ("packed", 2)):
        other = train(trials, mode, slots, program=program)
        for index, result in scanned.items():
            # A norm within rounding of its threshold may fall on the other side of it.
            assert abs(other[index].clipped_share - result.clipped_share) <= 1.1 / 40
            np.testing.assert_allclose(
                other[index].evaluations["validation/cross_entropy"],
                result.evaluations["validation/cross_entropy"],
                rtol=ON_THE_OTHER_SIDE,
            )


def test_a_threshold_never_reached_changes_nothing_but_says_so():
    free, trial = tiny_program("off", "sgd"), tiny_trial(0, batch_size=16)
    bounded = tiny_trial(0, batch_size=16, clip_threshold=1e9)
    plain = train([trial], program=free)[0]
    never = train([bounded], program=clipping_program(record_norms="off"))[0]
    np.testing.assert_allclose(
        never.evaluations["validation/cross_entropy"],
        plain.evaluations["validation/cross_entropy"],
        rtol=FLOAT32_SOLVES,
    )
    assert never.clipped_share == 0.0 and plain.clipped_share is None


def test_thresholds_are_data():
    program = clipping_program.__wrapped__(record_norms="off")
    train([tiny_trial(i, clip_threshold=10.0**-i) for i in range(4)], program=program)
    assert dict(program.traces) == {("chunk", 8, 1): 1}


def state_of(config, values):
    data = resident_digits().train
    example = gather(data, jnp.zeros([1], jnp.int32))
    keys = jnp.asarray(trial_keys(0, 0))
    return jax.jit(init_state, static_argnums=0)(config, keys, values, jnp.int32(10), example)


def test_devices_are_averaged_before_clipping():
    """Two virtual replicas with opposite halves equal one device with the whole batch.

    Each half's own gradient is far above the threshold that the mean of both does not reach.
    """
    config = tiny_study(optimizer="sgd", clipping="global_norm").config("every")
    step, data = make_step(config), resident_digits().train
    alone = jax.jit(step)
    values = {"learning_rate": jnp.float32(0.1), "clip_threshold": jnp.float32(1.0)}
    state = state_of(config, values)
    labels = np.asarray(data["targets"])
    order = np.argsort(labels[:64], kind="stable").astype(np.int32)  # halves of unlike digits
    batch = gather(data, jnp.asarray(order))
    _, whole = alone(state, values, batch)
    half_norms = []
    for half in (order[:32], order[32:]):
        _, measured = alone(state, values, gather(data, jnp.asarray(half)))
        half_norms.append(float(measured["gradient_norm"]))
    threshold = jnp.float32((float(whole["gradient_norm"]) + min(half_norms)) / 2)
    assert whole["gradient_norm"] < threshold < min(half_norms)
    values = {**values, "clip_threshold": threshold}
    one, _ = alone(state, values, batch)
    halves = jax.tree.map(lambda x: x.reshape(2, 32, *x.shape[1:]), batch)
    replicas = jax.vmap(
        lambda share: step(state, values, share, axis_name="devices"), axis_name="devices"
    )
    both, measured = jax.jit(replicas)(halves)
    assert measured["clipped"].tolist() == [0.0, 0.0]
    for mine, theirs in zip(jax.tree.leaves(one.params), jax.tree.leaves(both.params), strict=True):
        np.testing.assert_allclose(theirs[0], mine, rtol=ROUNDING, atol=NEARLY_ZERO)


def test_without_clipping_the_state_holds_nothing_more():
    config = tiny_study(optimizer="sgd").config("every")
    values = {"learning_rate": jnp.float32(0.1)}
    state = state_of(config, values)
    assert jax.tree.leaves(state.clips) == []
    batch = gather(resident_digits().train, jnp.arange(8))
    _, measured = jax.jit(make_step(config))(state, values, batch)
    assert "clipped" not in measured


def test_clipping_does_not_hide_a_gradient_that_is_not_finite():
    trial = tiny_trial(0, learning_rate=1e30, clip_threshold=1e9)
    result = train([trial], program=clipping_program(record_norms="off"))[0]
    assert result.status == Status.INFEASIBLE and result.steps <= 3
    assert 0 <= result.clipped_share <= 1


def test_a_study_searches_the_threshold_and_records_the_clipped_share(tmp_path):
    study = tiny_study(clipping="global_norm", record_norms="every", batch_sizes=(64,))
    assert "clip_threshold" in study.space
    record = read(run_study(study, tmp_path / "clipped"))
    assert record.study["study"]["clipping"] == "global_norm"
    assert record.trials.columns[12] == "clipped_share"  # after those of stopping
    assert record.trials["clip_threshold"].n_unique() == 3
    means = record.norms.group_by("trial").agg(share=pl.col("clipped").mean()).sort("trial")
    np.testing.assert_allclose(means["share"], record.trials["clipped_share"], rtol=FLOAT64)


def test_a_record_from_before_there_was_clipping_is_read_as_one_without():
    record = make_record(make_study((4, 64), trials=3))
    described = {k: v for k, v in record.study["study"].items() if k != "clipping"}
    summary = summarise(dataclasses.replace(record, study={**record.study, "study": described}))
    assert summary.question.clipping == "none"
    assert "Clipping" not in dict(facts(summary))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clipping": "global"}, "clipping 'global' is unknown; did you mean 'global_norm'"),
        ({"clipping": "global_norm", "fixed": {"clip_threshold": 0.0}}, r"must lie in \(0, 1e\+12"),
        ({"clipping": "autoclip", "fixed": {"clip_percentile": 101}},
         r"lie in \[0, 100\], got 101"),
        ({"fixed": {"clip_threshold": 1.0}}, "hyperparameter 'clip_threshold' is unknown"),
        ({"clipping": "global_norm", "space": {"learning_rate": {"low": 0.1, "high": 1.0}}},
         "clip_threshold must be searched"),
    ],
)  # fmt: skip
def test_what_a_clipping_cannot_be_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny_study(**changes)


def test_the_command_line_puts_a_clipping_into_a_study():
    options = build_parser().parse_args(["run", "quickstart", "--clipping", "agc"])
    plain, clipped = get("quickstart").resolved, chosen_study(options).resolved
    assert clipped.name == "quickstart-agc" and clipped.clipping == "agc"
    assert clipped.space == {**plain.space, "clip_ratio": Real(1e-2, 0.16, "log")}
    again = ["run", "quickstart", "--clipping", "glob", "--trials", "3"]
    with pytest.raises(ValueError, match="clipping 'glob' is unknown"):
        chosen_study(build_parser().parse_args(again))


def clipped_summary(share, threshold=(0.1, 1.0)):
    """The summary of a made-up study whose every trial was clipped at this share of its steps."""
    low, high = threshold
    space = {**SPACE, "clip_threshold": Real(low, high, "log")}
    study = dataclasses.replace(make_study((4, 64), trials=6), clipping="global_norm", space=space)
    record = make_record(study)
    trials = record.trials.with_columns(
        clipped_share=pl.lit(share), clip_threshold=pl.lit(0.999 * high)
    )
    return summarise(dataclasses.replace(record, trials=trials))


def test_the_verdict_warns_where_more_than_half_of_the_steps_are_clipped():
    warned = clipped_summary(0.8).verdict.findings
    sentences = [found.sentence for found in warned if isinstance(found, MostlyClipped)]
    assert len(sentences) == 1 and "batch sizes 4 and 64 (at most 80%)" in sentences[0]
    calm = clipped_summary(0.5).verdict.findings
    assert not any(isinstance(found, MostlyClipped) for found in calm)


def test_a_threshold_at_the_edge_is_widened_within_its_legal_interval():
    found = clipped_summary(0.1, (1.0, 1e12)).verdict.findings
    edges = [f for f in found if isinstance(f, EdgeOptimum) and f.hyperparameter != "momentum"]
    edge = next(f for f in edges if f.hyperparameter == "clip_threshold")
    assert edge.proposed is None  # the legal limit already


def test_the_page_says_how_it_was_clipped_and_how_often():
    summary = clipped_summary(0.25)
    assert ("Clipping", "global norm") in facts(summary)
    table = hyperparameter_table(summary)
    column = table.columns.index("clipped share")
    assert [row[column] for row in table.rows] == ["0.25", "0.25"]
