"""The noise of the gradient in training: what it is, on every execution, where it is refused."""

from __future__ import annotations

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest
from support import engine_twin
from support.engine_factory import TINY, resident_digits, tiny_study, tiny_trial, train
from support.tolerances import FLOAT32_SUMS, THREE_DECIMALS

from experiments.analysis.noise_scale import (
    layer_noise_at_goal,
    noise_measurements,
    noisy_layers,
)
from experiments.analysis.summary import summarise
from experiments.analysis.view import view_of
from experiments.cli import build_parser
from experiments.commands.chosen import chosen_study
from experiments.diagnostics.gradient_noise import _moments, gradient_noise
from experiments.records.store import RecordError, read
from experiments.report.facts import facts
from experiments.report.noise_figures import noise_figures
from experiments.runner.study import run_study
from experiments.training.cuts import ghost_batch_size
from experiments.training.layout import SCAN, Execution, Layout
from experiments.training.order import ExampleOrder
from experiments.training.program import Program
from experiments.training.state import TrainState
from workloads.datasets import load
from workloads.models.noisy_quadratic import NoisyQuadratic
from workloads.noisy_quadratic import WORKLOAD as NOISY_QUADRATIC

DRAWN_TRACE, DRAWN_RATIO = 0.02, 0.04
"""2,000 draws of batches of 16: three standard errors of the trace, and of its ratio to |G|^2."""

COLUMNS = ("trace", "squared_norm", "pieces", "batch_size")


def measuring(**changes):
    """A program that records the noise."""
    study, data = tiny_study(**changes), resident_digits()
    config = study.config("off")
    noise = gradient_noise(config, ghost_batch_size(config, data.train))
    return Program(config, data, study.divergence_factor, measurements=(noise,))


@pytest.fixture(scope="module")
def program():
    return measuring()


def noise(result):
    return {name: result.evaluations[f"measured/gradient_noise/{name}"] for name in COLUMNS}


def twin(trial, program, sizes):
    """(trace, squared norm) at every step, eq. A.2 for pieces of equal size, in float64."""
    train = load("digits").splits["train"]
    x, y = train["inputs"].astype(float), train["targets"]
    order = ExampleOrder(trial.seed, trial.index, len(y))
    big, found = trial.batch_size, []
    order.take(big)
    for theta in engine_twin.iterates(trial, program):
        batch = order.take(big)
        gradients = [
            np.concatenate([g.ravel() for g in engine_twin._gradient(theta, x[part], y[part])])
            for part in np.split(batch, np.cumsum(sizes)[:-1])
        ]
        whole = np.average(gradients, axis=0, weights=sizes)
        if len(set(sizes)) == 1:
            small = np.mean([g @ g for g in gradients])
            trace = (small - whole @ whole) / (1 / sizes[0] - 1 / big)
        else:
            apart = [b * (g - whole) @ (g - whole) for b, g in zip(sizes, gradients, strict=True)]
            trace = sum(apart) / (len(sizes) - 1)
        found.append((trace, whole @ whole))
    return np.array(found).T


@pytest.mark.parametrize(
    "execution",
    [
        SCAN,
        Execution("packed", 2),
        Execution("loop"),
        Execution("scan", layout=Layout(micro_batch=3)),
        Execution("scan", layout=Layout("vmap", data=2)),
    ],
    ids=str,
)
@pytest.mark.parametrize(("batch_size", "sizes"), [(8, (2, 2, 2, 2)), (7, (2, 2, 2, 1))])
def test_it_is_the_papers_estimate_of_the_batch_which_follows(
    program, execution, batch_size, sizes
):
    trials = [tiny_trial(i, batch_size, 12, learning_rate=0.05 / (i + 1)) for i in range(2)]
    results = train(trials, program=program, execution=execution)
    for trial in trials:
        trace, squared = twin(trial, program, sizes)
        found = noise(results[trial.index])
        np.testing.assert_allclose(found["trace"], trace, rtol=10 * FLOAT32_SUMS)
        np.testing.assert_allclose(found["squared_norm"], squared, rtol=10 * FLOAT32_SUMS)
        assert (found["pieces"] == len(sizes)).all() and (found["batch_size"] == batch_size).all()


def test_over_all_draws_without_replacement_both_terms_are_exact():
    """Six examples, batches of four in two unequal pieces: every ordered batch once.

    E S = tr(Sigma) with the divisor D - 1, and E(|g|^2 - (1/B - 1/D) S) = |G|^2 of the six.
    """
    examples = np.random.default_rng(0).normal(1.0, 2.0, (6, 3))
    batches = np.array(list(itertools.permutations(range(6), 4)))
    drawn = jnp.asarray(examples[batches], jnp.float32)  # [360, 4, 3]
    sizes = jnp.array([3.0, 1.0])
    pieces = jnp.stack([drawn[:, :3].sum(1), drawn[:, 3:].sum(1)], axis=1)
    found = jax.vmap(lambda g: _moments({"w": g}, sizes, sizes))(pieces)
    trace = np.trace(np.cov(examples.T))
    squared = np.sum(examples.mean(0) ** 2)
    estimate = found["squared_norm"] - (1 / 4 - 1 / 6) * found["trace"]
    np.testing.assert_allclose(np.mean(found["trace"]), trace, rtol=FLOAT32_SUMS)
    np.testing.assert_allclose(np.mean(estimate), squared, rtol=FLOAT32_SUMS)


def test_a_batch_that_cannot_be_cut_gives_nothing_and_ends_nothing(program):
    one = noise(train([tiny_trial(0, 1, 4)], program=program)[0])
    batch_norm = {**TINY.model_options, "normalization": "batch", "ghost_size": None}
    whole = measuring(workload=dataclasses.replace(TINY, model_options=batch_norm))
    result = train([tiny_trial(0, 8, 4)], program=whole)[0]
    layout = Execution("scan", layout=Layout(micro_batch=8))
    divided = train([tiny_trial(0, 8, 4)], program=whole, execution=layout)[0]
    assert result.status == "COMPLETE"
    for found in (one, noise(result), noise(divided)):
        assert np.isnan(found["trace"]).all() and np.isnan(found["squared_norm"]).all()
        assert (found["pieces"] == 1).all()


def weighted(dimensions=100, *, dtype="float32", param_dtype="float32"):
    """The noisy quadratic model in phi = H^(-1/2) theta, where a gradient is H^(1/2) g."""
    return NoisyQuadratic(dimensions, -1.0, dtype, param_dtype)


@pytest.mark.parametrize(
    ("model", "power", "exact"),
    [(NOISY_QUADRATIC.model, 0.0, 3.173), (weighted, -1.0, 1.360)],
    ids=["B_simple", "B_noise"],
)
def test_the_noisy_quadratic_model_has_its_noise_scales(model, power, exact):
    """K = 100 at theta = 1: tr(H) / |H theta|^2, and tr(H H) / theta' H^3 theta, which is the
    first in coordinates where the Hessian is the identity."""
    workload = dataclasses.replace(
        NOISY_QUADRATIC, name="nqm", model=model, model_options={"dimensions": 100}
    )
    h = 1 / np.arange(1, 101)
    assert np.sum(h ** (1 - power)) / np.sum(h ** (2 - power)) == pytest.approx(
        exact, abs=THREE_DECIMALS
    )
    config = tiny_study(workload=workload, optimizer="sgd", space=None).config("off")
    function = gradient_noise(config, 1).function
    position = jnp.arange(16, dtype=jnp.int32)
    zeros = jnp.zeros([16, 1])
    batch = {"inputs": zeros, "targets": zeros, "weights": jnp.ones(16), "position": position}
    phi = jnp.asarray(h ** (power / 2), jnp.float32)

    def at(step):
        state = TrainState({"phi": phi}, {}, (), step, step, jnp.zeros(2, jnp.uint32), 0, 0)  # type: ignore[arg-type]
        return function(state, {"learning_rate": 0.1}, batch)

    found = jax.jit(jax.vmap(at))(jnp.arange(2_000))
    trace, squared = np.mean(found["trace"]), np.mean(found["squared_norm"])
    np.testing.assert_allclose(trace / (squared - trace / 16), exact, rtol=DRAWN_RATIO)
    np.testing.assert_allclose(trace, np.sum(h ** (1 - power)), rtol=DRAWN_TRACE)


def test_a_study_that_asks_for_it_records_it_and_says_so(tmp_path):
    study = tiny_study(record_noise=True, batch_sizes=(8,), trials=1)
    folder = run_study(study, tmp_path / "study", execution="scan")
    record = read(folder)
    found = record.evaluations.select(pl.col("^measured/gradient_noise/.*$"))
    assert sorted(found.columns) == sorted(f"measured/gradient_noise/{name}" for name in COLUMNS)
    assert (found["measured/gradient_noise/trace"] > 0).all()
    assert dict(facts(summarise(record)))["Gradient noise"] == "True"
    with pytest.raises(RecordError, match="differs from study 'tiny' in record_noise"):
        run_study(tiny_study(batch_sizes=(8,), trials=1), folder)


def test_it_is_asked_for_on_the_command_line():
    asked = build_parser().parse_args(["run", "quickstart", "--record-noise"])
    assert chosen_study(asked).record_noise
    asked = build_parser().parse_args(["run", "quickstart", "--noise-per-layer"])
    assert chosen_study(asked).noise_per_layer


def test_layers_are_measured_apart_and_add_up_to_the_whole(tmp_path):
    """Each is the estimate of its own entries, by the twin over them alone."""
    study = tiny_study(noise_per_layer=True, batch_sizes=(1, 8), trials=1, step_budget=12,
                       example_budget=96, sampler="halton")  # fmt: skip
    folder = run_study(study, tmp_path / "study", execution="scan")
    view = view_of(read(folder))
    layers = noisy_layers(view)
    assert len(layers) == 4 and any("kernel" in layer for layer in layers)
    whole = noise_measurements(view, view.record.trials)
    parts = [noise_measurements(view, view.record.trials, layer) for layer in layers]
    for term in ("trace", "training_squared_norm"):
        total = sum(part[term].to_numpy() for part in parts)
        np.testing.assert_allclose(total, whole[term].to_numpy(), rtol=10 * FLOAT32_SUMS)
    held = whole.filter(batch_size=8)["trace"]
    assert (held > 0).all() and whole.filter(batch_size=1)["trace"].is_nan().all()
    summary = summarise(read(folder), goal=2.0)  # reached at once
    names = [figure.name for figure in noise_figures(summary)]
    assert names == ["noise_scale", "noise_scale_in_training", "noise_scale_layers"]
    table = layer_noise_at_goal(summary.view, summary.steps)
    assert table["layer"].unique(maintain_order=True).to_list() == layers


def test_the_terms_of_a_layer_are_those_of_its_entries():
    random = np.random.default_rng(0)
    gradients = {"a": random.normal(size=(3, 5)), "b": {"w": random.normal(size=(3, 2, 2))}}
    sizes = jnp.array([2.0, 2.0, 2.0])
    found = _moments(jax.tree.map(jnp.asarray, gradients), sizes, sizes, ("a", "b/w"))
    for layer, own in (("a", gradients["a"]), ("b/w", gradients["b"]["w"])):
        alone = _moments({"only": jnp.asarray(own)}, sizes, sizes)
        for term in ("trace", "squared_norm"):
            assert float(found[f"layers/{layer}/{term}"]) == float(alone[term])
