"""A refit: a trial once more, on the validation examples too, by the programs of the search."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from experiments.records.store import read
from experiments.runner.search import run_search
from experiments.runner.search_asked import task_of
from experiments.runner.search_models import steps_of_epochs
from experiments.spec.space import Choice
from experiments.spec.trial import Trial
from experiments.spec.user_search import UserSearch
from experiments.training.population import Population
from workloads.models.dense import DenseNet

BATCH, EPOCHS, TRAIN, ALL = 4, 4, 66, 96


def build(hyperparameters):
    del hyperparameters
    return DenseNet(units=3, dropout=0.1, classes=2)


def asked(validation=1.0, **changes):
    """A search over two rates; validation inputs are so many times as large."""
    inputs = np.random.default_rng(0).normal(size=(ALL, 5)).astype(np.float32)
    labels = (inputs[:, 0] > 0).astype(np.int32)
    inputs[TRAIN:] *= validation
    data = {"train": (inputs[:TRAIN], labels[:TRAIN]),
            "validation": (inputs[TRAIN:], labels[TRAIN:])}  # fmt: skip
    options = {"build": build, "data": data, "trials": 2, "budget": EPOCHS, "batch_size": BATCH,
               "optimizer": "sgd", "schedule": "cosine", "refits": True, **changes}  # fmt: skip
    return UserSearch({"learning_rate": Choice((0.3, 0.1))}, **options)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return run_search(asked(), tmp_path_factory.mktemp("refit") / "search", show=False, workers=1)


def test_a_refit_is_the_trial_on_all_examples_for_as_many_epochs(found):
    """Beside a data set whose training split is all of them; compiled by itself."""
    data = asked().data
    both = [np.concatenate(parts) for parts in zip(data["train"], data["validation"], strict=True)]
    task, _ = task_of(asked(data={**data, "train": both}, refits=False), None)
    curves = read(found.folder).evaluations
    ended = []
    for row in found.table.iter_rows(named=True):
        values = found.searched.hyperparameters(row)
        curve = curves.filter(trial=row["trial"]).sort("step")
        at = curve["validation/classification_error"].arg_min() + 1  # an evaluation an epoch
        trial = Trial(BATCH, 0, row["trial"], steps_of_epochs(EPOCHS, ALL, BATCH),
                      task.all_numbers(values), "")  # fmt: skip
        population = Population(task.program(build(values), values), BATCH)
        state, _ = population.train_to(trial, steps_of_epochs(at, ALL, BATCH))
        params, statistics = found.refitted(row["trial"])
        assert statistics == {} and int(state.step) == at * ALL // BATCH
        for mine, twin in zip(jax.tree.leaves(params), jax.tree.leaves(state.params), strict=True):
            np.testing.assert_array_equal(mine, twin)
        ended.append(at)
    assert min(ended) < EPOCHS  # a part of the schedule


def test_the_search_learns_nothing_of_it_and_nothing_is_compiled_again(found, tmp_path):
    found.refitted(0)
    (program,) = found._models.trainer._programs.values()
    assert set(program.traces.values()) == {1} and program.examples == TRAIN
    plain = run_search(asked(refits=False), tmp_path / "plain", show=False, workers=1)
    assert read(plain.folder).evaluations.equals(read(found.folder).evaluations, null_equal=True)
    assert read(plain.folder).study["identity"] == read(found.folder).study["identity"]
    with pytest.raises(ValueError, match="no spare examples lie behind the training examples"):
        plain.refitted(0)


def test_what_diverges_or_is_ended_gives_nothing(found, tmp_path):
    begun = []
    assert found.refitted(0, lambda steps: begun.append(steps)) is None  # None is False
    assert begun
    far = run_search(asked(validation=1e6), tmp_path / "far", show=False, workers=1)
    assert set(far.table["status"]) == {"COMPLETE"} and far.refitted(0) is None


def test_an_objective_keeps_its_own_examples():
    with pytest.raises(ValueError, match="refits belongs to build: an objective has its own"):
        UserSearch({"a": Choice((1, 2))}, objective=lambda h, budget, report: 0.0, refits=True)
