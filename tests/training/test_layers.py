"""Norms per layer: what they are, and what the record holds of them."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from support import engine_twin
from support.engine_factory import resident_digits, tiny_study
from support.tolerances import FLOAT32, FLOAT32_SUMS

from experiments.cli import build_parser
from experiments.commands.chosen import chosen_study
from experiments.records.store import RecordError, read
from experiments.runner.study import run_study
from experiments.search.samplers.halton import point
from experiments.spec.trial import LAYER_NORMS
from experiments.training.order import ExampleOrder
from experiments.training.program import Program
from workloads.datasets import load

LAYERS = ["Dense_0/bias", "Dense_0/kernel", "Dense_1/bias", "Dense_1/kernel"]


def study(**changes):
    settings = {"record_norms": "evaluations", "trials": 1, "batch_sizes": (64,), **changes}
    return tiny_study(norms_per_layer=True, **settings)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A record with both: norms of the whole and of every layer, at evaluations."""
    where = tmp_path_factory.mktemp("layers") / "study"
    return run_study(study(), where, execution="scan")


def test_the_layers_squares_add_up_to_the_whole(folder):
    record = read(folder)
    assert sorted(set(record.layers["layer"])) == LAYERS
    key = ["batch_size", "seed", "trial", "step"]
    squares = record.layers.group_by(key).agg(pl.col(n).pow(2).sum().sqrt() for n in LAYER_NORMS)
    squares = squares.sort(key)
    assert squares.select(key).equals(record.evaluations.select(key))
    for norm in LAYER_NORMS:
        np.testing.assert_allclose(squares[norm], record.evaluations[norm], rtol=FLOAT32)
    assert not [name for name in record.evaluations.columns if name.startswith("layers/")]


def test_a_layers_gradient_is_that_of_the_batch_which_follows(folder):
    """In float64: the gradient at theta_1 on the second batch."""
    record, made = read(folder), study()
    program = Program(made.config("off"), resident_digits(), made.divergence_factor)
    trial = made.trial(64, 0, 0, point(0, 0, made.space), "")
    theta = engine_twin.iterates(trial, program)[0]
    train = load("digits").splits["train"]
    order = ExampleOrder(0, 0, len(train["targets"]))
    order.take(64)
    batch = order.take(64)
    grads = engine_twin._gradient(
        theta, train["inputs"].astype(float)[batch], train["targets"][batch]
    )
    expected = sorted(float(np.linalg.norm(g)) for g in grads)
    found = record.layers.filter(step=1)["gradient_norm"].sort()
    np.testing.assert_allclose(found, expected, rtol=FLOAT32_SUMS)


def test_a_record_with_them_is_another_study(folder):
    with pytest.raises(RecordError, match="differs from study 'tiny' in norms_per_layer"):
        run_study(tiny_study(record_norms="evaluations", trials=1, batch_sizes=(64,)), folder)


def test_they_are_asked_for_on_the_command_line():
    asked = build_parser().parse_args(["run", "quickstart", "--norms-per-layer"])
    assert chosen_study(asked).norms_per_layer
    refused = build_parser().parse_args(["run", "optimizer_paths", "--norms-per-layer"])
    with pytest.raises(ValueError, match="--norms-per-layer has no place in"):
        chosen_study(refused)
