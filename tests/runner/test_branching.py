"""Branches against the exact noisy quadratic model, and from a record."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest
from support.engine_factory import tiny_study

from experiments.analysis.branching import critical_factor, smoothed
from experiments.cli import main
from experiments.report.branch_page import branch_page
from experiments.runner.branching import Branching, branch, branch_losses, multiplier, rate_rule
from experiments.runner.study import run_study
from experiments.training.state import TrainState
from workloads.noisy_quadratic import WORKLOAD as NOISY_QUADRATIC

H = 1 / np.arange(1, 101)


def expected_losses(rate, batch_size, steps):
    """E of the loss before each update: s' = (1 - a h)^2 s + a^2 h / B from s = 1 (Zhang et al.
    2019)."""
    s, found = np.ones(100), []
    for _ in range(steps):
        found.append(0.5 * np.sum(H * s))
        s = (1 - rate * H) ** 2 * s + rate**2 * H / batch_size
    return np.array(found)


def test_branches_of_the_noisy_quadratic_model_have_its_losses_and_its_critical_factor():
    batch, rate, window, factors, repeats = 4, 0.05, 512, (1, 2, 8, 32), 100
    study = tiny_study(workload=NOISY_QUADRATIC, optimizer="sgd", space=None)
    config = study.config("off")
    zero = jnp.zeros([], jnp.int32)
    train = {"inputs": jnp.zeros([8, 1]), "targets": jnp.zeros([8, 1])}

    def losses_from(k, key):
        state = TrainState({"phi": jnp.ones(100)}, {}, config_state(config), zero, zero + 10**6,
                           key, jnp.float32(jnp.inf), zero)  # fmt: skip
        rows = np.zeros((window // (k * batch), k * batch), np.int32)
        values = {"learning_rate": jnp.float32(rate)}
        return branch_losses(config, state, values, train, rows,
                             rate_multiplier=multiplier("linear", k))  # fmt: skip

    keys = jax.random.key_data(jax.random.split(jax.random.key(0), repeats))
    truth, found = {}, {}
    for k in factors:
        drawn = np.asarray(jax.vmap(lambda key, k=k: losses_from(k, key))(keys), float)
        found[k] = drawn.mean(axis=0)
        truth[k] = expected_losses(rate * k, batch * k, drawn.shape[1])
        ends = np.array([smoothed(one, k * batch, window) for one in drawn])
        error = ends.std(ddof=1) / np.sqrt(repeats)
        assert abs(ends.mean() - smoothed(truth[k], k * batch, window)) < 4 * error
    exact = critical_factor(truth, batch, window, 0.05)
    measured = critical_factor(found, batch, window, 0.05)
    assert measured.factor == exact.factor and exact.bounded
    assert 1 < exact.factor < 32


def config_state(config):
    from optimizers import OPTIMIZERS

    rule = OPTIMIZERS[config.optimizer].transformation({"learning_rate": 0.1})
    return rule.init({"phi": jnp.ones(100)})


def test_smoothing_counts_examples_and_not_steps():
    """A loss that falls in a straight line with the examples seen: every batch size smooths alike,
    up to the length of one step."""
    ends = [smoothed(1 - np.arange(0, 1024, b) / 1024, b, 1024) for b in (1, 4, 16)]
    assert max(ends) - min(ends) < 16 / 1024
    assert smoothed(np.full(10, 3.0), 8, 80) == pytest.approx(3.0)
    with pytest.raises(ValueError, match="a window of 80 needs 10 losses, got 9"):
        smoothed(np.ones(9), 8, 80)


def test_the_largest_factor_that_holds_is_the_last_before_one_does_not():
    def at(*values):
        return {2**i: np.full(100, value) for i, value in enumerate(values)}

    assert critical_factor(at(1.0, 1.005, 1.05, 1.0), 1, 8, 0.01).factor == 2
    held = critical_factor(at(1.0, 1.0, 0.9), 1, 8, 0.0)
    assert (held.factor, held.bounded) == (4, False)
    assert critical_factor(at(1.0, np.nan), 1, 8, 0.5).factor == 1


def test_the_rate_grows_by_what_the_rule_does_with_a_gradients_scale():
    names = {"sgd": "linear", "nesterov": "linear", "adam": "sqrt", "lion": "sqrt"}
    for name, rule in names.items():
        config = tiny_study(optimizer=name, space=None).config("off")
        assert rate_rule(config, "auto") == rule and rate_rule(config, "linear") == "linear"
    assert multiplier("linear", 4) == 4 and multiplier("sqrt", 4) == 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    study = tiny_study(batch_sizes=(8,), trials=1)
    return run_study(study, tmp_path_factory.mktemp("branched") / "study", execution="scan")


def test_a_trial_of_a_record_is_branched_from_its_own_state(folder, capsys):
    said = []
    asked = Branching(window=256, factors=(1, 2, 4), tolerance=0.2)
    found = branch(folder, (8, 0), asked, say=said.append)
    assert {k: len(v) for k, v in found.losses.items()} == {1: 64, 2: 32, 4: 16}
    first = found.losses[1][:4].reshape(2, 2).mean(axis=1)
    # The first step of k = 2 takes the examples of the first two of k = 1, one update behind.
    assert abs(found.losses[2][0] - first[0]) < 0.3
    assert [answer.window for answer in found.answers] == [128, 256, 512]
    assert found.noise_scale > 0 and "3 branches of trial 8/0" in said[0]
    assert main(["branch", str(folder), "--trial", "8/0", "--window", "256",
                 "--factors", "1", "2"]) == 0  # fmt: skip
    assert "critical batch size" in capsys.readouterr().out
    assert (folder / "branches" / "8-0" / "report" / "index.html").exists()


def test_one_figure_holds_the_branches_the_measured_curve_and_every_critical_size(folder):
    asked = Branching(window=256, factors=(1, 2), tolerance=0.2)
    found = branch(folder, (8, 0), asked)
    curve = pl.DataFrame({"batch_size": [8, 16], "median": [40.0, 22.0], "low": [30.0, None],
                          "high": [50.0, None]})  # fmt: skip
    limit = dataclasses.replace(found.limit, value=1e9)
    drawn = branch_page(dataclasses.replace(found, curve=curve, limit=limit), 0.2).figures[0]
    branches, measured = drawn.chart.to_dict()["vconcat"]
    points = [row for layer in measured["layer"] for row in layer["data"]["values"]]
    assert {row["median"] for row in points if "median" in row} == {40.0, 22.0, 20.0}
    marks = {row["quantity"] for row in points if "quantity" in row}
    assert marks >= {"gradient noise scale here"} and any("local" in name for name in marks)
    assert "end of perfect scaling (record)" not in marks
    assert "Too far to draw: end of perfect scaling (record) 1,000,000,000" in drawn.caption
    assert "smoothed loss over the unbranched" in str(branches)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--window", "8"], "window must be at least"),
        (["--window", "0"], "argument --window: must be a whole number of at least 1"),
        (["--window", "256", "--at", "999"], "step must lie in 1..64 (the trial's), got 999"),
        (["--window", "256", "--factors", "2"], "factors must be at least 1, and 1 among them"),
    ],
)
def test_bad_input_is_one_line(folder, capsys, words, message):
    try:
        code = main(["branch", str(folder), "--trial", "8/0", *words])
    except SystemExit as end:
        code = end.code
    said = capsys.readouterr().err
    assert code == 2 and said.count("\n") == 1
    assert said.startswith(f"batchscale: error: {message}")
