"""A search among optimizers and schedules: each trial is what it would be with its part alone."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.records.store import read
from experiments.runner.search import search
from experiments.spec.conditions import When
from experiments.spec.space import Choice, Real
from experiments.spec.user_search import UserSearch
from workloads.models.dense import DenseNet

RATES = {"sgd": 0.3, "nesterov": 0.03}


def build(hyperparameters):
    return DenseNet(units=4, dropout=0.0, classes=2)


def arrays():
    inputs = np.random.default_rng(0).normal(size=(96, 5)).astype(np.float32)
    labels = (inputs[:, 0] > 0).astype(np.int32)
    return {"train": (inputs[:64], labels[:64]), "validation": (inputs[64:], labels[64:])}


def curves(folder):
    """trial -> its evaluations."""
    found = read(folder).evaluations
    return {
        trial: found.filter(trial=trial)["validation/cross_entropy"].to_list()
        for trial in sorted(set(found["trial"]))
    }


def test_a_trial_has_the_optimizer_and_the_rate_that_it_chose(tmp_path):
    asked = {"build": build, "data": arrays(), "trials": 4, "budget": 2, "show": False,
             "batch_size": 16, "workers": 1}  # fmt: skip
    own = {f"{name}_learning_rate": When("optimizer", name, Choice((rate,)))
           for name, rate in RATES.items()}  # fmt: skip
    space = {"optimizer": Choice(tuple(RATES)), "schedule": Choice(("constant", "cosine")), **own}
    found = search(space, folder=tmp_path / "chosen", **asked)
    assert len(found.table) == 4
    chosen = curves(tmp_path / "chosen")
    for optimizer, schedule in (("sgd", "constant"), ("nesterov", "cosine")):
        rows = found.table.filter(optimizer=optimizer, schedule=schedule)
        (trial,) = rows["trial"]
        folder = tmp_path / optimizer  # as many trials, so that one has this index
        alone = {"learning_rate": Choice((RATES[optimizer],)), "place": Choice((0, 1, 2, 3))}
        search(alone, folder=folder, optimizer=optimizer, schedule=schedule, **asked)
        assert curves(folder)[trial] == chosen[trial]
    assert len({tuple(curve) for curve in chosen.values()}) == 4
    study = read(tmp_path / "chosen").study["study"]
    assert study["optimizer"] == "sgd or nesterov" and study["schedule"] == "constant or cosine"


RATE = Real(1e-3, 1.0, "log")
BAD = [
    ({"optimizer": Choice(("sgd", "adm"))}, {}, "optimizer 'adm' is unknown; did you mean 'adam'"),
    ({"optimizer": Real(0, 1)}, {}, "space of optimizer: it must be a choice of names"),
    ({"optimizer": Choice(("sgd", "adam"))}, {}, "learning_rate must be searched"),
    (
        {"optimizer": Choice(("sgd", "adam")), "sgd_learning_rate": When("optimizer", "sgd", RATE)},
        {},
        "learning_rate must be searched",
    ),
    (
        {"learning_rate": RATE, "schedule": Choice(("constant", "cosine"))},
        {"slots": 2},
        "schedule cannot be searched in slots: a pack has one schedule",
    ),
    (
        {"optimizer": Choice(("sgd", "adam")), "learning_rate": RATE,
         "adam_beta1": When("optimizer", "adam", Real(0.5, 1.5))},
        {},
        "beta1 must lie in",
    ),
    ({"learning_rate": RATE}, {"losses": "x:y", "data": None, "workload": "digits_fc"},
     "losses belongs to data"),
]  # fmt: skip


@pytest.mark.parametrize(("space", "changes", "message"), BAD, ids=[row[2] for row in BAD])
def test_bad_parts_are_refused_in_one_line(space, changes, message):
    with pytest.raises(ValueError, match=message) as raised:
        UserSearch(space, **{"build": build, "data": arrays(), **changes})
    assert "\n" not in str(raised.value)
