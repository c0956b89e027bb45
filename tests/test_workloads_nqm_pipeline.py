"""The oracle: the whole pipeline on the noisy quadratic model, whose answer is known.

Search, engine, records and analysis run for real; what they measure is held against the exact
recursion and against a Monte Carlo of the same study in NumPy that shares no code with them.
"""

import dataclasses

import numpy as np
import polars as pl
import pytest

from experiments.analysis.steps_to_result import steps_to_result
from experiments.records.store import read
from experiments.run import run_study
from experiments.search.samplers import point
from experiments.study import Study, evaluation_steps
from workloads.base import Goal
from workloads.models.nqm_recursions import expected_losses, full_spectrum
from workloads.noisy_quadratic import WORKLOAD

DIMENSIONS = 12
SMALL = dataclasses.replace(WORKLOAD, model_options={"dimensions": DIMENSIONS, "power": 0.0})


def record_of(tmp_path, **changes):
    settings = {
        "name": "nqm",
        "question": "Is the pipeline right?",
        "workload": SMALL,
        "optimizer": "sgd",
        "step_budget": 50,
        "example_budget": 1,
        "train_evaluation_examples": 1,
        "record_norms": "off",
        **changes,
    }
    study = Study(**settings)
    run_study(study, tmp_path / "record", execution="packed", workers=1)
    return study, read(tmp_path / "record")


@pytest.mark.parametrize(
    ("optimizer", "values"),
    [("sgd", {"learning_rate": 0.9}), ("momentum", {"learning_rate": 0.3, "momentum": 0.8})],
)
def test_mean_loss_of_many_trials_follows_the_recursion(tmp_path, optimizer, values):
    replicas, batch_size = 400, 4
    _, record = record_of(
        tmp_path,
        optimizer=optimizer,
        space={},
        fixed=values,
        trials=replicas,
        batch_sizes=(batch_size,),
    )
    assert record.trials.height == replicas
    measured = record.evaluations.group_by("step").agg(
        mean=pl.col("validation/loss").mean(), std=pl.col("validation/loss").std(), n=pl.len()
    )
    assert set(measured["n"]) == {replicas}
    exact = expected_losses(
        optimizer,
        full_spectrum(DIMENSIONS),
        batch_size,
        values["learning_rate"],
        values.get("momentum", 0.0),
        steps=50,
    )
    error = measured["std"].to_numpy() / np.sqrt(replicas)
    away = np.abs(measured["mean"].to_numpy() - exact[measured["step"].to_numpy()])
    # Under fifty correlated evaluations; 4.5 standard errors are exceeded by chance in fewer
    # than one of a thousand seeds, and the seed is fixed.
    assert np.all(away < 4.5 * error)


def monte_carlo_steps(rates, grid, batch_size, goal, repeats):
    """[repeats] steps to result of a study with these rates: NumPy alone, no shared code."""
    random = np.random.default_rng(11)
    h = 1.0 / np.arange(1, DIMENSIONS + 1)
    theta = random.normal(size=(repeats, len(rates), DIMENSIONS))
    first = np.full((repeats, len(rates)), np.inf)
    noise_scale = np.sqrt(h / batch_size)
    for step in range(1, max(grid) + 1):
        gradient = h * theta + noise_scale * random.normal(size=theta.shape)
        theta = theta - rates[None, :, None] * gradient
        if step in grid:
            passed = 0.5 * np.sum(h * theta**2, axis=-1) < goal
            first = np.where(passed & np.isinf(first), step, first)
    return first.min(axis=1)


def test_steps_to_result_lie_in_the_interval_of_an_independent_monte_carlo(tmp_path):
    goal, steps, trials = 0.08, 120, 12
    batch_sizes = (2, 8, 32)
    study, record = record_of(
        tmp_path,
        batch_sizes=batch_sizes,
        trials=trials,
        step_budget=steps,
        goal=Goal("loss", goal),
        space={"learning_rate": {"type": "real", "low": 0.01, "high": 1.9, "scale": "log"}},
    )
    table = steps_to_result(record)
    for row in table.iter_rows(named=True):
        rates = np.array(
            [
                study.trial(row["batch_size"], 0, i, point(0, i, study.space), "x").hyperparameters[
                    "learning_rate"
                ]
                for i in range(trials)
            ]
        )
        grid = set(evaluation_steps(steps))
        drawn = monte_carlo_steps(rates, grid, row["batch_size"], goal, 800)
        found = row["steps_to_result"] if row["steps_to_result"] is not None else np.inf
        low, high = np.quantile(drawn, [0.005, 0.995], method="closest_observation")
        assert low <= found <= high, row["batch_size"]
        assert low < high < np.inf
