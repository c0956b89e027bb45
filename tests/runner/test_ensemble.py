"""`batchscale ensemble`: the four kinds, saved and loaded, their worth, bad input."""

from __future__ import annotations

import dataclasses
import shutil

import jax
import numpy as np
import pytest
from support.engine_factory import TINY, tiny_study
from support.tolerances import FLOAT32, FLOAT32_SOLVES, FLOAT64_SUMS

from experiments.cli import main
from experiments.diagnostics.ensemble_intervals import intervals
from experiments.diagnostics.ensemble_model import load_ensemble
from experiments.diagnostics.ensembles import quality
from experiments.runner.ensemble import KINDS, make_ensemble, save_into
from experiments.runner.study import run_study
from experiments.runner.trained import reopen, with_data
from experiments.training.checkpoint import CheckpointError
from experiments.training.population import Population
from experiments.training.program import Program
from workloads.datasets import load

BATCH_NORM = dataclasses.replace(
    TINY, name="digits_normed",
    model_options={"hidden_sizes": [6], "classes": 10, "normalization": "batch"},
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    study = tiny_study(
        workload=BATCH_NORM, batch_sizes=(16,), trials=2, step_budget=40, example_budget=640
    )
    return run_study(study, tmp_path_factory.mktemp("together") / "study", execution="scan")


@pytest.fixture(scope="module")
def made(folder):
    said = []
    return {kind: make_ensemble(folder, kind, 2, say=said.append) for kind in KINDS}, said


def test_every_kind_has_its_members_and_says_what_it_trains(made):
    found, said = made
    names = {kind: [m.name for m in one.ensemble.members] for kind, one in found.items()}
    assert {kind: len(members) for kind, members in names.items()} == {
        "inits": 2, "top": 2, "checkpoints": 2, "average": 1
    }  # fmt: skip
    assert names["inits"][1].startswith("initialisation 1 of trial 16/")
    assert len(set(names["top"])) == 2
    assert [name.split()[-2] for name in names["checkpoints"]] == ["20", "40"]
    assert any("more initialisations of trial 16/" in line for line in said)
    assert found["checkpoints"].trained_examples == 40 * 16


def test_new_initialisations_are_those_of_a_population_of_their_own(folder, made):
    """Trained in a pack, and alone."""
    members = made[0]["inits"].ensemble.members
    record, study = reopen(folder)
    opened = with_data(folder, record, study)
    program = Program(study.config("off"), opened.data, study.divergence_factor)
    row = next(r for r in record.trials.to_dicts() if f"16/{r['trial']} " in members[0].name)
    values = {name: row[name] for name in record.study["hyperparameters"]}
    trial = dataclasses.replace(study.trial(16, 0, 1 << 20, dict.fromkeys(study.space, 0.5), ""),
                                hyperparameters=values)  # fmt: skip
    step = int(min(made[0]["inits"].trained_examples // 16, 40))
    alone = Population(program, 16, grid=study.grid).train_to(trial, step)[0]
    for one, other in zip(*map(jax.tree.leaves, (members[1].params, alone.params)), strict=True):
        np.testing.assert_allclose(one, other, atol=FLOAT32_SOLVES)
    first, second = (jax.tree.leaves(m.params)[1] for m in members)
    assert np.abs(first - second).max() > 1e-2


def test_any_number_of_initialisations_is_trained_in_one_pack(folder, made):
    """Three new ones are in a pack of four slots; the first is that of an ensemble of two."""
    found = make_ensemble(folder, "inits", 4)
    assert len(found.ensemble.members) == 4 and found.trained_examples % 3 == 0
    first, again = (one.ensemble.members[1].params for one in (found, made[0]["inits"]))
    for one, other in zip(*map(jax.tree.leaves, (first, again)), strict=True):
        np.testing.assert_allclose(one, other, atol=FLOAT32_SOLVES)


def test_probabilities_are_averaged_never_logits(made):
    inputs = load("digits").splits["validation"]["inputs"][:50]
    ensemble = made[0]["inits"].ensemble
    logits = ensemble.logits(inputs).astype(float)
    each = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    np.testing.assert_allclose(ensemble.probabilities(inputs), each.mean(0), rtol=FLOAT64_SUMS)


def test_an_average_is_the_mean_of_the_checkpoints_with_statistics_of_its_own(made):
    found = made[0]
    (mean,) = found["average"].ensemble.members
    both = [member.params for member in found["checkpoints"].ensemble.members]
    leaves = zip(*map(jax.tree.leaves, (mean.params, *both)), strict=True)
    for one, first, second in leaves:
        np.testing.assert_allclose(one, (first + second) / 2, atol=FLOAT32)
    last = found["checkpoints"].ensemble.members[-1].model_state
    apart = [
        np.abs(a - b).max()
        for a, b in zip(*map(jax.tree.leaves, (mean.model_state, last)), strict=True)
    ]
    assert max(apart) > 1e-3


@pytest.mark.parametrize("kind", ["top", "average"])
def test_one_checkpoint_holds_it_and_predicts_from_python(folder, made, kind, tmp_path):
    ensemble = made[0][kind].ensemble
    place = save_into(tmp_path, made[0][kind], 2)
    again = load_ensemble(place)
    inputs = load("digits").splits["test"]["inputs"][:30]
    np.testing.assert_array_equal(again.logits(inputs), ensemble.logits(inputs))
    assert [m.name for m in again.members] == [m.name for m in ensemble.members]
    shutil.rmtree(place)
    with pytest.raises(CheckpointError, match="there is no ensemble in"):
        load_ensemble(place)


def test_its_worth_is_that_of_its_predictions_with_an_interval(made):
    split = load("digits").splits["validation"]
    for one in made[0].values():
        exact = quality(one.ensemble.logits(split["inputs"]), np.asarray(split["targets"]))
        assert one.quality.accuracy == exact.accuracy
        for name in ("accuracy", "nll", "brier"):
            found = one.intervals[name]
            assert found.value == pytest.approx(getattr(exact, name))
            assert found.low <= found.value <= found.high
            single = getattr(one.single, name)
            assert found.difference == pytest.approx(found.value - single)


def test_an_interval_covers_the_truth_as_often_as_it_says():
    """Coins of known accuracy: 95 % of the bootstrap's intervals hold it, within three errors."""
    random, held, repeats = np.random.default_rng(0), 0, 300
    for k in range(repeats):
        right = random.random(200) < 0.8
        logits = np.where(right[:, None], [[1.0, -1.0]], [[-1.0, 1.0]])[None]
        found = intervals(logits, logits, np.zeros(200, int), seed=k, draws=200)["accuracy"]
        assert found.difference == found.difference_low == found.difference_high == 0
        held += found.low <= 0.8 <= found.high
    assert abs(held / repeats - 0.95) < 3 * np.sqrt(0.95 * 0.05 / repeats)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--kind", "all", "--size", "2"], "argument --kind: invalid choice: 'all'"),
        (["--kind", "top", "--size", "1"], "argument --size: must be a whole number of at least 2"),
        (["--kind", "top", "--size", "3"], "size must be at most 2 (trials with a best step), got"),
        (["--kind", "top", "--size", "2", "--seed", "9"], "seed must be among 0, got 9"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(folder, capsys, words, message):
    try:
        code = main(["ensemble", str(folder), *words])
    except SystemExit as end:
        code = end.code
    said = capsys.readouterr().err
    assert code == 2 and said.count("\n") == 1
    assert said.startswith(f"batchscale: error: {message}")
    assert not (folder / "ensembles").exists()


def test_the_command_writes_the_models_and_a_page(folder, capsys, tmp_path):
    copy = tmp_path / "study"
    shutil.copytree(folder, copy)
    assert main(["ensemble", str(copy), "--kind", "checkpoints", "average", "--size", "2"]) == 0
    said = capsys.readouterr().out
    assert "a prediction takes 1 forward pass" in said
    assert len(load_ensemble(copy / "ensembles" / "checkpoints-2" / "model").members) == 2
    page = (copy / "ensembles" / "report" / "index.html").read_text()
    assert "Against the number of members" in page
