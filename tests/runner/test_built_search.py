"""A search over built modules: promotions to the bit, states on disk, models of its trials."""

from __future__ import annotations

import dataclasses
import types

import jax
import numpy as np
import pytest
from support.searching import rows
from support.tolerances import FLOAT32

from experiments.records.store import read
from experiments.runner import search_driver
from experiments.runner.search import run_search, search
from experiments.spec.space import Choice, Real
from experiments.spec.user_search import UserSearch
from experiments.studies import fashion_mnist_search
from experiments.training.saving import Saving
from workloads.digits_fc import WORKLOAD
from workloads.models.dense import DenseNet

DIGITS = {"units": Choice((8, 16)), "learning_rate": Real(1e-3, 3e-2, "log")}


def build(hyperparameters):
    return DenseNet(units=hyperparameters["units"], dropout=0.2)


HALVED = UserSearch(
    DIGITS, build=build, workload=WORKLOAD, batch_size=64, budget=4, eta=2, trials=4,
    pruner="successive_halving",
)  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(with halving, every trial to its full length) on the digits."""
    folder = tmp_path_factory.mktemp("built")
    halved = run_search(HALVED, folder / "halved", show=False)
    plain = dataclasses.replace(HALVED, pruner="none")
    return halved, run_search(plain, folder / "plain", show=False, workers=1)


def test_a_promoted_model_is_to_the_bit_one_that_never_stopped(built):
    halved, plain = built
    assert sorted(halved.table["resource"]) == [1, 1, 2, 4]
    whole = read(plain.folder).evaluations
    for row in halved.table.iter_rows(named=True):
        mine = read(halved.folder).evaluations.filter(trial=row["trial"])
        same = whole.filter(trial=row["trial"]).head(len(mine))
        assert mine.equals(same, null_equal=True) and len(mine) == row["resource"]
    known = plain.table.sort("value", "trial")
    assert plain.best == plain.searched.hyperparameters(known.row(0, named=True))


def test_an_interrupted_search_goes_on_from_the_states_that_its_long_trials_left_on_disk(
    built, tmp_path, monkeypatch
):
    taken, take, begun, begin = [], search_driver.Driver._take, [], Saving.begin

    def interrupted(self, result):
        found = take(self, result)
        taken.append(result.trial.index)
        if len(taken) == 5:  # the first of the two that were promoted
            raise KeyboardInterrupt
        return found

    def counted(self, trial, step):
        begun.append(step)
        begin(self, trial, step)

    long = {"folder": tmp_path / "s", "show": False, "workers": 1, "checkpoint_minutes": 1e-9}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(search_driver.Driver, "_take", interrupted)
        run_search(HALVED, **long)
    monkeypatch.setattr(Saving, "begin", counted)
    found = run_search(HALVED, **long)
    assert len(begun) == 2 and min(begun) > 0
    for one, other in zip(rows(found.folder), rows(built[0].folder), strict=True):
        assert one.equals(other, null_equal=True)


def test_the_best_model_is_that_of_its_best_epoch(built):
    found, _ = built
    module, params, statistics = found.best_model()
    assert statistics == {}
    from workloads.datasets import load

    split = load("digits").splits["validation"]
    from workloads.registry import resolve

    batch = {"inputs": split["inputs"], "targets": split["targets"]}
    if WORKLOAD.preprocess:
        batch = resolve(WORKLOAD.preprocess)(batch, None, False)
    logits = jax.jit(lambda p, x: module.apply({"params": p}, x, train=False))(
        params, batch["inputs"]
    )
    wrong = np.mean(np.argmax(np.asarray(logits), -1) != np.asarray(split["targets"]))
    assert wrong == pytest.approx(found.value, abs=FLOAT32)


def test_arrays_and_a_searched_batch_size(tmp_path):
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(96, 5)).astype(np.float32)
    labels = (inputs[:, 0] > 0).astype(np.int32)
    data = {"train": (inputs[:64], labels[:64]), "validation": (inputs[64:], labels[64:])}
    space = {"batch_size": Choice((8, 16)), "learning_rate": Choice((1e-3, 1e-1))}
    found = search(
        space, build=lambda h: DenseNet(units=4, dropout=0.0, classes=2), data=data, trials=4,
        budget=5, folder=tmp_path / "record", show=False,
    )  # fmt: skip
    assert found.value < 0.3 and found.best["learning_rate"] == 1e-1
    assert set(found.table["batch_size"]) == {8, 16} and set(found.table["resource"]) == {5}
    record = read(found.folder)
    assert sorted(set(record.trials["steps"])) == [20, 40]
    large = dataclasses.replace(
        UserSearch({"learning_rate": Choice((0.1, 0.2))}, build=build, data=data), batch_size=65
    )
    with pytest.raises(ValueError, match=r"batch_size must lie in 1\.\.64"):
        run_search(large, tmp_path / "large", show=False)
    assert not (tmp_path / "large").exists()


def small_search(**changes):
    """A search of modules that train for one step."""
    inputs = np.linspace(-1, 1, 32 * 5, dtype=np.float32).reshape(32, 5)
    labels = (inputs[:, 0] > 0).astype(np.int32)
    asked = {
        "build": lambda h: DenseNet(units=4, dropout=0.0, classes=2), "budget": 1,
        "data": {"train": (inputs, labels), "validation": (inputs, labels)}, "batch_size": 32,
        **changes,
    }  # fmt: skip
    return UserSearch({"learning_rate": Choice((0.01, 0.1, 0.2, 0.3))}, **asked)


@pytest.mark.parametrize("slots", [1, 2])
def test_a_trial_that_is_complete_counts_though_the_search_is_to_end(tmp_path, slots, monkeypatch):
    monkeypatch.setattr("experiments.runner.search.MOST_TRIALS", 1)  # of a search with a limit
    begun = []
    question = small_search(trials=1, slots=slots, weights=lambda h: begun.append(h) or {})
    limit = types.SimpleNamespace(
        begins=lambda number, trials, resources: True, over=lambda: bool(begun)
    )
    found = run_search(question, tmp_path / "s", show=False, limit=limit, workers=1)
    assert found.table["status"].to_list() == ["COMPLETE"]


@pytest.mark.parametrize(("what", "slots"), [("weights", 1), ("weights", 2), ("build", 2)])
def test_a_trial_whose_function_raises_fails_alone(tmp_path, what, slots):
    made = {"build": lambda h: DenseNet(units=4, dropout=0.0, classes=2), "weights": lambda h: {}}
    calls = []

    def raising(hyperparameters):
        calls.append(hyperparameters)
        if len(calls) == 1:
            raise RuntimeError("no")
        return made[what](hyperparameters)

    question = small_search(trials=4, slots=slots, **{what: raising})
    found = run_search(question, tmp_path / "s", show=False, keep_going=True, workers=1)
    assert sorted(found.table["status"]) == [*["COMPLETE"] * 3, "INCOMPLETE"]
    assert found.table.filter(status="INCOMPLETE")["message"].item() == "RuntimeError: no"


def test_the_demonstration_is_the_courses_search():
    study = fashion_mnist_search.STUDY
    units = study.checked.ranges["units"]
    assert list(units.values) == list(range(16, 513, 16))
    assert study.checked.ranges["learning_rate"].values == (1e-2, 1e-3, 1e-4)
    assert (study.pruner, study.budget, study.eta, study.patience) == ("hyperband", 10, 3, 5)
    assert fashion_mnist_search.build({"units": 32}) == DenseNet(units=32, dropout=0.2)
